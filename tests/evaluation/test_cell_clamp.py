"""The cell rule of evaluation beyond x4, max(s / 4, 1), against the authors' code.

tests/golden/cell_clamp.npz has every eighth row and column of pictures that the authors' networks make at
x6.5 with both cells multiplied by 6.5 / 4, as their demos and evaluations do.
"""

import pytest
import torch
from basicsr.archs import build_network

from helpers.family import largest, load, published_state
from helpers.training import EDSR as FIXED_SCALE
from helpers.training import val_loader
from liif_plugin.coords import cell_of
from liif_plugin.errors import UserError
from liif_plugin.evaluation.single_image import predict
from liif_plugin.evaluation.validation import validate
from liif_plugin.inference.render import render
from liif_plugin.metrics.continuous_metric import continuous_psnr

EDSR = {"type": "EDSR", "num_feat": 16, "num_block": 2}
NETWORKS = {
    "lte": {"type": "LTE", "encoder": EDSR, "hidden_dim": 32, "hidden_list": [32, 32, 32]},
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
    "srno": {"type": "SRNO", "encoder": {**EDSR, "num_feat": 64}, "width": 32, "heads": 4},
}


@pytest.mark.parametrize("name", list(NETWORKS))
def test_equals_the_authors_pictures(golden, name):
    net, lq = load(NETWORKS[name], published_state(name)[0]), golden(name)["inp"]
    expected = golden("cell_clamp")[name]
    h, w = lq.shape[-2:]
    size = (round(6.5 * h), round(6.5 * w))
    assert largest(predict(net, lq, size, cell_clamp=4)[..., ::8, ::8], expected) < 1e-5
    # The rule can be seen: the true cell gives another picture.
    assert largest(predict(net, lq, size)[..., ::8, ::8], expected) > 1e-2
    # Up to x4 it changes nothing.
    size = (4 * h, 4 * w)
    assert torch.equal(predict(net, lq, size, cell_clamp=4), predict(net, lq, size))


def test_each_axis_has_its_own_limit():
    torch.manual_seed(0)
    net = build_network({"type": "LTE", "encoder": {**EDSR, "num_feat": 8}, "hidden_dim": 8}).eval()
    lq, size = torch.rand(1, 3, 6, 5), (12, 40)
    cell = torch.tensor([2 / 12, 2 / (4 * 5)])
    assert torch.equal(predict(net, lq, size, cell_clamp=4), render(net, lq, size, cell))
    assert cell[1] > cell_of(size)[1]


def test_validation(image_folder):
    """x8 with the cells of x4, measured by hand."""
    torch.manual_seed(0)
    net = build_network({"type": "LTE", "encoder": {**EDSR, "num_feat": 8}, "hidden_dim": 8}).eval()
    dataset = val_loader(image_folder(h=64, w=72), 8).dataset
    metrics = {"psnr": {"type": "continuous_psnr"}}
    by_hand = []
    for item in dataset:
        lq, gt = item["lq"].unsqueeze(0), item["gt"].unsqueeze(0)
        sr = render(net, lq, tuple(gt.shape[-2:]), cell_of(tuple(gt.shape[-2:])) * 2)
        by_hand.append(continuous_psnr(sr, gt, 8, "benchmark"))
    clamped = validate(net, dataset, metrics, torch.device("cpu"), cell_clamp=4)["psnr"]
    assert abs(clamped - sum(by_hand) / len(by_hand)) < 1e-6
    assert abs(clamped - validate(net, dataset, metrics, torch.device("cpu"))["psnr"]) > 1e-6


def test_a_network_of_one_scale_takes_no_cells():
    net = build_network(dict(FIXED_SCALE)).eval()
    with pytest.raises(UserError, match="EDSR has one scale and takes no cells"):
        predict(net, torch.rand(1, 3, 8, 8), (16, 16), cell_clamp=4)
