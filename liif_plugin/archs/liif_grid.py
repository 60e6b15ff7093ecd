"""LIIF's decoder on a grid of pixels: the same function as ``LIIF.query``, but faster.

The axes can be separated. The input of the first hidden layer is features[code] + (a part that depends on the
row) + (a part that depends on the column). The features, joined with the columns' parts, serve all target
rows between the same two LR rows. The image is decoded in blocks whose activations stay in the cache. What
depends on a row or on a column alone is computed once.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from ..coords import EPS_AREA, axis_corners
from .mlp import block_bytes, padded_count, relu_layer
from .target_axes import add_bilinear


class _Axis(NamedTuple):
    """The N target pixels along one axis, each with its T codes (2 with the ensemble, else 1).

    Attributes:
        code: (T, N), the code's index along this axis, in the region that is held.
        rel: (T, N) target pixel minus code, in LR pixels times 2.
        opposite: (T, N), the side along this axis of the rectangle that weights the code's answer.
    """

    code: Tensor
    rel: Tensor
    opposite: Tensor

    def part(self, start: int, stop: int) -> _Axis:
        return _Axis(*(values[:, start:stop] for values in self))


class GridDecoder:
    """Decodes pixels that stand in rows and columns, anywhere in an image.

    Args:
        net: a LIIF.
        projection: from ``LIIF.prepare``, of the whole image or of a tile.
        cell: (2,), height and width of every pixel.
        dtype: of the hidden layers; positions, the sum of the first layer and the blend stay in float32.
    """

    def __init__(self, net, projection, cell: Tensor, dtype: torch.dtype = torch.float32):
        self.net, self.projection, self.dtype = net, projection, dtype
        first, *hidden, last = net.imnet.linears
        self.hidden = [(layer.weight.to(dtype), layer.bias.to(dtype)) for layer in hidden]
        # Fold the conversion from [-1, 1] to [0, 1] into the last layer. With the residual, the image already
        # holds the mean.
        self.last = (last.weight * net.std).to(dtype)
        shift = last.bias * net.std + (net.mean if projection.image is None else 0)
        self.shift = shift.float().view(3, 1, 1)
        # The first layer's weights of (y, x), and of the cell, which is the same for all pixels.
        position = first.weight[:, -2 - 2 * net.cell_decode :].float()
        self.per_axis = position[:, 0], position[:, 1]  # (D,) each
        self.constant: Tensor | float = 0.0
        if net.cell_decode:
            size = torch.tensor(projection.size, device=cell.device)
            self.constant = F.linear((cell.float() * size).to(position.device), position[:, 2:])  # (D,)

    def decode(self, rows: Tensor, columns: Tensor, queries_at_once: int) -> Tensor:
        """Return the pixels with their centres at ``rows`` (R,) and ``columns`` (C,): (B, 3, R, C) float32.

        Args:
            rows: y in [-1, 1], ascending.
            columns: x in [-1, 1], ascending.
            queries_at_once: the most pixels of one block.
        """
        features, _, _, (_, _, height, width) = self.projection
        codes = features.reshape(len(features), height, width, features.shape[2])  # (B, height, width, D)
        image = torch.empty(
            len(codes), 3, len(rows), len(columns), dtype=torch.float32, device=features.device
        )
        y, x = self._axis(0, rows), self._axis(1, columns)
        row_of_code = y.code.cpu()  # one wait for the device, not one for every strip
        # The side of a square block whose activations fit into the cache.
        bytes_of_pixel = len(y.code) * len(x.code) * features.shape[2] * features.element_size()
        side = max(1, math.isqrt(min(block_bytes(features.device) // bytes_of_pixel, queries_at_once)))
        for top in range(0, len(rows), side):
            strip, y_part = image[:, :, top : top + side], y.part(top, top + side)
            # Only the LR rows that this strip uses.
            used = row_of_code[:, top : top + side]
            low, high = int(used.min()), int(used.max()) + 1
            y_part = y_part._replace(code=y_part.code - low)
            # The row's part of the first layer, with the constant part of the cell: (T, R, 1, D).
            of_row = (y_part.rel.unsqueeze(-1) * self.per_axis[0] + self.constant).unsqueeze(2)
            for left in range(0, len(columns), side):
                x_part = x.part(left, left + side)
                for codes_of_image, out in zip(codes[:, low:high], strip[..., left : left + side]):
                    self._block(
                        codes_of_image, y_part, x_part, of_row, out, is_full=out.shape[1:] == (side, side)
                    )
        if self.projection.image is not None:
            _, lq, size, region = self.projection
            lq = lq.float().transpose(1, 2).reshape(-1, 3, region[2], region[3])
            add_bilinear(image, lq, size, region, rows, columns)
        return image

    def _axis(self, axis: int, position: Tensor) -> _Axis:
        position = position.to(self.projection.features.device)
        index, rel = zip(*axis_corners(position, self.projection.size[axis], self.net.local_ensemble))
        offsets = torch.stack(rel)
        return _Axis(torch.stack(index) - self.projection.region[axis], offsets, offsets.abs().flip(0))

    def _block(self, codes: Tensor, y: _Axis, x: _Axis, of_row: Tensor, out: Tensor, is_full: bool) -> None:
        """Decode one block of one image.

        Args:
            codes: (rows, width, D), the LR rows that the block uses.
            y: its target rows.
            x: its target columns.
            of_row: (T, R, 1, D), the rows' part of the first layer.
            out: (3, R, C), where the pixels go.
            is_full: whether it has the size that most blocks have.
        """
        (T, R), C, D = y.code.shape, x.code.shape[1], codes.shape[-1]
        # Join the codes with the columns' part, once for each LR row: (rows, T, C, D).
        near = codes.index_select(1, x.code.flatten()).view(-1, T, C, D)
        near += x.rel.unsqueeze(-1) * self.per_axis[1]
        # Copy the LR rows to the target rows that lie beside them, add the rows' part: (T, R, T, C, D).
        count = T * R * T * C
        hidden = near.new_empty(count if is_full else padded_count(count), D)
        torch.index_select(
            near.view(-1, T * C * D), 0, y.code.flatten(), out=hidden[:count].view(T * R, T * C * D)
        )
        hidden[:count].view(T, R, T * C, D).add_(of_row)
        hidden[count:].zero_()
        # The hidden layers.
        hidden = F.relu_(hidden).to(self.dtype)
        for weight, bias in self.hidden:
            hidden = relu_layer(hidden, weight, bias)
        # The last layer, for each of the T x T corners: (3, T, R, T, C).
        rgb = torch.mm(self.last, hidden.t())[:, :count].float().view(3, T, R, T, C)
        if T == 1:
            torch.add(rgb.view(3, R, C), self.shift, out=out)
            return
        # Blend the corners by the areas of the rectangles diagonally opposite (equation 4).
        area = (y.opposite[:, :, None, None] * x.opposite).add_(EPS_AREA)  # (T, R, T, C)
        rgb *= area
        rgb, total = rgb[:, 0] + rgb[:, 1], area[0] + area[1]
        torch.div(rgb[:, :, 0] + rgb[:, :, 1], total[:, 0] + total[:, 1], out=out)
        out += self.shift
