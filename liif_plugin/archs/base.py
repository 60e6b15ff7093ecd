"""The contract of a network for arbitrary scales, as a class.

Letters: B batch, C features, Q queries, (h, w) the low-resolution (LR) grid, (H, W) the target grid.
All pairs are (y, x).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._pytree import tree_leaves

from ..coords import mesh, queries_to_image

# Pixels that one block decodes. LIIF's hidden activations (4 corners x 256 floats a query) then take 64 MiB.
QUERIES_AT_ONCE = 16384


class Tile(NamedTuple):
    """Where the feature map of a tile lies in the whole LR image.

    Attributes:
        size: (h, w) of the whole LR image.
        origin: (top, left) of the first pixel of the feature map in the LR image.
        region: (top, left, height, width) of the LR pixels that the decoder needs, in the whole LR image.
    """

    size: tuple[int, int]
    origin: tuple[int, int]
    region: tuple[int, int, int, int]


class Features(NamedTuple):
    """What ``ContinuousNetwork.prepare`` returns unless a network overrides it: the feature map as it is.

    Attributes:
        feat: (B, C, h, w), as ``encode`` returns it.
        tile: where ``feat`` lies in the image, or None if it is the feature map of the whole image.
    """

    feat: Tensor
    tile: Tile | None


def cut(feat: Tensor, tile: Tile, margin: int) -> Tensor:
    """Cut the tile's region and ``margin`` pixels around it out of ``feat``; zeros outside the image.

    Args:
        feat: (..., h, w), the feature map of a tile.
        tile: where ``feat`` lies, and which region of it is wanted.
        margin: LR pixels around the region.

    Returns:
        (..., height + 2 margin, width + 2 margin).

    Raises:
        ValueError: if ``feat`` does not reach ``margin`` pixels beyond the region, inside the image.
    """
    spans, pads = [], []
    for axis in (0, 1):
        first = tile.region[axis] - margin
        stop = tile.region[axis] + tile.region[axis + 2] + margin
        if max(first, 0) < tile.origin[axis]:
            raise ValueError(
                f"tile: its region {tile.region} needs {margin} pixels around it, but the features begin at "
                f"{tile.origin}."
            )
        spans.append(slice(max(first, 0) - tile.origin[axis], min(stop, tile.size[axis]) - tile.origin[axis]))
        pads.append((max(-first, 0), max(stop - tile.size[axis], 0)))
    part = feat[..., spans[0], spans[1]]
    return F.pad(part, (*pads[1], *pads[0])) if any(map(any, pads)) else part


class ContinuousNetwork(nn.Module):
    """A network that predicts the colour at any position for a pixel of any size.

    A subclass must define ``encode`` and ``query``. Everything else has a default that works with these two.
    A network whose decoder has a faster form for many queries overrides ``prepare`` and ``sample``. One that
    has a faster form for a grid of pixels overrides ``decode`` too. No method keeps state between calls.

    Attributes:
        halo: LR pixels around a tile that the pixels inside it depend on: the receptive radius of ``encode``
            and ``query`` together. None means the whole image: such a network is never run in tiles.
        pad_multiple: tiles begin at multiples of this number of LR pixels: the window size of a windowed
            encoder, else 1.
        whole_features: True if ``prepare`` needs the feature map of the whole image, because a pixel depends
            on all others of the target. The image is still encoded in tiles, the features are put together.
        uses_cell: False if the result does not depend on the size of the queried pixel.
        one_cell: True if all queries of one call of ``sample`` must have the same cell.
        not_exportable: why `liif export` refuses the network, None if it does not.
        residual: name of the interpolation of the input that the network adds its result to, or None.
        has_gradient: True if the network defines ``query_with_gradient``, which ``train.gradient_weight``
            needs.

    Example:
        The smallest network for any scale, the nearest pixel:

        >>> import torch
        >>> class Nearest(ContinuousNetwork):
        ...     def encode(self, lq):
        ...         return lq
        ...     def query(self, feat, coord, cell):
        ...         size = torch.tensor(feat.shape[-2:])
        ...         y, x = ((coord + 1) / 2 * size).long().minimum(size - 1).unbind(-1)
        ...         return torch.stack([image[:, i, j].T for image, i, j in zip(feat, y, x)])
        >>> lq = torch.rand(1, 3, 4, 4)
        >>> corner = torch.tensor([[[-1.0, -1.0]]])
        >>> bool((Nearest()(lq, corner, corner) == lq[:, :, 0, 0]).all())
        True
    """

    halo: int | None = None
    pad_multiple: int = 1
    whole_features: bool = False
    uses_cell: bool = True
    one_cell: bool = False
    not_exportable: str | None = None
    residual: str | None = None
    has_gradient: bool = False

    def encode(self, lq: Tensor) -> Tensor:
        """Return the feature map of an image.

        Args:
            lq: (B, 3, h, w) RGB in [0, 1].

        Returns:
            (B, C, h, w).
        """
        raise NotImplementedError(f"{type(self).__name__} does not define encode(lq).")

    def query(self, feat: Tensor, coord: Tensor, cell: Tensor) -> Tensor:
        """Return the colours of pixels at any positions.

        Args:
            feat: as ``encode`` returns it.
            coord: (B, Q, 2) float32, (y, x) of the pixels' centres in [-1, 1].
            cell: (B, Q, 2) float32, height and width of the pixels in the same unit.

        Returns:
            (B, Q, 3) RGB, trained to lie in [0, 1], not clamped.
        """
        raise NotImplementedError(f"{type(self).__name__} does not define query(feat, coord, cell).")

    def query_with_gradient(self, feat: Tensor, coord: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``query(feat, coord, cell)`` and the gradient of the predicted field at the same positions.

        Args:
            feat: as ``encode`` returns it.
            coord: as for ``query``.
            cell: as for ``query``.

        Returns:
            (B, Q, 3) RGB, and (B, Q, 2, 3): the derivative of each colour by y and by x, per LR pixel.
        """
        raise NotImplementedError(f"{type(self).__name__} does not define query_with_gradient.")

    def forward(
        self, lq: Tensor, coord: Tensor, cell: Tensor, with_gradient: bool = False
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Return ``query(encode(lq), coord, cell)``: (B, Q, 3).

        Training calls ``forward`` alone, because DistributedDataParallel and torch.compile wrap it.

        Args:
            lq: (B, 3, h, w) RGB in [0, 1].
            coord: as for ``query``.
            cell: as for ``query``.
            with_gradient: return what ``query_with_gradient`` returns, a pair.
        """
        feat = self.encode(lq)
        if with_gradient:
            return self.query_with_gradient(feat, coord, cell)
        return self.query(feat, coord, cell)

    def prepare(
        self,
        feat: Tensor,
        size: tuple[int, int] | None = None,
        tile: Tile | None = None,
        cell: Tensor | None = None,
    ) -> Any:
        """Compute once what ``sample`` and ``decode`` need of a feature map.

        Args:
            feat: as ``encode`` returns it.
            size: (H, W) of the target image, for networks whose result depends on it; None if not known yet.
            tile: where ``feat`` lies in a larger image; None if it is the whole image.
            cell: (2,), height and width of every pixel, for networks whose result for ``size`` depends on it;
                None is the true one of ``size``.

        Returns:
            A tensor or a NamedTuple of tensors and plain values; the first dimension of each tensor is B.
        """
        return Features(feat, tile)

    def at_cell(self, prepared: Any, cell: Tensor) -> Any:
        """Return ``prepared`` with what depends on the whole target whose pixels have the size ``cell``.

        Call it once before many calls of ``sample`` or ``decode`` with the same cell. The default returns
        ``prepared``: most networks compute nothing that depends on the whole target.

        Args:
            prepared: from ``prepare``, of the whole image.
            cell: (2,) float32, height and width of every pixel.
        """
        return prepared

    def sample(self, prepared: Any, coord: Tensor, cell: Tensor) -> Tensor:
        """Return the same as ``query``, from the result of ``prepare``.

        Args:
            prepared: from ``prepare``.
            coord: as for ``query``. Coordinates are always those of the whole image, also for a tile.
            cell: as for ``query``.

        Returns:
            (B, Q, 3) RGB, not clamped.
        """
        if prepared.tile is not None:
            coord, cell = _in_tile(coord, cell, prepared.tile, prepared.feat.shape[-2:])
        return self.query(prepared.feat, coord, cell)

    def decode(
        self,
        prepared: Any,
        rows: Tensor,
        columns: Tensor,
        cell: Tensor,
        dtype: torch.dtype = torch.float32,
        queries_at_once: int = QUERIES_AT_ONCE,
    ) -> Tensor:
        """Return the pixels of a grid.

        Args:
            prepared: from ``prepare``.
            rows: (R,) float32, y of the pixels' centres in [-1, 1], ascending.
            columns: (C,) float32, x of the pixels' centres in [-1, 1], ascending.
            cell: (2,), height and width of every pixel.
            dtype: the type in which the layers run; torch.float32 turns autocast off.
            queries_at_once: pixels of one block. The result does not depend on it.

        Returns:
            (B, 3, R, C) float32, not clamped.
        """
        first = tensors_of(prepared)[0]
        rows, columns, cell = (part.to(first.device) for part in (rows, columns, cell))
        batch = len(first)
        image = torch.empty(batch, 3, len(rows), len(columns), dtype=torch.float32, device=first.device)
        step = max(1, queries_at_once // (len(columns) * batch))
        for top in range(0, len(rows), step):
            coord = mesh(rows[top : top + step], columns).expand(batch, -1, -1)
            with torch.autocast(first.device.type, dtype=dtype, enabled=dtype != torch.float32):
                rgb = self.sample(prepared, coord, cell.expand_as(coord))
            block = image[:, :, top : top + step]
            block.copy_(queries_to_image(rgb, (block.shape[2], block.shape[3])))
        return image

    def to_tables(self, feat: Tensor) -> dict[str, Tensor]:
        """Return what an exported encoder hands to the exported decoder.

        Override both ``to_tables`` and ``from_tables`` if ``prepare`` computes much for each LR pixel, so
        that the exported decoder does not compute it again in each call.

        Args:
            feat: (B, C, h, w) of a whole image, as ``encode`` returns it.

        Returns:
            Tensors (B, h, w, channels) by name.
        """
        return {"features": feat.permute(0, 2, 3, 1)}

    def from_tables(self, tables: dict[str, Tensor]) -> Any:
        """Return what ``sample`` needs, like ``prepare``, from the result of ``to_tables``."""
        return self.prepare(tables["features"].permute(0, 3, 1, 2))

    def without_ensemble(self) -> ContinuousNetwork | None:
        """Return the same network without its local ensemble, or None if it has none.

        The weights are shared.
        """
        return None


def _in_tile(coord: Tensor, cell: Tensor, tile: Tile, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Translate positions and cells of the whole image into those of a tile's feature map.

    Args:
        coord: (B, Q, 2), positions in the whole image.
        cell: (B, Q, 2), cells in the unit of the whole image.
        tile: where the feature map lies.
        size: (h, w) of the feature map.
    """
    whole, part, origin = (
        coord.new_tensor(pair, dtype=torch.float64) for pair in (tile.size, size, tile.origin)
    )
    pixels = (coord.double() + 1) / 2 * whole - origin  # in LR pixels from the tile's upper left corner
    return (pixels * 2 / part - 1).to(coord.dtype), (cell.double() * whole / part).to(cell.dtype)


class _Wrapped(ContinuousNetwork):
    """A user's class that has ``encode`` and ``query`` but does not inherit from ContinuousNetwork."""

    def __init__(self, net: Any):
        super().__init__()
        self.net: Any = net
        self.halo = getattr(net, "halo", None)
        self.pad_multiple = getattr(net, "pad_multiple", 1)

    def encode(self, lq: Tensor) -> Tensor:
        return self.net.encode(lq)

    def query(self, feat: Tensor, coord: Tensor, cell: Tensor) -> Tensor:
        return self.net.query(feat, coord, cell)


def as_continuous(net: nn.Module) -> nn.Module:
    """Return ``net`` as a ContinuousNetwork if it answers queries, else ``net`` itself.

    A network that does not answer queries has one fixed scale. This is the only place that looks for methods
    by name.

    Args:
        net: any network. One that does not inherit from ContinuousNetwork, but has ``encode`` and ``query``,
            is wrapped; its attributes ``halo`` and ``pad_multiple`` are used if it has them.

    Example:
        >>> import torch
        >>> class Mine(torch.nn.Module):
        ...     def encode(self, lq):
        ...         return lq
        ...     def query(self, feat, coord, cell):
        ...         return coord.new_zeros(*coord.shape[:2], 3)
        >>> isinstance(as_continuous(Mine()), ContinuousNetwork)
        True
    """
    if isinstance(net, ContinuousNetwork):
        return net
    if callable(getattr(net, "encode", None)) and callable(getattr(net, "query", None)):
        return _Wrapped(net)
    return net


def is_continuous(net: nn.Module) -> bool:
    """Return whether ``net`` answers queries at any scale; a network that does not has one fixed scale."""
    return isinstance(as_continuous(net), ContinuousNetwork)


def tensors_of(prepared: Any) -> list[Tensor]:
    """Return all tensors in what ``ContinuousNetwork.prepare`` returned."""
    return [leaf for leaf in tree_leaves(prepared) if isinstance(leaf, Tensor)]
