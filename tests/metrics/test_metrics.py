"""PSNR against the authors' numbers, SSIM against scikit-image and BasicSR."""

import json
import math

import numpy as np
import pytest
import skimage.data
import torch
from basicsr.metrics import calculate_metric
from skimage.metrics import structural_similarity

from helpers import GOLDEN
from helpers.networks import official
from liif_plugin.data.crops import to_tensor
from liif_plugin.errors import UserError
from liif_plugin.evaluation.single_image import measure
from liif_plugin.inference.render import render
from liif_plugin.metrics.continuous_metric import LUMA, PROTOCOLS, continuous_psnr, continuous_ssim
from liif_plugin.resize import pillow_bicubic


def test_psnr_equals_the_authors(golden):
    numbers = golden("psnr")
    sr, hr = numbers["sr"], numbers["hr"]
    keys = [key for key in numbers if key.startswith("psnr_")]
    assert len(keys) == 11
    for key in keys:
        _, protocol, *scale = key.split("_")
        ours = continuous_psnr(sr, hr, float(scale[0]) if scale else 1, protocol)
        assert abs(ours - numbers[key].item()) < 1e-4, key


@pytest.mark.parametrize("name", ["liif", "liif-c", "liif-e"])
def test_evaluation_equals_the_authors(name):
    expected = json.loads((GOLDEN / "eval_psnr.json").read_text())
    net = official(name)
    checked = 0
    for picture in ("chelsea", "astronaut"):
        hr = getattr(skimage.data, picture)()[:256, :256]
        for scale in (2, 3, 4, 6, 8):
            h = math.floor(256 / scale + 1e-9)
            crop = np.ascontiguousarray(hr[: h * scale, : h * scale])
            lq = to_tensor(pillow_bicubic(crop, (h, h))).unsqueeze(0)
            sr, gt = render(net, lq, crop.shape[:2]), to_tensor(crop).unsqueeze(0)
            for protocol in PROTOCOLS:
                assert (
                    abs(
                        continuous_psnr(sr, gt, scale, protocol)
                        - expected[f"{name}/{picture}/x{scale}/{protocol}"]
                    )
                    < 1e-3
                )
                checked += 1
    assert checked == 30


def pair(seed=0):
    rng = np.random.default_rng(seed)
    gt = skimage.data.coffee()[:90, :80].astype(np.float32) / 255
    return np.clip(gt + rng.normal(0, 0.05, gt.shape), 0, 1).astype(np.float32), gt


def batch(image):
    return torch.from_numpy(image.transpose(2, 0, 1).copy()).unsqueeze(0)


def test_ssim_equals_scikit_image():
    sr, gt = pair()
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1.0}
    expected = structural_similarity(sr.astype(np.float64), gt.astype(np.float64), channel_axis=2, **options)
    assert abs(continuous_ssim(batch(sr), batch(gt), 1, "plain") - expected) < 1e-6
    luma = [image.astype(np.float64) @ np.array(LUMA) for image in (sr, gt)]
    luma = [image[3:-3, 3:-3] + 16 / 255 for image in luma]
    expected = structural_similarity(*luma, **options)
    assert abs(continuous_ssim(batch(sr), batch(gt), 2.5, "benchmark") - expected) < 1e-6


@pytest.mark.parametrize(
    ("stock", "ours"), [("calculate_psnr", continuous_psnr), ("calculate_ssim", continuous_ssim)]
)
def test_eight_bit_images_equal_basicsr(stock, ours):
    sr, gt = ((image * 255).round().astype(np.uint8) for image in pair())
    theirs = calculate_metric(
        {"img": sr[..., ::-1], "img2": gt[..., ::-1]},
        {"type": stock, "crop_border": 2, "test_y_channel": True},
    )
    assert abs(ours(batch(sr / np.float32(255)), batch(gt / np.float32(255)), 2, "benchmark") - theirs) < 2e-3


def test_shave():
    assert PROTOCOLS["div2k"].shave((2.0, 2.7)) == (8, 9)
    assert PROTOCOLS["benchmark"].shave((3.0, 3.1)) == (3, 4)
    assert PROTOCOLS["plain"].shave((3.0, 3.1)) == (0, 0)
    with pytest.raises(TypeError):
        PROTOCOLS["div2k"] = None


def test_unequal_shave_cuts_each_axis_by_its_own():
    gt = torch.zeros(1, 3, 20, 20)
    sr = gt.clone()
    sr[..., :2, :] = 1
    assert continuous_psnr(sr, gt, (2, 5), "benchmark") == math.inf
    assert continuous_psnr(sr, gt, (1, 5), "benchmark") < 20


def test_gray_truth_as_luma():
    gt = torch.rand(1, 1, 30, 30).expand(1, 3, 30, 30)
    sr = (gt + 0.1).clamp(0, 1)
    gain = continuous_psnr(sr, gt, 2, "benchmark") - continuous_psnr(
        sr, gt, 2, "benchmark", gray_as_luma=True
    )
    assert abs(gain - -20 * math.log10(sum(LUMA))) < 1e-6 and abs(gain - 1.32) < 0.01


def test_mistakes_are_named():
    image = torch.rand(1, 3, 16, 16)
    with pytest.raises(UserError, match="did you mean 'benchmark'"):
        continuous_psnr(image, image, 2, "bench-mark")
    with pytest.raises(UserError, match=r"nothing is left of an image of \(height, width\) = \(16, 16\)"):
        continuous_psnr(image, image, 4, "div2k")
    with pytest.raises(UserError, match="11 x 11"):
        continuous_ssim(image, image, 4, "benchmark")
    with pytest.raises(UserError, match="float tensors"):
        continuous_psnr(np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4, 3), np.uint8), 2)
    with pytest.raises(ValueError, match="one shape"):
        continuous_psnr(image, image[..., :8], 2)


def test_gray_as_luma_of_named_pictures():
    """Only the picture that is stored in gray, not one that looks it."""
    gt = torch.rand(1, 1, 30, 30).expand(1, 3, 30, 30)
    opt, scale = {"type": "continuous_psnr", "gray_as_luma": ["img_003"]}, torch.tensor([2.0, 2.0])
    scores = [
        measure(opt, (gt + 0.1).clamp(0, 1), gt, scale, "benchmark", f"Set14/HR/{name}.png")
        for name in ("img_003", "img_010")
    ]
    assert abs(scores[1] - scores[0] - 1.32) < 0.01
