"""How fast it is, against the plain form of the same function: ``liif bench``."""
