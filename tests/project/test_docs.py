"""The documents: every block of Python in docs/ runs, in the order of its document; files that they show work when they are used as they
say; every command that they name is one, with option files that exist; every link leads somewhere."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from helpers import ROOT
from helpers.pictures import picture
from helpers.processes import liif, losses, python
from liif_plugin import __version__
from liif_plugin.cli import PARTS, COMMANDS, import_own, main, parser_of
from liif_plugin.config.option_files import packaged_files
from liif_plugin.errors import UserError

DOCUMENTS = sorted((ROOT / "docs").glob("*.md"))
PAGES = [*DOCUMENTS, ROOT / "README.md", *sorted(ROOT.glob("C*.md"))]
BLOCK = re.compile(r"^```(\w+)([^\n]*)\n(.*?)^```$", re.M | re.S)
RUNNER = """
import sys
for name in sys.argv[1:]:
    exec(compile(open(name).read(), name, "exec"), globals())
"""


def blocks(path: Path, language: str) -> list[tuple[int, str, str]]:
    """(line before its first, words behind the language, text) of every block of ``language``."""
    text = path.read_text(encoding="utf-8")
    return [
        (text[: m.start()].count("\n") + 1, m[2].strip(), m[3])
        for m in BLOCK.finditer(text)
        if m[1] == language
    ]


def files(path: Path) -> dict[str, str]:
    """Name -> text of the blocks that begin with `# NAME.py` or `# NAME.yml`: files that the reader is to write."""
    shown = [text for language in ("python", "yaml") for _, _, text in blocks(path, language)]
    return {m[1]: text for text in shown if (m := re.match(r"# (\w+\.(?:py|yml))\b", text))}


def write_files(path: Path, folder: Path) -> None:
    for name, text in files(path).items():
        (folder / name).write_text(text, encoding="utf-8")


def runnable(path: Path) -> list[tuple[int, str]]:
    return [
        (line, text)
        for line, words, text in blocks(path, "python")
        if words != "not-run" and text not in files(path).values()
    ]


@pytest.mark.parametrize("path", [path for path in DOCUMENTS if runnable(path)], ids=lambda p: p.name)
def test_every_block_of_python_runs(path, tmp_path):
    write_files(path, tmp_path)
    names = []
    for line, text in runnable(path):
        names.append(f"{path.stem}_{line}.txt")
        (tmp_path / names[-1]).write_text(
            "\n" * line + text, encoding="utf-8"
        )  # so that a traceback names the line of the document
    done = python("-c", RUNNER, *names, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def commands(path: Path) -> list[list[str]]:
    """What follows `liif` or `-m liif_plugin` in indented and fenced lines, as words."""
    text = re.sub(r"\\\n\s*", " ", path.read_text(encoding="utf-8"))
    fenced = "\n".join(re.findall(r"^```sh\n(.*?)^```$", text, re.M | re.S))
    lines = re.findall(r"^    (?:liif|.*-m liif_plugin) (.+)$", text, re.M) + re.findall(
        r"^(?:liif|.*-m liif_plugin) (.+)$", fenced, re.M
    )
    return [shlex.split(line, comments=True) for line in lines]


@pytest.mark.parametrize("path", PAGES, ids=lambda p: p.name)
def test_every_command_is_one(path):
    known = {name for page in DOCUMENTS for name in files(page)} | {file for file in packaged_files()}
    for words in commands(path):
        if words[0] not in COMMANDS:
            assert words[0] == "VERB", words
            continue
        part = words[1] in PARTS.get(words[0], ()) if len(words) > 1 else False
        args = parser_of(" ".join(words[: 1 + part]))[1].parse_args(words[1 + part :])
        option_file = getattr(args, "opt", None)
        assert option_file is None or option_file in known, words


@pytest.mark.parametrize("path", PAGES, ids=lambda p: p.name)
def test_every_link_leads_somewhere(path):
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[\w-]+)?\)", path.read_text(encoding="utf-8")):
        assert target.startswith("https://") or (path.parent / target).exists(), target


def test_the_drawing_is_the_scripts(tmp_path):
    done = python(ROOT / "scripts" / "draw_coordinates.py", tmp_path / "drawn.png", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    drawn, kept = (
        np.asarray(Image.open(p), np.int16)
        for p in (tmp_path / "drawn.png", ROOT / "docs" / "coordinates.png")
    )
    assert (
        drawn.shape == kept.shape and np.abs(drawn - kept).mean() < 1
    )  # another Pillow may draw a glyph otherwise


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """What extending.md takes for granted: its files, datasets/photos.lmdb and held_out."""
    root = tmp_path_factory.mktemp("photos")
    write_files(ROOT / "docs" / "extending.md", root)
    for folder in ("photos", "held_out"):
        (root / folder).mkdir()
        for i in range(2):
            Image.fromarray(picture(i, 128, 136)).save(root / folder / f"{i}.png")
    done = liif("prepare", "photos", "-o", "datasets/photos.lmdb", "--whole", cwd=root)
    assert done.returncode == 0, done.stderr
    return root


SHORT = [
    "--force_yml",
    "train:total_iter=3",
    "train:scheduler:periods=[3]",
    "val:val_freq=3",
    "logger:print_freq=1",
    "logger:save_checkpoint_freq=3",
    "datasets:train:num_worker_per_gpu=1",
    "datasets:train:batch_size_per_gpu=2",
]


def called(argv: list[str]) -> int | str | None:
    """The exit code of `liif ARGV` in this process; the sentence where a mistake ends it."""
    with pytest.raises(SystemExit) as stop:
        main(argv)
    return stop.value.code


def test_a_decoder_of_ones_own_is_trained_and_used(photos, monkeypatch):
    done = liif("train", "-opt", "my_decoder.yml", "--import", "my_decoder", *SHORT, cwd=photos)
    assert done.returncode == 0, done.stderr
    assert sorted(losses(done.stdout + done.stderr)) == [1, 2, 3]
    monkeypatch.chdir(photos)
    monkeypatch.setattr(sys, "path", list(sys.path))
    ask = [
        "upscale",
        "held_out/0.png",
        "-o",
        "large.png",
        "--size",
        "200x150",
        "--model",
        "experiments/my_decoder",
    ]
    said = called(ask)
    assert "nothing named 'NearestCode' is registered" in said and "your own needs `--import MODULE`" in said
    assert called([*ask, "--import", "my_decoder"]) == 0
    with Image.open("large.png") as large:
        assert large.size == (200, 150)


def test_a_dataset_and_a_metric_of_ones_own(photos):
    done = liif(
        "train", "-opt", "my_data.yml", "--import", "my_decoder", "--import", "my_data", *SHORT, cwd=photos
    )
    assert done.returncode == 0, done.stderr
    assert "# error:" in done.stdout + done.stderr and sorted(losses(done.stdout + done.stderr)) == [1, 2, 3]


@pytest.mark.slow
def test_two_machines(photos):
    """Two torchruns that meet as in training.md, with parts of one's own and spawned data workers, which must find them again."""
    launch = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nnodes=2",
        "--nproc_per_node=1",
        "--rdzv_backend=c10d",
        "--rdzv_id=liif",
        "--rdzv_endpoint=127.0.0.1:29541",
        "-m",
        "liif_plugin",
        "train",
        "-opt",
        "my_data.yml",
        "--launcher",
        "pytorch",
        "--import",
        "my_decoder",
        "--import",
        "my_data",
        *SHORT,
        "name=two_machines",
    ]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    machines = [
        subprocess.Popen(
            launch, cwd=photos, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        for _ in range(2)
    ]
    logs = [machine.communicate(timeout=600)[0] for machine in machines]
    assert [machine.returncode for machine in machines] == [0, 0], "".join(logs)[-3000:]
    assert sorted(losses("".join(logs))) == [1, 2, 3]
    assert (photos / "experiments" / "two_machines" / "models" / "net_g_latest.pth").is_file()


@pytest.mark.parametrize("name", ["nosuch", "my_decoder.py", "./my_decoder", ".x", ""])
def test_a_module_that_is_not_there(name, photos, monkeypatch):
    monkeypatch.chdir(photos)
    monkeypatch.setattr(sys, "path", list(sys.path))
    with pytest.raises(
        UserError, match="there is no such module; expected PACKAGE.MODULE, or NAME for a NAME.py in"
    ):
        import_own([name])


def test_what_fails_inside_a_module_is_told_as_it_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "asks_for_more.py").write_text("import not_installed_anywhere\n")
    with pytest.raises(ModuleNotFoundError, match="No module named 'not_installed_anywhere'"):
        import_own(["asks_for_more"])


def test_what_names_the_version_and_the_pythons_agrees():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= set(citation) and str(
        citation["version"]
    ) == __version__
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8"))
    first, end = map(
        int, re.search(r"range\((\d+), (\d+)\)", (ROOT / "setup.py").read_text(encoding="utf-8")).groups()
    )
    tested = workflow["jobs"]["test"]["strategy"]["matrix"]["python"]
    assert tested == [f"3.{minor}" for minor in range(first, end)]
    assert workflow["permissions"] == {"contents": "read"} and workflow["jobs"]["publish"]["permissions"] == {
        "id-token": "write"
    }
    jobs = set(workflow["jobs"])
    assert all(
        set([job["needs"]] if isinstance(job.get("needs"), str) else job.get("needs", [])) <= jobs
        for job in workflow["jobs"].values()
    )
