"""The command line: help in no time, and one line with a non-zero exit code for every mistake."""

import os
import signal
import statistics
import subprocess
import sys
import time

import psutil
import pytest
from PIL import Image

from helpers.pictures import picture
from helpers.processes import has_ended, launch, liif, losses, python, wait_for
from liif_plugin.cli import COMMANDS, PARTS, main

CALLS = ["", *COMMANDS, *[f"{verb} {part}" for verb, parts in PARTS.items() for part in parts]]


@pytest.mark.parametrize("call", CALLS)
def test_help_needs_no_torch(call, tmp_path):
    code = (
        "import sys\nfrom liif_plugin.cli import main\n"
        f"try:\n    main({[*call.split(), '--help']!r})\n"
        "except SystemExit as stop:\n    assert not stop.code\n"
        "assert not {'torch', 'numpy', 'basicsr', 'skimage', 'onnx', 'onnxruntime', 'PIL'} & set(sys.modules)"
    )
    done = python("-c", code, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"usage: liif {call}".strip() in done.stdout and (call or "prepare") in done.stdout


@pytest.mark.slow
def test_help_takes_less_than_half_a_second(tmp_path):
    def seconds(*argv: str) -> float:
        start = time.perf_counter()
        assert python(*argv, cwd=tmp_path).returncode == 0
        return time.perf_counter() - start

    for call in CALLS:
        pairs = [
            (seconds("-m", "liif_plugin", *call.split(), "--help"), seconds("-c", "pass")) for _ in range(3)
        ]
        taken, bare = (statistics.median(times) for times in zip(*pairs))
        # torch alone: 50 times
        assert taken < max(0.5, 10 * bare), f"{call}: {taken:.2f} s where Python alone takes {bare:.2f}"


@pytest.mark.parametrize(
    ("argv", "words", "code"),
    [
        ([], "usage", None),
        (["--version"], "", 0),
        (["trian"], "did you mean 'train'", 2),
        (["train"], "the following arguments are required: -opt", 2),
        (["train", "-opt", "x", "--auto-resume"], "did you mean '--auto_resume'", 2),
        (["train", "-opt", "no.yml"], "no such file", 1),
        (["test", "-opt", "train_lif_demo"], "did you mean 'train_liif_demo.yml'", 1),
        (["prepare", "x", "-o", "y.lmdb", "--png-level", "11"], "invalid choice", 2),
        (["demo", "--iterations", "0"], "expected 1 or more", 2),
    ],
)
def test_calls(argv, words, code, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", list(sys.argv))
    with pytest.raises(SystemExit) as stop:
        main(argv)
    got = 1 if isinstance(stop.value.code, str) else (stop.value.code or 0)
    printed = capsys.readouterr()
    assert words in f"{printed.out}{printed.err}{stop.value.code}"
    assert got == (code or 0)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("pixel_opt:", "pixel_optt:"), "train: 'pixel_opt' is missing"),
        (("name: tiny_train\n", "name: tiny_train\n    qq: 1\n"), "unknown option 'qq'"),
        (("lr: 1e-3", "lr: 1e-3, lr: 2"), "'lr' is given twice"),
        (("num_gpu: auto\n", ""), "'num_gpu' is missing"),
        (("name: tiny\n", "name: [tiny\n"), "not a readable yml"),
        (("  pretrain_network_g: ~\n  resume_state: ~\n", ""), "path: expected a block of options"),
    ],
)
def test_a_wrong_option_file_is_one_line_and_touches_nothing(tiny_yml, tmp_path, change, words):
    yml = tiny_yml(edit=lambda text: text.replace(*change))
    before = sorted(tmp_path.rglob("*"))
    done = liif("train", "-opt", yml, cwd=tmp_path)
    assert done.returncode == 1 and len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert words in done.stderr and sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("force", "words"),
    [
        ("train:total_iters", "expected key:key=value"),
        ("trian:total_iter=3", "no block 'trian' (did you mean 'train'?)"),
        ("name=x']=1;import os;opt['name", "expected key:key=value"),
        ("train:scheduler=[", "not a value in yml"),
    ],
)
def test_wrong_forced_values(tiny_yml, tmp_path, force, words):
    done = liif("train", "-opt", tiny_yml(), "--force_yml", force, cwd=tmp_path)
    assert done.returncode == 1 and words in done.stderr and "Traceback" not in done.stderr


def test_an_error_in_a_data_worker_is_one_line(tiny_yml, image_folder, tmp_path):
    folder = image_folder()
    yml = tiny_yml(workers=1)
    whole = (folder / "img_1.png").read_bytes()
    # The header is whole, the picture is not
    (folder / "img_1.png").write_bytes(whole[: len(whole) * 3 // 4])
    done = liif("train", "-opt", yml, cwd=tmp_path)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "img_1.png: not a whole image file" in done.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    "verb", [["prepare", ".", "-o", "x.lmdb"], ["train", "-opt", "train_liif_demo.yml"], ["demo"]]
)
def test_without_basicsr(verb, tmp_path):
    code = f"import sys; sys.modules['basicsr'] = None; from liif_plugin.cli import main; main({verb!r})"
    done = python("-c", code, cwd=tmp_path)
    assert (
        done.returncode == 1
        and "which is not installed here" in done.stderr
        and "Traceback" not in done.stderr
    )


@pytest.mark.parametrize("autoload", ["0", "1"])
def test_forced_values_arrive(tiny_yml, tmp_path, autoload):
    force = ("--force_yml", "train:total_iter=3", "train:optim_g:lr=5e-5")
    argv = ("-m", "liif_plugin", "train", "-opt", tiny_yml(), *force)
    done = python(*argv, cwd=tmp_path, env={"LIIF_PLUGIN_AUTOLOAD": autoload})
    assert done.returncode == 0, done.stderr
    assert sorted(losses(done.stderr)) == [1, 2, 3] and "lr:(5.000e-05" in done.stderr


@pytest.mark.slow
def test_demo(tmp_path):
    done = liif("demo", "--iterations", "20", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    root = tmp_path / "liif_demo"
    assert (root / "table.txt").read_text().strip() in done.stdout
    lines = (root / "table.txt").read_text().splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert [row[0] for row in cells[2:]] == ["x2", "x2.7", "x3", "x4", "x6"]
    assert (
        cells[0][1:4] == ["chelsea: bicubic", "trained now", "standard"] and cells[0][4] == "coffee: bicubic"
    )
    for row in cells[2:]:  # the shipped weights beat bicubic by half a dB on either picture at every scale
        assert float(row[3]) > float(row[1]) + 0.5 and float(row[6]) > float(row[4]) + 0.5
    figure = Image.open(root / "figure.png")
    assert figure.width > 1200 and len(figure.getcolors(2**24)) > 10000
    again = liif("demo", "--iterations", "20", cwd=tmp_path)  # nothing left to train: the same table
    assert again.returncode == 0 and (root / "table.txt").read_text().strip() in again.stdout


def test_sigterm_ends_the_demo_and_its_training(tmp_path, zygote):
    """It reaches this process alone; the training must not be left behind."""
    pid, log = zygote.start("demo", "--iterations", "100000")

    def training():
        assert not has_ended(pid), log.read_text()
        logs = tmp_path.glob("liif_demo/experiments/*/train_*.log")
        return any("Start training" in path.read_text() for path in logs)

    wait_for(training, said=log.read_text)
    children = psutil.Process(pid).children(recursive=True)
    os.kill(pid, signal.SIGTERM)
    assert zygote.wait(pid, 90) == 143, log.read_text()
    assert children and not psutil.wait_procs(children, 5)[1]
    assert "stopped." in log.read_text() and "Traceback" not in log.read_text()


def test_a_name_that_cannot_be_said(tmp_path):
    """An old archive's Latin-1, to a file: neither the picture nor those after it are lost."""
    folder = os.fsencode(tmp_path / "in")
    os.mkdir(folder)
    for name in (b"a.png", b"caf\xe9.png", b"z.png"):
        with open(os.path.join(folder, name), "wb") as file:
            Image.fromarray(picture(0, 8, 9)).save(file, format="PNG")
    done = liif("upscale", "in", "-o", "out", "--scale", "1", cwd=tmp_path)
    assert done.returncode == 0 and "3 of 3 written" in done.stdout, done.stderr
    assert "caf\\udce9.png" in done.stdout


def test_a_reader_that_stops_reading_is_no_traceback(tmp_path):
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = launch("-m", "liif_plugin", "models", cwd=tmp_path, env={"PYTHONUNBUFFERED": "1"}, **streams)
    process.stdout.close()
    said = process.stderr.read()
    assert process.wait() == 141 and "Traceback" not in said and "BrokenPipe" not in said


@pytest.fixture
def failing(monkeypatch):
    """`liif models` fails in a way that nobody expects."""
    from liif_plugin.cli import models

    def run(args):
        raise RuntimeError("first line\nsecond line")

    monkeypatch.setattr(models, "run", run)
    monkeypatch.setenv("LIIF_DEBUG", "0")


def test_an_unexpected_error_is_one_sentence(failing):
    with pytest.raises(SystemExit) as stop:
        main(["models"])
    message = str(stop.value.code)
    assert message.startswith("liif models: RuntimeError: first line (test_cli.py, line ")
    assert "LIIF_DEBUG=1" in message and "liif --debug" in message and "second line" not in message


def test_debug_shows_the_traceback(failing):
    with pytest.raises(RuntimeError, match="second line"):
        main(["--debug", "models"])
