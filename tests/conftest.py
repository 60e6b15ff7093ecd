"""Shared fixtures: golden numbers, small images, the data of ../shared, runs in a fresh process."""

from __future__ import annotations

import os
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


def pytest_terminal_summary(terminalreporter) -> None:
    if FUZZED:
        parts = ", ".join(f"{what} {cases}" for what, cases in FUZZED.items())
        terminalreporter.write_line(f"cases fuzzed: {sum(FUZZED.values())} ({parts})")
