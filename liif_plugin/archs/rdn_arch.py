"""RDN: Residual Dense Network (Zhang et al., CVPR 2018), the paper's second encoder, with its upsampler."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from basicsr.utils.registry import ARCH_REGISTRY
from torch import Tensor, nn

from ..errors import UserError


class DenseConv(nn.Module):
    """(B, C, h, w) -> (B, C + growth, h, w): the new features follow the old ones."""

    def __init__(self, in_channels: int, growth: int):
        super().__init__()
        self.conv = nn.Sequential(nn.Conv2d(in_channels, growth, 3, padding=1), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.conv(x)], dim=1)


class ResidualDenseBlock(nn.Module):
    """(B, C, h, w) -> (B, C, h, w)."""

    def __init__(self, num_feat: int, growth: int, num_layer: int):
        super().__init__()
        self.convs = nn.Sequential(*[DenseConv(num_feat + i * growth, growth) for i in range(num_layer)])
        self.LFF = nn.Conv2d(num_feat + num_layer * growth, num_feat, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.LFF(self.convs(x)) + x


def _upsampler(upscale: int, num_feat: int, growth: int, num_out_ch: int) -> nn.Sequential:
    steps = {2: [2], 3: [3], 4: [2, 2]}.get(upscale)
    if steps is None:
        raise UserError(f"network_g (LIIF_RDN): upscale: expected 2, 3 or 4, got {upscale}.")
    layers: list[nn.Module] = []
    for step in steps:
        layers += [nn.Conv2d(num_feat, growth * step**2, 3, padding=1), nn.PixelShuffle(step)]
        num_feat = growth
    return nn.Sequential(*layers, nn.Conv2d(growth, num_out_ch, 3, padding=1))


@ARCH_REGISTRY.register()
class LIIF_RDN(nn.Module):  # noqa: N801  prefixed: another package may register an RDN
    """Residual Dense Network: a network of one scale, or the encoder of a network for any scale.

    lq (B, 3, h, w) in [0, 1] -> (B, 3, upscale h, upscale w), not clamped. Parameter names are those of the
    authors' code.

    Args:
        num_in_ch: channels of the input.
        num_out_ch: channels of the output.
        num_feat: G0 of the RDN paper; the LIIF paper has 64.
        num_block: D of the RDN paper; the LIIF paper has 16.
        num_layer: C of the RDN paper; the LIIF paper has 8.
        growth: G of the RDN paper; the LIIF paper has 64.
        upscale: 2, 3 or 4.
        img_range: the network sees (lq - rgb_mean) * img_range; the paper's [-1, 1] by default.
        rgb_mean: see img_range.

    Raises:
        UserError: if ``upscale`` is another number.

    Example:
        >>> import torch
        >>> net = LIIF_RDN(num_feat=8, num_block=1, num_layer=2, growth=8, upscale=3)
        >>> net(torch.rand(1, 3, 10, 12)).shape
        torch.Size([1, 3, 30, 36])
    """

    mean: Tensor

    def __init__(
        self,
        num_in_ch: int = 3,
        num_out_ch: int = 3,
        num_feat: int = 64,
        num_block: int = 16,
        num_layer: int = 8,
        growth: int = 64,
        upscale: int = 4,
        img_range: float = 2.0,
        rgb_mean: Sequence[float] = (0.5, 0.5, 0.5),
    ):
        super().__init__()
        self.img_range = img_range
        self.register_buffer("mean", torch.tensor(list(rgb_mean)).view(1, -1, 1, 1), persistent=False)
        self.SFENet1 = nn.Conv2d(num_in_ch, num_feat, 3, padding=1)
        self.SFENet2 = nn.Conv2d(num_feat, num_feat, 3, padding=1)
        self.RDBs = nn.ModuleList([ResidualDenseBlock(num_feat, growth, num_layer) for _ in range(num_block)])
        self.GFF = nn.Sequential(
            nn.Conv2d(num_block * num_feat, num_feat, 1), nn.Conv2d(num_feat, num_feat, 3, padding=1)
        )
        self.UPNet = _upsampler(upscale, num_feat, growth, num_out_ch)

    @property
    def halo(self) -> int:
        """Receptive radius of the features in LR pixels: one for each 3x3 convolution in a row."""
        layers = [module for module in self.modules() if isinstance(module, DenseConv)]
        return 3 + len(layers)

    def features(self, x: Tensor) -> Tensor:
        """(B, 3, h, w), normalised -> (B, num_feat, h, w)."""
        shallow = self.SFENet1(x)
        x = self.SFENet2(shallow)
        blocks = []
        for block in self.RDBs:
            x = block(x)
            blocks.append(x)
        return self.GFF(torch.cat(blocks, dim=1)) + shallow

    def forward(self, lq: Tensor) -> Tensor:
        return self.UPNet(self.features((lq - self.mean) * self.img_range)) / self.img_range + self.mean
