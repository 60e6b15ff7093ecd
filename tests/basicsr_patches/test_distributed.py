"""Several processes on the CPU: the numbers of one, also on two nodes; and where one of them fails, an end
that says which and why.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from basicsr.data.prefetch_dataloader import PrefetchDataLoader

from helpers.processes import launch, liif, port, wait_for
from helpers.record import RECORD, write_run
from liif_plugin import distributed
from liif_plugin.basicsr_patches import resuming
from liif_plugin.errors import UserError

SECONDS = 60  # within which every process of a run has ended after one failed, and torchrun has said which


def torchrun(cwd: Path, processes: int, *program, rendezvous: str | None = None, **env) -> subprocess.Popen:
    """Start torchrun in ``cwd``; what it prints goes to torchrun.log there.

    ``rendezvous`` is the port where two nodes meet.
    """
    where = ["--master_addr=127.0.0.1", f"--master_port={port()}"]
    if rendezvous:
        where = [
            "--nnodes=2",
            "--rdzv_backend=c10d",
            f"--rdzv_endpoint=127.0.0.1:{rendezvous}",
            "--local_addr=127.0.0.1",
        ]
    command = ("-m", "torch.distributed.run", f"--nproc_per_node={processes}", *where, *program)
    with open(cwd / "torchrun.log", "w") as log:
        return launch(*command, cwd=cwd, env=env, stdout=log, stderr=subprocess.STDOUT)


def log_of(cwd: Path) -> str:
    return (cwd / "torchrun.log").read_text()


def wait_for_words(words: str, cwd: Path, run: subprocess.Popen, seconds: float = 900) -> None:
    wait_for(lambda: words in log_of(cwd) or run.poll() is not None, seconds, lambda: log_of(cwd)[-4000:])
    assert words in log_of(cwd), log_of(cwd)[-4000:]


def check_same(alone: dict, folders: list[Path]) -> None:
    """Losses to 1e-5 over 20 steps, scores to 1e-5 (dB, SSIM), the scores being the very same on every
    process.
    """
    ranks = sorted(path for folder in folders for path in folder.glob("out.*.json"))
    records = [json.loads(path.read_text()) for path in ranks]
    # Rank 0 has the mean of all
    losses = next(record["losses"] for record, path in zip(records, ranks) if path.name == "out.0.json")
    assert list(losses) == list(alone["losses"]) == [str(step) for step in range(1, 21)]
    assert max(abs(losses[step] - loss) / loss for step, loss in alone["losses"].items()) < 1e-5
    for record in records:
        assert record["scores"] == records[0]["scores"] and len(record["scores"]) == 4
    for name, scores in alone["scores"].items():
        assert all(abs(records[0]["scores"][name][metric] - value) < 1e-5 for metric, value in scores.items())


@pytest.mark.slow
@pytest.mark.parametrize(("processes", "workers"), [(2, 1), (4, 0)])
def test_the_numbers_of_one_process(tmp_path, one_process, processes, workers):
    changes = [
        f"datasets:train:batch_size_per_gpu={4 // processes}",
        f"datasets:train:num_worker_per_gpu={workers}",
    ]
    run = torchrun(
        tmp_path,
        processes,
        RECORD,
        "out",
        "-opt",
        write_run(tmp_path),
        "--launcher",
        "pytorch",
        "--force_yml",
        *changes,
    )
    assert run.wait(timeout=900) == 0, log_of(tmp_path)[-4000:]
    assert len(list(tmp_path.glob("out.*.json"))) == processes
    check_same(one_process[0], [tmp_path])


@pytest.mark.slow
def test_the_numbers_of_one_process_on_two_nodes(tmp_path, one_process):
    """Each node in a folder of its own, as without a shared disk: rank 0 alone writes checkpoints."""
    nodes, meet = [tmp_path / "a", tmp_path / "b"], port()
    runs = []
    for node in nodes:
        node.mkdir()
        runs.append(
            torchrun(
                node,
                2,
                RECORD,
                "out",
                "-opt",
                write_run(node),
                "--launcher",
                "pytorch",
                "--force_yml",
                "datasets:train:batch_size_per_gpu=1",
                rendezvous=meet,
            )
        )
    assert [run.wait(timeout=900) for run in runs] == [0, 0], (
        log_of(nodes[0])[-2000:] + log_of(nodes[1])[-2000:]
    )
    check_same(one_process[0], nodes)
    assert sum((node / "experiments" / "tiny" / "models").is_dir() for node in nodes) == 1


FAULTY = """
import os
from pathlib import Path
from liif_plugin.cli import main

def fail_in(epoch):
    import liif_plugin.register
    from liif_plugin.data.arbitrary_scale_dataset import ArbitraryScaleDataset as Dataset
    stock = Dataset.__getitem__

    def item(self, index):
        if self.train and index.key[0] == epoch:
            raise ZeroDivisionError("on purpose")
        return stock(self, index)

    Dataset.__getitem__ = item

if __name__ == "__main__":
    Path("pid." + os.environ["RANK"]).write_text(str(os.getpid()))
    if os.environ["RANK"] == os.environ.get("FAIL"):
        fail_in(1)
    main()
"""


def root_cause(log: str) -> str:
    """What torchrun's summary gives as the first failure."""
    return log.split("Root Cause")[1]


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["killed", "error"])
def test_a_process_that_fails_ends_the_run(tmp_path, fault):
    """kill -9 of one, or an error in its data: torchrun names it and what happened, and the other one ends
    without a traceback.
    """
    (tmp_path / "faulty.py").write_text(FAULTY)
    yml = write_run(tmp_path, total=100000, every=100000)
    run = torchrun(
        tmp_path,
        2,
        "faulty.py",
        "train",
        "-opt",
        yml,
        "--launcher",
        "pytorch",
        **({"FAIL": "1"} if fault == "error" else {}),
    )
    try:
        if fault == "killed":
            wait_for_words("iter:       5,", tmp_path, run)
            os.kill(int((tmp_path / "pid.1").read_text()), signal.SIGKILL)
        else:
            wait_for_words("ZeroDivisionError: on purpose", tmp_path, run)
        start = time.monotonic()
        wait_for_words("Root Cause", tmp_path, run, SECONDS)
        print(f"{fault}: named after {time.monotonic() - start:.1f} s")
        # torchrun's own end, which drags where 40 processes want the machine
        assert run.wait(timeout=300) == 1
    finally:
        run.kill()
    log = log_of(tmp_path)
    assert "rank      : 1 " in root_cause(log)
    assert (
        "Signal 9 (SIGKILL)" if fault == "killed" else "traceback : ZeroDivisionError: on purpose"
    ) in root_cause(log)
    assert log.count("Traceback") == (1 if fault == "killed" else 2)  # torchrun's own, and that of the error
    for rank in (0, 1):
        with pytest.raises(ProcessLookupError):
            os.kill(int((tmp_path / f"pid.{rank}").read_text()), 0)


@pytest.mark.slow
def test_data_that_one_node_lacks_is_said_once_by_every_process(tmp_path):
    nodes, meet = [tmp_path / "a", tmp_path / "b"], port()
    for node in nodes:
        node.mkdir()
        write_run(node, root="data.lmdb")
    done = liif("prepare", "images", "-o", "data.lmdb", "--whole", cwd=nodes[0])
    assert done.returncode == 0, done.stderr
    program = ("-m", "liif_plugin", "train", "-opt", "tiny.yml", "--launcher", "pytorch")
    runs = [torchrun(node, 1, *program, rendezvous=meet) for node in nodes]
    assert [run.wait(timeout=900) for run in runs] == [1, 1]
    for node in nodes:
        said = [line for line in log_of(node).splitlines() if line.startswith("liif train: ")]
        assert len(said) == 1, log_of(node)
        assert "rank 1 of 2 (on " in said[0] or "rank 0 of 2 (on " in said[0]
        assert (
            "datasets.train.dataroot_gt: there is no folder data.lmdb" in said[0]
            and str(nodes[1]) in said[0]
            and said[0][-1] == "."
        )
        assert log_of(node).count("Traceback") == 1 and not (node / "experiments").exists()  # torchrun's own


@pytest.fixture
def two(monkeypatch):
    """Makes this process rank 0 of two; ``two(words)`` is what rank 1 says."""

    def other(words):
        monkeypatch.setattr(distributed, "is_distributed", lambda: True)
        monkeypatch.setattr(distributed, "_gather", lambda value: [value, ("node-b", words)])
        monkeypatch.setattr(distributed.socket, "gethostname", lambda: "node-a")

    return other


def fail(error):
    raise error


def test_alone_a_step_is_just_called():
    assert distributed.run_on_all_ranks(max, 3, 5) == 5
    with pytest.raises(ZeroDivisionError):
        distributed.run_on_all_ranks(fail, ZeroDivisionError())


@pytest.mark.parametrize(
    ("mine", "others", "words"),
    [
        (None, "no folder x.", "^rank 1 of 2 [(]on node-b[)]: no folder x[.]$"),
        (UserError("no folder x."), None, "^rank 0 of 2 [(]on node-a[)]: no folder x[.]$"),
        (UserError("no folder x."), "no folder x.", "^no folder x[.]$"),
        (
            UserError("no folder x."),
            "KeyError: 3",
            "^rank 0 of 2 [(]on node-a[)]: no folder x[.] rank 1 of 2 [(]on node-b[)]: KeyError: 3$",
        ),
    ],
)
def test_every_process_says_what_stopped_any(two, mine, others, words):
    two(others)
    with pytest.raises(UserError, match=words):
        distributed.run_on_all_ranks(fail if mine else str, mine)


def test_a_fault_of_ours_keeps_its_traceback(two):
    two("no folder x.")
    with pytest.raises(KeyError):
        distributed.run_on_all_ranks(fail, KeyError(3))


def test_nodes_must_go_on_from_the_same_state(two, tmp_path):
    paths = {
        "experiments_root": str(tmp_path / "x"),
        "training_states": str(tmp_path / "x" / "training_states"),
    }
    opt = {"auto_resume": True, "rank": 1, "path": paths}
    two(None)
    with pytest.raises(
        UserError,
        match=r"resuming: rank 0 [(]on node-a[)] has nothing to go on from, rank 1 [(]on node-b[)] has None",
    ):
        resuming.load_resume_state(opt)


def test_torchrun_is_told(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(tmp_path / "error.json"))
    assert (
        distributed.exit_message(UserError("no folder x.")) == "no folder x."
        and not (tmp_path / "error.json").exists()
    )
    monkeypatch.setattr(distributed, "is_distributed", lambda: True)
    monkeypatch.setattr(distributed, "PATIENCE", 0)
    monkeypatch.setattr(distributed.dist, "get_rank", lambda: 3)
    lost = RuntimeError(
        "[../third_party/gloo/gloo/transport/tcp/pair.cc:534] Connection closed by peer [127.0.0.1]:7"
    )
    nccl = RuntimeError(
        "ncclRemoteError: A call failed possibly due to a network error or a remote process exiting "
        "prematurely."
    )
    for error, words in (
        (UserError("no folder x."), "no folder x."),
        (lost, "rank 3 lost another process of this run"),
        (nccl, "rank 3 lost another process of this run"),
        (KeyError(3), None),
    ):
        said = distributed.exit_message(error)
        assert said is None if words is None else said.startswith(words)
        told = json.loads((tmp_path / "error.json").read_text())["message"]["message"]
        assert told == (said or "KeyError: 3")


class Torn(list):
    def __getitem__(self, i):
        if i == 2:
            raise UserError("torn.png: not a whole image file.")
        return i


def test_an_error_in_prefetched_data_is_raised():
    """BasicSR's thread dies without a word, and the side that waits for it would wait for ever."""
    loader = iter(PrefetchDataLoader(1, dataset=Torn(range(4)), batch_size=1))
    assert [int(next(loader)), int(next(loader))] == [0, 1]
    with pytest.raises(UserError, match=r"torn.png"):
        next(loader)
    assert [int(i) for i in PrefetchDataLoader(1, dataset=range(3), batch_size=1)] == [0, 1, 2]
