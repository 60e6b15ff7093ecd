"""What several decoders do along the axes of a grid of target pixels."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from ..coords import EPS_AREA, axis_bilinear, axis_corners, bilinear


def check_positions(coord: Tensor, size: tuple[int, int], region: tuple[int, int, int, int]) -> None:
    """Raise ValueError unless ``coord`` is float32 (B, Q, 2) and ``region`` is the whole image."""
    if coord.dtype not in (torch.float32, torch.float64) or coord.shape[-1] != 2 or coord.dim() != 3:
        raise ValueError(
            f"coord: expected float32 of shape (B, Q, 2), got {coord.dtype} of {tuple(coord.shape)}."
        )
    if region != (0, 0, *size):
        raise ValueError("prepared: expected the features of a whole image; those of a tile are for decode.")


def sample_bilinear(image: Tensor, coord: Tensor) -> Tensor:
    """Return the bilinear interpolation of ``image`` (B, 3, h, w) at ``coord`` (B, Q, 2): (B, Q, 3)."""
    B, _, h, w = image.shape
    index, weight = bilinear(coord, (h, w))  # (B, 4, Q)
    index = index + torch.arange(B, device=index.device).view(-1, 1, 1) * (h * w)
    pixels = image.to(coord.dtype).permute(0, 2, 3, 1).reshape(-1, 3)
    return (F.embedding(index, pixels) * weight.unsqueeze(-1)).sum(dim=1)


def add_bilinear(
    image: Tensor,
    lq: Tensor,
    size: tuple[int, int],
    region: tuple[int, int, int, int],
    rows: Tensor,
    columns: Tensor,
) -> None:
    """Add the bilinearly enlarged LR image to ``image``, axis by axis, a few rows at a time.

    Args:
        image: (B, 3, R, C), changed in place.
        lq: (B, 3, height, width), the LR image of the region.
        size: (h, w) of the whole LR image.
        region: (top, left, height, width) of the LR pixels that are held.
        rows: (R,), y in [-1, 1].
        columns: (C,), x in [-1, 1].
    """
    lq = lq.to(image.dtype)
    taps = []
    for axis, position in enumerate((rows, columns)):
        pairs = axis_bilinear(position.to(lq.device), size[axis])
        taps.append([(index - region[axis], weight) for index, weight in pairs])
    step = max(1, (1 << 18) // image.shape[3])
    for top in range(0, image.shape[2], step):
        lines = torch.zeros((), dtype=image.dtype, device=image.device)
        for row, weight in taps[0]:
            lines = lines + lq.index_select(2, row[top : top + step]) * weight[top : top + step, None]
        for column, weight in taps[1]:
            image[:, :, top : top + step] += lines.index_select(3, column) * weight


class Visits(NamedTuple):
    """Which target pixels along one axis ask which LR pixel, sorted by LR pixel.

    A target pixel asks T LR pixels along an axis, 2 with the ensemble and 1 without. Pair t * N + i is the
    question of target pixel i of N to its code t.

    Attributes:
        pixels: the LR pixels that are asked, in the whole image, ascending.
        counts: how many pairs ask each of them; L is the largest.
        members: (n, L), the numbers of these pairs; the last is repeated where there are fewer.
        slots: (T * N,), where each pair is in ``members``, flattened.
        rel: (T * N,), target pixel minus LR pixel of each pair, in LR pixels times 2.
        weight: (T, N), of the code's answer along this axis; the weights of a pixel need not add up to one.
    """

    pixels: list[int]
    counts: list[int]
    members: Tensor
    slots: Tensor
    rel: Tensor
    weight: Tensor

    @classmethod
    def of(cls, position: Tensor, n: int, ensemble: bool, bilinear: bool = False) -> Visits:
        """Return the visits of target pixels at ``position`` (N,) to ``n`` LR pixels.

        The codes and weights are those of ``corners``, or of ``bilinear``, which differ at the border.
        """
        if bilinear:
            index, weight = (torch.stack(part) for part in zip(*axis_bilinear(position, n)))
            rel = (position + 1) * n - 1 - 2 * index
        else:
            index, rel = (torch.stack(part) for part in zip(*axis_corners(position, n, ensemble)))
            weight = rel.abs().flip(0)  # the side of the rectangle diagonally opposite
        order = index.flatten().argsort(stable=True)
        pixels, which, counts = torch.unique_consecutive(
            index.flatten()[order], return_inverse=True, return_counts=True
        )
        length, starts = int(counts.max()), counts.cumsum(0) - counts
        place = torch.arange(length, device=index.device)
        members = order[starts.unsqueeze(1) + torch.minimum(place, counts.unsqueeze(1) - 1)]
        slots = torch.empty_like(order)
        slots[order] = which * length + torch.arange(len(order), device=index.device) - starts[which]
        return cls(pixels.tolist(), counts.tolist(), members, slots, rel.flatten(), weight)


# (LR row in the whole image, rel_y (Ly,)) -> (3, Ly, n, Lx): colours of the pairs of one LR row.
RowAnswer = Callable[[int, Tensor], Tensor]


def decode_by_lr_rows(
    image: Tensor,
    rows: Tensor,
    columns: Tensor,
    size: tuple[int, int],
    ensemble: bool,
    pixels_at_once: int,
    open_block: Callable[[int, Visits, Visits], RowAnswer],
    bilinear: bool = False,
) -> None:
    """Fill ``image`` with the blended answers of the codes, one LR row of codes after the other.

    Seen from an LR pixel, the target pixels that ask it form a patch of rows times columns. What belongs to
    the LR pixel is thus broadcast over the patch and never gathered per query.

    Args:
        image: (B, 3, R, C), filled.
        rows: (R,), y in [-1, 1], ascending.
        columns: (C,), x in [-1, 1], ascending.
        size: (h, w) of the whole LR image.
        ensemble: whether a pixel asks two codes along each axis (four in all) or one.
        pixels_at_once: target pixels of one block.
        open_block: (number of the image, visits of the block's rows, of its columns) -> the function that
            answers one LR row of the block.
        bilinear: whether the codes and weights are those of bilinear interpolation, see ``Visits``.
    """
    rows, columns = rows.to(image.device), columns.to(image.device)
    column_step = min(len(columns), max(1, min(1024, pixels_at_once)))
    row_step = max(1, pixels_at_once // column_step)
    for left in range(0, len(columns), column_step):
        x = Visits.of(columns[left : left + column_step], size[1], ensemble, bilinear)
        for top in range(0, len(rows), row_step):
            y = Visits.of(rows[top : top + row_step], size[0], ensemble, bilinear)
            block = image[:, :, top : top + row_step, left : left + column_step]
            for b, out in enumerate(block):
                _decode_block(out, y, x, open_block(b, y, x))


def _decode_block(out: Tensor, y: Visits, x: Visits, answer: RowAnswer) -> None:
    """Fill ``out`` (3, R, C)."""
    (T, R), C = y.weight.shape, x.weight.shape[1]
    answers = torch.empty(3, T * R, T * C, dtype=out.dtype, device=out.device)
    for row, count, members, numbers in zip(y.pixels, y.counts, y.members, y.members.tolist()):
        rgb = answer(row, y.rel[members[:count]])  # (3, Ly, n, Lx)
        rgb = rgb.flatten(2).index_select(2, x.slots).to(out.dtype)
        # The pairs of an LR row are one run of target rows for each side.
        first = 0
        for i in range(1, count + 1):
            if i == count or numbers[i] != numbers[i - 1] + 1:
                answers[:, numbers[first] : numbers[i - 1] + 1] = rgb[:, first:i]
                first = i
    answers = answers.view(3, T, R, T, C)
    if T == 1:
        out.copy_(answers[:, 0, :, 0])
        return
    # Blend by the products of the weights, the areas of equation 4 of LIIF.
    area = (y.weight[:, :, None, None] * x.weight).add_(EPS_AREA).to(out.dtype)  # (T, R, T, C)
    answers *= area
    answers, area = answers[:, 0] + answers[:, 1], area[0] + area[1]
    torch.div(answers[:, :, 0] + answers[:, :, 1], area[:, 0] + area[:, 1], out=out)


class Runs(NamedTuple):
    """Target pixels along one axis, sorted by LR pixel and padded to the same number for each.

    Attributes:
        pixels: (n,), the LR pixels that have target pixels.
        members: (n, L), numbers of their target pixels; the last is repeated where there are fewer.
        slots: (N,), where each target pixel is in ``members``, flattened.
    """

    pixels: Tensor
    members: Tensor
    slots: Tensor

    @classmethod
    def of(cls, index: Tensor) -> Runs:
        """Return the runs of ``index`` (N,), the LR pixel of each target pixel, ascending."""
        pixels, which, counts = torch.unique_consecutive(index, return_inverse=True, return_counts=True)
        starts, length = counts.cumsum(0) - counts, int(counts.max())
        place = torch.arange(length, device=index.device)
        members = starts.unsqueeze(1) + torch.minimum(place, counts.unsqueeze(1) - 1)
        slots = which * length + torch.arange(len(index), device=index.device) - starts[which]
        return cls(pixels, members, slots)
