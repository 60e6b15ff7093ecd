"""The page of `liif view` in a real browser: its controls, the pixels of the canvas, and an empty console.

docs/view.png is view.png of LIIF_SCREENSHOTS=shots python -m pytest -m slow tests/view -k screenshots.
"""

import base64
import io
import os
import time
import urllib.parse
from pathlib import Path

import numpy as np
import pytest
import skimage
import torch
from PIL import Image

from helpers import chromium
from helpers.pictures import picture
from helpers.processes import wait_for
from helpers.viewing import TOKEN, Served, network
from liif_plugin.checkpoints.loading import load
from liif_plugin.image_io.reading import from_array
from liif_plugin.inference.upscaling import Engine
from liif_plugin.view import server as server_module
from liif_plugin.view.renderer import Renderer
from liif_plugin.view.views import View

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(chromium.missing() is not None, reason=chromium.missing() or "there is one"),
]
W, H = 600, 440  # small, so that a slow machine is fast enough
CHELSEA = Path(skimage.__file__).parent / "data" / "chelsea.png"
SHARP = "document.documentElement.dataset.state === 'sharp'"


class Page:
    """The page of a renderer in a browser."""

    def __init__(self, browser, server, renderer, size=(W, H)):
        self.browser, self.renderer, self.size = browser, renderer, size
        self.url = f"http://127.0.0.1:{server.port}/?token={TOKEN}"

    def open(self, fragment=""):
        self.browser.open("about:blank")
        self.browser.open(self.url + fragment)
        return self.look()

    def look(self):
        """What the address says when all is sharp, and has been written."""
        self.browser.wait(SHARP)
        time.sleep(0.4)
        self.browser.wait(SHARP)
        given = dict(urllib.parse.parse_qsl(self.browser.run("return location.hash.slice(1)")))
        return {
            name: float(value) if name in ("x", "y", "scale", "split") else value
            for name, value in given.items()
        }

    def canvas(self, side):
        """(H, W, 4) of the canvas ``side``."""
        url = self.browser.run("return document.getElementById(arguments[0]).toDataURL()", side)
        return np.asarray(Image.open(io.BytesIO(base64.b64decode(url.split(",")[1]))).convert("RGBA"))

    def expected(self, look, layer="network"):
        """The same, from the renderer; where the view is, from the address alone."""
        x, y = (
            round(at * look["scale"] - length / 2) / look["scale"]
            for at, length in zip((look["x"], look["y"]), self.size)
        )
        cell = None if layer != "network" or look["cell"] == "true" else float(look["cell"])
        view = View(
            x, y, look["scale"], *self.size, 1, layer, cell, layer != "network" or look["ensemble"] == "1"
        )
        return np.concatenate(list(self.renderer.bands(view)))

    def agree(self, look=None):
        """Both canvases show what the address says."""
        look = look or self.look()
        assert np.abs(self.canvas("right").astype(int) - self.expected(look)).max() <= 1
        if look["compare"] in ("bicubic", "nearest"):
            assert np.abs(self.canvas("left").astype(int) - self.expected(look, look["compare"])).max() <= 1
        return look

    def choose(self, name, value):
        self.browser.run(
            "const e = document.getElementById(arguments[0]); e.value = arguments[1]; "
            "e.dispatchEvent(new Event('change'))",
            name,
            value,
        )


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    renderer = Renderer(Engine(network(), torch.device("cpu"), "fp32"), from_array(picture(3, 150, 200)))
    folder = tmp_path_factory.mktemp("downloads")
    with Served(renderer, "cat.png") as server, chromium.Chromium(W, H, folder) as browser:
        shown = Page(browser, server, renderer)
        shown.folder = folder
        yield shown
        assert browser.console() == []


def test_it_opens_with_the_whole_picture(page):
    look = page.open()
    assert (look["x"], look["y"], look["scale"], look["compare"]) == (100, 75, round(H / 150, 5), "bicubic")
    page.agree(look)
    assert not page.canvas("right")[:, :5].any() and page.browser.console() == []


def test_wheel_and_drag(page):
    before, old = page.open("#x=100&y=75&scale=4"), page.canvas("right")
    page.browser.wheel(450, 100, -400)
    look = page.agree()
    assert 6 < look["scale"] < 9 and (page.canvas("right") != old).mean() > 0.3
    for name, at, length in (("x", 450, W), ("y", 100, H)):  # the point under the pointer stays
        assert (
            abs((at - length / 2) * (1 / before["scale"] - 1 / look["scale"]) + before[name] - look[name])
            < 0.05
        )
    old = page.canvas("right")
    page.browser.drag((200, 200), (261, 170))
    moved = page.agree()
    assert (
        abs((look["x"] - moved["x"]) * look["scale"] - 61) < 1.01
        and abs((moved["y"] - look["y"]) * look["scale"] - 30) < 1.01
    )
    # The same pixels, moved
    assert np.abs(page.canvas("right")[:-30, 61:].astype(int) - old[30:, :-61]).max() <= 1


def test_slider(page):
    page.open("#x=100&y=75&scale=6&split=0.5")
    page.browser.drag((W // 2, H // 2), (W // 4, H // 2))
    look = page.agree()
    assert abs(look["split"] - 0.25) < 0.01 and (look["x"], look["y"]) == (100, 75)
    shot = np.asarray(Image.open(io.BytesIO(page.browser.screenshot())).convert("RGB")).astype(int)
    rows = slice(110, 200)  # between the bars; left of the line bicubic, right of it the network
    for side, columns in (("left", slice(0, W // 4 - 20)), ("right", slice(W // 4 + 20, W))):
        assert np.abs(shot[rows, columns] - page.canvas(side)[rows, columns, :3]).max() <= 1
    page.browser.run("document.getElementById('slider').focus()")
    page.browser.press("\ue014", "\ue014")  # arrow to the right
    assert abs(page.look()["split"] - look["split"] - 0.04) < 1e-6


def test_switches(page):
    page.open("#x=100&y=75&scale=20")
    seen = [page.canvas("right")]
    page.choose("cell", "0.25")
    assert page.agree()["cell"] == "0.25"
    seen.append(page.canvas("right"))
    page.choose("cell", "true")
    page.browser.run("document.getElementById('ensemble').click()")
    assert page.agree()["ensemble"] == "0"
    seen.append(page.canvas("right"))
    assert all((a != b).any() for a, b in ((seen[0], seen[1]), (seen[0], seen[2])))
    page.choose("compare", "trained")  # the left side keeps the ensemble
    look = page.agree()
    assert np.abs(page.canvas("left").astype(int) - seen[0]).max() <= 1
    for what in ("nearest", "nothing"):
        page.choose("compare", what)
        page.agree(look := page.look())
        assert look["compare"] == what
    assert page.browser.run("return document.getElementById('slider').hidden")


def test_keyboard(page):
    page.open("#x=100&y=75&scale=4")
    page.browser.press("+")
    assert page.look()["scale"] == 5
    page.browser.press("-", "\ue012")  # arrow to the left
    look = page.agree()
    assert look["scale"] == 4 and look["x"] == 100 - H / 8 / 4
    page.browser.press("\ue015")
    assert page.look()["y"] == 75 + H / 8 / 4
    page.browser.press("0")
    assert page.look()["scale"] == round(H / 150, 5)
    page.browser.press("1")
    assert page.agree()["scale"] == 1


def test_pinch(page):
    page.open("#x=100&y=75&scale=4")
    page.browser.pinch(((260, 220), (160, 220)), ((340, 220), (440, 220)))
    look = page.agree()
    assert (
        abs(look["scale"] - 4 * 280 / 80) < 0.05 and abs(look["x"] - 100) < 0.3 and abs(look["y"] - 75) < 0.3
    )


def test_a_link_restores_the_view(page):
    page.open("#x=90&y=70&scale=3&split=0.3&compare=nearest&cell=0.5&ensemble=0")
    page.browser.wheel(200, 300, -333)
    page.agree()
    old, link = page.canvas("right"), page.browser.run("return location.hash")
    page.open(link)
    assert page.browser.run("return location.hash") == link and np.array_equal(page.canvas("right"), old)
    for nonsense in (
        "#x=nan&y=1&scale=2",
        "#x=1&y=1&scale=-3",
        "#x=1e99&y=1&scale=1e99&cell=9&compare=<b>&ensemble=q",
        "#%%%",
    ):
        page.open(nonsense)
    page.agree()


def test_save(page):
    page.open("#x=100&y=75&scale=6&split=0.25")
    page.browser.run("document.getElementById('save').click()")
    path = page.folder / "cat_x6.png"
    wait_for(path.exists)
    saved = np.asarray(Image.open(path).convert("RGBA"))
    assert np.array_equal(saved[:, : W // 4], page.canvas("left")[:, : W // 4])
    assert np.array_equal(saved[:, W // 4 :], page.canvas("right")[:, W // 4 :])


def test_at_double_density_with_the_shipped_weights(tmp_path):
    """Screens with two pixels to one of CSS get their own resolution; transparent pixels show checks."""
    chelsea = np.asarray(Image.open(CHELSEA))
    clear = np.dstack([chelsea, np.full(chelsea.shape[:2], 255, np.uint8)])
    clear[:, :40, 3] = 0
    renderer = Renderer(Engine(load("liif-light", "cpu"), torch.device("cpu"), "fp32"), from_array(clear))
    with (
        Served(renderer, "chelsea.png", "liif-light") as server,
        chromium.Chromium(300, 220, tmp_path, ratio=2) as browser,
    ):
        page = Page(browser, server, renderer, (600, 440))
        page.open("#x=30&y=100&scale=9&compare=nothing")
        right = page.canvas("right")
        assert (
            right.shape == (440, 600, 4) and right[:, -100:, 3].min() == 255 and not right[:, :100, 3].any()
        )
        opaque = right[..., 3] == 255
        assert np.abs(right.astype(int) - page.expected(page.look()))[opaque].max() <= 1
        assert browser.console() == []


def compressed(shot: Image.Image, limit: int) -> bytes:
    """A PNG below ``limit`` bytes, its colours rounded no more than that needs."""
    for step in (1, 2, 4, 8, 16):
        file = io.BytesIO()
        shot.point(lambda value, step=step: min(255, round(value / step) * step)).save(
            file, "PNG", optimize=True
        )
        if len(file.getvalue()) < limit:
            break
    return file.getvalue()


def test_a_screen_of_more_pixels_than_a_view_may_have(tmp_path, monkeypatch):
    """It is rendered smaller and shown larger, instead of refused."""
    monkeypatch.setattr(server_module, "MAX_PIXELS", 100_000)
    renderer = Renderer(Engine(network(), torch.device("cpu"), "fp32"), from_array(picture(0, 60, 80)))
    with Served(renderer, "a.png", "mine") as server, chromium.Chromium(W, H, tmp_path) as browser:
        page = Page(browser, server, renderer)
        page.open()
        h, w = page.canvas("right").shape[:2]
        assert 90_000 < h * w <= 100_000 and abs(w / h - W / H) < 0.02
        shown = browser.run(
            "const r = document.getElementById('right').getBoundingClientRect(); return [r.width, r.height]"
        )
        assert abs(shown[0] - W) <= 2 and abs(shown[1] - H) <= 2
        page.size = (w, h)
        page.agree()
        assert browser.console() == []


def test_screenshots(tmp_path):
    """x1, x8 and x64 of a real picture by the shipped weights; made to be looked at."""
    folder = Path(os.environ.get("LIIF_SCREENSHOTS", tmp_path))
    folder.mkdir(exist_ok=True, parents=True)
    chelsea = np.asarray(Image.open(CHELSEA))
    renderer = Renderer(Engine(load("liif-light", "cpu"), torch.device("cpu"), "fp32"), from_array(chelsea))
    with (
        Served(renderer, "chelsea.png", "liif-light") as server,
        chromium.Chromium(1280, 720, tmp_path) as browser,
    ):
        page = Page(browser, server, renderer, (1280, 720))
        for scale, x, y in ((1, 225.5, 150), (8, 172, 108), (64, 169, 100)):
            page.open(f"#x={x}&y={y}&scale={scale}&split=0.5")
            browser.run("document.activeElement.blur()")
            shot = Image.open(io.BytesIO(browser.screenshot())).convert("RGB")
            shot.save(folder / f"view_x{scale}.png")
            assert shot.size == (1280, 720) and len(shot.getcolors(1 << 24)) > 1000
            if scale == 8:
                (folder / "view.png").write_bytes(compressed(shot, 395_000))
        assert browser.console() == []
