"""LTE against the numbers of its authors' code, and its fast form against the equations."""

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
from liif_plugin.errors import UserError
from liif_plugin.inference.render import render

EDSR = {"type": "EDSR", "num_feat": 16, "num_block": 2}
SMALL = {
    "type": "LTE",
    "encoder": {"type": "EDSR", "num_feat": 8, "num_block": 1},
    "hidden_dim": 12,
    "hidden_list": [16, 16],
}


@pytest.mark.parametrize("name", ["lte", "lte-fast"])
def test_equals_the_authors_network(golden, name):
    state, _ = published_state(name)
    net = load({"type": "LTE", "encoder": EDSR, "hidden_dim": 32, "hidden_list": [32, 32, 32]}, state)
    numbers = golden(name)
    lq = numbers["inp"]
    with torch.no_grad():
        feat = net.encode(lq)
        for key in ("random", "uniform"):
            if f"{key}_pred" in numbers:
                rgb = net.query(feat, numbers[f"{key}_coord"], numbers[f"{key}_cell"])
                assert largest((rgb - 0.5) / 0.5, numbers[f"{key}_pred"]) < 1e-5, key
        prepared = net.prepare(feat)
    for key, ours in (("feat", feat[:, :-3]), ("coef", prepared.coef), ("freq", prepared.freq)):
        if key in numbers:
            expected = numbers[key] if key == "feat" else numbers[key].permute(0, 2, 3, 1)
            assert largest(ours, expected) < 1e-5, key
    grids = [key for key in numbers if key.startswith("image_")]
    assert grids
    for key in grids:
        size = tuple(numbers[key].shape[-2:])
        assert largest(plain(net, lq, size), numbers[key]) < 1e-5, key
        assert largest(render(net, lq, size), numbers[key]) < 1e-5, key


@pytest.mark.parametrize("ensemble", [True, False])
@pytest.mark.parametrize("size", [(9, 7), (18, 21), (36, 28), (29, 25), (45, 30), (5, 7)])
def test_fast_form_equals_the_equations(ensemble, size):
    torch.manual_seed(0)
    check_fast_form(build_network({**SMALL, "local_ensemble": ensemble}).eval(), size)


@pytest.mark.parametrize("size", [(40, 34), (60, 51), (132, 112), (80, 51), (120, 102), (30, 25)])
def test_pieces_equal_the_whole(size):
    torch.manual_seed(0)
    check_pieces(build_network(SMALL).eval(), (40, 34), size)


def test_without_ensemble():
    torch.manual_seed(0)
    net = build_network(SMALL).eval()
    other = net.without_ensemble()
    assert other.imnet is net.imnet
    assert net.local_ensemble
    assert other.without_ensemble() is None
    check_pieces(other, (20, 18), (50, 40))


def test_published_size():
    encoder = {"type": "EDSR", "num_feat": 64, "num_block": 16}
    net = build_network({"type": "LTE", "encoder": encoder})
    assert sum(p.numel() for p in net.parameters()) == 1_714_267 - 4 * 6  # four dead tensors of the published
    assert net.halo == 36


def test_gradients():
    torch.manual_seed(0)
    check_gradients(build_network(SMALL))


def test_autocast_keeps_positions_exact():
    torch.manual_seed(0)
    check_autocast(build_network({**SMALL, "hidden_list": [64, 64]}).eval(), 0.02)


def test_borders():
    check_positions_outside(build_network(SMALL).eval())


def test_mistakes():
    with pytest.raises(UserError, match="hidden_dim: expected an even number from 2, got 13"):
        build_network({**SMALL, "hidden_dim": 13})
    with pytest.raises(UserError, match="hidden_list: expected at least one width"):
        build_network({**SMALL, "hidden_list": []})
    net = build_network(SMALL)
    coord = torch.zeros(1, 3, 2)
    with pytest.raises(ValueError, match="expected float32"):
        net(torch.rand(1, 3, 5, 5), coord.half(), coord)
