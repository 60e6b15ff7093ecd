"""Option files: reading them, the types of their options, the parser that BasicSR calls."""
