"""Shared fixtures: golden numbers, small images, the data of ../shared, runs in a fresh process."""

from __future__ import annotations

import functools
import http.server
import os
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import liif_plugin.register  # noqa: F401
from helpers import GOLDEN, ROOT
from helpers.fuzzing import FUZZED
from helpers.pictures import picture
from helpers.training import TINY_YML
from helpers.zygote import the_zygote

os.environ.setdefault("LIIF_DEBUG", "1")  # an unexpected error is a traceback in every test and process
torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS") or 2))


@pytest.fixture
def golden():
    """name -> {key: tensor} of a file in tests/golden."""

    def load(name: str) -> dict:
        with np.load(GOLDEN / f"{name}.npz") as arrays:
            return {key: torch.from_numpy(arrays[key]) for key in arrays.files}

    return load


@pytest.fixture(scope="session")
def one_process(tmp_path_factory):
    """(losses and scores with all digits, the folder) of 20 steps in one process."""
    from helpers.record import train

    folder = tmp_path_factory.mktemp("one_process")
    return train(folder), folder


@pytest.fixture
def image_folder(tmp_path):
    """A folder of ``count`` PNG pictures of h x w."""

    def make(name: str = "images", count: int = 3, h: int = 64, w: int = 72) -> Path:
        folder = tmp_path / name
        folder.mkdir(parents=True)
        for i in range(count):
            Image.fromarray(picture(i, h, w)).save(folder / f"img_{i}.png")
        return folder

    return make


@pytest.fixture
def zygote(tmp_path):
    """Runs `liif` in this test's folder, forked from a process that has imported everything."""
    zygote = the_zygote()
    zygote.folder = tmp_path
    return zygote


@pytest.fixture
def checkout(tmp_path):
    """A BasicSR checkout: the files of the installed package, unedited, in a folder of their own."""
    import basicsr

    shutil.copytree(
        Path(basicsr.__file__).parent,
        tmp_path / "BasicSR" / "basicsr",
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    return tmp_path / "BasicSR"


@pytest.fixture
def bench():
    """../shared/data/bench or $LIIF_DATA/bench."""
    for root in (os.environ.get("LIIF_DATA"), ROOT.parent / "shared" / "data"):
        if root and (Path(root) / "bench").is_dir():
            return Path(root) / "bench"
    pytest.skip("no benchmark images: set LIIF_DATA to the folder that holds bench/")


@pytest.fixture
def tiny_yml(tmp_path, image_folder):
    """Write an option file that trains in seconds; keywords fill TINY_YML, ``edit`` changes the text."""

    def write(total=6, every=4, workers=0, root=None, edit=lambda text: text, name="tiny.yml"):
        root = root or (tmp_path / "images" if (tmp_path / "images").is_dir() else image_folder())
        path = tmp_path / name
        path.write_text(edit(TINY_YML.format(root=root, total=total, every=every, workers=workers)))
        return path

    return write


class _QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture
def server(tmp_path):
    """A folder served on this machine: (folder, address)."""
    (tmp_path / "www").mkdir()
    handler = functools.partial(_QuietHandler, directory=str(tmp_path / "www"))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield tmp_path / "www", f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="session")
def authors_checkpoint():
    """The authors' edsr-baseline-liif.pth: ../shared/weights or $LIIF_WEIGHTS, as published."""
    for folder in (os.environ.get("LIIF_WEIGHTS"), ROOT.parent / "shared" / "weights"):
        if folder and (Path(folder) / "edsr-baseline-liif.pth").is_file():
            return Path(folder) / "edsr-baseline-liif.pth"
    pytest.skip("the authors' edsr-baseline-liif.pth is not here: set LIIF_WEIGHTS to its folder")


@pytest.fixture(scope="session")
def authors_cache(tmp_path_factory):
    """A cache folder with the authors' edsr-baseline-liif: made of the published file, or the user's own."""
    from liif_plugin.checkpoints import cache

    for folder in (os.environ.get("LIIF_WEIGHTS"), ROOT.parent / "shared" / "weights"):
        original = folder and Path(folder) / "edsr-baseline-liif.pth"
        if original and original.is_file():
            made = tmp_path_factory.mktemp("cache")
            (made / "downloads").mkdir()
            shutil.copy(original, made / "downloads")
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("LIIF_CACHE", str(made))
                cache.install("edsr-baseline-liif")
            return made
    if os.path.isfile(cache.path_of("edsr-baseline-liif")):
        return Path(cache.path_of("edsr-baseline-liif")).parent
    pytest.skip("no published weights: `liif models --download edsr-baseline-liif`")


@pytest.fixture
def authors_model(authors_cache, monkeypatch):
    """The name of the authors' EDSR-baseline-LIIF, which ``load`` and --model take in this test."""
    monkeypatch.setenv("LIIF_CACHE", str(authors_cache))
    return "edsr-baseline-liif"


def pytest_terminal_summary(terminalreporter) -> None:
    if FUZZED:
        parts = ", ".join(f"{what} {cases}" for what, cases in FUZZED.items())
        terminalreporter.write_line(f"cases fuzzed: {sum(FUZZED.values())} ({parts})")
