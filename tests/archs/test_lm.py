"""LM-LIIF and LM-LTE against the numbers of their authors' code, and the fast form against the equations."""

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
RDN = {"type": "LIIF_RDN", "num_feat": 16, "num_block": 3, "num_layer": 3, "growth": 8}
GOLDEN = {
    "lm-liif": {
        "type": "LMLIIF",
        "encoder": EDSR,
        "hidden_dim": 8,
        "hidden_depth": 4,
        "hypernet_list": [40],
    },
    "lm-lte": {
        "type": "LMLTE",
        "encoder": EDSR,
        "wave_dim": 32,
        "hidden_dim": 8,
        "hidden_depth": 5,
        "hypernet_list": [48],
    },
    "rdn-lm-liif": {
        "type": "LMLIIF",
        "encoder": RDN,
        "hidden_dim": 8,
        "hidden_depth": 4,
        "hypernet_list": [40],
    },
}
ENCODER = {"type": "EDSR", "num_feat": 8, "num_block": 1}
SMALL = {
    "LMLIIF": {
        "type": "LMLIIF",
        "encoder": ENCODER,
        "hidden_dim": 4,
        "hidden_depth": 3,
        "hypernet_list": [16],
    },
    "LMLTE": {
        "type": "LMLTE",
        "encoder": ENCODER,
        "wave_dim": 12,
        "hidden_dim": 4,
        "hidden_depth": 3,
        "hypernet_list": [16],
    },
}


def small(name, **change):
    torch.manual_seed(0)
    return build_network({**SMALL[name], **change}).eval()


@pytest.mark.parametrize("name", list(GOLDEN))
def test_equals_the_authors_network(golden, name):
    state, _ = published_state(name)
    net = load(GOLDEN[name], state)
    numbers = golden(name)
    lq, (h, w) = numbers["inp"], numbers["inp"].shape[-2:]
    with torch.no_grad():
        feat = net.encode(lq)
        assert largest(feat[:, :-3], numbers["feat"]) < 1e-5
        rgb = net.query(feat, numbers["uniform_coord"], numbers["uniform_cell"])
        assert largest((rgb - 0.5) / 0.5, numbers["uniform_pred"]) < 1e-5
        around = net.prepare(feat).feat
        size = torch.tensor([h, w])
        if "mod" in numbers:
            rel_cell = (numbers["uniform_cell"] * size)[:, 0].view(1, 1, 1, 2)
            assert largest(net.modulations(around, rel_cell), numbers["mod"].permute(0, 2, 3, 1)) < 1e-5
        if "random_pred" in numbers:
            # They take the cell of query i for LR pixel i.
            rel_cell = numbers["random_cell"] * size
            of_pixels = rel_cell[:, : h * w].view(1, h, w, 2)
            mods = net.modulations(around, of_pixels)
            rgb = net.render_modulated(mods, lq, numbers["random_coord"], rel_cell)
            assert largest((rgb - 0.5) / 0.5, numbers["random_pred"]) < 1e-5
    grids = [key for key in numbers if key.startswith("image_")]
    assert grids
    for key in grids:
        size = tuple(numbers[key].shape[-2:])
        assert largest(plain(net, lq, size), numbers[key]) < 1e-5, key
        assert largest(render(net, lq, size), numbers[key]) < 1e-5, key


@pytest.mark.parametrize("name", list(SMALL))
@pytest.mark.parametrize("size", [(9, 7), (18, 21), (36, 28), (29, 25), (45, 30), (5, 7)])
def test_fast_form_equals_the_equations(name, size):
    check_fast_form(small(name), size)
    check_fast_form(small(name, local_ensemble=False), size)


def test_bilinear_residual_is_added_to_the_published_form():
    published, other = small("LMLIIF"), small("LMLIIF", residual="bilinear")
    lq, size = torch.rand(1, 3, 9, 7), (23, 16)
    bilinear = torch.nn.functional.interpolate(lq, size, mode="bilinear", align_corners=False)
    assert largest(plain(other, lq, size), plain(published, lq, size) - 0.5 + bilinear) < 1e-5
    check_fast_form(other, (29, 25))
    check_pieces(other, (40, 34), (60, 51))


@pytest.mark.parametrize("name", list(SMALL))
@pytest.mark.parametrize("size", [(40, 34), (60, 51), (132, 112), (80, 51), (120, 102), (30, 25)])
def test_pieces_equal_the_whole(name, size):
    check_pieces(small(name), (40, 34), size)


@pytest.mark.parametrize("name", list(SMALL))
def test_without_ensemble(name):
    net = small(name)
    other = net.without_ensemble()
    assert other.imnet is net.imnet
    assert net.local_ensemble
    assert other.without_ensemble() is None
    check_pieces(other, (20, 18), (50, 40))


@pytest.mark.parametrize(("name", "count"), [("LMLIIF", 1_386_091), ("LMLTE", 1_490_907)])
def test_published_size(name, count):
    net = build_network({"type": name, "encoder": {"type": "EDSR", "num_feat": 64, "num_block": 16}})
    assert sum(p.numel() for p in net.parameters()) == count - 24  # four dead tensors of the published


@pytest.mark.parametrize("name", list(SMALL))
def test_gradients(name):
    check_gradients(small(name))


@pytest.mark.parametrize("name", list(SMALL))
def test_autocast_keeps_positions_exact(name):
    check_autocast(small(name, hidden_dim=8), 0.02)


@pytest.mark.parametrize("name", list(SMALL))
def test_borders(name):
    check_positions_outside(small(name))


def test_mistakes():
    with pytest.raises(UserError, match="hidden_depth: expected at least 1, got 0"):
        small("LMLIIF", hidden_depth=0)
    with pytest.raises(UserError, match="hypernet_list: expected at least one width"):
        small("LMLIIF", hypernet_list=[])
    with pytest.raises(UserError, match="residual: expected 'bilinear' or nothing"):
        small("LMLIIF", residual="nearest")
    with pytest.raises(UserError, match="wave_dim: expected an even number from 2, got 7"):
        small("LMLTE", wave_dim=7)
    net, coord = small("LMLTE"), torch.zeros(1, 3, 2)
    with pytest.raises(ValueError, match="expected float32"):
        net(torch.rand(1, 3, 5, 5), coord.half(), coord)
