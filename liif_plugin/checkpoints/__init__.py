"""Networks by name, path or experiment; the weights that come with the package lie here."""

DEFAULT_MODEL = "standard"
