"""From Python: the same kind of picture comes back, and a ContinuousImage is the function that the network
is.
"""

import os

import numpy as np
import pytest
import torch
from PIL import Image

import liif_plugin
from helpers.pictures import picture
from liif_plugin import ContinuousImage, load, upscale
from liif_plugin.checkpoints.loading import SHIPPED
from liif_plugin.coords import cell_of, grid
from liif_plugin.errors import UserError
from liif_plugin.inference.render import render


def test_the_names_are_there_and_nothing_else():
    assert set(liif_plugin.__all__) == {"ContinuousImage", "load", "upscale"}
    with pytest.raises(AttributeError, match="no attribute 'upscael'"):
        liif_plugin.upscael  # noqa: B018


def test_the_kind_of_picture_stays():
    image = picture(0, 20, 30)
    whole = upscale(image, 2.5, precision="fp32")  # in bf16 two ways may round to neighbouring values
    assert whole.dtype == np.uint8 and whole.shape == (50, 75, 3)
    assert upscale(image.astype(np.uint16) * 257, 2).dtype == np.uint16
    assert upscale(image[:, :, 0], (3.1, 2)).shape == (62, 60)
    assert upscale(image[:, :, :2], size=(7, 9)).shape == (7, 9, 2)
    floats = upscale(image / 255, 2.5, precision="fp32")
    assert floats.dtype == np.float64 and np.abs(floats * 255 - whole).max() <= 0.51
    assert upscale(image[:, :, 0] / np.float32(255), 2).shape == (40, 60)
    assert upscale((image / 255)[:, :, ::-1], 2).shape == (40, 60, 3)
    assert np.array_equal(upscale(image.astype(">u2") * 257, 2), upscale(image.astype(np.uint16) * 257, 2))
    assert upscale(torch.rand(3, 8, 8).bfloat16(), torch.tensor(2.0)).dtype == torch.bfloat16
    assert upscale(image, 3, window=np.array([4, 5, 6, 10])).shape == (18, 30, 3)
    tensor = torch.from_numpy(image.copy()).permute(2, 0, 1).float() / 255
    assert np.abs(upscale(tensor, 2.5, precision="fp32").permute(1, 2, 0).numpy() - floats).max() < 1e-5
    assert upscale(tensor.expand(2, -1, -1, -1), 2).shape == (2, 3, 40, 60)
    colour, gray = Image.fromarray(image), Image.fromarray(image).convert("L")
    for mode, back in {
        "RGB": "RGB",
        "L": "L",
        "1": "L",
        "P": "RGB",
        "RGBA": "RGBA",
        "LA": "LA",
        "CMYK": "RGB",
        "I;16": "I;16",
    }.items():
        shown = {"I;16": Image.fromarray(image[:, :, 0].astype(np.uint16)), "LA": gray}.get(mode, colour)
        got = upscale(shown if mode == "I;16" else shown.convert(mode), 2)
        assert (got.mode, got.size) == (back, (60, 40)), mode


def test_a_window_is_part_of_the_whole():
    image = picture(0, 20, 30)
    assert (
        np.abs(upscale(image, 3)[12:30, 15:45].astype(int) - upscale(image, 3, window=(4, 5, 6, 10))).max()
        <= 1
    )


def test_continuous_image():
    net, image = load("liif-light", "cpu"), picture(0, 14, 18)
    continuous = ContinuousImage(image, net, precision="fp32")
    whole = render(net, image, (30, 40))[0]
    assert (continuous.render((30, 40)) - whole).abs().max() < 1e-6
    assert (continuous.render((30, 40), window=(3, 5, 10, 20)) - whole[:, 3:13, 5:25]).abs().max() < 1e-6
    sampled = continuous.sample(grid((30, 40)).view(30, 40, 2), cell_of((30, 40)))
    assert (sampled.permute(2, 0, 1) - whole).abs().max() < 1e-5
    assert continuous.sample([0.1, -0.2]).shape == (3,) and continuous.sample(np.zeros((0, 2))).shape == (
        0,
        3,
    )
    deep = Image.fromarray(image[:, :, 0].astype(np.uint16) * 257)
    same = ContinuousImage(Image.fromarray(image[:, :, 0]), net, "fp32").render((9, 9))
    assert (ContinuousImage(deep, net, "fp32").render((9, 9)) - same).abs().max() < 1e-5
    assert (
        ContinuousImage(Image.fromarray(image), net, "fp32").render((9, 9)) - continuous.render((9, 9))
    ).abs().max() < 1e-6
    assert (
        ContinuousImage(image / 255, net, "fp32").render((9, 9)) - continuous.render((9, 9))
    ).abs().max() < 1e-6


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (lambda image: upscale(image.astype(int), 2), "expected a NumPy array, .*uint8.* got int64"),
        (lambda image: upscale("a.png", 2), "got str"),
        (lambda image: upscale(image, 2, size=(4, 4)), "give one of them"),
        (lambda image: upscale(image[None], 2), "expected"),
        (lambda image: upscale(image / 255 * np.nan, 2), "finite"),
        (lambda image: upscale(image, 0), "a million"),
        (lambda image: ContinuousImage(image).sample([0, 1.5]), "between -1 and 1"),
        (lambda image: ContinuousImage(image).sample([0, float("nan")]), "between -1 and 1"),
        (lambda image: ContinuousImage(image).sample([0, 0, 0]), "between -1 and 1"),
        (lambda image: ContinuousImage(image).sample([0, 0], [0, 1]), "positive"),
        (lambda image: ContinuousImage(image).sample([0, 0], [float("inf"), 1]), "positive"),
        (lambda image: ContinuousImage(torch.rand(2, 3, 8, 8)), "expected one"),
        (lambda image: upscale(image * 1.0), "divide by 255"),
        (lambda image: upscale(image[None] / 255), "expected"),
        (lambda image: upscale(image, "big"), "expected scale="),
        (lambda image: upscale(image, (1, 2, 3)), "expected scale="),
        (lambda image: upscale(image, size=40), "expected scale="),
        (lambda image: upscale(image, window=(1, 2, 3)), "top, left, height, width"),
        (lambda image: upscale(image, memory=float("nan")), "expected GiB"),
        (lambda image: upscale(image, precision="bfloat16"), "expected one of auto, fp32"),
        (lambda image: upscale(image, model=torch.nn.Conv2d(3, 3, 1)), "one fixed scale"),
        (lambda image: upscale(image, model=3), "int is no network"),
        (lambda image: load(3), "model: expected the name of weights.*, got int"),
    ],
)
def test_what_is_refused(ask, words):
    with pytest.raises(UserError, match=words):
        ask(picture(0, 10, 12))


def test_pil_images_of_every_depth(tmp_path):
    """16-bit gray stays whatever Pillow calls it; what cannot be kept is refused; the orientation and the
    profile are seen to.
    """
    image = picture(0, 20, 30)
    deep = image[:, :, 0].astype(np.uint16) * 257
    truth = upscale(deep, 2)
    for shown in (
        Image.fromarray(deep),
        Image.fromarray(deep.astype(np.int32)),
        Image.fromarray(deep).convert("I"),
    ):
        assert np.array_equal(np.asarray(upscale(shown, 2)), truth), shown.mode
    big = Image.frombytes("I;16B", (30, 20), deep.astype(">u2").tobytes())
    assert np.array_equal(np.asarray(upscale(big, 2)), truth)
    for shown in (
        Image.fromarray(image[:, :, 0].astype(np.float32) / 255),
        Image.fromarray(deep.astype(np.int32) * 257),
    ):
        with pytest.raises(UserError, match="expected 8 or 16 bits per channel, got Pillow's mode"):
            upscale(shown, 2)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(image).save(tmp_path / "a.png", exif=exif, icc_profile=b"a profile")
    result = upscale(Image.open(tmp_path / "a.png"), 2)
    assert result.size == (40, 60) and result.info["icc_profile"] == b"a profile"
    assert np.array_equal(np.asarray(result), upscale(np.rot90(image, -1), 2))
    assert ContinuousImage(Image.open(tmp_path / "a.png")).size == (30, 20)
    # Of a space that the result is not in
    for mode, kept in (("RGB", True), ("CMYK", False), ("LAB", False), ("YCbCr", False)):
        shown = Image.new(mode, (8, 6))
        shown.info["icc_profile"] = b"a profile"
        assert ("icc_profile" in upscale(shown, 2).info) == kept, mode


def test_arrays_as_they_come(recwarn):
    """Negative strides and read-only memory are no matter, without a warning."""
    image = (picture(0, 8, 9) / 255).astype(np.float32)
    image.flags.writeable = False
    upscale(image, 2)
    flipped = np.stack([np.linspace(-0.5, 0.5, 5)] * 2, axis=-1)[::-1, ::-1]
    continuous = ContinuousImage(image)
    assert torch.equal(continuous.sample(flipped), continuous.sample(flipped.copy()))
    assert not [warning for warning in recwarn if "writable" in str(warning.message)]


def test_a_batch_is_its_pictures():
    batch = torch.rand(3, 3, 12, 10)
    together = upscale(batch, 2.5, precision="fp32")
    assert torch.equal(together, torch.stack([upscale(one, 2.5, precision="fp32") for one in batch]))


def test_weights_that_are_written_anew_are_read_anew(tmp_path):
    """A notebook beside a running training; a Path is as good as text."""
    net, path, image = load("liif-light", "cpu"), tmp_path / "mine.pth", picture(0, 8, 8)
    (tmp_path / "mine.yml").write_text((SHIPPED["liif-light"].with_suffix(".yml")).read_text())
    torch.save({"params": net.state_dict()}, path)
    first = upscale(image, 2, model=path)
    assert np.array_equal(first, upscale(image, 2, model="liif-light")) and load(path, "cpu") is not net
    torch.save({"params": {name: value * 0.5 for name, value in net.state_dict().items()}}, path)
    os.utime(path, (0, 0))
    assert not np.array_equal(upscale(image, 2, model=str(path)), first)
