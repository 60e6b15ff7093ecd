"""Thera against the numbers of its authors' code, and its fast form against the equations."""

import math

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
    thera_state,
)
from liif_plugin.errors import UserError
from liif_plugin.inference.render import render

EDSR = {"type": "EDSR", "num_feat": 16, "num_block": 2}
GOLDEN = {
    "air": {"size": "air", "waves": 32},
    "plus": {"size": "plus", "waves": 48, "tail": {"widths": [16, 16, 24, 32]}},
    "pro": {
        "size": "pro",
        "waves": 48,
        "tail": {"embed_dim": 24, "depths": [3, 2], "num_heads": [4, 4], "num_feat": 20},
    },
}
SMALL = {"type": "Thera", "encoder": {"type": "EDSR", "num_feat": 8, "num_block": 1}, "waves": 12}


@pytest.mark.parametrize("size", ["air", "plus", "pro"])
def test_equals_the_authors_network(golden, size):
    net = load({"type": "Thera", "encoder": EDSR, **GOLDEN[size]}, thera_state(f"thera-{size}"))
    numbers = golden(f"thera-{size}")
    lq, (h, w) = numbers["inp"], numbers["inp"].shape[-2:]
    with torch.no_grad():
        assert (
            largest(net.encoder((lq - net.mean.view(3, 1, 1)) / math.sqrt(0.25001)), numbers["feat"]) < 3e-6
        )
        feat = net.encode(lq)
        assert largest(feat[:, :-3], numbers["encoding"]) < 1e-5  # values up to 4.4
        for i in range(3):
            if f"random_t{i}" in numbers:
                coord = numbers["random_coord"]
                t = numbers[f"random_t{i}"].sqrt()
                cell = (2 * t / torch.tensor([h, w])).expand_as(coord)
                # The published numbers are the field alone: without the mean and the nearest pixel.
                feat_of_gray = torch.cat([feat[:, :-3], torch.zeros_like(lq)], dim=1)
                field = 2 * (net.query(feat_of_gray, coord, cell) - net.mean)
                assert largest(field, numbers[f"random_pred{i}"]) < 3e-6, i
    grids = [key for key in numbers if key.startswith("image_")]
    assert grids
    for key in grids:
        expected = numbers[key]
        H, W = expected.shape[-2:]
        # Their time is that of the height on both axes.
        cell = torch.tensor([2 / H, 2 * h / (H * w)])
        assert largest(plain(net, lq, (H, W), cell), expected) < 3e-6, key
        assert largest(render(net, lq, (H, W), cell), expected) < 1e-5, key


FORMS = [
    {},
    {"residual": "bilinear"},
    {"local_ensemble": True},
    {"local_ensemble": True, "residual": "bilinear", "radius": 6.0, "tail": {"hidden": 10}},
]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("size", [(9, 7), (18, 21), (36, 28), (29, 25), (45, 30), (5, 7)])
def test_fast_form_equals_the_equations(form, size):
    torch.manual_seed(0)
    # Waves that are damped below 1e-8 are left out.
    check_fast_form(build_network({**SMALL, **form}).eval(), size, bound=1e-7)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("size", [(40, 34), (60, 51), (132, 112), (80, 51), (120, 102), (30, 25)])
def test_pieces_equal_the_whole(form, size):
    torch.manual_seed(0)
    net = build_network({**SMALL, **form}).eval()
    # The equations have float32 coordinates, whole scales exact ones; the blend uses fields farther out.
    check_pieces(net, (40, 34), size, plain_bound=1e-4 if "local_ensemble" in form else 1e-5)


def test_blended_fields_meet_without_a_step():
    """Across the border between two LR pixels the nearest field steps, the blend of four does not."""
    torch.manual_seed(0)
    nets = [
        build_network({**SMALL, "residual": "bilinear", "local_ensemble": flag}) for flag in (False, True)
    ]
    nets[1].load_state_dict(nets[0].state_dict())
    lq = torch.rand(1, 3, 8, 8)
    x = torch.tensor([-1e-4, 1e-4])  # on both sides of the edge between the LR pixels 3 and 4
    coord = torch.stack([torch.full((2,), 0.13), x], dim=-1)[None]
    steps = []
    for net in nets:
        left, right = net(lq, coord, torch.full((1, 2, 2), 0.1))[0]
        steps.append((left - right).abs().max().item())
    assert steps[0] > 0.05
    assert steps[1] < 0.005


def test_the_blend_in_float64():
    """Four fields with the weights of bilinear interpolation, written once more from the equations."""
    torch.manual_seed(0)
    net = build_network({**SMALL, "residual": "bilinear", "local_ensemble": True}).double()
    lq, coord, cell = torch.rand(1, 3, 5, 6).double(), torch.rand(1, 9, 2).double() * 2 - 1, 0.07
    with torch.no_grad():
        predicted = net(lq, coord, torch.full((1, 9, 2), cell).double())[0]
        made = net.out_conv(net.encode(lq)[:, :-3])[0]  # (4 waves, 5, 6)
    W, k = net.components.detach(), net.k.item()
    damping = torch.exp(-k * ((W[0] * cell * 5 / 2) ** 2 + (W[1] * cell * 6 / 2) ** 2))
    for (y, x), colour in zip(((coord[0] + 1) * torch.tensor([5, 6]) - 1) / 2, predicted):
        expected = torch.zeros(3).double()
        for i in (math.floor(y), math.floor(y) + 1):
            for j in (math.floor(x), math.floor(x) + 1):
                weight = (1 - abs(y - i)) * (1 - abs(x - j))
                i_in, j_in = min(max(i, 0), 4), min(max(j, 0), 5)  # the border is repeated
                A, b = made[:36, i_in, j_in].view(12, 3), made[36:, i_in, j_in]
                field = A.T @ (torch.sin((y - i_in) * W[0] + (x - j_in) * W[1] + b) * damping)
                expected += weight * (field / 2 + lq[0, :, i_in, j_in])
        assert (colour - expected).abs().max() < 1e-8


def test_beyond_the_largest_scale_the_waves_are_damped_as_at_it():
    torch.manual_seed(0)
    net = build_network({**SMALL, "largest_scale": 4}).eval()
    free = build_network(SMALL).eval()
    free.load_state_dict(net.state_dict())
    lq = torch.rand(1, 3, 9, 7)
    for scale in (2, 4):
        size = (9 * scale, 7 * scale)
        assert torch.equal(render(net, lq, size), render(free, lq, size))
    as_at_x4 = render(free, lq, (72, 56), cell=torch.tensor([2 / 36, 2 / 28]))
    assert largest(render(net, lq, (72, 56)), as_at_x4) < 1e-6
    assert largest(render(free, lq, (72, 56)), as_at_x4) > 1e-3
    check_fast_form(net, (72, 58), bound=1e-7)


def test_the_blend_refuses_the_features_of_a_tile_in_sample():
    net = build_network({**SMALL, "local_ensemble": True}).eval()
    prepared = net.prepare(net.encode(torch.rand(1, 3, 6, 6)))
    part = prepared._replace(region=(0, 0, 3, 6), code=prepared.code[:, :3])
    with pytest.raises(ValueError, match="those of a tile are for decode"):
        net.sample(part, torch.zeros(1, 1, 2), torch.full((1, 1, 2), 0.1))


def test_the_penalty_is_not_for_the_blend():
    assert build_network(SMALL).has_gradient
    assert not build_network({**SMALL, "local_ensemble": True}).has_gradient


@pytest.mark.parametrize("size", ["plus", "pro"])
def test_tiles_of_the_larger_sizes(size):
    torch.manual_seed(0)
    tails = {
        "plus": {"widths": [8, 12]},
        "pro": {"depths": [1, 1], "num_heads": [2, 2], "embed_dim": 8, "num_feat": 8},
    }
    net = build_network({**SMALL, "size": size, "tail": tails[size]}).eval()
    assert net.pad_multiple == (8 if size == "pro" else 1)
    check_pieces(net, (75, 41), (150, 61))


def test_whole_scale_takes_no_sine_per_output_pixel(monkeypatch):
    torch.manual_seed(0)
    net, lq = build_network(SMALL).eval(), torch.rand(1, 3, 10, 12)
    sines = []
    sin = torch.Tensor.sin
    monkeypatch.setattr(torch.Tensor, "sin", lambda x: (sines.append(x.numel()), sin(x))[1])
    render(net, lq, (80, 96))
    assert sum(sines) <= 12 * (10 * 12 + 64)  # waves * (LR pixels + places within one)


def test_unequal_scales_damp_each_axis_by_its_own_time():
    """A wave along y alone is not damped by the time of x."""
    net = build_network({**SMALL, "waves": 1}).eval()
    with torch.no_grad():
        net.components.copy_(torch.tensor([[3.0], [0.0]]))
    lq, coord = torch.rand(1, 3, 6, 6), torch.tensor([[[0.3, 0.1]]])
    cells = [torch.tensor([[[0.1, x]]]) for x in (0.1, 0.3)]
    assert torch.equal(net(lq, coord, cells[0]), net(lq, coord, cells[1]))
    assert not torch.equal(net(lq, coord, cells[0]), net(lq, coord, torch.tensor([[[0.3, 0.1]]])))


def test_initialisation_and_sizes():
    torch.manual_seed(0)
    net = build_network({"type": "Thera", "encoder": {"type": "EDSR", "num_feat": 64, "num_block": 16}})
    assert sum(p.numel() for p in net.parameters()) == 1_228_801  # as published
    length = net.components.norm(dim=0)
    assert length.max() < 16 * math.pi and length.max() > 14 * math.pi
    assert float(net.k.detach()) == pytest.approx(0.0596, abs=1e-4)
    assert float(net.out_conv.weight.detach().std()) == pytest.approx(1 / 8, rel=0.05)
    assert not net.out_conv.bias.any()
    small = build_network({**SMALL, "radius": 1.0})
    assert small.components.norm(dim=0).max() <= 1
    for size, count in (("plus", 2_633_569), ("pro", 5_851_115)):
        encoder = {"type": "EDSR", "num_feat": 64, "num_block": 16}
        net = build_network({"type": "Thera", "encoder": encoder, "size": size})
        assert sum(p.numel() for p in net.parameters()) == count


@pytest.mark.parametrize("size", ["air", "plus", "pro"])
def test_gradients(size):
    torch.manual_seed(0)
    tails = {
        "air": {},
        "plus": {"widths": [8, 12]},
        "pro": {"depths": [1, 2], "num_heads": [2, 2], "embed_dim": 8, "num_feat": 8},
    }
    check_gradients(build_network({**SMALL, "size": size, "tail": tails[size]}), torch.rand(1, 3, 16, 17))


def test_the_gradient_is_that_of_finite_differences():
    """The field at t = 0 in float64, moved by 1e-6 LR pixels to both sides; a cell of size 0 is t = 0."""
    torch.manual_seed(0)
    net, size = build_network(dict(SMALL)).double(), torch.tensor([6, 5], dtype=torch.float64)
    feat = net.encode(torch.rand(2, 3, 6, 5, dtype=torch.float64))
    # Positions within LR pixels, away from the borders, where the field has a step.
    pixels = torch.stack([torch.randint(n, (2, 200)) for n in (6, 5)], dim=-1)
    coord = (pixels + 0.1 + 0.8 * torch.rand(2, 200, 2, dtype=torch.float64)) * 2 / size - 1
    rgb, gradient = net.query_with_gradient(feat, coord, torch.full_like(coord, 0.1))
    assert torch.equal(rgb, net.query(feat, coord, torch.full_like(coord, 0.1)))
    assert gradient.shape == (2, 200, 2, 3)
    now = torch.zeros_like(coord)
    for axis in range(2):
        step = torch.zeros(2, dtype=torch.float64)
        step[axis] = 1e-6 * 2 / size[axis]
        # rgb is field / 2 + what does not depend on the place within an LR pixel
        difference = 2 * (net.query(feat, coord + step, now) - net.query(feat, coord - step, now)) / 2e-6
        assert difference.abs().max() > 1 and largest(gradient[:, :, axis], difference) < 1e-5
    gradient.abs().mean().backward()
    for parameter in (net.components, net.out_conv.weight, net.encoder.net.conv_first.weight):
        assert parameter.grad.abs().sum() > 0


def test_autocast_keeps_positions_exact():
    torch.manual_seed(0)
    check_autocast(build_network(SMALL).eval(), 0.03)


def test_borders():
    check_positions_outside(build_network(SMALL).eval())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"size": "large"}, "expected one of air, plus, pro"),
        ({"residual": "cubic"}, "expected one of nearest, bilinear"),
        ({"tail": {"widths": [8]}}, "expected hidden for size 'air', got widths"),
        ({"size": "plus", "tail": {"depths": [8]}}, "expected widths for size 'plus', got depths"),
    ],
)
def test_mistakes(change, words):
    with pytest.raises(UserError, match=words):
        build_network({**SMALL, **change})
