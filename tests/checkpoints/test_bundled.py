"""The networks that come with the package enlarge better than bicubic, and show no grid of the input."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest
import skimage.data
import torch
from basicsr.archs import build_network
from PIL import Image

from liif_plugin.archs.base import ContinuousNetwork
from liif_plugin.checkpoints import DEFAULT_MODEL
from liif_plugin.checkpoints.loading import SHIPPED, load
from liif_plugin.data.crops import to_tensor
from liif_plugin.inference.render import render
from liif_plugin.metrics.continuous_metric import continuous_psnr
from liif_plugin.resize import pillow_bicubic

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))

import seams

PICTURE = skimage.data.chelsea()[40:184, 80:248]  # 144 x 168, eyes and fur
WHOLE = ("standard", "light", "photo", "liif-light")


def psnr(net, scale, lq=None):
    size = tuple(int(n // scale) for n in PICTURE.shape[:2])
    target = tuple(round(n * scale) for n in size)
    gt = to_tensor(PICTURE[: target[0], : target[1]])[None]
    lq = pillow_bicubic(np.ascontiguousarray(PICTURE[: target[0], : target[1]]), size) if lq is None else lq
    return continuous_psnr(render(net, to_tensor(lq)[None], target), gt, scale, "benchmark")


def test_these_are_all():
    assert set(SHIPPED) == set(WHOLE) and DEFAULT_MODEL == "standard"
    assert sum(os.path.getsize(path) for path in SHIPPED.values()) < 12 * 2**20  # the limit of the wheel


@pytest.mark.parametrize("scale", [1.5, 2, 3, 4, 6])
@pytest.mark.parametrize("name", ["standard", "light", "liif-light"])
def test_better_than_bicubic(name, scale):
    assert psnr(load(name, "cpu"), scale) > psnr(build_network({"type": "Bicubic"}), scale) + 0.2


def test_standard_is_the_best_on_clean_pictures():
    for scale in (2, 4):
        assert psnr(load("standard", "cpu"), scale) > psnr(load("liif-light", "cpu"), scale)


def test_photo_is_the_best_on_a_jpeg(tmp_path):
    small = pillow_bicubic(np.ascontiguousarray(PICTURE), (36, 42))
    Image.fromarray(small).save(tmp_path / "a.jpg", quality=60)
    lq = np.array(Image.open(tmp_path / "a.jpg"))
    scores = {name: psnr(load(name, "cpu"), 4, lq) for name in WHOLE}
    assert max(scores, key=scores.get) == "photo", scores
    assert scores["photo"] > psnr(build_network({"type": "Bicubic"}), 4, lq)


@pytest.mark.parametrize("name", ["standard", "light", "photo"])
def test_no_grid(tmp_path, name):
    """Steps across edges of LR pixels are not larger than those of liif-light; without the blend they are."""
    Image.fromarray(pillow_bicubic(np.ascontiguousarray(PICTURE), (72, 84))).save(tmp_path / "a.png")
    net = load(name, "cpu")
    for scale in (4, 8):
        limit = 1.05 * seams.ratio(load("liif-light", "cpu"), [tmp_path / "a.png"], scale)
        assert seams.ratio(net, [tmp_path / "a.png"], scale) < limit
    alone = build_network({**_options(net), "local_ensemble": False}).eval()
    alone.load_state_dict(net.state_dict())
    assert seams.ratio(alone, [tmp_path / "a.png"], 8) > 1.2 * limit


def _options(net: ContinuousNetwork) -> dict:
    encoder = {"type": "EDSR", "num_feat": net.encoder.out_channels, "num_block": len(net.encoder.net.body)}
    tail = {"hidden": net.tail.out_channels}
    return {"type": "Thera", "encoder": encoder, "waves": net.waves, "tail": tail, "residual": "bilinear"}


@pytest.mark.parametrize("value", [0.0, 0.2, 1.0])
@pytest.mark.parametrize("name", ["standard", "light", "photo"])
@pytest.mark.parametrize("scale", [0.5, 1, 4, 12])
def test_flat_areas_stay_flat(name, value, scale):
    """No dots, no grid, no frame at the border: a picture of one colour stays one colour."""
    size = (round(20 * scale), round(24 * scale))
    result = render(load(name, "cpu"), torch.full((1, 3, 20, 24), value), size)
    assert (result.clamp(0, 1) - value).abs().max() < 4 / 255
