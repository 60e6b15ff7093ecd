"""The contract of a network: the defaults of ContinuousNetwork on ``encode`` and ``query`` alone."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from helpers.networks import SMALL
from liif_plugin.archs.base import (
    ContinuousNetwork,
    Tile,
    as_continuous,
    is_continuous,
    tensors_of,
)
from liif_plugin.coords import bilinear, cell_of, grid, queries_to_image
from liif_plugin.inference.render import render
from liif_plugin.inference.upscaling import Engine, Geometry


class Functions:
    """Two convolutions, then bilinear interpolation of the features at the query, scaled by the cell."""

    def encode(self, lq):
        return self.second(F.relu(self.first(lq)))

    def query(self, feat, coord, cell):
        B, C, h, w = feat.shape
        index, weight = bilinear(coord, (h, w))  # (B, 4, Q)
        near = feat.flatten(2).gather(2, index.flatten(1).unsqueeze(1).expand(-1, C, -1)).view(B, C, 4, -1)
        rgb = (near * weight.unsqueeze(1)).sum(dim=2).transpose(1, 2)
        return rgb * (cell * torch.tensor([h, w])).sum(dim=-1, keepdim=True)


def add_layers(net):
    net.first, net.second = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 3, 3, padding=1)


class Own(Functions, nn.Module):
    """A user's class that knows nothing of ours."""

    halo = 3  # one for each convolution and one for the interpolation

    def __init__(self):
        super().__init__()
        add_layers(self)

    def forward(self, lq, coord, cell):
        return self.query(self.encode(lq), coord, cell)


class Heir(Functions, ContinuousNetwork):
    halo = 3

    def __init__(self):
        super().__init__()
        add_layers(self)


def plain(net, lq, size):
    coord = grid(size).expand(len(lq), -1, -1)
    with torch.no_grad():
        return queries_to_image(net(lq, coord, cell_of(size).expand_as(coord)), size)


@pytest.mark.parametrize("kind", [Own, Heir])
@pytest.mark.parametrize("size", [(84, 60), (140, 100), (105, 75), (70, 50), (231, 101)])
def test_tiles_of_a_network_with_encode_and_query_alone(kind, size):
    """They once got coordinates of the whole image: x1.2 was wrong by 21/255 on the average."""
    torch.manual_seed(0)
    net, lq = kind(), torch.rand(2, 3, 70, 50)
    expected = plain(net, lq, size)
    assert (render(net, lq, size) - expected).abs().max() < 1e-6
    for tile in (16, 33):
        assert (render(net, lq, size, tile=tile) - expected).abs().max() < 1e-5
    window = (size[0] // 3, size[1] // 4, size[0] // 2, size[1] // 3)
    part = expected[..., window[0] : window[0] + window[2], window[1] : window[1] + window[3]]
    assert (render(net, lq, size, window=window, tile=16) - part).abs().max() < 1e-5


def test_an_engine_tiles_it_too():
    torch.manual_seed(0)
    net, lq = Own(), torch.rand(1, 3, 70, 50)
    size = (84, 60)
    engine = Engine(net, torch.device("cpu"), budget=1)
    object.__setattr__(engine, "tiling", lambda *_: (16, None))  # too small a picture to be tiled by itself
    bands = [band for _, band in engine.bands(lq, Geometry(size, (0, 0, *size)))]
    assert len(bands) > 1
    assert (torch.cat(bands, dim=2) - plain(net, lq, size)).abs().max() < 1e-5


def test_sample_of_a_tile_takes_coordinates_of_the_whole_image():
    torch.manual_seed(0)
    net, lq = Heir(), torch.rand(1, 3, 40, 30)
    feat = net.encode(lq)
    tile = net.prepare(feat[..., 10:30, 5:25], tile=Tile((40, 30), (10, 5), (13, 8, 14, 14)))
    y, x = torch.rand(50) * 12 + 14, torch.rand(50) * 12 + 9  # inside the region, in LR pixels
    coord = torch.stack([y / 40 * 2 - 1, x / 30 * 2 - 1], dim=-1).unsqueeze(0)
    cell = torch.full_like(coord, 0.02)
    assert (net.sample(tile, coord, cell) - net.query(feat, coord, cell)).abs().max() < 1e-5


def test_what_counts_as_continuous():
    assert is_continuous(Own())
    assert is_continuous(Heir())
    assert not is_continuous(nn.Conv2d(3, 3, 1))
    fixed, heir = nn.Conv2d(3, 3, 1), Heir()
    assert as_continuous(fixed) is fixed
    assert as_continuous(heir) is heir
    assert as_continuous(Own()).halo == 3
    with pytest.raises(NotImplementedError, match=r"ContinuousNetwork does not define encode\(lq\)"):
        ContinuousNetwork()(torch.rand(1, 3, 4, 4), torch.zeros(1, 1, 2), torch.ones(1, 1, 2))
    with pytest.raises(ValueError, match="expected a network for any scale"):
        render(fixed, torch.rand(1, 3, 4, 4), (8, 8))


def test_without_ensemble_shares_the_weights():
    from basicsr.archs import build_network

    net = build_network(SMALL)
    other = net.without_ensemble()
    assert other.imnet is net.imnet
    assert not other.local_ensemble
    assert net.local_ensemble
    assert other.without_ensemble() is None
    assert Heir().without_ensemble() is None


def test_tensors_of():
    from basicsr.archs import build_network

    feat = torch.rand(1, 8, 5, 5)
    prepared = build_network(SMALL).prepare(feat)
    assert [tensor.shape for tensor in tensors_of(prepared)] == [(1, 25, 16)]
    assert tensors_of(feat)[0] is feat
