"""No run displaces another one, and what cannot work is named before anything is written or renamed."""

import json
import os
import re
import signal
from pathlib import Path

import pytest
import torch

from helpers.processes import losses, wait_for
from helpers.training import options, steps, train_set
from liif_plugin import distributed
from liif_plugin.basicsr_patches import resuming
from liif_plugin.errors import UserError
from liif_plugin.models.history import Scores
from liif_plugin.models.run_lock import RunLock, lock_path
from liif_plugin.models.training_states import changed_options, function_and_samples


def finished(tmp_path):
    """A folder that looks like a finished experiment, and what is in ``experiments``."""
    models = tmp_path / "experiments" / "tiny" / "models"
    models.mkdir(parents=True)
    torch.save({"params": {}, "iter": 40}, models / "net_g_latest.pth")
    return sorted(os.listdir(tmp_path / "experiments"))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("datasets:val_x2:meta_info_file=split.json", "split"),
        ("datasets:val_x2:scale=80", "images are smaller"),
        ("datasets:train:lq_size=40", "images are smaller"),
        ("model_type=SRModel", "model_type: SRModel does not hand coordinates to network_g [(]LIIF[)]"),
        ("model_type=SRGANModel", "model_type: SRGANModel does not hand coordinates"),
        ("train:optim_g:type=Adan", "train.optim_g.type"),
        ("train:pixel_opt:reduction=none", "train.pixel_opt"),
    ],
)
def test_a_mistake_displaces_no_experiment(tmp_path, tiny_yml, zygote, change, words):
    before = finished(tmp_path)
    (tmp_path / "split.json").write_text('{"train": ["img_0"]}')
    sets = [change, "datasets:val_x2:split=val"] if "split.json" in change else [change]
    code, log = zygote.run("train", "-opt", tiny_yml(), "--force_yml", *sets)
    line = log.splitlines()[-1]
    assert code == 1 and "Traceback" not in log, log
    assert re.search(words, line), line
    assert sorted(os.listdir(tmp_path / "experiments")) == before
    assert not (tmp_path / "tb_logger").exists()


def test_auto_resume_beside_weights_without_a_state(tmp_path, tiny_yml, zygote):
    before = finished(tmp_path)
    code, log = zygote.run("train", "-opt", tiny_yml(), "--auto_resume")
    line = log.splitlines()[-1]
    assert (
        code == 1
        and "net_g_latest.pth: its training cannot be resumed" in line
        and "path.pretrain_network_g" in line
    )
    assert sorted(os.listdir(tmp_path / "experiments")) == before


def test_an_experiment_without_a_checkpoint_begins_anew(tmp_path, tiny_yml, zygote):
    """Killed between the two files of its first checkpoint, a run must start again without help."""
    models = tmp_path / "experiments" / "tiny" / "models"
    models.mkdir(parents=True)
    torch.save({"params": {}, "iter": 2}, models / "net_g_2.pth")  # killed before 2.state
    yml = tiny_yml(total=2, every=2)
    code, log = zygote.run("train", "-opt", yml, "--auto_resume")
    assert code == 0, log
    assert len(list((tmp_path / "experiments").glob("tiny_archived_*"))) == 1


def test_a_second_run_of_one_name_is_refused(tmp_path, tiny_yml, zygote):
    """Also of --auto_resume, which meets the ranks that a killed torchrun has left behind; kill -9 frees the
    folder.
    """
    yml = tiny_yml(total=100000, every=5)
    pid, path = zygote.start("train", "-opt", yml)
    wait_for(lambda: max(losses(path.read_text()), default=0) >= 6)
    for flags in ((), ("--auto_resume",)):
        code, log = zygote.run("train", "-opt", yml, *flags)
        line = log.splitlines()[-1]
        assert code == 1 and f"process {pid} on " in line and "is training here" in line and "kill" in line
    assert not list((tmp_path / "experiments").glob("*_archived_*"))
    os.killpg(pid, signal.SIGKILL)
    zygote.wait(pid)
    code, log = zygote.run("train", "-opt", yml, "--auto_resume", "--force_yml", "train:total_iter=11")
    assert code == 0 and "Resuming training" in log, log


def test_the_lock_is_not_inherited_by_a_forked_worker(tmp_path, zygote):
    """A worker may outlive a killed parent for seconds; the next start must not wait for it."""
    code = (
        "import os, sys, time\n"
        "from liif_plugin.models.run_lock import RunLock\n"
        "lock = RunLock(sys.argv[1])\n"
        "child = os.fork()\n"
        "if child == 0: time.sleep(60)\n"
        "print(child, flush=True)\n"
        "time.sleep(60)\n"
    )
    parent, log = zygote.start("-c", code, tmp_path / "e")
    wait_for(lambda: log.read_text().endswith("\n"))
    child = int(log.read_text())
    try:
        with pytest.raises(UserError, match=f"process {parent} on .* is training here"):
            RunLock(str(tmp_path / "e"))
        os.kill(parent, signal.SIGKILL)
        zygote.wait(parent)
        RunLock(str(tmp_path / "e")).release()
    finally:
        os.kill(child, signal.SIGKILL)


def test_an_unreadable_lock_file_still_locks(tmp_path):
    path = Path(lock_path(str(tmp_path / "e")))
    path.write_text("{half")
    lock = RunLock(str(tmp_path / "e"))
    assert json.loads(path.read_text())["pid"] == os.getpid()
    lock.release()


def test_experiments_that_cannot_be_written(tmp_path, tiny_yml, zygote):
    (tmp_path / "experiments").write_text("a file")
    code, log = zygote.run("train", "-opt", tiny_yml())
    assert code == 1 and "Traceback" not in log and "cannot be written" in log.splitlines()[-1], log


def test_two_archives_within_one_second(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("basicsr.utils.get_time_str", lambda: "20260101_000000")
    path = tmp_path / "run"
    for content in ("a", "b", "c"):
        resuming.mkdir_and_rename(str(path))
        (path / content).touch()
    found = {folder.name: os.listdir(folder) for folder in tmp_path.iterdir()}
    archive = "run_archived_20260101_000000"
    assert found == {"run": ["c"], archive: ["a"], f"{archive}_2": ["b"]}


def changes(opt, edit):
    saved = function_and_samples(opt)
    edit(opt)
    return changed_options(saved, function_and_samples(opt))


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda o: o["network_g"].update(local_ensemble=False), ["network_g.local_ensemble True -> False"]),
        (lambda o: o["network_g"].update(residual=True), ["network_g.residual None -> True"]),
        (
            lambda o: o["network_g"]["encoder"].update(res_scale=0.1),
            ["network_g.encoder.res_scale (not given) -> 0.1"],
        ),
        (
            lambda o: o["datasets"]["train"].update(scale_range=[1, 8], lq_size=24),
            ["datasets.train.scale_range [1, 4] -> [1, 8]", "datasets.train.lq_size 12 -> 24"],
        ),
        (
            lambda o: o["train"].update(gradient_weight=1e-4),
            ["train.gradient_weight (not given) -> 0.0001"],
        ),
        (lambda o: o["datasets"]["train"].update(num_worker_per_gpu=4, dataroot_gt="elsewhere"), []),
        (lambda o: o["network_g"].update(local_ensemble=True), []),  # its default
    ],
)
def test_changed_options(tmp_path, edit, words):
    opt = options(tmp_path)
    opt["datasets"] = {"train": {"type": "ArbitraryScaleDataset", "scale_range": [1, 4], "lq_size": 12}}
    assert sorted(changes(opt, edit)) == sorted(words)


def test_a_resumed_run_says_what_changed(tmp_path, tiny_yml, zygote):
    yml = tiny_yml(total=4, every=2)
    assert zygote.run("train", "-opt", yml)[0] == 0
    force = (
        "--force_yml",
        "train:total_iter=6",
        "network_g:local_ensemble=false",
        "datasets:train:lq_size=14",
    )
    code, log = zygote.run("train", "-opt", yml, "--auto_resume", *force)
    assert code == 0 and "network_g.local_ensemble True -> False" in log and "lq_size 12 -> 14" in log, log
    code, log = zygote.run("train", "-opt", yml, "--auto_resume", "--force_yml", "train:total_iter=8")
    assert code == 0 and "network_g.local_ensemble False -> True" in log, log


@pytest.mark.parametrize(
    "damage",
    [
        lambda state: state.update(optimizers=[{}]),
        lambda state: state.update(schedulers=[3]),
        lambda state: state.update(rng=[{"cpu": 1}]),
        lambda state: state.update(rng=5),
        lambda state: state["optimizers"][0].update(param_groups=[]),
        lambda state: state.update(options=[1]),
    ],
)
def test_a_damaged_state_is_one_sentence(tmp_path, image_folder, damage):
    from basicsr.models import build_model

    model, folder = build_model(options(tmp_path)), image_folder()
    steps(model, train_set(folder), 1)
    model.save(0, 1)
    state = torch.load(tmp_path / "training_states" / "1.state", weights_only=True)
    damage(state)
    opt = options(tmp_path)
    opt["path"]["resume_state"] = "1.state"
    again = build_model(opt)

    def resume():
        again.resume_training(state)
        steps(again, train_set(folder), 1, start=1)

    with pytest.raises(UserError, match=r"1.state: does not fit this run"):
        resume()


@pytest.mark.parametrize(
    "line",
    [
        b"\xff\xfe\x00",
        b'{"iter": Infinity, "set": "a", "scale": null, "metrics": {}}',
        b'{"iter": 4, "set": "a", "scale": null, "metrics": {"psnr": "x"}}',
        b'{"iter": 4, "set": "a", "scale": 2, "metrics": []}',
        b"[" * 100000,
        b"[]",
    ],
)
def test_a_damaged_validation_file_is_one_sentence(tmp_path, line):
    (tmp_path / "validation.jsonl").write_bytes(line + b"\n")
    with pytest.raises(UserError, match=r"validation.jsonl: not as written by the trainer"):
        Scores(str(tmp_path / "validation.jsonl"), write=False)


def test_a_killed_data_worker_is_one_sentence(monkeypatch):
    error = RuntimeError("DataLoader worker (pid 123) is killed by signal: Killed. ")
    message = distributed.exit_message(error)
    assert message is not None and "a data worker ended" in message and "num_worker_per_gpu" in message
    exited = RuntimeError("DataLoader worker (pid(s) 12, 13) exited unexpectedly")
    assert "a data worker ended" in (distributed.exit_message(exited) or "")


def test_the_wrong_warning_of_several_val_sets_is_not_logged(tmp_path, tiny_yml, zygote):
    code, log = zygote.run("train", "-opt", tiny_yml(total=2, every=2))
    assert code == 0 and "Validation tiny_x2" in log, log
    assert "Multiple validation datasets" not in log and "Bicubic" not in log
