"""Killed, stopped, out of room: whatever happens, the next start ends with the very weights and scores of an
uninterrupted run.
"""

import json
import logging
import math
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time

import basicsr.train
import pytest
import torch
from basicsr.data.data_sampler import EnlargedSampler
from torch.utils.data import DataLoader

from helpers.processes import TORCHRUN, has_ended, launch, losses, port, wait_for
from liif_plugin.basicsr_patches import resuming
from liif_plugin.checkpoints import files as checkpoint
from liif_plugin.errors import UserError
from liif_plugin.files import remove_leftovers
from liif_plugin.models import signals
from liif_plugin.models.training_run import TrainingRun, start_run


def lean(text):
    """TINY_YML with little to validate and the first set alone."""
    before, after = text.index("  val_pair:"), text.index("network_g:")
    return (text[:before] + text[after:]).replace("save_img: true", "save_img: false")


def outcome(experiment):
    """What must not depend on interruptions: the weights at the end, the best ones, every score."""
    last, best = (
        torch.load(experiment / "models" / f"net_g_{name}.pth", weights_only=True)
        for name in ("latest", "best")
    )
    summary = json.loads((experiment / "summary.json").read_text())
    del summary["name"]
    return last, best, summary, (experiment / "validation.jsonl").read_text()


def same(a, b):
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    return all(map(same, a, b)) if isinstance(a, tuple) else a == b


def no_half_files(experiment):
    for path in [*experiment.rglob("*.pth"), *experiment.rglob("*.state")]:
        torch.load(path, weights_only=True)  # raises for a half file


def test_stopped_in_the_midst_of_an_epoch(tmp_path, tiny_yml, zygote):
    """SIGTERM, Ctrl-C, other numbers of workers, BasicSR's own script: one run in four pieces equals one in
    one piece.
    """
    script = tmp_path / "basicsr" / "train.py"
    script.parent.mkdir()
    # Puts its experiments beside its folder, where `liif train` does from here
    shutil.copy(basicsr.train.__file__, script)
    yml = tiny_yml(total=24, every=7, edit=lean)  # 6 iterations an epoch
    code, log = zygote.run("train", "-opt", yml, "--force_yml", "name=whole")
    assert code == 0, log
    logs = [log]
    for way, signum, workers, start in (
        ("train", signal.SIGTERM, 0, 3),
        (script, signal.SIGINT, 2, 9),
        (script, signal.SIGTERM, 1, 15),
    ):
        pid, path = zygote.start(
            way, "-opt", yml, "--auto_resume", "--force_yml", f"datasets:train:num_worker_per_gpu={workers}"
        )
        wait_for(lambda start=start, path=path: max(losses(path.read_text()), default=0) >= start)
        os.killpg(pid, signum)  # the data workers too, as a terminal and a scheduler do
        assert zygote.wait(pid) == 128 + signum, path.read_text()
        assert (
            "its state is saved" in path.read_text().splitlines()[-1] and "Traceback" not in path.read_text()
        )
        logs.append(path.read_text())
    code, last = zygote.run("train", "-opt", yml, "--auto_resume")
    assert code == 0 and min(losses(last)) > 15
    pieces = {step: loss for text in (*logs[1:], last) for step, loss in losses(text).items()}
    assert len(pieces) >= 21 and pieces == {
        step: loss for step, loss in losses(logs[0]).items() if step in pieces
    }
    assert same(outcome(tmp_path / "experiments" / "tiny"), outcome(tmp_path / "experiments" / "whole"))


def test_killed_between_the_sets_of_a_validation(tmp_path, tiny_yml, zygote):
    """The state was saved, one set of two measured, the best network not yet kept: the resumed run completes
    that validation first.
    """
    yml = tiny_yml(total=8, every=4, edit=lambda text: text.replace("save_img: true", "save_img: false"))
    assert zygote.run("train", "-opt", yml, "--force_yml", "name=whole")[0] == 0
    tiny, whole = tmp_path / "experiments" / "tiny", tmp_path / "experiments" / "whole"
    shutil.copytree(whole, tiny)
    for name in (
        "models/net_g_best.pth",
        "models/net_g_latest.pth",
        "models/net_g_8.pth",
        "training_states/8.state",
        "summary.json",
    ):
        (tiny / name).unlink()
    (tiny / "validation.jsonl").write_text((whole / "validation.jsonl").read_text().splitlines()[0] + "\n")
    code, log = zygote.run("train", "-opt", yml, "--auto_resume")
    assert (
        code == 0
        and log.index("Validation tiny_x2_x3.1") < log.index("iter:       5")
        and log.count("Validation tiny_x2\n") == 1
    ), log
    assert same(outcome(tiny), outcome(whole))


def test_what_a_network_draws_at_random_repeats_too(tmp_path, tiny_yml, zygote):
    """SwinIR drops paths by chance; taken up within an epoch and at its very end, where the next loader
    draws its seed.
    """

    def swin(text):
        before, after = text.index("network_g:"), text.index("path:")
        network = (
            "network_g: "
            "{type: SwinIR, upscale: 2, img_size: 12, window_size: 4, depths: [2], embed_dim: 8, "
            "num_heads: [2], "
            "upsampler: pixelshuffledirect, mlp_ratio: 2, drop_path_rate: 0.5, drop_rate: 0.2}\n"
        )
        return lean(text[:before] + network + text[after:]).replace(
            "num_queries: 64", "num_queries: ~\n    scale_range: [2, 2]"
        )

    yml = tiny_yml(total=14, every=3, edit=swin)  # 6 iterations an epoch
    code, log = zygote.run("train", "-opt", yml)
    whole, states = losses(log), tmp_path / "experiments" / "tiny" / "training_states"
    assert code == 0 and len(set(whole.values())) == 14, log
    for step in (6, 3):
        for path in states.iterdir():
            if int(path.stem) > step:
                path.unlink()
        code, log = zygote.run("train", "-opt", yml, "--auto_resume")
        assert code == 0 and losses(log) == {i: loss for i, loss in whole.items() if i > step}, log


def test_trained_longer_on_another_schedule(tmp_path, tiny_yml, zygote):
    """A finished run goes on with a longer cosine and another learning rate; what changed is said, another
    optimiser refused.
    """
    cosine = "scheduler: {type: CosineAnnealingRestartLR, periods: [6], restart_weights: [1], eta_min: 0}"
    yml = tiny_yml(total=6, every=3, edit=lambda text: re.sub(r"scheduler: \{.*\}", cosine, lean(text)))
    assert cosine in yml.read_text()
    code, log = zygote.run("train", "-opt", yml)
    assert code == 0, log
    further = ("--auto_resume", "--force_yml", "train:total_iter=12", "train:scheduler:periods=[12]")
    code, log = zygote.run("train", "-opt", yml, *further, "train:optim_g:type=SGD", "train:optim_g:betas=~")
    assert code == 1 and "train.optim_g" in log and "Traceback" not in log
    code, log = zygote.run("train", "-opt", yml, *further, "train:optim_g:lr=0.5e-3")
    assert (
        code == 0 and "periods [6] -> [12]" in log and "-> 0.0005" in log and "from iteration 6 on" in log
    ), log
    rates = {int(it): float(lr) for it, lr in re.findall(r"iter:\s+(\d+), lr:\(([^,]+),", log)}
    assert rates[7] == pytest.approx(0.5e-3 * 0.5 * (1 + math.cos(math.pi * 6 / 12)), rel=1e-3)
    assert rates[12] < rates[7]


def test_a_second_ctrl_c_ends_at_once(tmp_path, tiny_yml, zygote):
    pid, path = zygote.start("train", "-opt", tiny_yml(total=100000, every=5, edit=lean), slow=60)
    wait_for(lambda: list(tmp_path.rglob(".net_g_*.partial")))  # this checkpoint would take a minute
    os.kill(pid, signal.SIGINT)
    wait_for(lambda: "once more ends at once" in path.read_text())
    time.sleep(signals.ECHO + 0.1)
    start = time.time()
    os.kill(pid, signal.SIGINT)
    assert zygote.wait(pid) == -signal.SIGINT and time.time() - start < 20
    assert not list(tmp_path.rglob("*.pth"))


def test_a_file_that_grows_too_large(tmp_path, tiny_yml, zygote):
    """No room in the midst of a checkpoint: one sentence, nothing half, and it goes on once there is room."""
    yml = tiny_yml(total=12, every=4, edit=lean)
    assert zygote.run("train", "-opt", yml, "--force_yml", "name=whole")[0] == 0
    # The network fits, its training state does not
    code, log = zygote.run("train", "-opt", yml, largest=24 * 1024)
    line = log.splitlines()[-1]
    assert (
        code == 1
        and "cannot be written" in line
        and "resume the training from them" in line
        and "Traceback" not in log
    )
    assert not list((tmp_path / "experiments" / "tiny").rglob("*.partial"))
    no_half_files(tmp_path / "experiments" / "tiny")
    assert zygote.run("train", "-opt", yml, "--auto_resume")[0] == 0
    assert same(outcome(tmp_path / "experiments" / "tiny"), outcome(tmp_path / "experiments" / "whole"))


@pytest.mark.slow
def test_killed_again_and_again(tmp_path, tiny_yml, zygote):
    """kill -9 at 24 random moments in a row, most of them in a checkpoint made slow; then on to the end."""
    yml = tiny_yml(total=300, every=3, edit=lean)
    keep = ("--force_yml", "logger:keep_checkpoints=2")
    assert zygote.run("train", "-opt", yml, "--force_yml", "name=whole")[0] == 0
    rng, experiment, kills, hit = random.Random(0), tmp_path / "experiments" / "tiny", 0, 0
    while kills < 24:
        left = set(experiment.rglob("*.partial"))
        pid, path = zygote.start("train", "-opt", yml, "--auto_resume", *keep, slow=0.05)

        def begun(pid=pid, path=path, left=left, kills=kills):
            saves = not kills % 3 or set(experiment.rglob("*.partial")) - left
            return (losses(path.read_text()) and saves) or has_ended(pid)  # it may end before

        wait_for(begun)
        time.sleep(rng.uniform(0, 0.3 if kills % 3 else 1.0))
        os.killpg(pid, signal.SIGKILL)
        code = zygote.wait(pid)
        if code == 0:
            break  # it came to its end before it was hit
        assert code == -signal.SIGKILL, path.read_text()
        kills += 1
        hit += bool(list(experiment.rglob("*.partial")))
        no_half_files(experiment)
    print(f"{kills} kills, {hit} of them while a file was being written")
    code, log = zygote.run("train", "-opt", yml, "--auto_resume", *keep)
    assert code == 0 and not list(experiment.rglob("*.partial")), log
    assert kills >= 20 and hit >= 5
    assert same(outcome(experiment), outcome(tmp_path / "experiments" / "whole"))
    assert len(list((experiment / "training_states").iterdir())) == 2


def ranks(zygote, port, world, *argv):
    """Start ``world`` processes of one training; -> their ids and outputs."""
    env = {
        "WORLD_SIZE": str(world),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "LOCAL_WORLD_SIZE": str(world),
    }
    return [
        zygote.start(
            "train", "-opt", *argv, "--launcher", "pytorch", env={**env, "RANK": str(r), "LOCAL_RANK": str(r)}
        )
        for r in range(world)
    ]


@pytest.mark.slow
def test_two_processes_stop_together_and_one_goes_on(tmp_path, tiny_yml, zygote):
    """SIGTERM to one rank alone stops both at the same iteration; then one process with the whole batch goes
    on with the same samples.
    """
    yml = tiny_yml(total=40, every=50, edit=lean)
    code, whole = zygote.run("train", "-opt", yml, "--force_yml", "name=whole")
    assert code == 0, whole
    half = ("--auto_resume", "--force_yml", "datasets:train:batch_size_per_gpu=2")
    for stopped, least in ((1, 4), (0, 12)):
        pair = ranks(zygote, port(), 2, yml, *half)
        wait_for(lambda pair=pair, least=least: max(losses(pair[0][1].read_text()), default=0) >= least)
        os.kill(pair[stopped][0], signal.SIGTERM)
        assert [zygote.wait(pid) for pid, _ in pair] == [143, 143], pair[0][1].read_text()
        assert "its state is saved" in pair[0][1].read_text()
    code, log = zygote.run("train", "-opt", yml, "--auto_resume")
    whole = losses(whole)
    assert code == 0 and "not those of an uninterrupted run" not in log and max(losses(log)) == 40
    for step, loss in losses(log).items():
        # Four digits are printed; sums are rounded otherwise
        assert abs(float(loss) - float(whole[step])) < 1.1e-4 * float(loss), step
    code, log = zygote.run(
        "train",
        "-opt",
        yml,
        "--auto_resume",
        "--force_yml",
        "datasets:train:batch_size_per_gpu=3",
        "train:total_iter=44",
    )
    assert code == 0 and "batch 4 -> 3" in log and max(losses(log)) == 44


@pytest.mark.slow
@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_torchrun_hands_the_signal_to_every_process(tmp_path, tiny_yml, signum):
    """It sends it to the whole group of each rank, data workers included, and kills after half a minute."""
    yml = tiny_yml(total=100000, every=100000, workers=1, edit=lean)
    command = [
        *TORCHRUN,
        port(),
        "-m",
        "liif_plugin",
        "train",
        "-opt",
        yml,
        "--launcher",
        "pytorch",
        "--force_yml",
        "datasets:train:persistent_workers=true",
        "datasets:train:dataset_enlarge_ratio=4000",
    ]
    log = tmp_path / "log"
    with open(log, "w") as file:
        process = launch(
            *command,
            cwd=tmp_path,
            stdout=file,
            stderr=file,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )
    try:
        wait_for(lambda: len(losses(log.read_text())) >= 3, seconds=400)
        process.send_signal(signum)
        assert process.wait(timeout=200) != 0
    finally:
        process.kill()
    text = log.read_text()
    assert f"Stopped by {signals.NAMES[signum]}" in text and "exited unexpectedly" not in text, text[-3000:]
    (state,) = (tmp_path / "experiments" / "tiny" / "training_states").iterdir()
    assert len(torch.load(state, weights_only=True)["rng"]) == 2
    no_half_files(tmp_path / "experiments" / "tiny")


@pytest.mark.slow
def test_a_full_disk(tmp_path, tiny_yml):
    """A disk of 256 KiB, then of 8 MiB.

    Where mounting is not allowed, test_a_file_that_grows_too_large stands alone.
    """
    yml, small = tiny_yml(total=24, every=2, edit=lean), tmp_path / "small"
    small.mkdir()
    train = f"{sys.executable} -m liif_plugin train -opt {yml}"
    script = f"""
mount -t tmpfs -o size=256k tmpfs {small} || exit 77
cd {small}
{train} > {tmp_path}/full.log 2>&1; echo full $?
df . > {tmp_path}/df.log; find . -name '*.partial'
mount -o remount,size=8m {small} || exit 77
{train} --auto_resume > {tmp_path}/again.log 2>&1; echo again $?
{train} --force_yml name=whole > {tmp_path}/whole.log 2>&1; echo whole $?
cp -r experiments {tmp_path}
"""
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", script],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    if done.returncode == 77 or "unshare" in done.stderr:
        pytest.skip("mounting a small disk is not allowed here")
    full, again = (tmp_path / "full.log").read_text(), (tmp_path / "again.log").read_text()
    assert done.stdout.split() == ["full", "1", "again", "0", "whole", "0"], full + again
    assert (
        "No space left on device" in full.splitlines()[-1]
        and "Traceback" not in full
        and "Resuming training" in again
    )
    assert same(outcome(tmp_path / "experiments" / "tiny"), outcome(tmp_path / "experiments" / "whole"))


def test_signals_are_requests_only_while_somebody_listens():
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # as under nohup
    try:
        request = signals.StopRequest()
        request.listen()
        os.kill(os.getpid(), signal.SIGTERM)
        assert request.requested() and request.signum == signal.SIGTERM
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
        request.unlisten()
        assert signal.getsignal(signal.SIGTERM) == before[0]
    finally:
        for signum, handler in zip((signal.SIGTERM, signal.SIGINT), before):
            signal.signal(signum, handler)


def pair(root, step, whole=True):
    for folder, name in (("models", f"net_g_{step}.pth"), ("training_states", f"{step}.state")):
        (root / folder).mkdir(exist_ok=True)
        torch.save({"params": {}, "epoch": 0, "iter": step}, root / folder / name)
    if not whole:
        (root / "training_states" / f"{step}.state").write_bytes(b"PK\x03\x04 torn")


def resume_options(root):
    paths = {
        "experiments_root": str(root),
        "models": str(root / "models"),
        "training_states": str(root / "training_states"),
    }
    return {"path": paths, "auto_resume": True, "network_g": {}, "rank": 0}


def test_a_damaged_state_is_named_and_passed_over(tmp_path, capsys):
    pair(tmp_path, 10)
    pair(tmp_path, 20, whole=False)
    opt = resume_options(tmp_path)
    assert resuming.load_resume_state(opt)["iter"] == 10
    said = capsys.readouterr().err
    assert "20.state is damaged" in said and "Delete" in said and "net_g_20.pth" in said
    assert opt["path"]["pretrain_network_g"].endswith("net_g_10.pth")
    pair(tmp_path, 10, whole=False)
    with pytest.raises(UserError, match="none of its states can be read; delete"):
        resuming.load_resume_state(resume_options(tmp_path))
    start_run()  # lets go of the lock


def test_pruning_leaves_what_is_not_ours_and_what_is_newer(tmp_path):
    for step in (10, 20, 30, 40, 90):
        pair(tmp_path, step)
    others = [
        tmp_path / "models" / name
        for name in ("net_g_best.pth", "net_g_latest.pth", "net_g_20_mine.pth", "teacher.pth")
    ]
    for path in others:
        path.touch()
    (tmp_path / "training_states" / "30.state").unlink()  # not a pair, so not counted
    named = str(tmp_path / "training_states" / "10.state")
    checkpoint.prune(
        str(tmp_path / "models"), str(tmp_path / "training_states"), current=40, keep=2, spare=(named, None)
    )
    left = sorted(path.name for path in (tmp_path / "models").iterdir())
    assert left == sorted(
        ["net_g_20.pth", "net_g_30.pth", "net_g_40.pth", "net_g_90.pth", *(path.name for path in others)]
    )
    assert sorted(path.name for path in (tmp_path / "training_states").iterdir()) == [
        "10.state",
        "20.state",
        "40.state",
        "90.state",
    ]


def test_a_name_is_on_the_disk_only_with_its_folder(tmp_path, monkeypatch):
    order, flush, rename = [], os.fsync, os.replace
    monkeypatch.setattr(
        os,
        "fsync",
        lambda fd: (order.append("folder" if os.path.isdir(f"/proc/self/fd/{fd}") else "file"), flush(fd)),
    )
    monkeypatch.setattr(os, "replace", lambda a, b: (order.append("rename"), rename(a, b)))
    checkpoint.save_whole({"v": 1}, str(tmp_path / "a.pth"))
    assert order == ["file", "rename", "folder"]
    (tmp_path / ".b.pth.0123abcd.partial").touch()
    remove_leftovers(tmp_path)
    remove_leftovers(tmp_path / "nowhere")
    assert [path.name for path in tmp_path.iterdir()] == ["a.pth"]


class Data(list):
    deterministic = True


@pytest.mark.parametrize(
    ("before", "words"),
    [
        ({"images": 3, "samples": 24, "batch": 4, "processes": 2, "seed": 0}, ""),
        ({"images": 3, "samples": 24, "batch": 8, "processes": 2, "seed": 0}, "batch 8 -> 4"),
        (
            {"images": 5, "samples": 25, "batch": 4, "processes": 1, "seed": 1},
            "images 5 -> 3, samples 25 -> 24, seed 1 -> 0",
        ),
    ],
)
def test_other_data_is_said(before, words, caplog):
    sampler = EnlargedSampler(Data(range(3)), 1, 0, ratio=8)
    loader = DataLoader(sampler.dataset, 4, sampler=sampler)
    run = TrainingRun(resume_state={"epoch": 9, "iter": 20, "shape": before})
    logger = logging.getLogger("basicsr")
    logger.addHandler(caplog.handler)
    try:
        run.set_data({"manual_seed": 0}, loader, sampler, [])
    finally:
        logger.removeHandler(caplog.handler)
    assert run.resume_state["epoch"] == 3 and run.skip_until == (3, 20)
    assert words in caplog.text if words else "not those" not in caplog.text
