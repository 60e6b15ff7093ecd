"""The trainer."""

from .. import compat  # noqa: F401  its stand-ins must be there before basicsr's first line
