"""Blur, noise and JPEG on the LR crops of a training."""

import numpy as np
import pytest
from PIL import Image

from liif_plugin.data.arbitrary_scale_dataset import ArbitraryScaleDataset
from liif_plugin.data.degrade import Degradation, jpeg
from liif_plugin.data.deterministic import SampleIndex
from liif_plugin.errors import UserError


def smooth(side=64):
    y, x = np.mgrid[40 : 200 : side * 1j, 40 : 200 : side * 1j]
    return np.stack([y, x, np.full_like(y, 128)], axis=-1).astype(np.uint8)


def degraded(image, seed=0, **opt):
    return Degradation("degrade", {"clean": 0, **opt})(image, np.random.default_rng(seed))


def test_noise_has_the_strength_that_was_asked_for():
    difference = degraded(smooth(), noise=[8, 8]).astype(float) - smooth()
    assert difference.std() == pytest.approx(8, rel=0.05)
    assert abs(difference.mean()) < 0.3


def test_blur_is_that_of_a_gaussian():
    dot = np.zeros((33, 33, 3), np.uint8)
    dot[16, 16] = 255
    blurred = degraded(dot, blur=[1.5, 1.5]).astype(float)[..., 0]
    i = np.arange(33) - 16
    assert np.sqrt((blurred.sum(axis=0) * i**2).sum() / blurred.sum()) == pytest.approx(1.5, rel=0.1)


def test_jpeg_is_pillows_at_the_corner_of_a_block(tmp_path):
    """With the first block at the corner, another program gives nearly the same for this quality."""
    image = smooth()
    image[20:40, 20:40] = 250, 10, 10
    seeds = (s for s in range(1000) if not np.random.default_rng(s).integers(0, 8, 2).any())
    ours = jpeg(image, 60, np.random.default_rng(next(seeds)))
    Image.fromarray(image).save(tmp_path / "a.jpg", quality=60)
    theirs = np.asarray(Image.open(tmp_path / "a.jpg"))
    assert np.abs(ours.astype(float) - theirs).mean() < 0.5
    assert np.abs(ours.astype(float) - image).mean() > 1


def test_a_lower_quality_loses_more_and_blocks_begin_anywhere():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (48, 48, 3), np.uint8)
    loss = [np.abs(degraded(image, jpeg=[q, q]).astype(float) - image).mean() for q in (95, 70, 30)]
    assert loss[0] < loss[1] < loss[2]
    assert len({degraded(image, seed, jpeg=[50, 50]).tobytes() for seed in range(8)}) > 4


def test_clean_crops_stay_as_they_are():
    image = smooth()
    all_of_them = {"blur": [1, 2], "noise": [5, 9], "jpeg": [10, 20]}
    assert degraded(image, clean=1, **all_of_them) is image
    rng, degrade = np.random.default_rng(0), Degradation("degrade", {**all_of_them, "clean": 0.25})
    kept = sum(degrade(image, rng) is image for _ in range(400))
    assert 70 < kept < 130


def test_the_inputs_of_a_training_are_degraded_and_its_targets_are_not(tmp_path):
    Image.fromarray(smooth(160)).save(tmp_path / "a.png")
    opt = {
        "name": "a",
        "dataroot_gt": str(tmp_path),
        "lq_size": 32,
        "scale_range": [2, 2],
        "num_queries": None,
    }
    opt.update(use_hflip=False, use_rot=False)
    index = SampleIndex(0, 3, 5)
    clean = ArbitraryScaleDataset(opt)[index]
    noisy = ArbitraryScaleDataset({**opt, "degrade": {"noise": [6, 6], "clean": 0}})[index]
    assert (noisy["gt"] == clean["gt"]).all()
    assert (noisy["lq"] - clean["lq"]).std().item() * 255 == pytest.approx(6, rel=0.1)
    again = ArbitraryScaleDataset({**opt, "degrade": {"noise": [6, 6], "clean": 0}})[index]
    assert (again["lq"] == noisy["lq"]).all()


@pytest.mark.parametrize(
    ("opt", "message"),
    [
        ({"jpg": [50, 98]}, "unknown option 'jpg' .did you mean 'jpeg'"),
        ({"jpeg": [98, 50]}, r"jpeg: expected \[low, high\], got \[98, 50\]"),
        ({"jpeg": [0, 50]}, "jpeg: expected a list of 2, each a number of 1 or more"),
        ({"noise": 5}, "noise: expected a list of 2"),
    ],
)
def test_mistakes(opt, message):
    with pytest.raises(UserError, match=message):
        Degradation("dataset a: degrade", opt)
