"""The plain forms that everything fast is measured against, written straight from the equations; slow on purpose, never used else."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from ..coords import EPS_AREA, EPS_SHIFT, cell_of, grid, image_to_queries

CHUNK = 30000  # queries at once, as the published evaluation has it


def query(net, feat: Tensor, coord: Tensor, cell: Tensor) -> Tensor:
    """Equations 2 to 5 for a LIIF with all its parts: unfold, four nearest samples of the unfolded map, the whole MLP for each, blend."""
    B, C, h, w = feat.shape
    unfolded = F.unfold(feat, 3, padding=1).view(B, C * 9, h, w)
    centres = grid((h, w), device=feat.device).view(1, h, w, 2).permute(0, 3, 1, 2).expand(B, -1, -1, -1)
    scale = torch.tensor([h, w], dtype=coord.dtype, device=coord.device)
    answers, areas = [], []
    for sy in (-1, 1):
        for sx in (-1, 1):
            shifted = coord + torch.tensor([sy / h, sx / w], device=coord.device) + EPS_SHIFT
            at = shifted.clamp(-1 + 1e-6, 1 - 1e-6).flip(-1).unsqueeze(1)
            code = F.grid_sample(unfolded, at.to(feat.dtype), mode="nearest", align_corners=False)[
                :, :, 0
            ].transpose(1, 2)
            place = F.grid_sample(centres, at, mode="nearest", align_corners=False)[:, :, 0].transpose(1, 2)
            rel = (coord - place) * scale
            answers.append(net.imnet(torch.cat([code, rel, cell * scale], dim=-1)))
            areas.append((rel[..., 0] * rel[..., 1]).abs() + EPS_AREA)
    total = sum(areas)
    blended = sum(answer * (area / total).unsqueeze(-1) for answer, area in zip(answers, areas[::-1]))
    return blended * net.std + net.mean


@torch.no_grad()
def decode(net, feat: Tensor, size: tuple[int, int]) -> Tensor:
    """(1, C, h, w) -> (1, 3, H, W): ``query`` in chunks."""
    coord = grid(size, device=feat.device).unsqueeze(0)
    cell = cell_of(size, device=feat.device).expand_as(coord)
    parts = [
        query(net, feat, coord[:, i : i + CHUNK], cell[:, i : i + CHUNK])
        for i in range(0, coord.shape[1], CHUNK)
    ]
    return torch.cat(parts, dim=1).transpose(1, 2).view(1, 3, *size)


def item(picture: np.ndarray, size: int, queries: int, rng: np.random.Generator) -> tuple[Tensor, ...]:
    """A training item as the published data pipeline makes it of a decoded picture (H, W, 3) uint8: float first, then crop, resize by
    Pillow, flips, every coordinate of the crop, and a random choice of them.
    """
    image = torch.from_numpy(picture.transpose(2, 0, 1).copy()).float() / 255
    side = round(size * rng.uniform(1, 4))
    y, x = rng.integers(0, image.shape[1] - side + 1), rng.integers(0, image.shape[2] - side + 1)
    hr = image[:, y : y + side, x : x + side]
    shrunk = Image.fromarray((hr.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)).resize(
        (size, size), Image.BICUBIC
    )
    lq = torch.from_numpy(np.array(shrunk)).permute(2, 0, 1).float() / 255
    for axes in ((-2,), (-1,)):
        if rng.random() < 0.5:
            lq, hr = lq.flip(axes), hr.flip(axes)
    if rng.random() < 0.5:
        lq, hr = lq.transpose(-2, -1), hr.transpose(-2, -1)
    coord, cell, rgb = (part[0] for part in image_to_queries(hr.contiguous().unsqueeze(0)))
    chosen = rng.choice(len(coord), queries, replace=False)
    return lq, coord[chosen], cell[chosen], rgb[chosen]
