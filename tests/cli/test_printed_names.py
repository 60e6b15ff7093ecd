"""Names of files that hold control sequences do not reach the terminal as such."""

import sys

import pytest
from PIL import Image

from helpers.pictures import picture
from liif_plugin.cli import main
from liif_plugin.errors import UserError, printable

TITLE = "\x1b]0;title\x07"  # sets a terminal's title


@pytest.mark.parametrize(
    "argv",
    [
        "upscale {name}.png -o {name}_x2.png --scale 2",
        "fit {name}.png -o {name}_fit.png --iterations 2",
        "prepare folder{name} -o {name}.lmdb --whole",
        "prepare lr folder{name} -o {name}_lr --scales 2",
    ],
)
def test_success_lines_hold_no_control_sequence(tmp_path, monkeypatch, capfd, argv):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["liif"])
    folder = tmp_path / f"folder{TITLE}"
    folder.mkdir()
    Image.fromarray(picture(0, 12, 16)).save(tmp_path / f"{TITLE}.png")
    Image.fromarray(picture(0, 12, 16)).save(folder / "a.png")
    with pytest.raises(SystemExit) as stop:
        main([part.replace("{name}", TITLE) for part in argv.split()])
    printed = capfd.readouterr()
    assert not stop.value.code, printed.err
    assert "\\x1b]0;title\\x07" in printed.out
    assert "\x1b]" not in printed.out and "\x07" not in printed.out + printed.err


def test_printable():
    assert printable("ein Bild \u00e4\u732b.png") == "ein Bild \u00e4\u732b.png"
    assert printable("a\n\x9b31m\udcff") == "a\\n\\x9b31m\\udcff"
    assert str(UserError("a\x1b")) == "a\\x1b"
