"""Every option of the packaged files, damaged in every way: named in one line, or it trains and validates."""

import copy
import json
import logging
import os
import random
import sys
import tempfile
import warnings

import pytest
import torch
import yaml
from basicsr.data import build_dataset
from basicsr.models import build_model
from basicsr.utils import options as basicsr_options
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from helpers.fuzzing import fuzzed, refused
from helpers.pictures import picture
from liif_plugin.archs.building import build
from liif_plugin.config import parser as options
from liif_plugin.config.option_files import packaged_files, read_options
from liif_plugin.data.deterministic import SampleIndex
from liif_plugin.data.prepare import prepare_lmdb
from liif_plugin.errors import UserError
from liif_plugin.evaluation import plan as plan_module
from liif_plugin.evaluation.plan import open_column, read_plan
from liif_plugin.evaluation.results import load_network

GONE = object()  # the option is taken out
WRONG = [
    "text",
    "",
    [1],
    [],
    [["a"]],
    {"a": 1},
    -1,
    0,
    1.5,
    float("nan"),
    float("inf"),
    None,
    True,
    10**30,
    1e300,
    "../../up",
    "\n\x1b[2J",
    GONE,
]
TINY = {
    "EDSR": {"num_feat": 8, "num_block": 1},
    "LIIF_RDN": {"num_feat": 8, "num_block": 1, "num_layer": 2, "growth": 8},
    "SwinIR": {"embed_dim": 8, "depths": [1], "num_heads": [2], "window_size": 4},
}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A folder with what the packaged option files name, in miniature."""
    root = tmp_path_factory.mktemp("world")
    for folder, side in (("hr", 48), ("x2", 24), ("x3", 16), ("x4", 12)):
        (root / folder).mkdir()
        for i in range(2):
            name = f"{i}.png" if folder == "hr" else f"{i}{folder}.png"
            Image.fromarray(picture(i, side, side)).save(root / folder / name)
    for folder, side in (("128", 32), ("64", 16)):
        (root / folder).mkdir()
        for i in range(2):
            Image.fromarray(picture(i, side, side)).save(root / folder / f"{i}.png")
        prepare_lmdb(str(root / folder), str(root / f"{folder}.lmdb"), cut=None)
    (root / "split.json").write_text(
        json.dumps({split: ["0.png", "1.png"] for split in ("train", "val", "test")})
    )
    return root


def small(name: str, root) -> dict:
    """The packaged file ``name`` with small numbers and paths; every option of it stays."""
    opt = read_options(str(packaged_files()[name]))
    network = opt["network_g"]
    for block in (network, network.get("encoder") or {}):
        block.update(TINY.get(block.get("type"), {}))
    if network["type"] in ("LIIF", "MetaSR"):
        network["hidden_list"] = [8, 8]
    scale = int(name[-5]) if name[-6] == "x" else 2
    for key in [
        key
        for key in opt["datasets"]
        if key not in ("train", "val", "val_x2", f"val_x{scale}", "val_x6", "test_Set5_x2")
    ]:
        del opt["datasets"][key]
    for key, data in opt["datasets"].items():
        celeb = data["type"] == "SizeVariedDataset"
        data["dataroot_gt"] = str(root / ("128.lmdb" if celeb else "hr"))
        if "dataroot_lq" in data:
            data["dataroot_lq"] = str(root / ("64.lmdb" if celeb else f"x{scale}"))
            if not celeb:
                data["filename_tmpl"] = "{}" + f"x{scale}"
        if "meta_info_file" in data:
            data["meta_info_file"] = str(root / "split.json")
        if key == "train":
            data.update(
                batch_size_per_gpu=2,
                num_worker_per_gpu=0,
                persistent_workers=False,
                pin_memory=False,
                dataset_enlarge_ratio=100,
            )
            data["io_backend"] = {"type": "lmdb" if celeb else "disk"}
            data.update({} if celeb else {"lq_size": 12})
            data.update({} if data.get("num_queries") is None else {"num_queries": 64})
    if "train" in opt:
        opt["train"].update(total_iter=10)
        opt["train"]["scheduler"].update(milestones=[5])
        opt["logger"].update(use_tb_logger=False)
    if name.startswith("test_liif"):
        opt["path"]["pretrain_network_g"] = str(root / "net.pth")
        torch.save({"params": build(network).state_dict()}, root / "net.pth")
    return copy.deepcopy(opt)


def places(block: dict, above: tuple = ()) -> list[tuple]:
    """The keys that lead to every option, blocks included."""
    found = []
    for key, value in block.items():
        found.append((*above, key))
        if isinstance(value, dict):
            found += places(value, (*above, key))
    return found


def damaged(opt: dict, keys: tuple, value: object) -> dict:
    opt = copy.deepcopy(opt)
    block = opt
    for key in keys[:-1]:
        block = block[key]
    if value is GONE:
        del block[keys[-1]]
    else:
        block[keys[-1]] = value
    return opt


def misspelt(key):
    key = str(key)
    return key[:-2] + key[-1] + key[-2] if len(set(key[-2:])) == 2 else f"{key}_"


def cases(opt: dict, below: tuple = ()) -> list[tuple[tuple, object, dict]]:
    """(keys, value, damaged options) of every wrong value under ``below``, and of every name misspelt."""
    found = []
    for keys in places(opt):
        if keys[: len(below)] != below:
            continue
        found += [(keys, value, damaged(opt, keys, value)) for value in WRONG]
        old = opt
        for key in keys:
            old = old[key]
        wrong = (*keys[:-1], misspelt(keys[-1]))
        found.append((wrong, "misspelt", damaged(damaged(opt, keys, GONE), wrong, old)))
    return found


@pytest.fixture
def run(world, monkeypatch):
    """options -> the UserError or the model that `liif train` or `liif test` gives; no file changes."""
    monkeypatch.chdir(world)
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    (world / "given.yml").write_text("")
    logging.getLogger("basicsr").setLevel(logging.CRITICAL)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # networks as small as these only wait for one another's threads

    def go(opt, is_train):
        monkeypatch.setattr(sys, "argv", ["liif", "-opt", "given.yml"])
        monkeypatch.setattr(options, "read_options", lambda path: copy.deepcopy(opt))

        def whole():
            parsed, _ = basicsr_options.parse_options(str(world), is_train)
            if parsed["model_type"] != "ContinuousSRModel":
                return None  # a model of BasicSR: its options are its own
            return ran(parsed, is_train)

        return refused(whole)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield go
    torch.set_num_threads(threads)
    logging.getLogger("basicsr").setLevel(logging.INFO)


def ran(opt, is_train):
    """One training step and one image of every set; what is written goes into a temporary folder."""
    with tempfile.TemporaryDirectory() as folder:
        for key in ("models", "training_states", "visualization") if is_train else ():
            opt["path"][key] = os.path.join(folder, key)
            os.mkdir(opt["path"][key])
        return used(opt, is_train)


def used(opt, is_train):
    sets = {key: build_dataset(block) for key, block in opt["datasets"].items()}
    model = build_model(opt)
    if is_train:
        items = [sets["train"][SampleIndex(i % len(sets["train"]), 0, i)] for i in range(2)]
        model.feed_data(torch.utils.data.default_collate(items))
        model.update_learning_rate(1, warmup_iter=opt["train"].get("warmup_iter", -1))
        model.optimize_parameters(1)
        model.update_learning_rate(2, warmup_iter=opt["train"].get("warmup_iter", -1))
    for key, dataset in sets.items():
        if key != "train" and opt.get("val"):  # without it nothing is validated
            model.nondist_validation(torch.utils.data.DataLoader(dataset), 1, None, save_img=False)
    return model


def contents(root) -> dict:
    return {path: path.stat().st_mtime_ns for path in root.rglob("*")}


def fuzz(run, world, opt, is_train, chosen, what):
    before, failures = contents(world), []
    legal = 0
    for keys, value, wrong in chosen:
        try:
            result = run(wrong, is_train)
        except (Exception, SystemExit) as error:
            failures.append(f"{':'.join(map(str, keys))} = {value!r}: {type(error).__name__}: {error}"[:300])
            continue
        if isinstance(result, UserError):
            message = str(result)
            right = [key for key in opt if misspelt(key) == keys[0]]  # a block that is missing now
            named = any(str(key) in message for key in (*keys, *right)) or any(
                word in message for word in ("dataset ", "metric ", "network_g")
            )
            if not named:
                failures.append(f"{':'.join(map(str, keys))} = {value!r}: not named by: {message}"[:300])
        else:
            legal += 1
    fuzzed(what, len(chosen))
    assert not failures, f"{len(failures)} of {len(chosen)}:\n" + "\n".join(failures)
    assert contents(world) == before  # nothing written, nothing overwritten
    assert legal < len(chosen) / 2


FILES = {
    "train_liif_edsr.yml": 280,
    "train_edsr_x2.yml": 40,
    "train_swinir_x2.yml": 40,
    "train_metasr_edsr.yml": 30,
    "train_rdn_x2.yml": 40,
    "train_liif_celebahq_64_128.yml": 60,
    "test_liif_edsr.yml": 60,
}


def test_the_small_files_run(run, world):
    """Else everything would be refused for the wrong reason."""
    for name in FILES:
        result = run(small(name, world), name.startswith("train"))
        assert not isinstance(result, UserError), f"{name}: {result}"


def part(name: str, chosen: list, count: int) -> list:
    """``count`` of the cases, the same at every run."""
    return random.Random(name).sample(chosen, min(count, len(chosen)))


@pytest.mark.parametrize("name", FILES)
def test_damaged_options(run, world, name):
    opt = small(name, world)
    fuzz(run, world, opt, name.startswith("train"), part(name, cases(opt), FILES[name]), "options")


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
def test_every_damaged_option(run, world, name):
    opt = small(name, world)
    fuzz(run, world, opt, name.startswith("train"), cases(opt), "options")


COMPARE = """
name: small
models:
  - {name: Bicubic, network_g: {type: Bicubic}}
  - {name: mine, network_g: {type: LIIF, encoder: {type: EDSR, num_feat: 8, num_block: 1}, hidden_list: [8]},
     weights: net.pth, cell: 1/2}
  - {name: fixed, scales: {2: {network_g: {type: EDSR, num_in_ch: 3, num_out_ch: 3, num_feat: 8, num_block: 1,
                          upscale: 2}, weights: e.pth}}}
  - {name: theirs, images: hr}
  - {name: trained, opt: train.yml, weights: net.pth, published: LIIF}
datasets:
  Set:
    {dataroot_gt: hr, dataroot_lq: "x{scale}", filename_tmpl: "{}x{scale}", lq_scales: [2],
     scales: [2, 2.5, [2, 3]], protocol: plain, first_k: 1, meta_info_file: ~, how_to_get: Ask.,
     published: Set5}
  Faces: {type: SizeVariedDataset, at_scale: 2, dataroot_gt: 128.lmdb, dataroot_lq: 64.lmdb,
          meta_info_file: split.json, split: test, protocol: plain}
metrics: {psnr: {type: continuous_psnr, gray_as_luma: [a]}, stock: {type: calculate_psnr, crop_border: 2}}
figure: {dataset: Set, scale: 2, image: '0', box: [4, 4, 8, 8], models: [mine]}
device: cpu
precision: fp32
"""


@pytest.fixture
def compared(world, monkeypatch):
    """options -> what `liif compare` does before it measures: plan, sets and their first items, networks."""
    monkeypatch.chdir(world)
    liif = {"type": "LIIF", "encoder": {"type": "EDSR", "num_feat": 8, "num_block": 1}, "hidden_list": [8]}
    torch.save({"params": build(liif).state_dict()}, world / "net.pth")
    (world / "train.yml").write_text(yaml.safe_dump({"name": "trained", "network_g": liif}))
    edsr = {"type": "EDSR", "num_in_ch": 3, "num_out_ch": 3, "num_feat": 8, "num_block": 1, "upscale": 2}
    torch.save({"params": build(edsr).state_dict()}, world / "e.pth")
    logging.getLogger("basicsr").setLevel(logging.CRITICAL)

    def go(opt, _=None):
        monkeypatch.setattr(
            plan_module,
            "read_options",
            lambda path: copy.deepcopy(opt) if path == "given.yml" else read_options(path),
        )

        def whole():
            plan = read_plan("given.yml")
            for column in plan.columns:
                assert open_column(column)[0]["lq"].dim() == 3
            for model in plan.models:
                for source in model.by_scale.values():
                    if source.network_g is not None:
                        load_network(source, f"model {model.name}")
            return plan

        return refused(whole)

    yield go
    logging.getLogger("basicsr").setLevel(logging.INFO)


def compare_cases() -> list:
    """Every wrong value at every place, models by their position."""
    opt = yaml.safe_load(COMPARE)
    found = cases({key: value for key, value in opt.items() if key != "models"})
    found = [(keys, value, {**wrong, "models": opt["models"]}) for keys, value, wrong in found]
    found += [(("models",), value, {**opt, "models": value}) for value in WRONG if value is not GONE]
    for number, model in enumerate(opt["models"]):
        for keys, value, wrong in cases(model):
            models = [wrong if n == number else other for n, other in enumerate(opt["models"])]
            found.append(((*keys, "models", model["name"]), value, {**opt, "models": models}))
    return found


def test_damaged_comparisons(compared, world):
    assert not isinstance(compared(yaml.safe_load(COMPARE)), UserError)
    fuzz(compared, world, yaml.safe_load(COMPARE), None, part("compare", compare_cases(), 250), "comparisons")


@pytest.mark.slow
def test_every_damaged_comparison(compared, world):
    fuzz(compared, world, yaml.safe_load(COMPARE), None, compare_cases(), "comparisons")


TEXTS = [
    "",
    "\n",
    "name",
    "[]",
    "- a",
    "{a: 1",
    "a: b: c",
    "\t- x",
    "a: &a [*a]",
    "a: &a {b: *a}",
    "*x",
    "a: *b",
    "<<: 3",
    "<<: [1]",
    "? [a]: 1",
    "[a]: 1",
    "{a: 1}: 2",
    "a: !!python/object/apply:os.system ['touch pwned']",
    "!!python/name:os.system ''",
    "a: !!binary '!'",
    "a: !!set {b}",
    "a: !!omap [b]",
    "a: !!int x",
    "a: !!float x",
    "a: !!timestamp x",
    "a: 2026-02-30",
    "a: 1e999",
    "a: 0x",
    "a: .nan",
    "%YAML 9.9\n---\na: 1",
    "a: 1\n---\nb: 2",
    "a: 1\na: 2",
    "_base_: [a, b]",
    "_base_: given.yml",
    "_base_: ../../../etc/passwd",
    "_base_: /dev/zero",
    "_base_: {a: 1}",
    "_base_: ''",
    "a: \x00",
    "a: \x07",
    "[" * 3000,
    "{a: " * 3000,
    "- " * 3000,
    "a: '" + "x" * 10**5,
    "\n".join(f"a{i}: &a{i} [{(', '.join([f'*a{i - 1}'] * 9) if i else 'x')}]" for i in range(12)),
    "a: !!str [x]",
    "!!map [a]",
    "? a",
    ": a",
    "a: |\n x\n- y",
    "@a: 1",
    "`a`: 1",
    "a: [1, 2",
    "'a: 1",
    "a: !<tag:yaml.org,2002:python/object/new:os.system> [x]",
]


def test_texts_that_are_no_option_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for text in [*(text.encode() for text in TEXTS), b"\xff\xfe", b"\x80abc", b"a: \xc3\x28", bytes(200)]:
        (tmp_path / "given.yml").write_bytes(text)
        result = refused(lambda: read_options("given.yml"), "given.yml", "_base_")
        assert isinstance(result, (UserError, dict)) and not (tmp_path / "pwned").exists()
    fuzzed("texts", len(TEXTS) + 4)


PIECES = [
    "a",
    ":",
    " ",
    "\n",
    "-",
    "[",
    "]",
    "{",
    "}",
    "&a",
    "*a",
    "!!",
    "python",
    "1",
    "e",
    ".",
    "'",
    '"',
    "#",
    "|",
    ">",
    "~",
    "<<",
    ",",
    "?",
]


@settings(
    max_examples=150, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)
@given(
    st.text(st.characters(codec="utf-8"), max_size=60)
    | st.lists(st.sampled_from(PIECES), max_size=30).map("".join)
)
def test_any_text(text):
    """Option files and forced values of any text at all."""
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", suffix=".yml") as file:
        file.write(text)
        file.flush()
        assert isinstance(refused(lambda: read_options(file.name), file.name), (UserError, dict))
    refused(lambda: options.forced_value(text), "--force_yml", "given twice", "_base_")
    fuzzed("texts", 2)
