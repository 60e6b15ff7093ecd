"""The trainer."""

from ..basicsr_patches import shims  # noqa: F401, I001  must precede basicsr
import basicsr  # noqa: F401  first and whole: the hook then registers our modules, none of which may be half-imported
