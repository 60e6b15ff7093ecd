"""PSNR and SSIM under frozen protocols."""

from .. import compat  # noqa: F401  its stand-ins must be there before basicsr's first line
