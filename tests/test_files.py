"""Files are written whole or not at all, and never into somebody else's file."""

import errno
import os
import signal
import subprocess
import threading

import pytest

from helpers.processes import launch
from liif_plugin import files
from liif_plugin.errors import UserError
from liif_plugin.files import atomic_write, remove_leftovers


def test_two_writers_of_one_path(tmp_path):
    """Each writes a file of its own; the later one wins with a whole file."""
    path = tmp_path / "a.bin"
    with atomic_write(path) as one:
        one.write(b"1" * 1000)
        with atomic_write(path) as two:
            two.write(b"2" * 500)
        assert path.read_bytes() == b"2" * 500
        one.write(b"1" * 1000)
    assert path.read_bytes() == b"1" * 2000 and os.listdir(tmp_path) == ["a.bin"]


@pytest.mark.parametrize("name", ["a.bin", "a.bin.partial"])
def test_the_target_of_a_link_stays(tmp_path, name):
    (tmp_path / "victim").write_text("important")
    (tmp_path / name).symlink_to(tmp_path / "victim")
    with atomic_write(tmp_path / "a.bin", text=True) as file:
        file.write("new")
    assert (tmp_path / "victim").read_text() == "important"
    assert (tmp_path / "a.bin").read_text() == "new" and not (tmp_path / "a.bin").is_symlink()


@pytest.mark.parametrize("name", ["a" * 250 + ".bin", "猫" * 83 + ".bin"])
def test_long_names(tmp_path, name):
    """The file system's limit of 255 bytes counts for the final name, not for a longer temporary one."""
    with atomic_write(tmp_path / name) as file:
        file.write(b"x")
    assert os.listdir(tmp_path) == [name]


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("missing/a.bin", "No such file or directory.; make its folder first"),
        ("file/a.bin", "Not a directory.; choose another folder"),
        ("folder", "Is a directory"),
    ],
)
def test_the_advice_fits_the_reason(tmp_path, path, words):
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    with pytest.raises(UserError, match=f"{path}: cannot be written .{words}"), atomic_write(tmp_path / path):
        pass
    assert sorted(os.listdir(tmp_path)) == ["file", "folder"]


def test_a_full_disk(tmp_path):
    with pytest.raises(UserError, match="make room"), atomic_write(tmp_path / "a.bin"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert not os.listdir(tmp_path)


@pytest.mark.skipif(files.fcntl is None, reason="no locks here")
def test_leftovers_of_a_killed_program_are_removed(tmp_path):
    """What a living program writes stays, and so does everything of another name."""
    code = (
        "import sys, time; from liif_plugin.files import atomic_write\n"
        "with atomic_write(sys.argv[1]) as file:\n"
        "    file.write(b'half'); file.flush(); print('begun', flush=True); time.sleep(60)"
    )
    for name in (".a.partial", "b.12345678.partial", ".c.12345678.partial.txt"):
        (tmp_path / name).touch()
    os.mkfifo(tmp_path / ".d.12345678.partial")
    (tmp_path / ".e.12345678.partial").symlink_to(tmp_path / ".a.partial")
    others = set(os.listdir(tmp_path))
    writer = launch("-c", code, tmp_path / "f", cwd=tmp_path, stdout=subprocess.PIPE)
    assert writer.stdout.readline() == "begun\n"
    cleaner = threading.Thread(target=remove_leftovers, args=(tmp_path,), daemon=True)
    cleaner.start()
    cleaner.join(10)
    assert not cleaner.is_alive()
    assert len(set(os.listdir(tmp_path)) - others) == 1
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    remove_leftovers(tmp_path)
    assert set(os.listdir(tmp_path)) == others
