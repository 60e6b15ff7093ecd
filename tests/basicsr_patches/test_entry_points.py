"""The ways in, each in processes of its own: BasicSR's unedited script, our command, torchrun; resumed,
interrupted, installed.
"""

import os
import shutil
import signal
import subprocess
import venv
from pathlib import Path

import pytest
import torch
from basicsr.archs import build_network

from helpers import ROOT
from helpers.networks import SMALL
from helpers.processes import TORCHRUN, forked, launch, liif, losses, port, python, wait_for


def log_of(done: subprocess.CompletedProcess) -> str:
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout + done.stderr


def scores(log: str) -> list[str]:
    return [line.split("Best")[0].strip() for line in log.splitlines() if "\t # " in line]


def test_literal_script_trains_validates_saves_and_resumes(checkout, tiny_yml):
    # 6 iterations an epoch: the state of iteration 20 lies inside one
    yml = tiny_yml(total=22, every=4, workers=2)
    script = checkout / "basicsr" / "train.py"
    whole = log_of(python(script, "-opt", yml, cwd=checkout))
    experiment = checkout / "experiments" / "tiny"
    assert (
        sorted(losses(whole)) == list(range(1, 23)) and (experiment / "models" / "net_g_latest.pth").is_file()
    )
    assert len(list((experiment / "visualization" / "tiny_x2").glob("*.png"))) == 3 * 6
    for leftover in (experiment / "training_states" / "20.state", experiment / "models" / "net_g_latest.pth"):
        leftover.unlink()
    resumed = log_of(forked(script, "-opt", yml, "--auto_resume", cwd=checkout))
    assert "Resuming training from epoch: 2, iter: 16." in resumed
    assert losses(resumed) == {step: loss for step, loss in losses(whole).items() if step > 16}
    assert scores(resumed)[-6:] == scores(whole)[-6:]
    other = log_of(
        forked(script, "-opt", tiny_yml(total=22, every=4, workers=0), "--auto_resume", cwd=checkout)
    )
    # Also with other workers
    assert losses(other) == {step: loss for step, loss in losses(whole).items() if step > 20}


def test_literal_test_script(checkout, tiny_yml):
    network = build_network(dict(SMALL))
    torch.save({"params": network.state_dict()}, checkout / "weights.pth")
    changes = {
        "  train:\n    name: tiny_train": "  test_a:\n    name: tiny_a\n    scale: 2\n    protocol: plain",
        "val_x2": "test_x2",
        "val_pair": "test_pair",
        "    lq_size: 12\n    num_queries: 64\n": "",
        "    dataset_enlarge_ratio: 8\n": "",
        "    batch_size_per_gpu: 4\n": "",
        "pretrain_network_g: ~": "pretrain_network_g: weights.pth",
    }

    def edit(text):
        for old, new in changes.items():
            text = text.replace(old, new)
        return text

    yml = tiny_yml(edit=edit)
    log = log_of(forked(checkout / "basicsr" / "test.py", "-opt", yml, cwd=checkout))
    assert (
        len(scores(log)) == 9
        and (checkout / "results" / "tiny" / "visualization" / "tiny_a" / "img_0_tiny.png").is_file()
    )


def test_killed_at_any_moment(tmp_path, tiny_yml, zygote):
    """kill -9 in the middle: the next start goes on from the last whole state with the very losses of an
    uninterrupted run.
    """
    yml = tiny_yml(total=300, every=50)
    whole = losses(log_of(liif("train", "-opt", yml, "--force_yml", "name=whole", cwd=tmp_path)))
    pid, log = zygote.start("train", "-opt", yml)
    state = tmp_path / "experiments" / "tiny" / "training_states" / "50.state"
    wait_for(state.exists, said=log.read_text)
    os.kill(pid, signal.SIGKILL)
    assert zygote.wait(pid) == -signal.SIGKILL
    resumed = losses(log_of(liif("train", "-opt", yml, "--auto_resume", cwd=tmp_path)))
    assert 50 < len(whole) == 300 and min(resumed) > 50
    assert resumed == {step: loss for step, loss in whole.items() if step >= min(resumed)}


def test_interrupt_says_how_to_go_on(tmp_path, tiny_yml, zygote):
    pid, log = zygote.start("train", "-opt", tiny_yml(total=100000, every=50))
    state = tmp_path / "experiments" / "tiny" / "training_states" / "50.state"
    wait_for(state.exists, said=log.read_text)
    os.kill(pid, signal.SIGINT)
    assert zygote.wait(pid, 60) == 130
    said = log.read_text()
    assert "Traceback" not in said and "--auto_resume" in said.splitlines()[-1]


@pytest.mark.slow
def test_two_processes_agree_with_one(checkout, tiny_yml):
    """The same draws, so the same losses with the same total batch; shards of validation that add up;
    resumed alike.
    """
    script, yml = checkout / "basicsr" / "train.py", tiny_yml(total=20, every=8)
    one = log_of(python(script, "-opt", yml, "--force_yml", "name=one", cwd=checkout))
    run = (*TORCHRUN, port(), script, "-opt", yml, "--launcher", "pytorch")
    half = ("--force_yml", "datasets:train:batch_size_per_gpu=2", "name=two")
    two = log_of(python(*run, *half, cwd=checkout))
    assert sorted(losses(two)) == list(range(1, 21))
    for step, loss in losses(one).items():
        # Four digits are printed
        assert abs(float(loss) - float(losses(two)[step])) < 1.1e-4 * float(loss), step
    ones, twos = ([float(score.split(": ")[1]) for score in scores(log)] for log in (one, two))
    assert len(ones) == len(twos) == 18 and max(abs(a - b) for a, b in zip(ones, twos)) < 2e-4
    state = torch.load(checkout / "experiments" / "two" / "training_states" / "16.state", weights_only=True)
    assert len(state["rng"]) == 2
    resumed = log_of(python(*run, "--auto_resume", *half, cwd=checkout))
    assert losses(resumed) == {step: loss for step, loss in losses(two).items() if step > 16}


@pytest.mark.slow
def test_torchrun_of_our_command_with_workers(tmp_path, tiny_yml):
    yml = tiny_yml(total=4, every=4, workers=1)
    log = log_of(
        python(
            *TORCHRUN,
            port(),
            "-m",
            "liif_plugin",
            "train",
            "-opt",
            yml,
            "--launcher",
            "pytorch",
            cwd=tmp_path,
        )
    )
    assert sorted(losses(log)) == [1, 2, 3, 4] and len(scores(log)) == 6


@pytest.mark.slow
@pytest.mark.parametrize("editable", [False, True])
def test_installed_into_a_new_environment(tmp_path, tiny_yml, checkout, editable):
    """A wheel, or an editable install, in an environment that borrows the libraries of this one and nothing
    of this checkout.
    """
    home = tmp_path / "env"
    venv.create(home, with_pip=True, system_site_packages=False)
    interpreter = home / "bin" / "python"
    site = Path(
        subprocess.run(
            [interpreter, "-c", "import site; print(site.getsitepackages()[0])"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
    )
    (site / "borrowed.pth").write_text(str(Path(torch.__file__).parents[1]) + "\n")
    pip = [interpreter, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", "--no-index"]
    source = tmp_path / "source"
    shutil.copytree(
        ROOT, source, ignore=shutil.ignore_patterns(".git", ".venv", "build", "*.egg-info", "golden")
    )
    done = subprocess.run([*pip, *(["-e"] if editable else []), source], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (site / "liif_plugin.pth").is_file() and (site / "liif_plugin.start").is_file()
    assert (site / "liif_plugin" / "options" / "train_liif_edsr.yml").is_file() is not editable
    assert (site / "liif_plugin" / "options" / "user" / "train_liif_demo.yml").is_file() is not editable
    yml, env = tiny_yml(total=2, every=2), {**os.environ, "OMP_NUM_THREADS": "1"}
    for way in ([interpreter, checkout / "basicsr" / "train.py"], [home / "bin" / "liif", "train"]):
        done = subprocess.run([*way, "-opt", yml], cwd=tmp_path, env=env, capture_output=True, text=True)
        assert sorted(losses(log_of(done))) == [1, 2]
    off = subprocess.run(
        [interpreter, checkout / "basicsr" / "train.py", "-opt", yml],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={**env, "LIIF_PLUGIN_AUTOLOAD": "0"},
    )
    assert (
        off.returncode != 0 and "ContinuousSRModel" in off.stderr + off.stdout
    ) or "functional_tensor" in off.stderr
    # the literal command with a name that only the package has: DIV2K is not here, which is said in one line
    done = subprocess.run(
        [interpreter, "basicsr/train.py", "-opt", "options/train_liif_edsr.yml"],
        cwd=checkout,
        capture_output=True,
        text=True,
        env=env,
    )
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert (
        "DIV2K_train_HR.lmdb" in done.stderr.splitlines()[-1]
        and "liif prepare" in done.stderr.splitlines()[-1]
    )
    subprocess.run([interpreter, "-m", "pip", "uninstall", "-q", "-y", "liif-plugin"], check=True)
    assert not (site / "liif_plugin.pth").exists() and not (site / "liif_plugin.start").exists()


@pytest.mark.slow
def test_a_finished_distributed_run_ends_with_exit_code_0(tmp_path):
    """Gloo's threads and the end of the interpreter: without a pause one process in seven aborted after its
    last line.
    """
    script = tmp_path / "ends.py"
    script.write_text("""
import sys, torch, liif_plugin.register
from basicsr.utils import dist_util
dist_util.init_dist("pytorch")
net = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(4, 4))
net(torch.rand(2, 4)).sum().backward()
torch.distributed.all_reduce(torch.zeros(3))
""")
    codes = []
    for _ in range(6):
        env = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port()}
        pair = [
            launch(script, cwd=tmp_path, env={**env, "RANK": str(rank), "LOCAL_RANK": str(rank)})
            for rank in (0, 1)
        ]
        codes += [process.wait(timeout=120) for process in pair]
    assert codes == [0] * 12
