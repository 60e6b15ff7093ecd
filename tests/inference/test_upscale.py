"""`liif upscale`: sizes, windows, kinds of pictures, memory, and what a user may do wrong."""

import os
import sys
import threading
import time

import cv2
import numpy as np
import pytest
import torch
from basicsr.archs import build_network
from PIL import Image

from helpers.pictures import picture
from liif_plugin.checkpoints.files import save_whole
from liif_plugin.checkpoints.loading import load
from liif_plugin.cli import main
from liif_plugin.errors import UserError
from liif_plugin.image_io.reading import from_array
from liif_plugin.inference import memory
from liif_plugin.inference.api import upscale
from liif_plugin.inference.render import as_float, prepare, render
from liif_plugin.inference.upscaling import (
    Engine,
    Geometry,
    Target,
    finished_rows,
    geometry,
    memory_budget,
)

CPU = torch.device("cpu")
NETWORK = {
    "type": "LIIF",
    "encoder": {"type": "EDSR", "num_feat": 8, "num_block": 1},
    "hidden_list": [16, 16],
    "residual": "bilinear",
}


@pytest.fixture
def net():
    torch.manual_seed(0)
    return build_network(dict(NETWORK)).eval().requires_grad_(False)


@pytest.fixture
def model(tmp_path, net):
    """A checkpoint with its option file beside it."""
    save_whole({"params": net.state_dict()}, str(tmp_path / "net.pth"))
    (tmp_path / "net.yml").write_text(f"network_g: {NETWORK}".replace("'", ""))
    return str(tmp_path / "net.pth")


@pytest.mark.parametrize(
    ("target", "size"),
    [
        ({}, (60, 100)),
        ({"scale": (2.7, 2.7)}, (162, 270)),
        ({"scale": (3.1, 2)}, (186, 200)),
        ({"scale": (0.5, 0.5)}, (30, 50)),
        ({"size": (2160, 3840)}, (2160, 3840)),
        ({"width": 500}, (300, 500)),
        ({"height": 90}, (90, 150)),
        ({"height": 7, "width": 9}, (7, 9)),
        ({"short_side": 120}, (120, 200)),
        ({"at_least": (90, 300)}, (180, 300)),
        ({"at_least": (20, 30)}, (60, 100)),
        ({"scale": (4, 4), "max_pixels": 24000}, (120, 200)),
        ({"scale": (4, 4), "max_pixels": 23999}, (119, 199)),
    ],
)
def test_targets(target, size):
    where = geometry(60, 100, Target(**target))
    assert where == Geometry(size, (0, 0, *size))


def test_windows_are_parts_of_the_whole(net):
    colour = picture(0, 60, 100)
    whole = render(net, colour, (180, 300))
    for window in ((20, 10, 15, 30), (0, 0, 60, 100), (7.7, 33.4, 10.1, 20.3), (59, 99, 1, 1)):
        where = geometry(60, 100, Target(scale=(3, 3)), window)
        top, left, h, w = where.window
        assert where.size == (180, 300) and abs(top - 3 * window[0]) <= 1 and abs(w - 3 * window[3]) <= 1
        part = render(net, colour, where.size, window=where.window)
        assert (part - whole[..., top : top + h, left : left + w]).abs().max() < 1e-5
    assert geometry(60, 100, Target(size=(400, 500)), (10, 10, 4, 5)) == Geometry(
        (6000, 10000), (1000, 1000, 400, 500)
    )


@pytest.mark.parametrize(
    ("target", "window", "words"),
    [
        ({}, (0, 90, 10, 20), "part of the picture"),
        ({}, (0, 0, 10, 0), "part of the picture"),
        ({}, (float("nan"), 0, 1, 1), "part of the"),
        ({"scale": (1e-4, 1e-4)}, None, "no pixels left"),
        ({"scale": (1e7, 1)}, None, "a million"),
    ],
)
def test_geometry_refuses(target, window, words):
    with pytest.raises(UserError, match=words):
        geometry(60, 100, Target(**target), window)


def rows(engine, image, scale=2.5, dtype=np.uint8):
    read = from_array(image)
    return np.concatenate(
        list(finished_rows(engine, read, geometry(*read.size, Target(scale=(scale, scale))), dtype))
    )


def test_kinds_of_pictures(net):
    engine, image = Engine(net, CPU), picture(0, 24, 20)
    whole = rows(engine, image)
    assert whole.shape == (60, 50, 3)
    expected = render(net, image, (60, 50))[0].clamp(0, 1).mul(255).round().permute(1, 2, 0).numpy()
    assert np.abs(whole - expected).max() <= 1
    gray = rows(engine, image[:, :, 0])
    assert gray.shape == (60, 50, 1)
    alpha = np.full((24, 20, 1), 255, np.uint8)
    alpha[:, 10:] = 0
    clear = rows(engine, np.concatenate([image, alpha], axis=2))
    assert clear.shape == (60, 50, 4) and clear[:, 5, 3].min() > 200 and clear[:, -5, 3].max() < 60
    # Opaque stays opaque
    assert rows(engine, np.concatenate([image, np.full_like(alpha, 255)], axis=2))[..., 3].min() == 255
    deep = rows(engine, image.astype(np.uint16) * 257, dtype=np.uint16)
    assert np.abs(deep / 257 - whole).max() <= 0.51  # the same picture, finer


def test_a_pale_edge_stays_pale(net):
    """White beside invisible black: no dark fringe, because the black that nobody sees is not mixed in."""
    image = np.zeros((16, 16, 4), np.uint8)
    image[:, :8] = 255
    white = rows(Engine(net, CPU), np.full((16, 16, 3), 255, np.uint8))
    assert np.array_equal(rows(Engine(net, CPU), image)[:, :, :3], white)


def test_live_bytes():
    def work():
        a = torch.zeros(1000)
        b = a + 1
        del a
        return torch.cat([b, b.view(10, 100).flatten()])

    assert memory.peak_bytes(work) == 4 * (1000 + 2000)
    assert memory.peak_bytes(lambda: torch.zeros(10) + 1) == 80


def test_tiles_fit_into_the_memory_allowed(net):
    per_pixel = memory.bytes_per_pixel(lambda lq: prepare(net, lq, torch.float32), CPU)
    assert 16 * 4 <= per_pixel < 2000
    tile, some, needed = memory.tile_for(
        (3000, 4000), (6000, 8000), (6000, 8000), net.halo, per_pixel, 1 << 30
    )
    assert needed <= 1 << 30 and tile in memory.TILES and some is None
    assert memory.tile_for((3000, 4000), (6000, 8000), (6000, 8000), net.halo, per_pixel, 300 << 20)[0] < tile
    where = Geometry((6000, 8000), (0, 0, 6000, 8000))
    with pytest.raises(UserError, match=r"got 0\.0.*\. Give more"):
        Engine(net, CPU, budget=1 << 20).tiling((3000, 4000), where)
    with pytest.raises(UserError, match="row by row"):
        Engine(net, CPU).tiling((3000, 4000), where, held=1 << 30)
    assert Engine(net, CPU, budget=0).tiling((3000, 4000), where) == (None, None)
    # a window asks for its own part, however large the whole would be
    window = geometry(3000, 4000, Target(size=(1440, 1920)), (80, 100.5, 48, 64))
    assert window.size == (90000, 120000) and Engine(net, CPU).tiling((3000, 4000), window)[0] >= 256


def test_the_tile_does_not_show(net):
    image = picture(0, 90, 70)
    small = Engine(net, CPU, budget=memory.FIXED + (1 << 20) + 2 * 225 * 175 * 12)
    assert small.tiling((90, 70), Geometry((225, 175), (0, 0, 225, 175)))[0] < 90
    assert np.abs(rows(small, image).astype(int) - rows(Engine(net, CPU), image)).max() <= 1


def test_any_scale_fits(net):
    """At large scales a tile's rows are made a few at a time: neither a small nor a tiled picture needs
    more than is allowed.
    """
    for lr_size, scale in (((24, 32), 500), ((480, 640), 60), ((3000, 4000), 40)):
        size = lr_size[0] * scale, lr_size[1] * scale
        engine = Engine(net, CPU)
        tile, some = engine.tiling(lr_size, Geometry(size, (0, 0, *size)))
        assert (some is None) == (lr_size != (3000, 4000))
    image, where = picture(0, 90, 70), Geometry((900, 700), (0, 0, 900, 700))
    tile, some = Engine(net, CPU).tiling((90, 70), where)
    assert some is None and tile >= 90
    tight = Engine(net, CPU, budget=memory.FIXED + (4 << 20))
    tile, some = tight.tiling((90, 70), where)
    assert tile < 90 and some < tile * 10
    ours = torch.cat([band for _, band in tight.bands(image, where)], dim=2)
    truth = render(net, as_float(image), (900, 700))
    assert (ours - truth).abs().max() < 1e-5 and max(
        band.shape[2] for _, band in tight.bands(image, where)
    ) == some


def test_arrays_and_tensors_are_one_picture(net):
    image, where = picture(0, 20, 30), Geometry((50, 75), (0, 0, 50, 75))
    engine = Engine(net, CPU, cell=0.5)  # of the picture's pixels, whatever it comes in
    one, two = (
        torch.cat([band for _, band in engine.bands(lq, where)], dim=2) for lq in (image, as_float(image))
    )
    assert torch.equal(one, two)


def test_a_limit_that_is_not_reached_changes_nothing():
    assert (
        geometry(24, 32, Target(scale=(2.7, 2.7))).size
        == geometry(24, 32, Target(scale=(2.7, 2.7), max_pixels=10**9)).size
        == (65, 86)
    )
    for limit in (1000, 65 * 86 - 1):
        assert geometry(24, 32, Target(scale=(2.7, 2.7), max_pixels=limit)).pixels <= limit


def run(monkeypatch, *argv):
    monkeypatch.setattr(sys, "argv", ["liif"])
    with pytest.raises(SystemExit) as stop:
        main(["upscale", *map(str, argv)])
    return stop.value.code


def test_command_on_a_folder(tmp_path, model, monkeypatch, capsys):
    """One broken file is named and the rest goes on; exit code 1; structure, kinds and depth stay."""
    folder = tmp_path / "in"
    (folder / "deep").mkdir(parents=True)
    Image.fromarray(picture(0, 30, 20)).save(folder / "a.jpg")
    Image.fromarray(picture(1, 30, 20)).convert("L").save(folder / "deep" / "b.png")
    Image.fromarray(picture(2, 10, 20)[:, :, 0].astype(np.uint16) * 256).save(folder / "deep" / "c.png")
    (folder / "broken.png").write_bytes(b"no")
    out = tmp_path / "out"
    assert run(monkeypatch, folder, "-o", out, "--model", model, "--scale", "2x3.1") == 1
    said = capsys.readouterr()
    assert (
        "broken.png: not an image" in said.err
        and "3 of 4 written" in said.out
        and "LIIF on cpu in" in said.out
    )
    assert Image.open(out / "a.jpg").size == (40, 93) and Image.open(out / "deep" / "b.png").mode == "L"
    assert cv2.imread(str(out / "deep" / "c.png"), cv2.IMREAD_UNCHANGED).dtype == np.uint16
    (folder / "broken.png").unlink()
    assert run(monkeypatch, folder, "-o", out, "--model", model, "--scale", "2") == 1
    assert "exists already" in capsys.readouterr().err and Image.open(out / "a.jpg").size == (40, 93)
    assert run(monkeypatch, folder, "-o", out, "--model", model, "--scale", "2", "--skip-existing") == 0
    assert run(monkeypatch, folder, "-o", out, "--model", model, "--scale", "2", "--overwrite") == 0
    assert Image.open(out / "a.jpg").size == (40, 60)


def test_a_picture_that_needs_too_much_is_named(tmp_path, model, monkeypatch, capsys):
    """What libraries say when memory ends becomes one line, and the next picture is written."""
    from liif_plugin.inference import upscaling

    for name in "ab":
        Image.fromarray(picture(0, 20, 20)).save(tmp_path / f"{name}.png")
    real = upscaling.write_picture

    def full(path, *args, **options):
        if path.endswith("a.png"):
            raise RuntimeError("[enforce fail at alloc_cpu.cpp] can't allocate memory")
        real(path, *args, **options)

    monkeypatch.setattr(upscaling, "write_picture", full)
    assert (
        run(monkeypatch, tmp_path / "a.png", tmp_path / "b.png", "-o", tmp_path / "out", "--model", model)
        == 1
    )
    assert (
        "a.png: there is not as much memory" in capsys.readouterr().err
        and (tmp_path / "out" / "b.png").exists()
    )


def test_the_weights_that_come_with_the_package(tmp_path, monkeypatch):
    Image.fromarray(picture(0, 30, 20)).save(tmp_path / "a.png")
    assert run(monkeypatch, tmp_path / "a.png", "-o", tmp_path / "b.png") == 0
    assert Image.open(tmp_path / "b.png").size == (80, 120)
    assert sum(p.numel() for p in load("liif-light", "cpu").parameters()) < 500_000


def test_models_are_listed(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["liif"])
    with pytest.raises(SystemExit) as stop:
        main(["models"])
    said = capsys.readouterr().out
    assert not stop.value.code and "liif-light" in said and "0.47 M" in said and "edsr-baseline-liif" in said


@pytest.fixture
def wrong_models(tmp_path, net):
    """Checkpoints that cannot serve: without an option file, of another network, damaged, of a fixed-scale
    network.
    """
    (tmp_path / "lonely" / "models").mkdir(parents=True)
    save_whole({"params": net.state_dict()}, str(tmp_path / "lonely" / "models" / "alone.pth"))
    edsr = {"type": "EDSR", "num_in_ch": 3, "num_out_ch": 3, "num_feat": 8, "num_block": 1}
    blocks = {"other": dict(NETWORK, hidden_list=[8]), "bad": NETWORK, "edsr": edsr}
    states = {"other": net.state_dict(), "edsr": build_network(dict(edsr)).state_dict()}
    for name, block in blocks.items():
        (tmp_path / f"{name}.yml").write_text(f"network_g: {block}".replace("'", ""))
    for name, state in states.items():
        save_whole({"params": state}, str(tmp_path / f"{name}.pth"))
    (tmp_path / "bad.pth").write_bytes(b"no")


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        ("--scale 0", "expected 2.7 or 2x3.1"),
        ("--scale -2", "expected 2.7"),
        ("--scale big", "expected 2.7"),
        ("--scale nan", "expected 2.7"),
        ("--scale 2x3x4", "expected 2.7"),
        ("--scale 1e8", "a million"),
        ("--size 100", "WIDTHxHEIGHT"),
        ("--size 0x5", "WIDTHxHEIGHT"),
        ("--size 5.5x5", "WIDTHxHEIGHT"),
        ("--width 0", "1 or more, got 0"),
        ("--height -1", "1 or more, got -1"),
        ("--short-side 0", "1 or more, got 0"),
        ("--at-least 4k", "WIDTHxHEIGHT"),
        ("--max-pixels 0", "a number above 0, got 0"),
        ("--scale 2 --width 3", "give one of them"),
        ("--window 1,2,3", "x,y,width,height"),
        ("--window a,b,c,d", "x,y,width,height"),
        ("--window 5,5,500,5", "part of the"),
        ("--quality 0", "1 to 100"),
        ("--device cuda", "no CUDA GPU"),
        ("--memory -1", "expected a number of GiB"),
        ("--memory nan", "expected a number of GiB"),
        ("--memory inf", "expected a number of GiB"),
        ("--cell 0", "a number above 0, got 0"),
        ("--model liif-lite", "did you mean 'liif-light'"),
        ("--model rdn-liif", "--download rdn-liif"),
        ("--model {tmp}", "expected the folder of an experiment"),
        ("--model {tmp}/lonely/models/alone.pth", "does not say which network it is for"),
        ("--model {tmp}/other.pth", "expected weights that fit network_g"),
        ("--model {tmp}/bad.pth", "read safely"),
        ("--model {tmp}/edsr.pth", "one fixed scale"),
        ("--format gif", "invalid choice"),
        ("--sclae 2", "did you mean '--scale'"),
    ],
)
def test_mistakes_get_one_line(tmp_path, model, wrong_models, monkeypatch, capsys, argv, words):
    if "cuda" in argv and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    Image.fromarray(picture(0, 20, 20)).save(tmp_path / "a.png")
    given = [part.replace("{tmp}", str(tmp_path)) for part in argv.split()]
    code = run(
        monkeypatch,
        tmp_path / "a.png",
        "-o",
        tmp_path / "o.png",
        *([] if "--model" in argv else ["--model", model]),
        *given,
    )
    said = capsys.readouterr().err if code in (1, 2) else str(code)
    assert (
        code not in (0, None)
        and words in said
        and len(said.strip().splitlines()) == 1
        and not (tmp_path / "o.png").exists()
    )


def test_a_tiny_memory_limit_is_a_limit(net):
    """1e-300 GiB were rounded to 0 bytes, which means no limit."""
    assert memory_budget(1e-300) == 1
    assert memory_budget(0) == 0
    assert memory_budget(0.5) == 1 << 29
    with pytest.raises(UserError, match="memory: expected at least"):
        upscale(picture(0, 20, 20), model=net, memory=1e-300)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_fork_while_a_thread_measures_memory(net, monkeypatch):
    """The lock of a cached_property, held by a thread of the parent, stopped the forked child for ever."""
    inside, go_on = threading.Event(), threading.Event()

    def slow(*_):
        inside.set()
        go_on.wait(30)
        return 100.0

    monkeypatch.setattr(memory, "bytes_per_pixel", slow)
    engine, where = Engine(net, CPU), Geometry((40, 40), (0, 0, 40, 40))
    thread = threading.Thread(target=engine.tiling, args=((20, 20), where))
    thread.start()
    assert inside.wait(30)
    pid = os.fork()
    if pid == 0:
        memory.bytes_per_pixel = lambda *_: 100.0
        os._exit(0 if engine.tiling((20, 20), where)[0] else 1)
    deadline, status = time.monotonic() + 30, (0, 0)
    while status[0] == 0 and time.monotonic() < deadline:
        status = os.waitpid(pid, os.WNOHANG)
        time.sleep(0.01)
    if status[0] == 0:
        os.kill(pid, 9)
        os.waitpid(pid, 0)
    go_on.set()
    thread.join()
    assert status[0] == pid, "the child waited for a lock of its parent"
    assert os.waitstatus_to_exitcode(status[1]) == 0
