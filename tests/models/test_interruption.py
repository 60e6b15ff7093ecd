"""`liif prepare` and `liif upscale` killed, stopped and out of room: no half file has a final name, and the
next start goes on.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from basicsr.archs import build_network
from PIL import Image

from helpers import ROOT
from helpers.networks import SMALL
from helpers.pictures import picture
from helpers.processes import has_ended, wait_for
from liif_plugin.data import derive
from liif_plugin.data.image_source import ImageSource
from liif_plugin.errors import UserError

KILLS = 20


def when(begun, pid: int, seconds: float) -> bool:
    """Wait until ``begun()`` and some seconds more; False where the process has ended before."""
    wait_for(lambda: begun() or has_ended(pid), 60)
    if not begun() and has_ended(pid):
        return False
    time.sleep(seconds)
    return True


class Work:
    """One command: what it is called with, when it has begun, what it leaves, and whether that is whole."""

    def __init__(self, root: Path):
        self.root = root

    def clean(self):
        for path in (*self.outputs, *self.leftovers):
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)

    def begun(self) -> bool:
        return any(path.exists() for path in self.leftovers)


class Pack(Work):
    """`liif prepare` of 40 pictures."""

    def __init__(self, root):
        super().__init__(root)
        (root / "in").mkdir()
        for i in range(40):
            Image.fromarray(picture(i, 90, 100)).save(root / "in" / f"{i:02d}.png")
        self.argv = [
            "prepare",
            root / "in",
            "-o",
            root / "out.lmdb",
            "--crop-size",
            "48",
            "--step",
            "24",
            "--png-level",
            "9",
        ]
        self.outputs, self.leftovers = [root / "out.lmdb"], [root / ".out.lmdb.partial"]

    def check_whole(self):
        source = ImageSource(str(self.root / "out.lmdb"), "here")
        assert len(source) == 40 * 3 * 4
        assert np.array_equal(source.read(len(source) - 12), picture(39, 90, 100)[:48, :48])
        for i in range(0, len(source), 7):
            source.read(i)


class Shrink(Work):
    """`liif prepare lr` of 24 pictures."""

    def __init__(self, root):
        super().__init__(root)
        (root / "in").mkdir()
        for i in range(24):
            Image.fromarray(picture(i, 96, 96)).save(root / "in" / f"{i:02d}.png")
        self.argv = ["prepare", "lr", root / "in", "-o", root / "lr"]
        self.outputs, self.leftovers = [root / "lr" / f"X{n}" for n in (2, 3, 4)], [root / "lr" / ".partial"]

    def check_whole(self):
        for n, folder in zip((2, 3, 4), self.outputs):
            names = sorted(path.name for path in folder.iterdir())
            assert names == [f"{i:02d}.png" for i in range(24)]
            for name in names:
                assert np.asarray(Image.open(folder / name)).shape == (96 // n, 96 // n, 3)


class Render(Work):
    """`liif upscale` of one picture in many bands."""

    def __init__(self, root, suffix):
        super().__init__(root)
        Image.fromarray(picture(0, 160, 120)).save(root / "in.png")
        network = {**SMALL, "hidden_list": [8], "residual": "bilinear"}
        (root / "net.yml").write_text(yaml.safe_dump({"network_g": network}))
        torch.manual_seed(0)
        torch.save({"params": build_network(network).state_dict()}, root / "net.pth")
        out = root / f"out{suffix}"
        self.argv = [
            "upscale",
            root / "in.png",
            "-o",
            out,
            "--model",
            root / "net.pth",
            "--scale",
            "12",
            "--memory",
            "0.32",
            "--precision",
            "fp32",
        ]
        self.outputs, self.reference = [out], None

    @property
    def leftovers(self) -> list[Path]:
        """Temporary names are new in each run."""
        return list(self.root.glob(f".{self.outputs[0].name}.*.partial"))

    def check_whole(self):
        image = np.asarray(Image.open(self.outputs[0]))
        assert image.shape == (160 * 12, 120 * 12, 3)
        self.reference = image if self.reference is None else self.reference
        assert np.array_equal(image, self.reference)


WORKS = {
    "prepare": Pack,
    "prepare lr": Shrink,
    "upscale png": lambda root: Render(root, ".png"),
    "upscale tif": lambda root: Render(root, ".tif"),
}


@pytest.fixture(params=WORKS)
def work(request, tmp_path, zygote):
    return WORKS[request.param](tmp_path)


@pytest.fixture
def seconds(work, zygote):
    """How long the whole work takes once it has begun; what it makes is the reference, and is gone."""
    pid, log = zygote.start(*work.argv)
    when(work.begun, pid, 0)
    begun = time.monotonic()
    assert zygote.wait(pid) == 0, log.read_text()
    work.check_whole()
    work.clean()
    return time.monotonic() - begun


@pytest.mark.slow
def test_killed_at_random_moments(work, seconds, zygote, record_property):
    rng, kills, finished, latest = random.Random(0), 0, 0, seconds
    while kills < KILLS:
        pid, log = zygote.start(*work.argv)
        when(work.begun, pid, rng.uniform(0, latest))
        os.kill(pid, signal.SIGKILL)
        code = zygote.wait(pid)
        kills += code == -signal.SIGKILL
        assert code in (0, -signal.SIGKILL), log.read_text()
        if all(path.exists() for path in work.outputs):
            work.check_whole()  # whatever has its final name is whole
            work.clean()
            finished += 1
            latest *= 0.7  # on a busy machine the first run took longer than the others
        elif work.argv[:2] != ["prepare", "lr"]:
            assert not any(path.exists() for path in work.outputs)
    code, said = zygote.run(*work.argv)
    assert code == 0, said
    work.check_whole()
    assert not any(path.exists() for path in work.leftovers)
    record_property("kills", kills)
    print(f"{kills} kills survived, {finished} times the work was finished on the way")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_stopped(work, zygote, number, code):
    """Ctrl-C and SIGTERM: the usual exit code, one line, nothing half; the next start finishes."""
    for _ in range(20):
        pid, log = zygote.start(*work.argv)
        when(work.begun, pid, 0)
        os.kill(pid, number)
        if (ended := zygote.wait(pid)) != 0:
            break
        work.clean()  # it was finished before the signal came
    assert ended == code, log.read_text()
    said = log.read_text()
    assert "stopped." in said and "Traceback" not in said
    assert not any(path.exists() for path in work.outputs)
    if work.argv[0] == "upscale":
        assert not any(path.exists() for path in work.leftovers)
    code, said = zygote.run(*work.argv)
    assert code == 0, said
    work.check_whole()
    assert not any(path.exists() for path in work.leftovers)


@pytest.mark.parametrize("limit", [1, 600, 5000])
def test_no_room(work, zygote, limit):
    """A file may not grow any more, as on a full disk: one line, nothing half; with room the same command
    finishes.
    """
    code, log = zygote.run(*work.argv, largest=limit)
    said = [line for line in log.splitlines() if line.startswith("liif ")]
    assert code == 1 and len(said) == 1 and "make room" in said[0], log
    assert "Traceback" not in log and not any(path.exists() for path in work.outputs)
    code, said = zygote.run(*work.argv)
    assert code == 0, said
    work.check_whole()


@pytest.mark.slow
@pytest.mark.skipif(
    subprocess.run(["unshare", "-rm", "true"], capture_output=True).returncode != 0,
    reason="no mounts of one's own here",
)
def test_a_disk_that_is_full(work):
    """A file system of 96 KiB, really mounted.

    Without its work it is gone afterwards, so one line and no traceback are asked for.
    """
    out = work.argv[work.argv.index("-o") + 1]
    disk = work.root / "disk"
    disk.mkdir()
    argv = [disk / out.name if arg == out else arg for arg in work.argv]
    command = f'mount -t tmpfs -o size=96k none {disk} && {{ "$@"; code=$?; ls -A {disk}; exit $code; }}'
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", command, "sh", sys.executable, "-m", "liif_plugin", *map(str, argv)],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 1 and "Traceback" not in done.stderr and "make room" in done.stderr, (
        done.stdout + done.stderr
    )
    left = done.stdout.split()
    assert out.name not in left or work.argv[:2] == ["prepare", "lr"]


def test_killed_while_folders_get_their_names(tmp_path, monkeypatch):
    """Between two renames: the next start gives the others theirs, and still knows what was left out."""
    work = Shrink(tmp_path)
    (tmp_path / "in" / "broken.png").write_bytes(b"no")
    rename, done = os.rename, []

    def twice(a, b):
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(rename(a, b))

    argv = (
        str(tmp_path / "in"),
        str(tmp_path / "lr"),
        ["X2", "X3", "X4"],
        lambda image: derive.lr_images(image, [2, 3, 4], "mirror"),
    )
    monkeypatch.setattr(derive.os, "rename", twice)
    with pytest.raises(KeyboardInterrupt):
        derive.derive_folders(*argv, {"scales": 1})
    monkeypatch.setattr(derive.os, "rename", rename)
    assert sorted(path.name for path in (tmp_path / "lr").iterdir()) == [".partial", "X2", "X3"]
    with pytest.raises(UserError, match="with other settings; delete that folder"):
        derive.derive_folders(*argv, {"scales": 2})
    assert [name for name, _ in derive.derive_folders(*argv, {"scales": 1})] == ["broken.png"]
    work.check_whole()
    assert not (tmp_path / "lr" / ".partial").exists()


@pytest.mark.parametrize("content", [None, b"", b"{"])
def test_killed_before_the_settings_were_written(tmp_path, zygote, content):
    work = Pack(tmp_path)
    work.leftovers[0].mkdir()
    if content is not None:
        (work.leftovers[0] / "settings.json.partial").write_bytes(content)
    code, said = zygote.run(*work.argv)
    assert code == 0, said
    work.check_whole()
    assert sorted(path.name for path in (tmp_path / "out.lmdb").iterdir()) == [
        "data.mdb",
        "lock.mdb",
        "meta_info.txt",
    ]
