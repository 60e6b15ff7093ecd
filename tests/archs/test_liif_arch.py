"""LIIF against the authors' numbers and against the equations written out in float64."""

import pytest
import torch
from basicsr.archs import build_network
from torch.nn import functional as F

from helpers import GOLDEN
from helpers.networks import SMALL, official
from liif_plugin.archs.reference import reference_query
from liif_plugin.checkpoints.conversion import convert, load_foreign
from liif_plugin.coords import cell_of, image_to_queries
from liif_plugin.inference.render import render


@pytest.mark.parametrize("name", ["liif", "liif-c", "liif-u", "liif-e", "liif-d"])
def test_equals_the_authors_network(golden, name):
    net, numbers = official(name), golden(name)
    with torch.no_grad():
        feat = net.encode(numbers["inp"])
        rgb = net.query(feat, numbers["random_coord"], numbers["random_cell"])
    assert (feat - numbers["feat"]).abs().max() < 1e-5
    assert ((rgb - 0.5) / 0.5 - numbers["random_pred"]).abs().max() < 1e-5
    grids = [key for key in numbers if key.startswith("image_")]
    assert grids
    for key in grids:
        image = render(net, numbers["inp"], tuple(numbers[key].shape[-2:])).clamp(0, 1)
        assert (image - numbers[key]).abs().max() < 1e-5, key


def test_equals_the_authors_training(golden):
    """30 steps of Adam; L1 on [-1, 1] there, twice the L1 on [0, 1] here: the same losses."""
    network, state = convert(load_foreign(str(GOLDEN / "train_init.pth")))
    net, batch = build_network(network), golden("train")
    net.load_state_dict(state)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    for expected in batch["losses"].tolist():
        loss = 2.0 * F.l1_loss(net(batch["inp"], batch["coord"], batch["cell"]), batch["gt"])
        assert abs(loss.item() - expected) < 1e-4
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"feat_unfold": False},
        {"local_ensemble": False},
        {"cell_decode": False},
        {"hidden_list": [32, 8, 8, 8, 4]},
    ],
)
def test_folded_form_equals_the_plain_one(change):
    torch.manual_seed(0)
    net = build_network({**SMALL, **change}).double()
    feat = torch.randn(2, 8, 7, 9, dtype=torch.float64)
    coord = torch.rand(2, 200, 2, dtype=torch.float64) * 2 - 1
    cell = torch.rand(2, 200, 2, dtype=torch.float64) * 0.2
    ours, plain = net.query(feat, coord, cell), reference_query(net, feat, coord, cell)
    assert (ours - plain).abs().max() < 1e-10
    ours, plain = net.float().query(feat.float(), coord.float(), cell.float()), plain.float()
    assert (ours - plain).abs().max() < 1e-5


@pytest.mark.parametrize("residual", [None, "bilinear"])
def test_chunks_batches_and_edges(residual):
    torch.manual_seed(0)
    net = build_network({**SMALL, "residual": residual}).eval()
    lq, size = torch.rand(2, 3, 11, 6), (25, 31)
    whole = render(net, lq, size)
    for chunk in (1, 40, 31 * 7, 10**9):
        assert (render(net, lq, size, queries_at_once=chunk) - whole).abs().max() < 1e-5
    apart = torch.cat([render(net, lq[:1], size), render(net, lq[1:], size)])
    assert (apart - whole).abs().max() < 1e-5
    corners = torch.tensor([[[-1.0, -1.0], [1.0, 1.0], [-1.0, 1.0], [0.0, 1.0]]]).expand(2, -1, -1)
    assert net(lq, corners, torch.full_like(corners, 0.1)).isfinite().all()


def test_constant_decoder_gives_a_constant_image():
    net = build_network(SMALL)
    torch.nn.init.zeros_(net.imnet.linears[-1].weight)
    torch.nn.init.constant_(net.imnet.linears[-1].bias, 0.4)
    assert torch.allclose(render(net, torch.rand(1, 3, 5, 7), (12, 9)), torch.tensor(0.7), atol=1e-6)


def test_residual_of_a_silent_decoder_is_bilinear():
    net = build_network({**SMALL, "residual": "bilinear"})
    torch.nn.init.zeros_(net.imnet.linears[-1].weight)
    torch.nn.init.zeros_(net.imnet.linears[-1].bias)
    lq = torch.rand(1, 3, 6, 7)
    assert torch.allclose(
        render(net, lq, (18, 21)), F.interpolate(lq, size=(18, 21), mode="bilinear"), atol=1e-5
    )


def test_gradients():
    torch.manual_seed(0)
    net = build_network(
        {**SMALL, "encoder": {"type": "EDSR", "num_feat": 2, "num_block": 0}, "hidden_list": [4]}
    ).double()
    coord = torch.rand(1, 5, 2, dtype=torch.float64) * 1.8 - 0.9
    feat = torch.randn(1, 2, 3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda f: net.query(f, coord, torch.full_like(coord, 0.3)), (feat,))
    (net.query(feat, coord, coord).sum()).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in net.imnet.parameters())


def test_paper_sizes():
    net = build_network({"type": "LIIF", "encoder": {"type": "EDSR"}})
    # 1.57 M in the paper, without the four dead tensors
    assert sum(p.numel() for p in net.parameters()) == 1_567_299
    assert next(tuple(linear.weight.shape) for linear in net.imnet.linears) == (256, 580)


def test_autocast_keeps_coordinates_exact():
    torch.manual_seed(0)
    net = build_network({**SMALL, "hidden_list": [64, 64]}).eval()
    lq = torch.rand(1, 3, 40, 300)
    exact = render(net, lq, (80, 601))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        near = render(net, lq, (80, 601))
    assert (near - exact).abs().max() < 0.02  # a coordinate in bfloat16 would be off by a pixel here


def test_half_coordinates_are_refused():
    net = build_network(SMALL)
    coord, cell, _ = image_to_queries(torch.rand(1, 3, 4, 4))
    with pytest.raises(ValueError, match="expected float32"):
        net(torch.rand(1, 3, 4, 4), coord.half(), cell)
    with pytest.raises(ValueError, match="at least 1 x 1"):
        render(net, torch.rand(1, 3, 4, 4), (0, 5))


def test_another_cell_changes_the_picture():
    torch.manual_seed(0)
    net, lq = build_network(SMALL).eval(), torch.rand(1, 3, 6, 6)
    true = render(net, lq, (12, 12))
    assert torch.equal(render(net, lq, (12, 12), cell=cell_of((12, 12))), true)
    assert (render(net, lq, (12, 12), cell=cell_of((6, 6))) - true).abs().max() > 1e-4
