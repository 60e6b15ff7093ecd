"""The documents are true.

Every block of Python in README and docs/ runs, in the order of its page. Files that a page shows work when
they are used as it says. Every command is one, with option files that exist. Every link and path leads
somewhere. The site builds.
"""

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
from helpers.processes import forked, launch, liif, losses, port, python
from liif_plugin import __version__, upscale
from liif_plugin.cli import COMMANDS, PARTS, import_own, main, parser_of
from liif_plugin.config.option_files import OptionLoader, packaged_options
from liif_plugin.errors import UserError

README = ROOT / "README.md"
DOCUMENTS = [README, *sorted((ROOT / "docs").glob("*.md"))]
PAGES = [*DOCUMENTS, *sorted(ROOT.glob("C*.md"))]
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
    """Return name -> text of the blocks that begin with `# NAME.py` or `# NAME.yml`: files to be written."""
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
    Image.fromarray(picture(0, 48, 64)).save(tmp_path / "photo.jpg")
    names = []
    for line, text in runnable(path):
        names.append(f"{path.stem}_{line}.txt")
        # Empty lines before the block, so that a traceback names the line of the document
        (tmp_path / names[-1]).write_text("\n" * line + text, encoding="utf-8")
    run = python if path is README else forked  # the first page starts as its reader's Python does
    done = run("-c", RUNNER, *names, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_the_example_of_contributing(tmp_path):
    """Run the test of CONTRIBUTING with the decoder of extending.md under the example's name for it."""
    write_files(ROOT / "CONTRIBUTING.md", tmp_path)
    write_files(ROOT / "docs" / "extending.md", tmp_path)
    (tmp_path / "conftest.py").write_text(
        "import sys\nimport my_decoder\nsys.modules['liif_plugin.archs.nearest_arch'] = my_decoder\n"
    )
    run = (
        "import pytest, sys; sys.exit(pytest.main(['-q', '-p', 'no:cacheprovider', 'test_nearest_arch.py']))"
    )
    done = forked("-c", run, cwd=tmp_path)
    assert done.returncode == 0 and "2 passed" in done.stdout, done.stdout
    option_file = tmp_path / "train_nearest_edsr.yml"
    with option_file.open(encoding="utf-8") as file:
        assert yaml.load(file, OptionLoader)["network_g"]["type"] == "NearestCode"


@pytest.mark.parametrize("path", [path for path in PAGES if blocks(path, "yaml")], ids=lambda p: p.name)
def test_every_block_of_yaml_is_an_option_file(path, tmp_path):
    write_files(path, tmp_path)
    for line, _, text in blocks(path, "yaml"):
        shown = tmp_path / f"block_{line}.yml"
        shown.write_text(text, encoding="utf-8")
        with shown.open(encoding="utf-8") as file:
            assert yaml.load(file, OptionLoader)["name"], line


def commands(path: Path) -> list[list[str]]:
    """Return what follows `liif` or `-m liif_plugin` in indented and fenced lines, as words."""
    text = re.sub(r"\\\n\s*", " ", path.read_text(encoding="utf-8"))
    fenced = "\n".join(re.findall(r"^```sh\n(.*?)^```$", text, re.M | re.S))
    lines = re.findall(r"^    (?:liif|.*-m liif_plugin) (.+)$", text, re.M) + re.findall(
        r"^(?:liif|.*-m liif_plugin) (.+)$", fenced, re.M
    )
    return [shlex.split(line, comments=True) for line in lines]


def command_of(words: list[str]) -> tuple[str, list[str]]:
    """`prepare lr FOLDER` -> ("prepare lr", ["FOLDER"])."""
    part = len(words) > 1 and words[1] in PARTS.get(words[0], ())
    return " ".join(words[: 1 + part]), words[1 + part :]


@pytest.mark.parametrize("path", PAGES, ids=lambda p: p.name)
def test_every_command_is_one(path):
    shown = {name for page in PAGES for name in files(page)}
    packaged = {file.name for file in packaged_options().rglob("*.yml")}
    for words in commands(path):
        if words[0] not in COMMANDS:
            assert words[0] == "COMMAND", words
            continue
        name, arguments = command_of(words)
        args = parser_of(name)[1].parse_args(arguments)
        option_file = vars(args).get("opt")
        assert option_file is None or option_file in shown | packaged | {"mine.yml"}, words


@pytest.mark.parametrize("path", PAGES, ids=lambda p: p.name)
def test_every_command_within_a_sentence_exists(path):
    for words in re.findall(r"`liif ([^`]+)`", path.read_text(encoding="utf-8")):
        word = words.split()[0]
        assert word in COMMANDS or word.startswith("--"), words


@pytest.mark.parametrize("path", PAGES, ids=lambda p: p.name)
def test_every_link_leads_somewhere(path):
    for target, anchor in re.findall(r"\]\(([^)#\s]+)(?:#([\w-]+))?\)", path.read_text(encoding="utf-8")):
        if target.startswith("https://"):
            continue
        page = path.parent / target
        assert page.exists(), target
        if anchor:
            titles = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.M)
            assert anchor in {re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in titles}


@pytest.mark.parametrize(
    "path", [page for page in PAGES if page.name != "CHANGELOG.md"], ids=lambda p: p.name
)
def test_every_path_of_the_repository_is_there(path):
    text = path.read_text(encoding="utf-8")
    for name in re.findall(
        r"(?<![\w/.])((?:tests|scripts|options|liif_plugin|docs)/[\w/]+\.(?:py|yml|txt|md|png))", text
    ):
        assert (ROOT / name).exists(), name
    for name in re.findall(r"`(archs/\w+\.py)`", text):
        assert (ROOT / "liif_plugin" / name).exists(), name


@pytest.mark.parametrize("path", PAGES, ids=lambda p: p.name)
def test_every_packaged_option_file_that_is_named_exists(path):
    shown = {name for page in PAGES for name in files(page)}
    packaged = {file.name for file in packaged_options().rglob("*.yml")}
    for name in re.findall(r"\b((?:train|test|compare)_\w+\.yml)\b", path.read_text(encoding="utf-8")):
        assert name in shown | packaged, name


def test_readme_is_short():
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 150


def test_the_drawing_is_the_scripts(tmp_path):
    done = forked(ROOT / "scripts" / "draw_coordinates.py", tmp_path / "drawn.png", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    drawn, kept = (
        np.asarray(Image.open(p), np.int16)
        for p in (tmp_path / "drawn.png", ROOT / "docs" / "coordinates.png")
    )
    # Another Pillow may draw a glyph in another way
    assert drawn.shape == kept.shape and np.abs(drawn - kept).mean() < 1


def test_the_site_builds_without_a_warning_and_loads_nothing_from_elsewhere(tmp_path):
    pytest.importorskip("mkdocs", reason="the extra `docs` is not installed")
    pytest.importorskip("material", reason="the extra `docs` is not installed")
    build = ("-m", "mkdocs", "build", "--strict", "-q", "-d", tmp_path / "site")
    done = python(*build, cwd=ROOT, env={"NO_MKDOCS_2_WARNING": "1"})
    assert done.returncode == 0, done.stdout + done.stderr
    pages = {page.name: page.read_text(encoding="utf-8") for page in (tmp_path / "site").glob("*.html")}
    assert {"index.html", "CONTRIBUTING.html", "options.html"} <= set(pages)
    for name, text in pages.items():
        assert not re.search(r"<(?:script|link|img|iframe)[^>]*(?:src|href)=\"?(?:https?:)?//", text), name
        assert "```" not in text, name


def test_links_of_readme_for_pypi(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    from site_pages import absolute_links

    text = absolute_links(README.read_text(encoding="utf-8"), "https://github.com/o/n", "v1")
    links = re.findall(r"\]\(([^)\s]+)\)", text)
    assert "https://github.com/o/n/raw/v1/docs/results.png" in links
    assert "https://github.com/o/n/blob/v1/docs/install.md" in links
    assert all(link.startswith("https://") for link in links)


def test_axis_orders_of_command_and_python_agree(tmp_path, monkeypatch):
    """The command of axis-orders.md and its block of Python give the same picture."""
    monkeypatch.chdir(tmp_path)
    photo = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    Image.fromarray(photo).save("photo.png")
    page = (ROOT / "docs" / "axis-orders.md").read_text(encoding="utf-8")
    ask = shlex.split(re.search(r"`liif (upscale photo.png .+)` is this", page)[1])
    assert called([*ask, "--precision", "fp32"]) == 0
    python_call = eval(re.search(r"^part = upscale\(photo, (.+)\)$", page, re.M)[1].join(("dict(", ")")))
    with Image.open("part.png") as part:
        assert np.array_equal(np.asarray(part), upscale(photo, precision="fp32", **python_call))


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """What the pages take for granted: their files, datasets/photos.lmdb, held_out and liif-light.pth."""
    root = tmp_path_factory.mktemp("photos")
    for page in ("extending.md", "training.md"):
        write_files(ROOT / "docs" / page, root)
    for folder in ("photos", "held_out"):
        (root / folder).mkdir()
        for i in range(2):
            Image.fromarray(picture(i, 128, 136)).save(root / folder / f"{i}.png")
    copy = re.search(r"^    (cp .+liif-light.pth\" \.)$", (ROOT / "docs" / "training.md").read_text(), re.M)[
        1
    ]
    python_folder = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    env = {**os.environ, "PATH": python_folder, "PYTHONPATH": str(ROOT)}
    subprocess.run(["bash", "-c", copy], cwd=root, env=env, check=True)
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


def train_shortly(photos: Path, option_file: str, *own: str) -> str:
    """Train three iterations with an option file of a page; return what was printed."""
    imports = [word for module in own for word in ("--import", module)]
    done = liif("train", "-opt", option_file, *imports, *SHORT, cwd=photos)
    assert done.returncode == 0, done.stderr
    printed = done.stdout + done.stderr
    assert sorted(losses(printed)) == [1, 2, 3]
    return printed


def test_a_decoder_of_ones_own_is_trained_and_used(photos, monkeypatch):
    train_shortly(photos, "my_decoder.yml", "my_decoder")
    monkeypatch.chdir(photos)
    monkeypatch.setattr(sys, "path", list(sys.path))
    ask = ["upscale", "held_out/0.png", "-o", "large.png", "--size", "200x150"]
    ask += ["--model", "experiments/my_decoder"]
    message = called(ask)
    assert "nothing named 'NearestCode' is registered" in message
    assert "a class of your own, add `--import MODULE`" in message
    assert called([*ask, "--import", "my_decoder"]) == 0
    with Image.open("large.png") as large:
        assert large.size == (200, 150)


def test_a_dataset_and_a_metric_of_ones_own(photos):
    assert "# error:" in train_shortly(photos, "my_data.yml", "my_decoder", "my_data")


def test_a_loss_of_ones_own(photos):
    train_shortly(photos, "my_loss.yml", "my_loss")


def test_a_trainer_of_ones_own_leaves_the_encoder_alone(photos):
    import torch

    train_shortly(photos, "my_trainer.yml", "my_trainer")
    trained = torch.load(photos / "experiments/my_trainer/models/net_g_latest.pth", weights_only=True)[
        "params"
    ]
    train_shortly(photos, "my_loss.yml", "my_loss")
    other = torch.load(photos / "experiments/my_loss/models/net_g_latest.pth", weights_only=True)["params"]
    # Both runs start from the same seed: only the other one has changed its encoder
    state = torch.load(photos / "experiments/my_trainer/training_states/3.state", weights_only=True)
    in_encoder = [name for name in trained if name.startswith("encoder.")]
    assert in_encoder and len(in_encoder) < len(trained)
    assert len(state["optimizers"][0]["state"]) == len(trained) - len(in_encoder)
    assert any(not torch.equal(trained[name], other[name]) for name in in_encoder)


def test_fine_tuning_starts_from_the_weights(photos):
    import torch

    train_shortly(photos, "my_finetune.yml")
    start = torch.load(photos / "liif-light.pth", weights_only=True)["params"]
    end = torch.load(photos / "experiments/my_finetune/models/net_g_latest.pth", weights_only=True)["params"]
    moved = max((end[name] - start[name]).abs().max().item() for name in start)
    # Three steps of Adam at 1e-4 move no weight further than about 3e-4
    assert 0 < moved < 4e-4


@pytest.mark.slow
def test_two_machines(photos):
    """Two torchruns meet as in training.md, with parts of one's own that spawned data workers must find."""
    meet = f"--rdzv_backend=c10d --rdzv_id=liif --rdzv_endpoint=127.0.0.1:{port()}"
    train = "train -opt my_data.yml --launcher pytorch --import my_decoder --import my_data"
    argv = f"-m torch.distributed.run --nnodes=2 --nproc_per_node=1 {meet} -m liif_plugin {train}".split()
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    machines = [launch(*argv, *SHORT, "name=two_machines", cwd=photos, **streams) for _ in range(2)]
    logs = [machine.communicate(timeout=600)[0] for machine in machines]
    assert [machine.returncode for machine in machines] == [0, 0], "".join(logs)[-3000:]
    assert sorted(losses("".join(logs))) == [1, 2, 3]
    assert (photos / "experiments" / "two_machines" / "models" / "net_g_latest.pth").is_file()


@pytest.mark.parametrize("name", ["nosuch", "my_decoder.py", "./my_decoder", ".x", ""])
def test_a_module_that_is_not_there(name, photos, monkeypatch):
    monkeypatch.chdir(photos)
    monkeypatch.setattr(sys, "path", list(sys.path))
    with pytest.raises(
        UserError, match=r"there is no such module; expected PACKAGE\.MODULE, or NAME for a NAME\.py in"
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
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    assert str(citation["version"]) == __version__
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8"))
    first, end = map(
        int, re.search(r"range\((\d+), (\d+)\)", (ROOT / "setup.py").read_text(encoding="utf-8")).groups()
    )
    jobs = workflow["jobs"]
    assert jobs["test"]["strategy"]["matrix"]["python"] == [f"3.{minor}" for minor in range(first, end)]
    assert workflow["permissions"] == {"contents": "read"}
    assert jobs["publish"]["permissions"] == {"id-token": "write"}
    for job in jobs.values():
        needs = job.get("needs", [])
        assert {needs} <= set(jobs) if isinstance(needs, str) else set(needs) <= set(jobs)


def test_pre_commit_runs_what_ci_checks():
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"][0][
        "hooks"
    ]
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for hook in hooks:
        command = hook["entry"].replace(" --force-exclude", "")
        assert f"$(BIN)/{command}" in makefile, command


def test_the_scripts_that_make_and_ci_call_are_there():
    for name in ("Makefile", ".github/workflows/ci.yml"):
        for script in re.findall(r"python\)? (\w+/\w+\.py)", (ROOT / name).read_text(encoding="utf-8"), re.I):
            assert (ROOT / script).is_file(), script
