"""SRNO: Super-Resolution Neural Operator (Wei, Zhang, CVPR 2023), Galerkin attention over the target."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from basicsr.utils.registry import ARCH_REGISTRY
from torch import Tensor, nn
from torch.nn import functional as F

from ..coords import EPS_AREA, axis_corners, cell_of, corners, pixel_centres
from ..errors import UserError
from .base import QUERIES_AT_ONCE, Tile, cut
from .encoder import EncodedNetwork
from .target_axes import Runs, add_bilinear, check_positions, sample_bilinear

EPS_NORM = 1e-5  # as published, outside the root
BLOCK = 2048  # queries of one block on a grid


class HeadNorm(nn.Module):
    """(x - mean) / (std + 1e-5) * weight + bias over the channels of each head: (..., heads, d)."""

    def __init__(self, heads: int, channels: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(heads, 1, channels))
        self.bias = nn.Parameter(torch.zeros(heads, 1, channels))

    def forward(self, x: Tensor) -> Tensor:
        centred = x - x.mean(dim=-1, keepdim=True)
        x = centred / (x.std(dim=-1, keepdim=True) + EPS_NORM)
        return x * self.weight.squeeze(1) + self.bias.squeeze(1)


class Galerkin(nn.Module):
    """A layer of attention whose keys and values are summed over all queries: (B, Q, D) -> (B, Q, D)."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.qkv_proj = nn.Conv2d(width, 3 * width, 1)
        self.o_proj1 = nn.Conv2d(width, width, 1)
        self.o_proj2 = nn.Conv2d(width, width, 1)
        self.kln = HeadNorm(heads, width // heads)
        self.vln = HeadNorm(heads, width // heads)

    def forward(self, x: Tensor, kernel: Tensor | None = None) -> Tensor:
        """Return the layer's output.

        Args:
            x: (B, Q, D).
            kernel: (B, heads, d, d), the mean of k^T v over all queries of the picture; None takes it over
                the Q queries that are given.
        """
        qkv = linear(self.qkv_proj, x).unflatten(-1, (self.heads, -1))  # (B, Q, heads, 3 d)
        q, k, v = qkv.chunk(3, dim=-1)
        if kernel is None:
            k, v = self.kln(k), self.vln(v)
            kernel = k.permute(0, 2, 3, 1) @ v.transpose(1, 2) / x.shape[1]  # (B, heads, d, d)
        attended = (q.transpose(1, 2) @ kernel.to(q.dtype)).transpose(1, 2).flatten(2) + x
        return x + linear(self.o_proj2, F.gelu(linear(self.o_proj1, attended)))


def linear(layer: nn.Conv2d, x: Tensor) -> Tensor:
    """Apply a 1x1 convolution to (..., C)."""
    return F.linear(x, layer.weight.flatten(1), layer.bias)


class Operator(NamedTuple):
    """A feature map with the sums over the whole target, ready for any part of it.

    Attributes:
        feat: (B, height, width, C), the features of the region.
        image: (B, 3, height, width) in [0, 1], the LR image of the region.
        kernels: (B, 2, heads, d, d), the means of k^T v of both layers over the target, or None if its size
            is not known yet.
        size: (h, w) of the whole LR image.
        region: (top, left, height, width) of the LR pixels that are held.
    """

    feat: Tensor
    image: Tensor
    kernels: Tensor | None
    size: tuple[int, int]
    region: tuple[int, int, int, int]


@ARCH_REGISTRY.register()
class SRNO(EncodedNetwork):
    """Super-Resolution Neural Operator: attention over all queries of a picture, then an MLP.

    lq (B, 3, h, w) in [0, 1], coord (B, Q, 2), cell (B, Q, 2) -> rgb (B, Q, 3), not clamped.

    With the four codes f_t of LIIF's ensemble, their rel_t and weights a_t, rel_cell = cell * (h, w), D =
    width, d = D / heads::

        x_0 = conv00 [rel_1 .. rel_4, a_1 f_1 .. a_4 f_4, rel_cell]
        for l in 0, 1:  q, k, v = qkv_proj x_l for each head;  k and v normalised over d
                        K_l = mean over ALL queries of k^T v            (heads, d, d)
                        x_(l+1) = x_l + o_proj2 gelu(o_proj1 (q K_l + x_l))
        rgb = fc2 gelu(fc1 x_2) + bilinear(lq)

    Once per LR pixel: the encoder. All else is once per query. K_0 and K_1 are means over the queries that
    are asked together: ``query`` takes those it is given, which is training; a picture needs all of its
    pixels. ``prepare`` with a size computes both over the whole target in two sweeps, ``decode`` answers in a
    third. So any block, window or tile gives the same pixels. Without a size, ``decode`` takes the target
    that its cell belongs to.

    Fast form: with K known, o_proj1 (q K + x) is one matrix, and each linear map of x_0 is, per LR pixel and
    corner, a vector that a_t multiplies. Between four neighbouring codes it is one small product: 9 numbers
    of the position times 9 vectors. What is left are gelu and a product D -> 2 D in the second sweep, three D
    -> D in the third.

    The authors' evaluation beyond x4 multiplies the cell by scale / 4; the network itself clamps no cell.

    Original: https://github.com/2y7c3/Super-Resolution-Neural-Operator (MIT, parts BSD-3). Parameter names
    are those of its checkpoints, but ``encoder.net`` for ``encoder``.

    Args:
        encoder: ``{type: EDSR, num_feat: 64, num_block: 16}``, see ``Encoder``.
        width: D.
        heads: number of heads, which divides D; the published argument is called blocks.
        hidden_dim: outputs of fc1.

    Raises:
        UserError: if ``heads`` does not divide ``width`` into heads of 2 channels or more, or the encoder
            cannot be built.

    Example:
        >>> import torch
        >>> net = SRNO({"type": "EDSR", "num_feat": 8, "num_block": 1}, width=8, heads=2, hidden_dim=16)
        >>> lq, coord = torch.rand(1, 3, 10, 12), torch.rand(1, 5, 2) * 2 - 1
        >>> net(lq, coord, torch.full((1, 5, 2), 0.1)).shape
        torch.Size([1, 5, 3])
    """

    whole_features = True
    one_cell = True

    def __init__(self, encoder: dict, width: int = 256, heads: int = 16, hidden_dim: int = 256):
        super().__init__(encoder, 1)
        if heads < 1 or width % heads or width // heads < 2:
            raise UserError(
                "network_g.heads: expected a number that divides the width into heads of 2 channels or more, "
                f"got {heads} for width {width}."
            )
        self.heads = heads
        self.conv00 = nn.Conv2d(8 + 4 * self.encoder.out_channels + 2, width, 1)
        self.conv0 = Galerkin(width, heads)
        self.conv1 = Galerkin(width, heads)
        self.fc1 = nn.Conv2d(width, hidden_dim, 1)
        self.fc2 = nn.Conv2d(hidden_dim, 3, 1)

    def prepare(
        self,
        feat: Tensor,
        size: tuple[int, int] | None = None,
        tile: Tile | None = None,
        cell: Tensor | None = None,
    ) -> Operator:
        """Lay the features out, and average over the whole target of ``size``.

        Args:
            feat: (B, C + 3, h, w), from ``encode``.
            size: (H, W) of the target; None leaves the averages to ``sample`` and ``decode``.
            tile: where ``feat`` lies. The averages need the whole image, so with a tile they are left out.
            cell: (2,), height and width of every pixel; None is the true one of ``size``.
        """
        h, w = feat.shape[-2:]
        tile = tile or Tile((h, w), (0, 0), (0, 0, h, w))
        part = cut(feat, tile, margin=0)
        table = part[:, :-3].permute(0, 2, 3, 1).contiguous()
        prepared = Operator(table, part[:, -3:], None, tile.size, tile.region)
        if size is None or tile.region != (0, 0, *tile.size):
            return prepared
        return self._with_kernels(prepared, size, cell_of(size) if cell is None else cell)

    def sample(self, prepared: Operator, coord: Tensor, cell: Tensor) -> Tensor:
        """Return the same as ``query``, or with the averages of the target if ``prepared`` has them."""
        check_positions(coord, prepared.size, prepared.region)
        h, w = prepared.size
        B = coord.shape[0]
        index, rel, weight = corners(coord, (h, w))  # (B, 4, Q), (B, 4, Q, 2), (B, 4, Q)
        batch = torch.arange(B, device=index.device).view(-1, 1, 1) * (h * w)
        near = F.embedding(index + batch, prepared.feat.flatten(0, 2).to(coord.dtype))  # (B, 4, Q, C)
        near = near * weight.unsqueeze(-1)
        # (rel_1 .. rel_4, a_1 f_1 .. a_4 f_4, rel_cell) of each query, the positions in float32.
        rel_cell = cell * torch.tensor([h, w], dtype=coord.dtype, device=coord.device)
        x = torch.cat([rel.transpose(1, 2).flatten(2), near.transpose(1, 2).flatten(2), rel_cell], dim=-1)
        with torch.autocast(coord.device.type, enabled=False):
            x = linear(self.conv00, x)
        kernels = (None, None) if prepared.kernels is None else prepared.kernels.unbind(1)
        x = self.conv1(self.conv0(x, kernels[0]), kernels[1])
        rgb = linear(self.fc2, F.gelu(linear(self.fc1, x))).to(coord.dtype) * self.std
        return rgb + sample_bilinear(prepared.image, coord)

    def at_cell(self, prepared: Operator, cell: Tensor, dtype: torch.dtype = torch.float32) -> Operator:
        """Return ``prepared`` with the averages over the target whose pixels have the size ``cell`` (2,).

        Averages that are there already stay.

        Raises:
            ValueError: if ``prepared`` is that of a tile: the averages need the whole image.
        """
        if prepared.kernels is not None:
            return prepared
        if prepared.region != (0, 0, *prepared.size):
            raise ValueError("prepared: expected the averages over the whole target, got those of a tile.")
        H, W = (max(1, round(2 / float(side))) for side in cell)
        return self._with_kernels(prepared, (H, W), cell, dtype)

    @torch.no_grad()
    def decode(
        self,
        prepared: Operator,
        rows: Tensor,
        columns: Tensor,
        cell: Tensor,
        dtype: torch.dtype = torch.float32,
        queries_at_once: int = QUERIES_AT_ONCE,
    ) -> Tensor:
        """Return the pixels of a grid, see ``ContinuousNetwork.decode``.

        Raises:
            ValueError: if ``prepared`` is that of a tile, without the averages over the whole target.
        """
        prepared = self.at_cell(prepared, cell, dtype)
        assert prepared.kernels is not None
        kind, device = prepared.feat.dtype, prepared.feat.device
        image = torch.empty(len(prepared.feat), 3, len(rows), len(columns), dtype=kind, device=device)
        for b in range(len(image)):
            fold = _Folded(self, prepared, cell, dtype)
            fold.set_kernel(0, prepared.kernels[b, 0])
            fold.set_kernel(1, prepared.kernels[b, 1])
            for block in _blocks(prepared, b, rows, columns, queries_at_once):
                rgb = fold.colours(block)  # (n * Ly * Lx, 3)
                block.write(rgb, image[b])
        image *= self.std
        add_bilinear(image, prepared.image, prepared.size, prepared.region, rows, columns)
        return image

    @torch.no_grad()
    def _with_kernels(
        self,
        prepared: Operator,
        size: tuple[int, int],
        cell: Tensor,
        dtype: torch.dtype = torch.float32,
    ) -> Operator:
        """Return ``prepared`` with the averages over all pixels of ``size``, in two sweeps over them."""
        kind = prepared.feat.dtype
        if kind not in (torch.float32, torch.float64):
            dtype, kind = kind, torch.float32
            prepared = prepared._replace(feat=prepared.feat.to(kind))
        if kind == torch.float64:
            rows, columns = (
                (2 * torch.arange(n, dtype=kind, device=prepared.feat.device) + 1) / n - 1 for n in size
            )
        else:
            rows, columns = (pixel_centres(n) for n in size)
        kernels = []
        with torch.autocast(prepared.feat.device.type, enabled=False):
            for b in range(len(prepared.feat)):
                fold = _Folded(self, prepared, cell, dtype)
                for layer in (0, 1):
                    sums = fold.sums(layer, _blocks(prepared, b, rows, columns, BLOCK))
                    fold.set_kernel(layer, fold.kernel(layer, sums, size[0] * size[1]))
                kernels.append(torch.stack(fold.kernels))
        return prepared._replace(kernels=torch.stack(kernels).to(kind))


class _Block(NamedTuple):
    """Target pixels that lie between the same two LR rows, and between n pairs of LR columns.

    Attributes:
        near: (4, n, C), the features of the four codes of each pair.
        position: (n, Ly * Lx, 9): the weights of the four codes, rel of the two rows and of the two columns,
            and 1.
        valid: (n * Ly * Lx,), 0 for pixels that only fill the block up.
        rows: (Ly,), numbers of the target rows.
        columns: (N,), numbers of the target columns.
        slots: (N,), where these columns are in (n, Lx), flattened.
    """

    near: Tensor
    position: Tensor
    valid: Tensor
    rows: Tensor
    columns: slice
    slots: Tensor

    def write(self, rgb: Tensor, image: Tensor) -> None:
        """Copy ``rgb`` (n * Ly * Lx, 3) to its places in ``image`` (3, H, W)."""
        n, Ly = self.near.shape[1], len(self.rows)
        rgb = rgb.view(n, Ly, -1, 3).permute(3, 1, 0, 2).flatten(2)  # (3, Ly, n * Lx)
        image[:, self.rows, self.columns] = rgb.index_select(2, self.slots).to(image.dtype)


class _Pairs(NamedTuple):
    """The target pixels along one axis, in runs that lie between the same two LR pixels.

    Attributes:
        codes: (n, 2), the LR pixels of each run, in the region that is held.
        runs: which target pixels belong to each run.
        rel: (2, N), target pixel minus each LR pixel, in LR pixels times 2.
        opposite: (2, N), the sides of the rectangles that weight the codes.
    """

    codes: Tensor
    runs: Runs
    rel: Tensor
    opposite: Tensor

    @classmethod
    def of(cls, position: Tensor, n: int, origin: int) -> _Pairs:
        index, rel = (torch.stack(part) for part in zip(*axis_corners(position, n)))
        runs = Runs.of(index[0] * n + index[1])
        return cls(index[:, runs.members[:, 0]].t() - origin, runs, rel, rel.abs().flip(0))


def _blocks(
    prepared: Operator, b: int, rows: Tensor, columns: Tensor, queries_at_once: int
) -> Iterator[_Block]:
    """Yield the blocks of a grid of target pixels of picture ``b``."""
    feat = prepared.feat[b]
    y, x = (
        _Pairs.of(position.to(feat.device), prepared.size[axis], prepared.region[axis])
        for axis, position in enumerate((rows, columns))
    )
    most = min(BLOCK, max(1, queries_at_once))
    x_counts = _counts(x.runs)
    # Where each run of columns begins, and the end.
    x_first = [*x.runs.members[:, 0].tolist(), len(columns)]
    for a, count in enumerate(_counts(y.runs).tolist()):
        pair = y.codes[a]
        Lx = x.runs.members.shape[1]
        y_step = min(count, max(1, most // Lx))
        x_step = max(1, most // (y_step * Lx))
        for top in range(0, count, y_step):
            members_y = y.runs.members[a, top : min(top + y_step, count)]
            for left in range(0, len(x.codes), x_step):
                part = slice(left, left + x_step)
                members_x, codes_x = x.runs.members[part], x.codes[part]
                near = torch.stack([feat[pair[t]][codes_x[:, u]] for t in (0, 1) for u in (0, 1)])
                position, valid = _positions(y, x, members_y, members_x, x_counts[part])
                first, stop = x_first[left], x_first[min(left + x_step, len(x.codes))]
                slots = x.runs.slots[first:stop] - left * Lx
                yield _Block(near, position, valid, members_y, slice(first, stop), slots)


def _counts(runs: Runs) -> Tensor:
    """Return how many target pixels each run has."""
    return torch.bincount(runs.slots // runs.members.shape[1], minlength=len(runs.pixels))


def _positions(
    y: _Pairs, x: _Pairs, members_y: Tensor, members_x: Tensor, x_counts: Tensor
) -> tuple[Tensor, Tensor]:
    """Return what a block's pixels know of their position, and which of them are real; see ``_Block``."""
    (n, Lx), Ly = members_x.shape, len(members_y)
    sides_y, sides_x = y.opposite[:, members_y], x.opposite[:, members_x]  # (2, Ly), (2, n, Lx)
    area = sides_y.view(2, 1, 1, Ly, 1) * sides_x.view(1, 2, n, 1, Lx) + EPS_AREA
    weight = (area / area.sum(dim=(0, 1))).flatten(0, 1)  # (4, n, Ly, Lx)
    rel_y = y.rel[:, members_y].view(2, 1, Ly, 1).expand(2, n, Ly, Lx)
    rel_x = x.rel[:, members_x].view(2, n, 1, Lx).expand(2, n, Ly, Lx)
    ones = torch.ones_like(weight[:1])
    position = torch.cat([weight, rel_y, rel_x, ones]).flatten(2).permute(1, 2, 0).contiguous()
    valid = torch.arange(Lx, device=members_x.device) < x_counts.unsqueeze(1)  # (n, Lx)
    return position, valid.unsqueeze(1).expand(n, Ly, Lx).flatten().to(position.dtype)


class _Folded:
    """The decoder with its linear maps multiplied out, for one picture.

    Args:
        net: a SRNO.
        prepared: of the picture.
        cell: (2,), height and width of every pixel.
        dtype: of the products between hidden layers; what depends on positions and the sums stay in the
            dtype of the features.
    """

    def __init__(self, net: SRNO, prepared: Operator, cell: Tensor, dtype: torch.dtype):
        self.kind = prepared.feat.dtype
        self.dtype = dtype if self.kind == torch.float32 else self.kind
        device = prepared.feat.device
        self.layers = [net.conv0, net.conv1]
        self.heads = net.heads
        weight, bias = self._matrix(net.conv00)
        C = prepared.feat.shape[3]
        rel_cell = cell.to(device, self.kind) * torch.tensor(prepared.size, dtype=self.kind, device=device)
        # x_0 = sum_t a_t F_t f_t + R (rel_y of two rows, rel_x of two columns) + constant.
        self.F = weight[:, 8 : 8 + 4 * C].unflatten(1, (4, C)).transpose(0, 1)  # (4, D, C)
        rel = weight[:, :8].unflatten(1, (2, 2, 2))  # (D, row of the code, column of the code, y or x)
        self.R = torch.cat([rel[..., 0].sum(dim=2), rel[..., 1].sum(dim=1)], dim=1)  # (D, 4)
        self.constant = bias + weight[:, 8 + 4 * C :] @ rel_cell
        self.fc1, self.fc2 = self._matrix(net.fc1), self._matrix(net.fc2)
        self.kernels: list[Tensor] = []
        # (matrix, bias) of o_proj1 (q K + x), for each layer whose K is known.
        self.attended: list[tuple[Tensor, Tensor]] = []
        self.tables: dict[str, tuple[Tensor, Tensor]] = {}

    def _matrix(self, layer: nn.Conv2d) -> tuple[Tensor, Tensor]:
        assert layer.bias is not None
        return layer.weight.flatten(1).to(self.kind), layer.bias.to(self.kind)

    def _keys_and_values(self, layer: int) -> tuple[Tensor, Tensor]:
        """Return matrix and bias of k and v, centred over the channels of each head: (2 D, D), (2 D,)."""
        weight, bias = self._matrix(self.layers[layer].qkv_proj)
        stacked = torch.cat([weight, bias.unsqueeze(1)], dim=1).unflatten(0, (self.heads, 3, -1))
        stacked = stacked[:, 1:].transpose(0, 1)  # (2, heads, d, D + 1)
        centred = (stacked - stacked.mean(dim=2, keepdim=True)).flatten(0, 2)
        return centred[:, :-1], centred[:, -1]

    def set_kernel(self, layer: int, kernel: Tensor) -> None:
        """Fold ``kernel`` (heads, d, d) into the layer."""
        weight, bias = self._matrix(self.layers[layer].qkv_proj)
        stacked = torch.cat([weight, bias.unsqueeze(1)], dim=1).unflatten(0, (self.heads, 3, -1))[:, 0]
        attended = (kernel.to(self.kind).transpose(1, 2) @ stacked).flatten(0, 1)  # K^T q: (D, D + 1)
        out, out_bias = self._matrix(self.layers[layer].o_proj1)
        eye = torch.eye(len(out), dtype=self.kind, device=out.device)
        self.kernels.append(kernel)
        self.attended.append((out @ (eye + attended[:, :-1]), out_bias + out @ attended[:, -1]))
        self.tables.clear()

    def _of_x0(self, name: str, maps: list[tuple[Tensor, Tensor]], block: _Block) -> Tensor:
        """Return linear maps of x_0 for the pixels of a block: (n * Ly * Lx, sum of their outputs)."""
        if name not in self.tables:
            matrix, bias = (torch.cat(part) for part in zip(*maps))
            codes = (matrix @ self.F).transpose(1, 2).contiguous()  # (4, C, outputs)
            others = torch.cat([matrix @ self.R, (matrix @ self.constant + bias).unsqueeze(1)], dim=1)
            self.tables[name] = codes, others.t().contiguous()  # (5, outputs)
        codes, others = self.tables[name]
        n = block.near.shape[1]
        table = torch.empty(n, 9, others.shape[1], dtype=self.kind, device=others.device)
        table[:, :4] = torch.bmm(block.near, codes).transpose(0, 1)
        table[:, 4:] = others
        return torch.bmm(block.position, table).flatten(0, 1)

    def _product(self, x: Tensor, matrix: Tensor) -> Tensor:
        return F.linear(x.to(self.dtype), matrix.to(self.dtype)).to(self.kind)

    def sums(self, layer: int, blocks: Iterator[_Block]) -> tuple[Tensor, Tensor, Tensor]:
        """Return sums over the queries of normalised k^T v (heads, d, d), k and v (heads, d), float64."""
        keys_and_values, bias = self._keys_and_values(layer)
        if layer:
            out, out_bias = self._matrix(self.layers[0].o_proj2)
            of_hidden = keys_and_values @ out
            bias = bias + keys_and_values @ out_bias
        total: list[Tensor] = []
        for block in blocks:
            if layer:
                maps = [self.attended[0], (keys_and_values, bias)]
                hidden, kv = self._of_x0("second", maps, block).split([len(out), len(bias)], dim=1)
                kv = kv + self._product(F.gelu(hidden), of_hidden)
            else:
                kv = self._of_x0("first", [(keys_and_values, bias)], block)
            kv = kv.view(len(kv), 2, self.heads, -1)
            std = (kv.square().sum(dim=3, keepdim=True) / (kv.shape[3] - 1)).sqrt_()
            kv = kv * (block.valid.view(-1, 1, 1, 1) / (std + EPS_NORM))
            k, v = kv[:, 0], kv[:, 1]  # (N, heads, d)
            parts = [torch.bmm(k.permute(1, 2, 0), v.transpose(0, 1)), k.sum(dim=0), v.sum(dim=0)]
            parts = [part.double() for part in parts]
            total = parts if not total else [a + b for a, b in zip(total, parts)]
        return total[0], total[1], total[2]

    def kernel(self, layer: int, sums: tuple[Tensor, Tensor, Tensor], count: int) -> Tensor:
        """Return the mean of k^T v with the weights and biases of the norms: (heads, d, d) float64."""
        products, keys, values = (part / count for part in sums)
        kln, vln = self.layers[layer].kln, self.layers[layer].vln
        wk, bk, wv, bv = (p.double().squeeze(1) for p in (kln.weight, kln.bias, vln.weight, vln.bias))
        k, v = wk * keys + bk, wv * values  # the mean k, the mean v without its bias
        return (
            wk.unsqueeze(2) * products * wv.unsqueeze(1)
            + k.unsqueeze(2) * bv.unsqueeze(1)
            + bk.unsqueeze(2) * v.unsqueeze(1)
        )

    def colours(self, block: _Block) -> Tensor:
        """Return the colours of the pixels of a block, in [-1, 1] and without the image: (N, 3)."""
        if "third" not in self.tables:
            (A, a), (fc1, fc1_bias) = self.attended[1], self.fc1
            (out0, out0_bias), (out1, out1_bias) = (self._matrix(layer.o_proj2) for layer in self.layers)
            second = A, a + A @ out0_bias
            third = fc1, fc1_bias + fc1 @ (out0_bias + out1_bias)
            self.maps = [self.attended[0], second, third]
            self.hidden = A @ out0, fc1 @ out0, fc1 @ out1
        first, second, third = self._of_x0("third", self.maps, block).split(
            [len(bias) for _, bias in self.maps], dim=1
        )
        hidden0 = F.gelu(first)
        hidden1 = F.gelu(second + self._product(hidden0, self.hidden[0]))
        last = third + self._product(hidden0, self.hidden[1]) + self._product(hidden1, self.hidden[2])
        return F.linear(F.gelu(last), *self.fc2)
