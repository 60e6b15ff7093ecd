"""SIREN: the initialisation and the forward pass of the paper, a fit that converges, and `liif fit` on real
pictures.
"""

import math
import sys

import numpy as np
import pytest
import torch
from basicsr.archs import build_network
from PIL import Image

from helpers.pictures import picture
from liif_plugin.archs.siren_arch import SIREN, SineNetwork
from liif_plugin.cli import main
from liif_plugin.coords import grid
from liif_plugin.data.crops import to_tensor
from liif_plugin.errors import UserError
from liif_plugin.inference.render import render


def test_forward_is_the_papers_equation():
    torch.manual_seed(0)
    net = SineNetwork([16, 16], 30.0)
    x = np.random.default_rng(0).uniform(-1, 1, (50, 2))
    weights = {name: value.detach().double().numpy() for name, value in net.named_parameters()}
    y = x
    for i in range(2):
        y = np.sin(30 * (y @ weights[f"layers.{i}.linear.weight"].T + weights[f"layers.{i}.linear.bias"]))
    y = y @ weights["last.weight"].T + weights["last.bias"]
    assert np.abs(net(torch.tensor(x, dtype=torch.float32)).detach().numpy() - y).max() < 1e-4


def test_initialisation():
    """Section 3.2: first layer U(-1/n, 1/n), the others U(-sqrt(6/n)/30, ...), so that every layer's sum
    has standard deviation ~1.
    """
    torch.manual_seed(0)
    net = SineNetwork([256, 256, 256, 256], 30.0)
    assert net.layers[0].linear.weight.abs().max() <= 0.5 and net.layers[0].linear.weight.std() > 0.25
    bound = math.sqrt(6 / 256) / 30
    for layer in (*net.layers[1:],):
        assert 0.99 * bound < layer.linear.weight.abs().max() <= bound
    x = torch.rand(4096, 2) * 2 - 1
    for layer in net.layers:
        if layer is not net.layers[0]:
            assert 0.8 < (30 * (x @ layer.linear.weight.T)).std() < 1.3
        x = layer(x)
        assert abs(x.std() - math.sqrt(0.5)) < 0.1  # arcsine distributed


def test_fits_one_picture_and_renders_it_at_any_size():
    image = to_tensor(picture(1, 24, 32))
    steps = []
    siren = SIREN(hidden_list=(64, 64), iterations=200, lr=1e-3)
    net = siren.fit(image, lambda step, mse: steps.append(mse))
    assert len(steps) == 200 and steps[-1] < 2e-3 < steps[0]
    again = (net(grid((24, 32))) / 2 + 0.5).T.reshape(3, 24, 32)
    assert (again - image).square().mean() == pytest.approx(steps[-1], rel=0.2)
    whole = render(siren, image.unsqueeze(0), (50, 41))
    # Seeded
    assert whole.shape == (1, 3, 50, 41) and torch.equal(whole, render(siren, image.unsqueeze(0), (50, 41)))
    assert (render(siren, image.unsqueeze(0), (24, 32))[0] - again).abs().max() < 1e-6


def test_two_pictures_are_two_networks():
    images = torch.stack([to_tensor(picture(seed, 16, 16)) for seed in (0, 1)])
    siren = build_network({"type": "SIREN", "hidden_list": [32], "iterations": 20, "pixels": 100})
    both = render(siren, images, (9, 9))
    assert torch.allclose(both[1], render(siren, images[1:], (9, 9))[0], atol=1e-6) and not list(
        siren.parameters()
    )


def test_half_precision_leaves_it_alone():
    siren, image = SIREN(hidden_list=(32,), iterations=20), to_tensor(picture(1, 16, 16)).unsqueeze(0)
    assert torch.equal(render(siren, image, (20, 20), dtype=torch.bfloat16), render(siren, image, (20, 20)))


def test_options():
    for wrong in ({"iterations": 0}, {"hidden_list": []}, {"omega": -1}, {"pixels": 1.5}):
        with pytest.raises(UserError, match="SIREN"):
            SIREN(**wrong)


def call(*argv):
    with pytest.raises(SystemExit) as stop:
        main(list(map(str, argv)))
    return stop.value.code


def test_command(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["liif"])
    Image.fromarray(picture(0, 20, 24)[:, :, 0]).save(tmp_path / "in.png")
    assert (
        call(
            "fit",
            tmp_path / "in.png",
            "-o",
            tmp_path / "out" / "a.png",
            "--scale",
            "2.5",
            "--iterations",
            "20",
        )
        == 0
    )
    with Image.open(tmp_path / "out" / "a.png") as image:
        assert image.size == (60, 50)
    assert "dB PSNR in 20 steps" in capsys.readouterr().out
    state = torch.load(tmp_path / "out" / "a.pth", weights_only=True)["params"]
    SineNetwork([256] * 4, 30.0).load_state_dict(state)
    assert (
        call("fit", tmp_path / "in.png", "-o", tmp_path / "b.png", "--size", "7x9", "--iterations", "1") == 0
    )
    with Image.open(tmp_path / "b.png") as image:
        assert image.size == (7, 9)
    assert "b.png: 7 x 9." in capsys.readouterr().out
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(picture(0, 20, 24)).save(tmp_path / "turned.png", exif=exif)
    assert (
        call("fit", tmp_path / "turned.png", "-o", tmp_path / "c.png", "--scale", "1", "--iterations", "1")
        == 0
    )
    assert "turned.png, 20 x 24: fitted" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["nowhere.png", "-o", "a.png"], "cannot be read"),
        (["in.png", "-o", "a.jpg"], "ends in .png"),
        (["in.png", "-o", "a.png", "--size", "7"], "expected WIDTHxHEIGHT"),
        (["in.png", "-o", "a.png", "--scale", "-1"], "--scale: expected a number above 0, got -1"),
        (["in.png", "-o", "a.png", "--scale", "2", "--size", "7x7"], "give one of them"),
        (["in.png", "-o", "in.png"], "exists already"),
        (["in.png", "-o", "broken.png/a.png"], "its folder cannot be made"),
        (["in.png", "-o", "a.png", "--iterations", "0"], "--iterations: expected 1 or more, got 0"),
        (["broken.png", "-o", "a.png"], "not an image file that can be read"),
        (["clear.png", "-o", "a.png"], "has transparent parts"),
    ],
)
def test_mistakes(tmp_path, monkeypatch, capsys, argv, words):
    monkeypatch.chdir(tmp_path)
    Image.fromarray(picture(0, 20, 24)).save("in.png")
    Image.fromarray(picture(0, 20, 24)).convert("RGBA").rotate(45).save("clear.png")
    (tmp_path / "broken.png").write_bytes(b"x")
    code = call("fit", *argv)
    assert words in (capsys.readouterr().err if code == 2 else code) and not (tmp_path / "a.png").exists()
