"""Checks that every decoder of the family passes, and the authors' tensors under our names."""

import numpy as np
import torch
from basicsr.archs import build_network

from helpers import GOLDEN
from liif_plugin.checkpoints.conversion import convert, load_foreign
from liif_plugin.checkpoints.thera_conversion import convert_thera
from liif_plugin.coords import cell_of, grid, mesh, queries_to_image
from liif_plugin.inference.render import render


def thera_state(name):
    """State dict of tests/golden/NAME-params.npz."""
    with np.load(GOLDEN / f"{name}-params.npz") as arrays:
        return convert_thera({path: torch.from_numpy(arrays[path]) for path in arrays.files})[1]


def load(options, state):
    """Build a network and load ``state``, which has exactly its tensors."""
    net = build_network(options).eval()
    net.load_state_dict(state, strict=True)
    return net


def published_state(name):
    """State dict of tests/golden/NAME.pth, the authors' format, and its args."""
    model = load_foreign(str(GOLDEN / f"{name}.pth"))
    return convert(model)[1], model["args"]


def plain(net, lq, size, cell=None):
    """All pixels of ``size`` by ``query``, at once."""
    coord = grid(size).to(lq).expand(len(lq), -1, -1)
    cell = (cell_of(size) if cell is None else cell).to(lq).expand_as(coord)
    with torch.no_grad():
        return queries_to_image(net(lq, coord, cell), size)


def largest(a, b):
    return (a - b).abs().max().item()


def check_fast_form(net, size, lr=(9, 7), bound=1e-9):
    """``decode`` against ``query`` in float64, at exact float64 positions."""
    net = net.double()
    lq = torch.rand(2, 3, *lr, dtype=torch.float64)
    coord_of = [(2 * torch.arange(n, dtype=torch.float64) + 1) / n - 1 for n in size]
    coord = mesh(*coord_of).expand(2, -1, -1)
    cell = torch.tensor([2 / size[0], 2 / size[1]], dtype=torch.float64)
    with torch.no_grad():
        feat = net.encode(lq)
        expected = queries_to_image(net.query(feat, coord, cell.expand_as(coord)), size)
        ours = net.decode(net.prepare(feat, size, None, cell), *coord_of, cell)
    net.float()
    assert largest(ours, expected) < bound, largest(ours, expected)


def check_pieces(net, lr, size, tile=16, bound=1e-5, plain_bound=1e-5):
    """Chunks, batches, windows and tiles give the pixels of the whole, which are those of ``query``."""
    torch.manual_seed(1)
    lq = torch.rand(2, 3, *lr)
    whole = render(net, lq, size)
    assert largest(whole, plain(net, lq, size)) < plain_bound
    for chunk in (1 if size[0] * size[1] < 500 else 301, 10**9):
        assert largest(render(net, lq, size, queries_at_once=chunk), whole) < bound, chunk
    apart = torch.cat([render(net, lq[:1], size), render(net, lq[1:], size)])
    assert largest(apart, whole) < bound
    H, W = size
    for window in ((0, 0, 1, W), (H // 3, W // 4, H // 2, W // 3), (H - 3, W - 4, 3, 4)):
        top, left, height, width = window
        part = whole[..., top : top + height, left : left + width]
        assert largest(render(net, lq, size, window=window), part) < bound, window
        assert largest(render(net, lq, size, window=window, tile=tile), part) < bound, window
    assert largest(render(net, lq, size, tile=tile), whole) < bound


def check_gradients(net, lq=None):
    """Every parameter gets a gradient through ``forward``."""
    torch.manual_seed(0)
    lq = torch.rand(1, 3, 8, 9) if lq is None else lq
    coord = torch.rand(1, 300, 2) * 1.9 - 0.95
    net.train()
    net(lq, coord, torch.full_like(coord, 0.1)).square().sum().backward()
    silent = [n for n, p in net.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    net.eval()
    assert not silent, silent


def check_autocast(net, bound):
    """Half precision changes values, not positions: a bfloat16 coordinate would be off by a pixel here."""
    torch.manual_seed(0)
    lq = torch.rand(1, 3, 12, 300)
    exact = render(net, lq, (24, 601))
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        near = plain(net, lq, (24, 601))
    assert largest(near, exact) < bound, largest(near, exact)
    near = render(net, lq, (24, 601), dtype=torch.bfloat16)
    assert largest(near, exact) < bound, largest(near, exact)


def check_positions_outside(net):
    coord = torch.tensor([[[-1.0, -1.0], [1.0, 1.0], [-1.0, 1.0], [0.0, 1.0]]])
    assert net(torch.rand(1, 3, 6, 5), coord, torch.full_like(coord, 0.1)).isfinite().all()
