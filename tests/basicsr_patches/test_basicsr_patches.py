"""Every host patch: the error it cures is gone, and it stays out of the way otherwise."""

import contextlib
import os
import sys
from pathlib import Path

import lmdb
import pytest
import torch
from basicsr.models.base_model import BaseModel

from helpers.processes import python
from liif_plugin.basicsr_patches import shims
from liif_plugin.config.option_files import find_option_file, read_options
from liif_plugin.config.parser import forced_value, parse_command_line
from liif_plugin.data.lmdb_env import shared_env
from liif_plugin.data.prepare import prepare_lmdb
from liif_plugin.errors import UserError
from liif_plugin.models.training_states import whole_states


def test_import_of_the_package_is_light(tmp_path):
    code = """
import sys, time
start = time.process_time()
import liif_plugin
assert not {"torch", "numpy", "basicsr"} & set(sys.modules)
assert time.process_time() - start < 0.05
"""
    done = python("-c", code, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("torchvision.transforms.functional_tensor", "rgb_to_grayscale"),
        ("distutils.version", "LooseVersion"),
        ("scipy.ndimage.filters", "convolve"),
    ],
)
def test_stand_ins(module, name):
    finder = shims.StandInFinder()
    spec = finder.find_spec(module)
    import importlib.util

    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    assert callable(getattr(made, name))
    assert finder.find_spec("json") is None
    assert isinstance(sys.meta_path[-1], shims.StandInFinder) or any(
        isinstance(f, shims.StandInFinder) for f in sys.meta_path
    )
    shims.install()
    assert sum(isinstance(f, shims.StandInFinder) for f in sys.meta_path) == 1


def test_the_hook_can_be_turned_off(tmp_path):
    """Needs the package installed (wheel or editable), because the hook is a .pth file."""
    code = "import sys; print([type(finder).__name__ for finder in sys.meta_path], sys.meta_path)"
    off = python("-c", code, cwd=tmp_path, env={"LIIF_PLUGIN_AUTOLOAD": "0"})
    assert "RegisterAfterBasicSR" not in off.stdout and "StandInFinder" not in off.stdout
    assert "RegisterAfterBasicSR" in python("-c", code, cwd=tmp_path).stdout


IMPORT_EACH = """
import os, sys
import cv2, lmdb, scipy.ndimage, skimage.color, torch, torchvision, yaml  # of others: this is what takes long

assert not [name for name in sys.modules if name.startswith(("basicsr.", "liif_plugin.archs"))]
for first in sys.argv[1:]:
    pid = os.fork()
    if pid == 0:
        __import__(first)
        if first != "basicsr":  # whose own import registers us, by the hook
            import liif_plugin.register
        from basicsr.utils.registry import ARCH_REGISTRY, MODEL_REGISTRY
        sys.stdout.flush()
        os._exit(0 if "LIIF" in ARCH_REGISTRY and "ContinuousSRModel" in MODEL_REGISTRY else 1)
    print(first, os.waitpid(pid, 0)[1])
"""


@pytest.mark.parametrize("autoload", ["0", "1"])
def test_any_module_may_be_imported_first(tmp_path, autoload):
    first = [
        "liif_plugin.archs.liif_arch",
        "liif_plugin.models.continuous_sr_model",
        "liif_plugin.data.image_source",
        "liif_plugin.archs.encoder",
        "liif_plugin.evaluation.validation",
        "liif_plugin.metrics.continuous_metric",
        "liif_plugin.register",
        *(["basicsr"] if autoload == "1" else []),
    ]
    done = python("-c", IMPORT_EACH, *first, cwd=tmp_path, env={"LIIF_PLUGIN_AUTOLOAD": autoload})
    assert done.returncode == 0 and "Warning" not in done.stderr, done.stderr
    assert done.stdout.splitlines() == [f"{name} 0" for name in first], done.stderr


def test_a_broken_plugin_warns_and_does_not_raise(monkeypatch):
    from liif_plugin import _autoload

    monkeypatch.setitem(sys.modules, "liif_plugin.register", None)
    with pytest.warns(UserWarning, match="could not register itself"):
        _autoload._register()


def test_shared_environment(image_folder, tmp_path):
    root = str(tmp_path / "x.lmdb")
    prepare_lmdb(str(image_folder()), root, None)
    os.symlink(root, tmp_path / "link.lmdb")
    env = shared_env(root)
    assert shared_env(str(tmp_path / "link.lmdb")) is env
    if tuple(map(int, lmdb.__version__.split(".")[:1])) >= (2,):
        # The error cured here; when this fails the patch can go
        with pytest.raises(lmdb.Error, match="already open"):
            lmdb.open(root, readonly=True, lock=False)
    pid = os.fork()
    if pid == 0:  # the inherited handle is closed and opened anew
        try:
            with shared_env(root).begin() as txn:
                os._exit(0 if txn.get(b"img_0") else 1)
        except BaseException:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    with env.begin() as txn:
        assert txn.get(b"img_1")


def test_option_files_are_read_safely(tmp_path):
    path = tmp_path / "o.yml"
    path.write_text("lr: 1e-4\neta: -2.5e+3\nname: 1e4x\nn: 3\nv: 1.5\nlist: [1e-3, 2]\n")
    assert dict(read_options(str(path))) == {
        "lr": 1e-4,
        "eta": -2500.0,
        "name": "1e4x",
        "n": 3,
        "v": 1.5,
        "list": [1e-3, 2],
    }
    for bad, words in (
        ("a: !!python/object/apply:os.system ['touch pwned']", "not a readable yml"),
        ("a: 1\na: 2", "'a' is given twice"),
        ("- a", "expected a yml mapping"),
        ("a: [", "not a readable yml"),
        ("", "got NoneType"),
    ):
        path.write_text(bad)
        with pytest.raises(UserError, match=words):
            read_options(str(path))
    assert not (tmp_path / "pwned").exists() and not os.path.exists("pwned")


def test_basicsr_is_handed_what_we_have_read(tmp_path, monkeypatch):
    """BasicSR's own reading of the file and of --force_yml, which runs code, takes no part."""
    from basicsr.utils import options

    (tmp_path / "a.yml").write_text("name: a\nnum_gpu: 0\ndatasets: {val: {scale: 2}}\npath: {}\n")
    (tmp_path / "b.yml").write_text("_base_: a.yml\nname: b\nmanual_seed: 1\n")
    argv = [
        "test.py",
        "-opt",
        str(tmp_path / "b.yml"),
        "--force_yml",
        "path:pretrain_network_g=x.pth",
        "datasets:val=~",
    ]
    monkeypatch.setattr(sys, "argv", argv)
    reads = options.ordered_yaml
    stock = getattr(options.parse_options, "original", None) or options.parse_options
    opt, args = parse_command_line(stock, str(tmp_path), False)
    assert opt["name"] == "b" and opt["path"]["pretrain_network_g"] == "x.pth" and not opt["datasets"]
    assert args.force_yml is None and sys.argv == argv and options.ordered_yaml is reads


FORCED = {
    "1e-4": 1e-4,
    "-1": -1,
    "~": None,
    "None": None,
    "true": True,
    "[1, 2]": [1, 2],
    "!!float1e-3": 1e-3,
    "a/b.pth": "a/b.pth",
}


@pytest.mark.parametrize("text", FORCED)
def test_forced_values(text):
    assert forced_value(text) == FORCED[text]


@pytest.mark.parametrize(
    "text", ["[__import__('os').mkdir('pwned')]", "!!python/object/apply:os.mkdir [pwned]"]
)
def test_forced_values_run_no_code(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with contextlib.suppress(UserError):
        forced_value(text)
    assert not list(tmp_path.iterdir())


def test_packaged_option_files_are_found(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("train_liif_edsr.yml", "options/train_liif_edsr.yml", "train_liif_edsr"):
        assert find_option_file(name).endswith("options/train_liif_edsr.yml")
    (tmp_path / "train_liif_edsr.yml").write_text("mine")
    assert find_option_file("train_liif_edsr.yml") == "train_liif_edsr.yml"
    assert find_option_file("train_liif_demo.yml").endswith("options/user/train_liif_demo.yml")
    with pytest.raises(UserError, match=r"did you mean 'train_liif_edsr.yml'"):
        find_option_file("train_lif_edsr.yml")


def test_newest_whole_state(tmp_path):
    states, models = tmp_path / "training_states", tmp_path / "models"
    states.mkdir()
    models.mkdir()
    assert whole_states(str(states)) == []
    for step in (500, 1000, 20000):
        (states / f"{step}.state").touch()
    for step in (500, 1000):
        (models / f"net_g_{step}.pth").touch()
    (states / "30000.state.partial").touch()
    # 20000 lacks its network
    assert [Path(path).name for path in whole_states(str(states))] == [
        "1000.state",
        "500.state",
    ]


@pytest.mark.parametrize(
    ("kind", "expected"), [("Adam", torch.optim.Adam), ("AdamW", torch.optim.AdamW), ("SGD", torch.optim.SGD)]
)
def test_any_optimiser(kind, expected):
    model = BaseModel({"num_gpu": 0, "is_train": True})
    assert type(model.get_optimizer(kind, [torch.nn.Parameter(torch.zeros(1))], lr=0.1)) is expected
    with pytest.raises(UserError, match="did you mean 'AdamW'"):
        model.get_optimizer("AdmW", [torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    with pytest.raises(UserError, match="optimiser Adam: cannot be used: Invalid beta"):
        model.get_optimizer("Adam", [torch.nn.Parameter(torch.zeros(1))], lr=0.1, betas=[2, 3])
