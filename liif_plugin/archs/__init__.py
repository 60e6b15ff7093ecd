"""Networks: LIIF, the encoders it stands on, and bicubic interpolation under the same contract."""

from .. import compat  # noqa: F401  its stand-ins must be there before basicsr's first line
