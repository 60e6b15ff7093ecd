"""LIIF's decoder on rows x columns of positions: the same function as ``LIIF.query``, faster, because the axes can be separated.

The first layer of a query is table[code] + (its part of the row) + (its part of the column): the table's rows, joined with the
columns' parts, serve all output rows that lie between the same LR rows. The image is decoded in blocks whose activations stay in the
cache; what depends on a row or on a column alone is computed once for all blocks.
"""

from __future__ import annotations

import functools
import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from ..coords import EPS_AREA, axis_bilinear, axis_corners


@functools.cache
def _can_fuse(dtype: torch.dtype) -> bool:
    """Whether oneDNN joins a layer with its ReLU on this CPU: bf16 needs AVX-512 or AMX."""
    if not (torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")):
        return False
    return dtype == torch.float32 or (
        dtype == torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    )


def _fused_relu_layer(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """ReLU(x W^T + b) in one pass where the platform has it."""
    if x.device.type == "cpu" and _can_fuse(x.dtype):
        return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "relu", [], "")
    return F.relu_(F.linear(x, weight, bias))


def _block_bytes(device: torch.device) -> int:
    """Size of a block's activations: on a CPU what its cores' second-level caches hold beside the weights, measured on two of 2 MiB."""
    return 256 << 20 if device.type == "cuda" else (3 << 19) * torch.get_num_threads()


def _rows_in_use(count: int) -> int:
    """``count`` rounded up by a sixteenth at most. oneDNN keeps compiled code for every number of rows that it has seen, half a megabyte
    each: windows of ten thousand sizes would cost 600 MiB, and a compilation each.
    """
    step = 1 << max(0, count.bit_length() - 5)
    return -(-count // step) * step


class _Axis(NamedTuple):
    """The target pixels along one axis. index: (T, N) into the table's region; rel: (T, N); opposite: (T, N), the part that the axis has
    in the area diagonally opposite to a code.
    """

    index: Tensor
    rel: Tensor
    opposite: Tensor

    def part(self, start: int, stop: int) -> _Axis:
        return _Axis(*(values[:, start:stop] for values in self))


class GridDecoder:
    """Decodes pixels anywhere in an image, as long as they stand in rows and columns.

    Args:
        net: a LIIF with at least one hidden layer. projection: from ``net.project``, of the whole image or of a tile.
        cell: (2,), the cell of every pixel.
        dtype: of the hidden layers; positions, the first layer's sum and the blend stay in float32.
    """

    def __init__(self, net, projection, cell: Tensor, dtype: torch.dtype = torch.float32):
        self.net, self.projection, self.dtype = net, projection, dtype
        first, *hidden, last = net.imnet.linears
        self.hidden = [(layer.weight.to(dtype), layer.bias.to(dtype)) for layer in hidden]
        self.last = (last.weight * net.std).to(dtype)
        shift = last.bias * net.std + (net.mean if projection.skip is None else 0)
        self.shift = shift.float().view(3, 1, 1)
        place = first.weight[:, -2 - 2 * net.cell_decode :].float()
        self.per_axis = place[:, 0], place[:, 1]
        self.constant = 0.0
        if net.cell_decode:
            codes = torch.tensor(projection.size, device=cell.device)
            self.constant = F.linear((cell.float() * codes).to(place.device), place[:, 2:])

    def decode(self, rows: Tensor, columns: Tensor, queries_at_once: int) -> Tensor:
        """The pixels with their centres at ``rows`` (R,) and ``columns`` (C,), ascending, in [-1, 1]: (B, 3, R, C) float32."""
        table, _, _, region = self.projection
        codes = table.view(-1, region[2], region[3], table.shape[1])
        image = torch.empty(len(codes), 3, len(rows), len(columns), device=table.device)
        y, x = self._axis(0, rows), self._axis(1, columns)
        nearest = y.index.cpu()  # one wait for the device, not one for every strip
        fits = _block_bytes(table.device) // (
            len(y.index) * len(x.index) * table.shape[1] * table.element_size()
        )
        side = max(1, math.isqrt(min(fits, queries_at_once)))
        for top in range(0, image.shape[2], side):
            strip, y_part = image[:, :, top : top + side], y.part(top, top + side)
            near = nearest[:, top : top + side]
            low, high = int(near.min()), int(near.max()) + 1
            of_row = (y_part.rel.unsqueeze(-1) * self.per_axis[0] + self.constant).unsqueeze(
                2
            )  # (T, R, 1, D)
            y_part = y_part._replace(index=y_part.index - low)
            for left in range(0, image.shape[3], side):
                for picture, part in zip(codes[:, low:high], strip[..., left : left + side]):
                    self._block(
                        picture,
                        y_part,
                        x.part(left, left + side),
                        of_row,
                        part,
                        part.shape[1:] == (side, side),
                    )
        if self.projection.skip is not None:
            self._add_skip(image, rows, columns)
        return image

    def _axis(self, axis: int, position: Tensor) -> _Axis:
        position = position.to(self.projection.table.device)
        index, rel = zip(*axis_corners(position, self.projection.size[axis], self.net.local_ensemble))
        rel = torch.stack(rel)
        return _Axis(torch.stack(index) - self.projection.region[axis], rel, rel.abs().flip(0))

    def _block(self, codes: Tensor, y: _Axis, x: _Axis, of_row: Tensor, out: Tensor, whole: bool) -> None:
        """Codes (rows, w, D) -> out (3, R, C). whole: it has the size that most blocks have."""
        (T, R), C, D = y.index.shape, x.index.shape[1], codes.shape[-1]
        near = codes.index_select(1, x.index.flatten()).view(-1, T, C, D)
        near += x.rel.unsqueeze(-1) * self.per_axis[1]
        count = T * R * T * C
        hidden = near.new_empty(count if whole else _rows_in_use(count), D)
        torch.index_select(
            near.view(-1, T * C * D), 0, y.index.flatten(), out=hidden[:count].view(T * R, T * C * D)
        )
        hidden[:count].view(T, R, T * C, D).add_(of_row)
        hidden[count:].zero_()
        hidden = F.relu_(hidden).to(self.dtype)
        for layer in self.hidden:
            hidden = _fused_relu_layer(hidden, *layer)
        rgb = torch.mm(self.last, hidden.t())[:, :count].float().view(3, T, R, T, C)
        if T == 1:
            torch.add(rgb.view(3, R, C), self.shift, out=out)
            return
        area = (y.opposite[:, :, None, None] * x.opposite).add_(EPS_AREA)  # (T, R, T, C)
        rgb *= area
        rgb, total = rgb[:, 0] + rgb[:, 1], area[0] + area[1]
        torch.div(rgb[:, :, 0] + rgb[:, :, 1], total[:, 0] + total[:, 1], out=out)
        out += self.shift

    def _add_skip(self, image: Tensor, rows: Tensor, columns: Tensor) -> None:
        """Add the bilinearly enlarged input, axis by axis, a few rows at a time."""
        _, skip, size, region = self.projection
        skip = skip.float().view(-1, region[2], region[3], 3).permute(0, 3, 1, 2).contiguous()
        axes = []
        for axis, position in enumerate((rows, columns)):
            taps = axis_bilinear(position.to(skip.device), size[axis])
            axes.append([(index - region[axis], weight) for index, weight in taps])
        step = max(1, (1 << 18) // image.shape[3])
        for top in range(0, image.shape[2], step):
            here = [(index[top : top + step], weight[top : top + step, None]) for index, weight in axes[0]]
            lines = sum(skip.index_select(2, index) * weight for index, weight in here)
            image[:, :, top : top + step] += sum(
                lines.index_select(3, index) * weight for index, weight in axes[1]
            )
