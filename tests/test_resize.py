"""Pillow's bicubic as the authors used it; MATLAB's imresize against BasicSR's and the field's LR files."""

import numpy as np
import pytest
import skimage.data
import torch
from basicsr.utils.matlab_functions import imresize
from PIL import Image

from liif_plugin.resize import matlab_imresize, pillow_bicubic


def test_training_crops_equal_the_authors(golden):
    chelsea, crops = skimage.data.chelsea(), golden("resize_chelsea")
    for i in range(6):
        scale, y, x, side = crops[f"crop{i}"].tolist()
        assert round(48 * scale) == side
        crop = np.ascontiguousarray(chelsea[int(y) : int(y + side), int(x) : int(x + side)])
        assert np.array_equal(pillow_bicubic(crop, (48, 48)).transpose(2, 0, 1), crops[f"lr{i}"].numpy())


@pytest.mark.parametrize("scale", [1 / 2, 1 / 3, 1 / 4, 2, 3, 4])
def test_floats_equal_basicsr(scale):
    image = skimage.data.chelsea()[:60, :84].astype(np.float32) / 255
    expected = imresize(torch.from_numpy(image.transpose(2, 0, 1).copy()), scale).numpy().transpose(1, 2, 0)
    assert np.abs(matlab_imresize(image, expected.shape[:2]) - expected).max() < 1e-5


@pytest.mark.parametrize(("name", "scale"), [("Set5", 2), ("Set5", 3), ("Set5", 4), ("B100", 3)])
def test_lr_files_bit_for_bit(bench, name, scale):
    for path in sorted((bench / name / "LR_bicubic" / f"X{scale}").glob("*.png"))[:10]:
        hr = np.asarray(Image.open(bench / name / "HR" / path.name).convert("RGB"))
        h, w = hr.shape[0] // scale, hr.shape[1] // scale
        ours = matlab_imresize(hr[: h * scale, : w * scale], (h, w), border="replicate")
        assert np.array_equal(ours, np.asarray(Image.open(path).convert("RGB"))), path


def test_unknown_border():
    with pytest.raises(ValueError, match="'mirror' or 'replicate'"):
        matlab_imresize(np.zeros((4, 4)), (2, 2), border="wrap")


def one_axis(image, axis, n):
    """MATLAB's resize of one axis alone, rounded to 8 bits."""
    size = [*image.shape[:2]]
    size[axis] = n
    return matlab_imresize(image, tuple(size))


@pytest.mark.parametrize(
    ("size", "order"), [((30, 21), (1, 0)), ((15, 42), (0, 1)), ((90, 42), (1, 0)), ((30, 42), (0, 1))]
)
def test_the_axis_with_the_smaller_scale_comes_first(size, order):
    """As MATLAB's imresize.m: `[~, order] = sort(scale)`; the order shows where 8 bits are rounded twice."""
    image = skimage.data.chelsea()[100:160, 200:284]
    expected = image
    for axis in order:
        expected = one_axis(expected, axis, size[axis])
    assert np.array_equal(matlab_imresize(image, size), expected)
    if size[0] / 60 != size[1] / 84:
        other = image
        for axis in reversed(order):
            other = one_axis(other, axis, size[axis])
        assert not np.array_equal(other, expected)
