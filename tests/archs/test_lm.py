"""LM-LIIF and LM-LTE against the numbers of their authors' code, and the fast form against the equations."""

import pytest
import torch
from basicsr.archs import build_network

from helpers import GOLDEN as HELPER_GOLDEN
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
from liif_plugin.checkpoints.conversion import convert, load_foreign
from liif_plugin.coords import corners
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


SWITCHES = [
    ("LMLIIF", {"feat_unfold": False}),
    ("LMLIIF", {"cell_decode": False}),
    ("LMLIIF", {"mod_input": False}),
    ("LMLIIF", {"mod_scale": False}),
    ("LMLIIF", {"mod_shift": False}),
    ("LMLIIF", {"feat_unfold": False, "cell_decode": False, "mod_input": False, "mod_shift": False}),
    ("LMLTE", {"mod_input": False}),
    ("LMLTE", {"mod_scale": False}),
    ("LMLTE", {"mod_shift": False, "mod_input": False}),
]


def from_the_equations(net, feat, coord, cell, on):
    """LM-LIIF and LM-LTE from their equations and the tensors' names; no method of the network is called."""
    weights = dict(net.named_parameters())
    B, C, h, w = feat.shape
    D, L = net.hidden_dim, net.hidden_depth

    def linear(x, name):
        bias = weights.get(f"{name}.bias")
        return x @ weights[f"{name}.weight"].T + (0 if bias is None else bias)

    def waves(coef, angle):
        return coef * torch.cat([(torch.pi * angle).cos(), (torch.pi * angle).sin()], -1)

    rel_cell = cell * torch.tensor([h, w]).to(cell)
    features = feat.permute(0, 2, 3, 1).reshape(B, h * w, C)
    if "coef.weight" in weights:
        coef, freq = (
            torch.nn.functional.conv2d(feat, weights[f"{n}.weight"], weights[f"{n}.bias"], padding=1)
            .flatten(2)
            .transpose(1, 2)
            for n in ("coef", "freq")
        )
        z = waves(coef, freq[..., 0::2] + freq[..., 1::2] + linear(rel_cell[:, :1], "phase"))
        code = torch.cat([coef, freq], -1)
    else:
        z = torch.nn.functional.unfold(feat, 3, padding=1).transpose(1, 2) if on["feat_unfold"] else features
        z = torch.cat([z, rel_cell[:, :1].expand(-1, h * w, -1)], -1) if on["cell_decode"] else z
        code = features
    m = linear(linear(z, "hypernet.layers.0").relu(), "hypernet.layers.2")
    at = 0
    scale, shift = (torch.zeros(B, h * w, L, D).to(m) for _ in range(2))
    if on["mod_scale"]:
        scale, at = m[..., : D * L].unflatten(-1, (L, D)), D * L
    if on["mod_shift"]:
        shift, at = m[..., at : at + D * L].unflatten(-1, (L, D)), at + D * L
    code = m[..., at:] if on["mod_input"] else code
    index, rel, weight = corners(coord, (h, w), True)
    rgb = 0
    for t in range(4):
        mine = [table[torch.arange(B).view(-1, 1), index[:, t]] for table in (code, scale, shift)]
        if "coef.weight" in weights:
            c, f = mine[0].chunk(2, -1)
            phase = linear(rel_cell, "imphase" if on["mod_input"] else "phase")
            x = waves(c, f[..., 0::2] * rel[:, t, :, :1] + f[..., 1::2] * rel[:, t, :, 1:] + phase)
        else:
            x = torch.cat([mine[0], rel[:, t], *([rel_cell] if on["cell_decode"] else [])], -1)
        for i in range(L):
            x = linear(x, f"imnet.layers.{2 * i}") * (1 + mine[1][:, :, i]) + mine[2][:, :, i]
            x = x.relu()
        rgb = rgb + weight[:, t].unsqueeze(-1) * linear(x, f"imnet.layers.{2 * L}")
    return rgb / 2


@pytest.mark.parametrize(("name", "off"), SWITCHES)
def test_switches_against_the_equations(name, off):
    net = small(name, **off).double()
    on = dict.fromkeys(("feat_unfold", "cell_decode", "mod_scale", "mod_shift", "mod_input"), True) | off
    lq = torch.rand(2, 3, 6, 7, dtype=torch.float64)
    coord = torch.rand(2, 50, 2, dtype=torch.float64) * 1.9 - 0.95
    cell = torch.tensor([0.11, 0.07], dtype=torch.float64).expand_as(coord)
    with torch.no_grad():
        feat = net.encode(lq)
        expected = from_the_equations(net, feat[:, :-3], coord, cell, on)
        if net.residual:
            expected = expected + torch.nn.functional.grid_sample(
                lq, coord.flip(-1).unsqueeze(1), padding_mode="border", align_corners=False
            ).squeeze(2).transpose(1, 2)
        else:
            expected = expected + 0.5
        assert largest(net.query(feat, coord, cell), expected) < 1e-9
    check_fast_form(net.float(), (29, 25))
    check_fast_form(net, (18, 21))


@pytest.mark.parametrize(("name", "off"), SWITCHES)
def test_switches_in_pieces(name, off):
    net = small(name, **off)
    check_pieces(net, (24, 20), (36, 30))
    check_gradients(net)


@pytest.mark.parametrize(("name", "off"), SWITCHES)
def test_a_checkpoint_with_another_switch_is_converted(name, off):
    net = small(name, **off)
    state = {k.replace("encoder.net.", "encoder."): v for k, v in net.state_dict().items()}
    for ours, theirs in (
        ("conv_first", "head.0"),
        ("body.0.conv1", "body.0.body.0"),
        ("body.0.conv2", "body.0.body.2"),
        ("conv_after_body", "body.1"),
    ):
        state = {k.replace(f"encoder.{ours}.", f"encoder.{theirs}."): v for k, v in state.items()}
    modulated = {k: v for k, v in off.items() if k in ("mod_scale", "mod_shift")}
    args = {k: v for k, v in off.items() if k not in ("mod_scale", "mod_shift", "mod_input")}
    model = {"name": name.lower(), "args": {**args, "imnet_spec": {"args": modulated}}, "sd": state}
    block, converted = convert(model)
    assert {k: v for k, v in block.items() if k in off} == off
    other = load(block, converted)
    lq = torch.rand(1, 3, 6, 5)
    assert torch.equal(render(other, lq, (13, 11)), render(net, lq, (13, 11)))


def test_lm_lte_without_cells_is_refused():
    model = load_foreign(str(HELPER_GOLDEN / "lm-lte.pth"))
    with pytest.raises(UserError, match="LM-LTE with cell_decode: true, found false"):
        convert({**model, "args": {**model["args"], "cell_decode": False}})


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
    with pytest.raises(UserError, match="mod_scale, mod_shift: expected at least one of them true"):
        small("LMLTE", mod_scale=False, mod_shift=False)
    with pytest.raises(UserError, match="wave_dim: expected an even number from 2, got 7"):
        small("LMLTE", wave_dim=7)
    net, coord = small("LMLTE"), torch.zeros(1, 3, 2)
    with pytest.raises(ValueError, match="expected float32"):
        net(torch.rand(1, 3, 5, 5), coord.half(), coord)
