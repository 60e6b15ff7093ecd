"""`liif upscale` and `liif fit`: files that would hang them, odd numbers, full disks, what is said once."""

from __future__ import annotations

import os
import struct
import sys

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from helpers.pictures import picture
from helpers.processes import liif
from liif_plugin.cli import fit, main
from liif_plugin.image_io.writing import write_picture


def run(*argv) -> int | str | None:
    with pytest.raises(SystemExit) as stop:
        main([str(part) for part in argv])
    return stop.value.code


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["liif"])
    Image.fromarray(picture(0, 12, 16)).save("a.png")


def test_a_named_pipe_in_a_folder_is_named_and_the_rest_is_done(tmp_path):
    os.mkdir("in")
    os.mkfifo("in/b.png")
    os.rename("a.png", "in/a.png")
    done = liif("upscale", "in", "-o", "out", "--scale", "2", cwd=tmp_path, timeout=120)
    assert done.returncode == 1 and "b.png: cannot be read" in done.stderr
    assert Image.open("out/a.png").size == (32, 24)


def test_a_named_pipe_to_view(tmp_path):
    os.mkfifo("b.png")
    done = liif("view", "b.png", "--no-browser", cwd=tmp_path, timeout=120)
    assert done.returncode == 1 and "b.png: cannot be read" in done.stderr


def test_a_colour_space_that_cannot_be_kept_is_said_once(capsys):
    linear = ((b"gAMA", struct.pack(">I", 100000)),)
    os.mkdir("in")
    for name in "ab":
        write_picture(f"in/{name}.png", [picture(0, 9, 9)], (9, 9), 3, np.uint8, colour_space=linear)
    assert run("upscale", "in", "-o", "jpg", "--scale", "1", "--format", "jpg") == 0
    assert capsys.readouterr().err.count("its colour space (gAMA) is kept only in .png") == 1
    assert run("upscale", "in", "-o", "png", "--scale", "2") == 0
    assert "colour space" not in capsys.readouterr().err
    kept = Image.open("png/a.png")
    assert kept.size == (18, 18) and kept.info["gamma"] == 1


def test_the_network_for_photographs_is_suggested_once_for_blocky_jpegs(capsys):
    for name, quality in (("b.jpg", 95), ("c.jpg", 60), ("d.jpg", 40)):
        Image.open("a.png").save(name, quality=quality)
    small = ("--model", "liif-light", "--scale", "1.5")
    assert run("upscale", "a.png", "b.jpg", "-o", "good", *small) == 0
    assert "--model photo" not in capsys.readouterr().err
    assert run("upscale", "c.jpg", "d.jpg", "-o", "blocky", *small) == 0
    said = capsys.readouterr().err
    assert said.count("--model photo") == 1 and "c.jpg: a JPEG of quality 60" in said


def test_a_damaged_png_is_not_enlarged(capsys):
    data = bytearray(cv2.imencode(".png", picture(0, 40, 40))[1].tobytes())
    data[len(data) // 2] ^= 1
    with open("damaged.png", "wb") as file:
        file.write(data)
    assert run("upscale", "damaged.png", "-o", "large.png") == 1
    assert "the checksum of a PNG chunk is wrong" in capsys.readouterr().err and not os.path.exists(
        "large.png"
    )


def test_the_smallest_memory_is_a_limit(capsys):
    assert run("upscale", "a.png", "-o", "b.png", "--memory", "1e-300") == 1
    assert "Give more, or 0 for no limit" in capsys.readouterr().err and not os.path.exists("b.png")


@pytest.mark.parametrize("lr", ["inf", "nan", "0", "-1", "1e30"])
def test_learning_rates_that_give_no_picture(lr, capsys):
    code = run("fit", "a.png", "-o", "b.png", "--iterations", "5", "--lr", lr)
    said = code if isinstance(code, str) else capsys.readouterr().err
    assert code and "lr" in said
    assert sorted(os.listdir()) == ["a.png"]


def test_a_fit_says_how_long_it_will_take(monkeypatch, capsys):
    seconds = iter([0.0, 9.0])
    monkeypatch.setattr(fit.time, "monotonic", lambda: next(seconds))
    assert not run("fit", "a.png", "-o", "b.png", "--iterations", "100")
    assert "100 steps: about 3 min." in capsys.readouterr().out


def test_a_fit_into_a_folder_that_cannot_be_made():
    assert "its folder cannot be made" in run("fit", "a.png", "-o", "a.png/b.png")


def test_a_fit_is_what_its_network_says():
    """The picture is the network's own answer at every pixel's centre."""
    assert not run("fit", "a.png", "-o", "b.png", "--iterations", "20", "--size", "10x7")
    from liif_plugin.archs.siren_arch import SIREN

    net = SIREN().template()
    net.load_state_dict(torch.load("b.pth", weights_only=True)["params"])
    y, x = (-1 + (2 * torch.arange(n) + 1) / n for n in (7, 10))
    rgb = net(torch.stack(torch.meshgrid(y, x, indexing="ij"), dim=-1)) / 2 + 0.5
    expected = (rgb.clamp(0, 1) * 255).detach().numpy()
    assert np.abs(np.asarray(Image.open("b.png")).astype(float) - expected).max() < 0.51


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
@pytest.mark.parametrize("argv", ["models", "upscale a.png -o b.png --scale 2"])
def test_standard_output_on_a_full_disk(tmp_path, argv):
    done = liif(*argv.split(), cwd=tmp_path, out="/dev/full")
    assert done.returncode == 1 and done.stderr.count("\n") == 1, done.stderr
    assert f"liif {argv.split()[0]}: standard output cannot be written" in done.stderr
    assert "No space left" in done.stderr
