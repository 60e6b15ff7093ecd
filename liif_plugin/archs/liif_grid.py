"""LIIF's decoder on the pixels of a grid: the same function as ``LIIF.query``, faster, because rows and columns can be separated.

The first layer of a query is table[code] + (its part of the row) + (its part of the column): the table's rows, joined with the
columns' parts, serve all output rows that lie between the same LR rows.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor
from torch.nn import functional as F

from ..coords import EPS_AREA, axis_bilinear, axis_corners, pixel_centres


@functools.cache
def _can_fuse(dtype: torch.dtype) -> bool:
    """Whether oneDNN joins a layer with its ReLU on this CPU: bf16 needs AVX-512 or AMX."""
    if not (torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")):
        return False
    return dtype == torch.float32 or (dtype == torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported())


def _fused_relu_layer(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """ReLU(x W^T + b) in one pass where the platform has it."""
    if x.device.type == "cpu" and _can_fuse(x.dtype):
        return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "relu", [], "")
    return F.relu_(F.linear(x, weight, bias))


class GridDecoder:
    """Decodes blocks of an image of ``size`` = (H, W).

    Args:
        net: a LIIF with at least one hidden layer. projection: from ``net.project``.
        cell: (2,), the cell of every pixel.
        dtype: of the hidden layers; positions, the first layer's sum and the blend stay in float32.
    """

    def __init__(self, net, projection, size: tuple[int, int], cell: Tensor, dtype: torch.dtype = torch.float32):
        self.net, self.projection, self.size, self.dtype = net, projection, size, dtype
        first, *hidden, last = net.imnet.linears
        self.hidden = [(layer.weight.to(dtype), layer.bias.to(dtype)) for layer in hidden]
        self.last = (last.weight.float(), last.bias.float())
        place = first.weight[:, -2 - 2 * net.cell_decode :].float()
        self.per_axis = place[:, 0], place[:, 1]
        self.constant = 0.0
        if net.cell_decode:
            codes = torch.tensor(projection.size, device=cell.device)
            self.constant = F.linear((cell.float() * codes).to(place.device), place[:, 2:])

    def _axis(self, axis: int, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """index (T, N) into the table's region and rel (T, N) of the target pixels start to stop along an axis."""
        position = pixel_centres(self.size[axis], start, stop, self.projection.table.device)
        index, rel = zip(*axis_corners(position, self.projection.size[axis], self.net.local_ensemble))
        return torch.stack(index) - self.projection.region[axis], torch.stack(rel)

    def _blend_weights(self, rel_y: Tensor, rel_x: Tensor) -> Tensor:
        """(T, R), (T, C) -> (R, T, C, T): S_t / S, each code with the area diagonally opposite."""
        area = (rel_y.T[:, :, None, None] * rel_x.T[None, None]).abs() + EPS_AREA
        return (area / area.sum(dim=(1, 3), keepdim=True)).flip(1, 3)

    def block(self, rows: tuple[int, int], columns: tuple[int, int]) -> Tensor:
        """The pixels of ``rows`` x ``columns``, each (first, last + 1): (B, 3, R, C) float32."""
        table, skip, _, region = self.projection
        iy, rel_y = self._axis(0, *rows)
        ix, rel_x = self._axis(1, *columns)
        T, R, C, D = len(iy), iy.shape[1], ix.shape[1], table.shape[1]
        low, high = int(iy.min()), int(iy.max()) + 1
        of_row = (rel_y.T.unsqueeze(-1) * self.per_axis[0] + self.constant).view(R, T, 1, 1, D)
        of_column = rel_x.T.unsqueeze(-1) * self.per_axis[1]  # (C, T, D)
        weight = self._blend_weights(rel_y, rel_x).unsqueeze(-1)
        pictures = []
        for codes in table.view(-1, region[2], region[3], D):
            near = codes[low:high].index_select(1, ix.T.flatten()).view(-1, C, T, D) + of_column
            hidden = near.index_select(0, (iy.T - low).flatten()).view(R, T, C, T, D)
            hidden = F.relu_(hidden.add_(of_row)).to(self.dtype).view(-1, D)
            for layer in self.hidden:
                hidden = _fused_relu_layer(hidden, *layer)
            rgb = F.linear(hidden, self.last[0].to(self.dtype)).float().view(R, T, C, T, 3)
            pictures.append((rgb * weight).sum(dim=(1, 3)) + self.last[1])
        picture = torch.stack(pictures).permute(0, 3, 1, 2) * self.net.std
        return picture + (self.net.mean if skip is None else self._skip(rows, columns))

    def _skip(self, rows: tuple[int, int], columns: tuple[int, int]) -> Tensor:
        """The bilinearly enlarged input under a block: (B, 3, R, C)."""
        region, device = self.projection.region, self.projection.table.device
        axes = []
        for axis, part in enumerate((rows, columns)):
            position = pixel_centres(self.size[axis], *part, device)
            index, weight = zip(*axis_bilinear(position, self.projection.size[axis]))
            axes.append((torch.stack(index) - region[axis], torch.stack(weight)))
        (iy, wy), (ix, wx) = axes
        image = self.projection.skip.view(-1, region[2], region[3], 3)
        near = image[:, iy[:, :, None, None], ix[None, None]]  # (B, 2, R, 2, C, 3)
        return torch.einsum("byrxcd,yr,xc->bdrc", near, wy.to(near.dtype), wx.to(near.dtype)).float()
