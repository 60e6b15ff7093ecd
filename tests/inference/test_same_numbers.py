"""The same numbers every time: a seed repeats a run to the last bit, a table guards against drift, how the
work is cut changes nothing.

tests/golden/drift.json (20 steps of losses, two validations of two sets) and drift.png (a picture of
liif-light) were written by

    python tests/test_same_numbers.py

which is to be run again only where a change of the numbers is meant; the commit says why.

Other processors, thread counts and versions of PyTorch add float32 numbers in another order, and 20 steps
of Adam carry that on; LOSS and SCORE below leave room for it and for nothing else. A checksum of the
picture would ask for more: of its 13,860 values some lie so near to a half that the last bit of a sum
decides to which side they are rounded. So the picture itself is kept, and each value may be off by one, few
of them at all.
"""

from __future__ import annotations

import json
import platform
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from basicsr.archs import build_network
from basicsr.models import build_model
from PIL import Image

from helpers import GOLDEN
from helpers.pictures import picture
from helpers.record import train
from helpers.training import options, steps, train_set
from liif_plugin import load
from liif_plugin.inference.render import as_float, render

LOSS, SCORE = 1e-5, 1e-4  # relative; absolute, in dB and in SSIM
SIZE = (60, 77)


def painted() -> np.ndarray:
    """(60, 77, 3) uint8: 24 x 28 pixels enlarged by liif-light at x2.5 and x2.75."""
    image = render(load("liif-light", "cpu"), as_float(picture(7, 24, 28)), SIZE)
    return (image[0].clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()


def test_a_seed_repeats_a_run_to_the_last_bit(one_process, tmp_path):
    assert train(tmp_path) == one_process[0]
    name = Path("experiments/tiny/models/net_g_20.pth")
    one, two = (torch.load(folder / name, weights_only=True) for folder in (one_process[1], tmp_path))
    assert set(one) == set(two) == {"params", "params_ema", "iter"}
    for key in ("params", "params_ema"):
        assert all(torch.equal(value, two[key][part]) for part, value in one[key].items())


def test_training_has_not_drifted(one_process):
    table = json.loads((GOLDEN / "drift.json").read_text())
    losses, scores = one_process[0]["losses"], one_process[0]["scores"]
    assert (
        list(losses) == list(table["losses"]) and list(scores) == list(table["scores"]) and len(losses) == 20
    )
    for step, loss in table["losses"].items():
        assert abs(losses[step] - loss) < LOSS * loss, f"step {step}: {losses[step]}, once {loss}"
    for name, metrics in table["scores"].items():
        for metric, value in metrics.items():
            assert abs(scores[name][metric] - value) < SCORE, (
                f"{name} {metric}: {scores[name][metric]}, once {value}"
            )


def test_the_picture_has_not_drifted():
    once = np.asarray(Image.open(GOLDEN / "drift.png")).astype(int)
    off = np.abs(painted().astype(int) - once)
    assert once.shape == (*SIZE, 3) and off.max() <= 1 and (off > 0).mean() < 0.01


def small_liif() -> torch.nn.Module:
    """The paper's LIIF with a smaller encoder and decoder, with weights that make the output vary."""
    torch.manual_seed(0)
    return build_network(
        {"type": "LIIF", "encoder": {"type": "EDSR", "num_feat": 16, "num_block": 2}, "hidden_list": [64] * 4}
    ).eval()


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    "make", [lambda: load("liif-light", "cpu"), small_liif], ids=["liif-light", "paper-like"]
)
def test_a_picture_does_not_depend_on_how_it_is_cut(make, threads):
    net, size = make(), (61, 83)
    lq = torch.cat([as_float(picture(seed, 25, 31)) for seed in range(2)])
    threads(1)
    expected = render(net, lq, size)
    assert expected.std() > 1e-3
    threads(2)
    assert (render(net, lq, size) - expected).abs().max() < 1e-6
    for queries_at_once in (211, 3000, 10**7):
        assert (render(net, lq, size, queries_at_once=queries_at_once) - expected).abs().max() < 1e-6
    for tile in (9, 20):
        assert (render(net, lq, size, tile=tile) - expected).abs().max() < 1e-5
    alone = torch.cat([render(net, one.unsqueeze(0), size) for one in lq])
    assert (alone - expected).abs().max() < 1e-5


def test_training_does_not_depend_on_threads(tmp_path, image_folder, threads):
    """At ten times the paper's learning rate. At fifty times it is 1e-4: where a gradient is nothing but
    rounding, Adam's step has the full length all the same, in the direction of the rounding.
    """
    folder, losses, adam = image_folder(), [], {"type": "Adam", "lr": 1e-3}
    for count in (1, 2):
        threads(count)
        torch.manual_seed(0)
        losses.append(steps(build_model(options(tmp_path, optim_g=dict(adam))), train_set(folder), 20))
    assert max(abs(one - two) / one for one, two in zip(*losses)) < LOSS


def write_golden() -> None:
    with tempfile.TemporaryDirectory() as folder:
        numbers = train(Path(folder))
    made_with = {
        "torch": torch.__version__,
        "python": platform.python_version(),
        "cpu": torch.backends.cpu.get_cpu_capability(),
    }
    (GOLDEN / "drift.json").write_text(json.dumps({"made_with": made_with, **numbers}, indent=1) + "\n")
    Image.fromarray(painted()).save(GOLDEN / "drift.png")


if __name__ == "__main__":
    write_golden()
