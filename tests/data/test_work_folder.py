"""Work that two commands never share, and an interrupted one finds again."""

import json
import os

import pytest

from liif_plugin.data import work_folder as module
from liif_plugin.data.work_folder import disk_errors, work_folder
from liif_plugin.errors import UserError
from liif_plugin.files import atomic_write


def test_new_then_again_then_with_other_settings(tmp_path):
    path = tmp_path / "work"
    with work_folder(str(path), {"a": 1}):
        assert json.loads((path / "settings.json").read_text()) == {"a": 1}
    with work_folder(str(path), {"a": 1}):
        pass
    with (
        pytest.raises(UserError, match="with other settings; delete that folder"),
        work_folder(str(path), {"a": 2}),
    ):
        pass


def enter(path, settings):
    """Hold a work folder for a moment."""
    with work_folder(str(path), settings):
        pass


def test_one_at_a_time(tmp_path):
    busy = pytest.raises(UserError, match="another command is writing there")
    with work_folder(str(tmp_path / "work"), {}), busy:
        enter(tmp_path / "work", {})
    enter(tmp_path / "work", {})  # the lock ended with the first one


def test_a_folder_that_the_other_command_has_just_renamed(tmp_path, monkeypatch):
    """Between opening and locking: the lock would be on the finished output."""
    path = tmp_path / "work"
    lock = module.fcntl.flock

    def rename_first(descriptor, how):
        path.rename(tmp_path / "output")
        lock(descriptor, how)

    monkeypatch.setattr(module.fcntl, "flock", rename_first)
    with pytest.raises(UserError, match="another command is writing there"), work_folder(str(path), {}):
        pass
    assert list((tmp_path / "output").iterdir()) == []


def test_temporary_files_of_a_killed_command_go(tmp_path):
    (tmp_path / "work").mkdir()
    for name in ("settings.json.partial", ".settings.json.1234.partial"):
        (tmp_path / "work" / name).write_text("{")
    with work_folder(str(tmp_path / "work"), {"a": 1}):
        assert os.listdir(tmp_path / "work") == ["settings.json"]


def test_errors_of_the_disk_say_how_to_go_on(tmp_path):
    def write(error):
        with disk_errors("x"):
            raise error

    def write_into_no_folder():
        with disk_errors("x"), atomic_write(str(tmp_path / "no" / "a")):
            pass

    words = r"x: cannot be written \(.*{}.*\); make room and give the same command again"
    with pytest.raises(UserError, match=words.format("No space left")):
        write(OSError(28, "No space left on device"))
    with pytest.raises(UserError, match=words.format("No such file")):
        write_into_no_folder()
    with pytest.raises(UserError, match=r"^unreadable$"):
        write(UserError("unreadable"))
