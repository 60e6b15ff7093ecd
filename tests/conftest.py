"""Shared fixtures: golden numbers, small images, the data of ../shared, and runs of our command in a fresh process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import liif_plugin.register  # noqa: F401

GOLDEN = Path(__file__).parent / "golden"
ROOT = Path(__file__).parents[1]
torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS") or 2))


def picture(seed: int, h: int, w: int) -> np.ndarray:
    """A smooth random RGB picture, (h, w, 3) uint8."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (max(h // 8, 2), max(w // 8, 2), 3), dtype=np.uint8))
    return np.asarray(small.resize((w, h), Image.BICUBIC))


@pytest.fixture
def golden():
    """name -> {key: tensor} of a file in tests/golden."""

    def load(name: str) -> dict:
        with np.load(GOLDEN / f"{name}.npz") as arrays:
            return {key: torch.from_numpy(arrays[key]) for key in arrays.files}

    return load


@pytest.fixture(scope="session")
def one_process(tmp_path_factory):
    """(losses and scores with all their digits, the folder) of 20 steps in one process, for whatever must give the same."""
    from record import train

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
def bench():
    """../shared/data/bench or $LIIF_DATA/bench."""
    for root in (os.environ.get("LIIF_DATA"), ROOT.parent / "shared" / "data"):
        if root and (Path(root) / "bench").is_dir():
            return Path(root) / "bench"
    pytest.skip("no benchmark images: set LIIF_DATA to the folder that holds bench/")


def liif(*argv: str, cwd: Path, env: dict | None = None, timeout: int = 300) -> subprocess.CompletedProcess:
    """Run ``python -m liif_plugin ARGV`` in ``cwd``."""
    return python("-m", "liif_plugin", *argv, cwd=cwd, env=env, timeout=timeout)


def python(*argv: str, cwd: Path, env: dict | None = None, timeout: int = 300) -> subprocess.CompletedProcess:
    """Run this interpreter in ``cwd``; one thread, so that results do not depend on the machine's load."""
    env = {**os.environ, "OMP_NUM_THREADS": "1", **(env or {})}
    return subprocess.run(
        [sys.executable, *map(str, argv)], cwd=cwd, env=env, capture_output=True, text=True, timeout=timeout
    )


def losses(log: str) -> dict[int, str]:
    """iteration -> printed loss, of BasicSR's log."""
    found = {}
    for line in log.splitlines():
        if "l_pix" in line and "iter:" in line:
            step = int(line.split("iter:")[1].split(",")[0:2][0].replace(",", "").strip())
            found[step] = line.split("l_pix:")[1].strip()
    return found


TINY_YML = """
name: tiny
model_type: ContinuousSRModel
num_gpu: auto
manual_seed: 3
datasets:
  train:
    name: tiny_train
    type: ArbitraryScaleDataset
    dataroot_gt: {root}
    lq_size: 12
    num_queries: 64
    batch_size_per_gpu: 4
    num_worker_per_gpu: {workers}
    dataset_enlarge_ratio: 8
  val_x2:
    name: tiny_x2
    type: ArbitraryScaleDataset
    dataroot_gt: {root}
    scale: 2
    protocol: benchmark
  val_pair:
    name: tiny_x2_x3.1
    type: ArbitraryScaleDataset
    dataroot_gt: {root}
    scale: [2, 3.1]
    protocol: div2k
network_g:
  type: LIIF
  encoder: {{type: EDSR, num_feat: 8, num_block: 1}}
  hidden_list: [16, 16]
path:
  pretrain_network_g: ~
  resume_state: ~
train:
  total_iter: {total}
  optim_g: {{type: Adam, lr: 1e-3}}
  scheduler: {{type: MultiStepLR, milestones: [100], gamma: 0.5}}
  pixel_opt: {{type: L1Loss, loss_weight: 2.0, reduction: mean}}
val:
  val_freq: {every}
  save_img: true
  metrics:
    psnr: {{type: continuous_psnr}}
    ssim: {{type: continuous_ssim}}
    psnr_8bit: {{type: calculate_psnr, crop_border: 2}}
logger:
  print_freq: 1
  save_checkpoint_freq: {every}
  use_tb_logger: false
"""


@pytest.fixture
def tiny_yml(tmp_path, image_folder):
    """Write an option file that trains in seconds; returns its path. Keywords fill TINY_YML, ``edit`` changes the text."""

    def write(total=6, every=4, workers=0, root=None, edit=lambda text: text, name="tiny.yml"):
        root = root or (tmp_path / "images" if (tmp_path / "images").is_dir() else image_folder())
        path = tmp_path / name
        path.write_text(edit(TINY_YML.format(root=root, total=total, every=every, workers=workers)))
        return path

    return write


FUZZED: dict[str, int] = {}  # what was damaged -> cases


def fuzzed(what: str, cases: int) -> None:
    """Count cases of a fuzz; pytest says the sum at the end."""
    FUZZED[what] = FUZZED.get(what, 0) + cases


def pytest_terminal_summary(terminalreporter) -> None:
    if FUZZED:
        parts = ", ".join(f"{what} {cases}" for what, cases in FUZZED.items())
        terminalreporter.write_line(f"cases fuzzed: {sum(FUZZED.values())} ({parts})")


def refused(work, *names: str):
    """What ``work()`` returns, or the message with which it was refused: one printable line that names one of ``names``.

    Any other exception than UserError goes through, and so fails the test.
    """
    from liif_plugin.errors import UserError

    try:
        return work()
    except UserError as error:
        message = str(error)
        assert message and message.isprintable() and len(message) < 4000, message
        assert not names or any(name in message for name in names), f"{names} are not in: {message}"
        return error
