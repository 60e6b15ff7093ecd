"""How the field compares images: the protocols of the paper's section 4, and PSNR and SSIM under them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import MappingProxyType

import torch
from basicsr.utils.registry import METRIC_REGISTRY
from torch import Tensor
from torch.nn import functional as F

from ..errors import UserError, check_choice
from .properties import float_metric


@dataclass(frozen=True)
class Protocol:
    """How two images are compared.

    Attributes:
        luma: compare Y instead of RGB.
        shave_scale: cut ceil(scale) pixels off each border.
        shave_extra: pixels to cut off besides.
    """

    luma: bool
    shave_scale: bool
    shave_extra: int

    def shave(self, scale: tuple[float, float]) -> tuple[int, int]:
        """Return the pixels to cut at (top and bottom, left and right).

        Args:
            scale: (sy, sx). Published protocols have integer scales; to round others up is ours.

        Example:
            >>> PROTOCOLS["div2k"].shave((2.0, 2.7))
            (8, 9)
        """
        sy, sx = (self.shave_scale * math.ceil(s) + self.shave_extra for s in scale)
        return sy, sx


PROTOCOLS = MappingProxyType(
    {
        "div2k": Protocol(luma=False, shave_scale=True, shave_extra=6),
        "benchmark": Protocol(luma=True, shave_scale=True, shave_extra=0),
        "plain": Protocol(luma=False, shave_scale=False, shave_extra=0),
    }
)


def protocol_named(name: str) -> Protocol:
    """Return the protocol ``name``. Raises UserError with the nearest name for another."""
    check_choice("protocol", name, PROTOCOLS)
    return PROTOCOLS[name]


LUMA = (65.738 / 256, 129.057 / 256, 25.064 / 256)  # BT.601 as the field rounds it; RGB in [0, 1]


def _pair(scale: float | tuple[float, float] | Tensor) -> tuple[float, float]:
    """Return (sy, sx) of a number or a pair."""
    values = torch.as_tensor(scale, dtype=torch.float64).flatten().tolist()
    return (values[0], values[-1])


def _prepare(
    img: Tensor, img2: Tensor, scale, protocol: str, gray_as_luma: bool, footroom: float
) -> list[Tensor]:
    """Clamp two images, convert them to luma where the protocol asks for it, and cut their borders.

    Args:
        img: (B, C, H, W), any float dtype.
        img2: the ground truth, of the same shape.
        scale: the number or (sy, sx) that the protocol's shave depends on.
        protocol: its name.
        gray_as_luma: as for ``continuous_psnr``.
        footroom: added to luma; 16 / 255 gives the luma of BT.601.

    Returns:
        Two (B, C or 1, H', W') float64 tensors.
    """
    for image in (img, img2):
        if not (isinstance(image, Tensor) and image.is_floating_point()):
            raise UserError(
                "continuous metrics compare float tensors: use them with `model_type: ContinuousSRModel`."
            )
    if img.shape != img2.shape or img.dim() != 4:
        raise ValueError(
            f"expected two images (B, C, H, W) of one shape, got {tuple(img.shape)} and {tuple(img2.shape)}."
        )
    rules = protocol_named(protocol)
    pair = [image.double().clamp(0, 1) for image in (img, img2)]
    if rules.luma and img.shape[1] == 3:
        if gray_as_luma and bool((pair[1] == pair[1][:, :1]).all()):
            pair = [image.mean(1, keepdim=True) for image in pair]
        else:
            weights = torch.tensor(LUMA, dtype=torch.float64, device=img.device).view(1, 3, 1, 1)
            pair = [(image * weights).sum(1, keepdim=True) + footroom for image in pair]
    top, left = rules.shave(_pair(scale))
    H, W = img.shape[-2:]
    if 2 * top >= H or 2 * left >= W:
        raise UserError(
            f"protocol {protocol} cuts {top} rows and {left} columns off each border; nothing is left of an "
            f"image of (height, width) = {(H, W)}."
        )
    return [image[..., top : H - top, left : W - left] for image in pair]


@METRIC_REGISTRY.register()
@float_metric(better="higher", unchecked=("gray_as_luma",))  # true, false or a list of names
def continuous_psnr(
    img: Tensor,
    img2: Tensor,
    scale,
    protocol: str = "plain",
    gray_as_luma: bool = False,
    better: str = "higher",
) -> float:
    """Return the PSNR in dB of an image that is clamped to [0, 1] and not rounded; inf for equal images.

    Source: the published evaluation (liif/utils.py, calc_psnr).

    Args:
        img: (B, 3, H, W) float RGB in [0, 1].
        img2: the ground truth, of the same shape.
        scale: the number or (sy, sx) that the protocol's shave depends on.
        protocol: 'div2k', 'benchmark' or 'plain'.
        gray_as_luma: take the gray value of a gray ground truth as its luma. Published averages of Set14 do
            so with its image 'bridge', the one stored in gray, which gives +0.09 dB on the set ('man' looks
            gray but is stored as RGB). In an option file also a list of names of images, [img_003].
        better: read by BasicSR.

    Raises:
        UserError: for images that are no float tensors, an unknown protocol, or images that are smaller than
            the border to be cut.

    Example:
        >>> import torch
        >>> gt = torch.full((1, 3, 32, 32), 0.5)
        >>> round(continuous_psnr(gt + 0.1, gt, scale=2, protocol="div2k"), 2)
        20.0
    """
    a, b = _prepare(img, img2, scale, protocol, gray_as_luma, footroom=0.0)
    mse = (a - b).square().mean()
    return float(-10 * torch.log10(mse))


@METRIC_REGISTRY.register()
@float_metric(better="higher", unchecked=("gray_as_luma",))  # true, false or a list of names
def continuous_ssim(
    img: Tensor,
    img2: Tensor,
    scale,
    protocol: str = "plain",
    gray_as_luma: bool = False,
    better: str = "higher",
) -> float:
    """Return the SSIM: Gaussian window of 11 pixels, sigma 1.5, mean over channels.

    Source: Wang et al. 2004, equation 13, with K1 = 0.01 and K2 = 0.03.

    Args:
        img: (B, 3, H, W) float RGB in [0, 1].
        img2: the ground truth, of the same shape.
        scale: as for ``continuous_psnr``.
        protocol: as for ``continuous_psnr``.
        gray_as_luma: as for ``continuous_psnr``.
        better: read by BasicSR.

    Raises:
        UserError: as ``continuous_psnr``, and if fewer than 11 x 11 pixels are left.

    Example:
        >>> import torch
        >>> gt = torch.rand(1, 3, 32, 32)
        >>> round(continuous_ssim(gt, gt, scale=2), 4)
        1.0
    """
    a, b = _prepare(img, img2, scale, protocol, gray_as_luma, footroom=16 / 255)
    C = a.shape[1]
    if min(a.shape[-2:]) < 11:
        raise UserError(
            "SSIM needs 11 x 11 pixels after the protocol's shave, got (height, width) = "
            f"{tuple(a.shape[-2:])}. Use larger images."
        )
    # the Gaussian window is separable: one line down the columns and one along the rows
    position = torch.arange(-5, 6, dtype=torch.float64, device=a.device)
    line = torch.exp(-(position**2) / (2 * 1.5**2))
    line = line / line.sum()

    def blur(x: Tensor) -> Tensor:
        x = F.conv2d(x, line.view(1, 1, 11, 1).expand(C, 1, 11, 1), groups=C)
        return F.conv2d(x, line.view(1, 1, 1, 11).expand(C, 1, 1, 11), groups=C)

    # means, variances and covariance in each window
    mu_a, mu_b = blur(a), blur(b)
    var_a, var_b, cov = blur(a * a) - mu_a**2, blur(b * b) - mu_b**2, blur(a * b) - mu_a * mu_b
    c1, c2 = 0.01**2, 0.03**2
    ssim = (2 * mu_a * mu_b + c1) * (2 * cov + c2) / ((mu_a**2 + mu_b**2 + c1) * (var_a + var_b + c2))
    return float(ssim.mean())
