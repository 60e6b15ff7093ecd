"""SRNO against the numbers of its authors' code, in one piece and in three sweeps."""

import pytest
import torch
from basicsr.archs import build_network

from helpers.family import (
    check_autocast,
    check_fast_form,
    check_gradients,
    check_pieces,
    check_positions_outside,
    largest,
    load,
    plain,
    published_state,
)
from liif_plugin.coords import cell_of, pixel_centres
from liif_plugin.errors import UserError
from liif_plugin.inference.render import render

GOLDEN = {
    "type": "SRNO",
    "encoder": {"type": "EDSR", "num_feat": 64, "num_block": 2},
    "width": 32,
    "heads": 4,
}
SMALL = {
    "type": "SRNO",
    "encoder": {"type": "EDSR", "num_feat": 8, "num_block": 1},
    "width": 12,
    "heads": 3,
    "hidden_dim": 16,
}


def small(**change):
    torch.manual_seed(0)
    net = build_network({**SMALL, **change}).eval()
    for layer in (net.conv0, net.conv1):
        for norm in (layer.kln, layer.vln):  # not only ones and zeros
            torch.nn.init.uniform_(norm.weight, 0.5, 1.5)
            torch.nn.init.uniform_(norm.bias, -0.5, 0.5)
    return net


def test_equals_the_authors_network(golden):
    state, args = published_state("srno")
    assert (args["width"], args["blocks"]) == (32, 4)
    net, numbers = load(GOLDEN, state), golden("srno")
    lq = numbers["inp"]
    with torch.no_grad():
        feat = net.encode(lq)
        coord, cell = numbers["random_coord"], numbers["random_cell"]
        for part, key in ((slice(None), "random_pred"), (slice(0, 200), "random_half_pred")):
            rgb = net.query(feat, coord[:, part], cell[:, part])
            assert largest((rgb - 0.5) / 0.5, numbers[key]) < 3e-6, key
    for key in [key for key in numbers if key.startswith("image_")]:
        size = tuple(numbers[key].shape[-2:])
        assert largest(plain(net, lq, size), numbers[key]) < 3e-6, key
        for chunk in (100, 10**9):
            assert largest(render(net, lq, size, queries_at_once=chunk), numbers[key]) < 3e-6, key


def test_rows_asked_apart_are_another_function(golden):
    """The authors' batched evaluation averages over 16 rows at a time; ours never does."""
    net, numbers = load(GOLDEN, published_state("srno")[0]), golden("srno")
    size = tuple(numbers["rows16_x4"].shape[-2:])
    whole = render(net, numbers["inp"], size, queries_at_once=16 * size[1])
    assert largest(whole, numbers["rows16_x4"]) > 1e-2


@pytest.mark.parametrize("size", [(9, 7), (18, 21), (36, 28), (29, 25), (45, 30), (5, 7)])
def test_fast_form_equals_the_equations(size):
    check_fast_form(small(), size)


@pytest.mark.parametrize("size", [(40, 34), (60, 51), (132, 112), (80, 51), (120, 102), (30, 25)])
def test_pieces_equal_the_whole(size):
    check_pieces(small(), (40, 34), size)


def test_another_cell():
    net, lq, size = small(), torch.rand(1, 3, 12, 10), (30, 31)
    cell = cell_of(size) * 1.6
    whole = render(net, lq, size, cell)
    assert largest(whole, plain(net, lq, size, cell)) < 1e-5
    assert largest(whole, render(net, lq, size)) > 1e-4
    part = render(net, lq, size, cell, window=(4, 5, 6, 7), tile=8)
    assert largest(part, whole[..., 4:10, 5:12]) < 1e-5


def test_decode_without_a_size_takes_the_target_of_its_cell():
    net, lq, size = small(), torch.rand(1, 3, 12, 10), (30, 31)
    with torch.no_grad():
        prepared = net.prepare(net.encode(lq))
    part = net.decode(prepared, pixel_centres(30, 3, 9), pixel_centres(31, 5, 20), cell_of(size))
    assert largest(part, render(net, lq, size)[..., 3:9, 5:20]) < 1e-5


def test_sample_takes_the_averages_of_the_target():
    net, lq, size = small(), torch.rand(1, 3, 12, 10), (30, 31)
    with torch.no_grad():
        prepared = net.prepare(net.encode(lq), size)
        coord = torch.stack([pixel_centres(30)[[2, 9]], pixel_centres(31)[[7, 30]]], dim=-1).unsqueeze(0)
        rgb = net.sample(prepared, coord, cell_of(size).expand_as(coord))
    whole = render(net, lq, size)
    assert largest(rgb[0].T, whole[0][:, [2, 9], [7, 30]]) < 1e-5


def test_published_size():
    net = build_network({"type": "SRNO", "encoder": {"type": "EDSR", "num_feat": 64, "num_block": 16}})
    assert sum(p.numel() for p in net.parameters()) == 2_015_323 - 24  # four dead tensors of the published


def test_gradients():
    check_gradients(small())


def test_autocast_keeps_positions_exact():
    check_autocast(small(), 0.03)


def test_borders():
    check_positions_outside(small())


def test_mistakes():
    with pytest.raises(UserError, match="heads of 2 channels or more, got 5 for width 12"):
        small(heads=5)
    net, coord = small(), torch.zeros(1, 3, 2)
    with pytest.raises(ValueError, match="expected float32"):
        net(torch.rand(1, 3, 5, 5), coord.half(), coord)
