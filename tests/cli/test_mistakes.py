"""Every mistake of mistakes.yml is made for real: one line, the right one, no traceback, no file touched."""

from __future__ import annotations

import io
import os
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from basicsr.archs import build_network
from PIL import Image

from helpers.networks import SMALL
from helpers.processes import liif
from helpers.training import EDSR
from liif_plugin.cli import COMMANDS

MISTAKES = yaml.safe_load((Path(__file__).parent / "mistakes.yml").read_text())
LIIF = {**SMALL, "hidden_list": [16]}
MY_YML = """
name: mine
model_type: ContinuousSRModel
num_gpu: auto
manual_seed: 0
datasets:
  train:
    name: photos
    type: ArbitraryScaleDataset
    dataroot_gt: photos
    lq_size: 12
    num_queries: 64
    batch_size_per_gpu: 2
    num_worker_per_gpu: 0
    dataset_enlarge_ratio: 1
  val:
    name: photos_x2
    type: ArbitraryScaleDataset
    dataroot_gt: photos
    scale: 2
    protocol: benchmark
network_g:
  type: LIIF
  encoder: {type: EDSR, num_feat: 8, num_block: 1}
  hidden_list: [16]
path:
  pretrain_network_g: ~
  resume_state: ~
train:
  total_iter: 2
  optim_g: {type: Adam, lr: !!float 1e-3}
  scheduler: {type: MultiStepLR, milestones: [100], gamma: 0.5}
  pixel_opt: {type: L1Loss, loss_weight: 2.0, reduction: mean}
val:
  val_freq: 2
  save_img: false
  metrics:
    psnr: {type: continuous_psnr}
logger:
  print_freq: 1
  save_checkpoint_freq: 2
  use_tb_logger: false
"""
TEST_YML = """
name: mine
model_type: ContinuousSRModel
num_gpu: auto
datasets:
  test_x2: {name: photos_x2, type: ArbitraryScaleDataset, dataroot_gt: photos, scale: 2, protocol: benchmark}
network_g: {type: LIIF, encoder: {type: EDSR, num_feat: 8, num_block: 1}, hidden_list: [16]}
path: {pretrain_network_g: weights.pth}
val:
  save_img: false
  metrics: {psnr: {type: continuous_psnr}}
"""
COMPARE_YML = """
name: mine
models:
  - {name: Bicubic, network_g: {type: Bicubic}}
datasets:
  photos: {dataroot_gt: photos, scales: [2], protocol: benchmark}
metrics: {psnr: {type: continuous_psnr}}
"""


def make_folder(folder: Path) -> None:
    """Write the small files that the commands name."""
    (folder / "empty").mkdir()
    (folder / "exported").mkdir()
    (folder / "exported" / "encoder.onnx").write_text("whole")
    rng = np.random.default_rng(0)
    photo = Image.fromarray(rng.integers(0, 256, (48, 64, 3), dtype=np.uint8))
    (folder / "photos").mkdir()
    for name in ("photo.png", "other.png", "photos/a.png", "photos/b.png"):
        photo.save(folder / name)
    whole = io.BytesIO()
    photo.save(whole, "png")
    (folder / "half.png").write_bytes(whole.getvalue()[: len(whole.getvalue()) // 2])
    photo.save(folder / "moving.gif", save_all=True, append_images=[photo.rotate(90), photo.rotate(180)])
    (folder / "text.png").write_text("not a picture\n")
    (folder / "film.mp4").write_bytes(b"\0\0\0\x18ftypmp42" + bytes(64))
    for name, text in (("my.yml", MY_YML), ("test.yml", TEST_YML), ("compare.yml", COMPARE_YML)):
        (folder / name).write_text(text)
    for name, network in (("weights", LIIF), ("wrong", LIIF), ("edsr", EDSR)):
        torch.save({"params": build_network(dict(network)).state_dict()}, folder / f"{name}.pth")
    for name, network in (("wrong", {**LIIF, "hidden_list": [32]}), ("edsr", EDSR)):
        (folder / f"{name}.yml").write_text(yaml.safe_dump({"network_g": network}))
    # a pickle that calls print
    (folder / "code.pth").write_bytes(b"cbuiltins\nprint\n(Vthis must never be seen\ntR.")


def listing(folder: Path) -> dict[str, int]:
    """Return every file with the time of its last change."""
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A folder with the files that the commands name."""
    folder = tmp_path_factory.mktemp("mistakes")
    make_folder(folder)
    return folder


def test_there_is_a_mistake_for_every_command():
    assert len(MISTAKES) >= 75
    assert set(COMMANDS) <= {mistake["command"].split()[1] for mistake in MISTAKES}


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="commands are forked")
@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake["mistake"])
def test_a_mistake_gets_its_line(world, mistake):
    folder = world
    argv = shlex.split(mistake["command"])[1:]
    old, new = mistake.get("edit", ("", ""))
    if old:
        yml = folder / argv[argv.index("-opt") + 1]
        text = yml.read_text()
        assert old in text, "nothing to edit"
        yml.write_text(text.replace(old, new, 1))
    before = listing(folder)
    try:
        done = liif(
            *argv,
            cwd=folder,
            # so that the line does not depend on the machine
            env={"CUDA_VISIBLE_DEVICES": "", "LIIF_CACHE": str(folder / "cache")},
            without=mistake.get("without", []),
        )
        # training may leave the folder of an experiment that it began
        for begun in ("experiments", "tb_logger", "results"):
            shutil.rmtree(folder / begun, ignore_errors=True)
        assert listing(folder) == before, "a file was touched"
    finally:
        if old:
            yml.write_text(text)
    said = done.stderr.strip().replace(str(folder.resolve()), "/home/me").replace(str(folder), "/home/me")
    assert "Traceback" not in said
    if mistake.get("logged"):
        said = said.splitlines()[-1]
    assert said == mistake["line"]
    assert done.returncode == mistake.get("exit", 1)
