"""PSNR and SSIM under frozen protocols."""

from ..basicsr_patches import shims  # noqa: F401, I001  must precede basicsr
import basicsr  # noqa: F401  first and whole: the hook then registers our modules, none of which may be half-imported
from .properties import better_of, direction, float_metric, is_float_metric, unchecked_arguments

__all__ = ["better_of", "direction", "float_metric", "is_float_metric", "unchecked_arguments"]
