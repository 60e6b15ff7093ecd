"""Every packaged option file builds its network and names registered things; every mistake is named."""

import copy
import sys
import types

import pytest
import torch
from basicsr.archs import build_network
from basicsr.utils.registry import DATASET_REGISTRY, METRIC_REGISTRY, MODEL_REGISTRY

from helpers import ROOT
from helpers.training import EDSR, TINY_YML
from liif_plugin.basicsr_patches import training_loop
from liif_plugin.checkpoints.files import save_whole
from liif_plugin.config.option_files import packaged_files, read_options
from liif_plugin.errors import UserError
from liif_plugin.models import checks

FILES = sorted(path for path in (ROOT / "options").rglob("t*.yml"))


def check_options(opt):
    checks.fill_defaults(opt)
    checks.check_options(opt)


def parsed(path, is_train=None):
    """The options as BasicSR's parser hands them to the checks."""
    opt = read_options(str(path))
    is_train = path.name.startswith("train") if is_train is None else is_train
    opt.update(dist=False, rank=0, world_size=1, auto_resume=False, is_train=is_train)
    opt["num_gpu"] = torch.cuda.device_count() if opt["num_gpu"] == "auto" else opt["num_gpu"]
    return opt


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.name)
def test_packaged_files(path, tmp_path, monkeypatch):
    opt = parsed(path)
    build_network(copy.deepcopy(opt["network_g"]))
    assert opt["model_type"] in MODEL_REGISTRY
    for dataset in opt["datasets"].values():
        assert dataset["type"] in DATASET_REGISTRY
    assert all(metric["type"] in METRIC_REGISTRY for metric in opt["val"]["metrics"].values())
    monkeypatch.chdir(tmp_path)  # with the folders that it names, the file passes its own checks
    for dataset in opt["datasets"].values():
        for root in ("dataroot_gt", "dataroot_lq"):
            if dataset.get(root):
                (tmp_path / dataset[root]).mkdir(parents=True, exist_ok=True)
    weights = opt["path"].get("pretrain_network_g")
    if weights:
        (tmp_path / weights).parent.mkdir(parents=True, exist_ok=True)
        save_whole(
            {"params": build_network(copy.deepcopy(opt["network_g"])).state_dict()}, str(tmp_path / weights)
        )
    if opt.get("train"):
        opt["train"].pop("teacher", None)  # published weights that this machine may not have
    check_options(opt)
    text = path.read_text()
    # How to launch it stands on top
    assert "liif t" in text.split("name:")[0] or "liif demo" in text.split("name:")[0]


def test_the_paper_setting():
    opt = read_options(str(packaged_files()["train_liif_edsr.yml"]))
    train = opt["train"]
    assert train["total_iter"] == 1_000_000 and train["scheduler"]["milestones"] == [
        200_000,
        400_000,
        600_000,
        800_000,
    ]
    assert (
        train["optim_g"] == {"type": "Adam", "lr": 1e-4}
        and train["pixel_opt"]["loss_weight"] == 2.0
        and train["ema_decay"] == 0
    )
    data = opt["datasets"]["train"]
    assert (data["batch_size_per_gpu"], data["lq_size"], data["num_queries"], data["scale_range"]) == (
        16,
        48,
        2304,
        [1, 4],
    )
    assert [key for key in opt["datasets"] if key != "train"] == [
        "val_x2",
        "val_x3",
        "val_x4",
        "val_x6",
        "val_x12",
    ]


@pytest.fixture
def good(tmp_path, image_folder):
    path = tmp_path / "train_good.yml"
    path.write_text(TINY_YML.format(root=image_folder(), total=4, every=2, workers=0))
    opt = parsed(path)
    check_options(copy.deepcopy(opt))
    return opt


def put(opt, keys, value):
    *parents, last = keys.split(":")
    for key in parents:
        opt = opt[key]
    if value is KeyError:
        del opt[last]
    else:
        opt[last] = value


@pytest.mark.parametrize(
    ("keys", "value", "words"),
    [
        ("model_type", "ContinousSRModel", "did you mean 'ContinuousSRModel'"),
        ("network_g:type", "LIF", "nothing named 'LIF'.*did you mean 'LIIF'"),
        ("network_g:hiden_list", [1], "unknown option 'hiden_list'.*did you mean 'hidden_list'"),
        ("network_g:encoder", KeyError, "'encoder' is missing"),
        ("datasets:train:num_query", 1, "did you mean 'num_queries'"),
        ("datasets:train:type", "ArbitaryScaleDataset", "did you mean 'ArbitraryScaleDataset'"),
        ("datasets:train:dataroot_gt", "no/where", "there is no folder no/where"),
        ("datasets:train:batch_size_per_gpu", KeyError, "'batch_size_per_gpu' is missing"),
        ("datasets:train:persistent_workers", True, "needs num_worker_per_gpu"),
        ("datasets:train:prefetch_mode", "gpu", "expected cuda, cpu or ~"),
        ("datasets:train:prefetch_mode", "cuda", "needs a CUDA GPU and pin_memory"),
        ("datasets:train:scale", 4, "'scale' is for validation sets"),
        ("datasets:train_b", {"name": "b", "type": "ArbitraryScaleDataset"}, "expected train, val"),
        ("network_g:encoder:num_fet", 8, "did you mean 'num_feat'"),
        ("network_g:encoder:img_range", 1.0, "unknown option 'img_range'"),
        ("network_g:encoder:num_feat", "many", "num_feat: expected a number"),
        ("path:pretrain_networks_g", "x", "did you mean 'pretrain_network_g'"),
        ("train:optim_g:weight_decy", 0, "did you mean 'weight_decay'"),
        ("train:optim_g:type", "Adamm", "did you mean 'Adam"),
        ("train:optim_g:lr", KeyError, "'lr' is missing"),
        ("train:optim_g:type", "LBFGS", "LBFGS cannot be used here: it needs a closure"),
        ("train:scheduler:restart_weights", [1, 1], "as many restart_weights as restarts"),
        ("train:pixel_opt:reduction", "none", "expected mean, sum, got 'none'"),
        ("train:scheduler:type", "Cosine", "expected one of MultiStepLR"),
        ("train:scheduler:milestone", [1], "did you mean 'milestones'"),
        ("train:total_iter", "1M", "whole number of 1 or more"),
        ("logger:print_freq", 0, "whole number of 1 or more"),
        ("val:val_freq", -1, "whole number of 1 or more"),
        ("val:val_freq", KeyError, "'val_freq' is missing"),
        ("logger:wandb", {"projct": "x"}, "did you mean 'project'"),
        ("logger:wandb", {"project": "x"}, "needs use_tb_logger: true"),
        ("val:precision", "bf61", "did you mean 'bf16'"),
        ("val:cell_clamp", 0, "cell_clamp: expected a number of 1 or more"),
        ("datasets:validation", {"name": "a", "type": "ArbitraryScaleDataset"}, "expected train, val"),
        ("datasets:val_x2:protocol", "bench", "got 'bench'"),
        ("datasets:val_x2:protocol", KeyError, "needs a protocol"),
        ("datasets:val_x2:name", "tiny_train", "two sets are called 'tiny_train'"),
        ("val:metrics:psnr:type", "continuous_pnsr", "did you mean 'continuous_psnr'"),
        ("val:metrics:psnr:crop", 2, "unknown option 'crop'"),
        ("val:val_frequency", 2, "did you mean 'val_freq'"),
        ("val:sample", {}, "did you mean 'samples'"),
        ("val:samples", {"scale": [2]}, "did you mean 'scales'"),
        ("val:best_by", "tiny_x3/psnr", "no val set has 'tiny_x3/psnr'.*did you mean 'tiny_x2/psnr'"),
        ("logger:keep_checkpoint", 2, "did you mean 'keep_checkpoints'"),
        ("logger:keep_checkpoints", 0, "whole number of 1 or more"),
        ("train:learning_rate", 2, "unknown option 'learning_rate'"),
        ("train:precision", "bf61", "did you mean 'bf16'"),
        ("train:gradient_weight", 1e-4, "expected a network with has_gradient, such as Thera, got LIIF"),
        ("train:pixel_opt:type", "L3Loss", "did you mean 'L1Loss'"),
        ("train:pixel_opt:weight", 2, "unknown option 'weight'"),
        ("train:scheduler", KeyError, "'scheduler' is missing"),
        ("logger:print_freq", KeyError, "'print_freq' is missing"),
        ("path:pretrain_network_g", "no.pth", "there is no file no.pth"),
        ("scale", 2, "at the top of an option file"),
        ("nmae", 2, "unknown option 'nmae'.*did you mean 'name'"),
    ],
)
def test_mistakes_are_named(good, keys, value, words):
    put(good, keys, value)
    with pytest.raises(UserError, match=words):
        check_options(good)


def test_a_network_of_one_scale_takes_no_cells(good):
    good["network_g"] = dict(EDSR)
    good["datasets"]["train"].update(num_queries=None, scale_range=[2, 2])
    check_options(copy.deepcopy(good))
    good["val"]["cell_clamp"] = 4
    with pytest.raises(UserError, match=r"val\.cell_clamp: EDSR has one scale and takes no cells"):
        check_options(good)


def test_validation_without_sets(good):
    """BasicSR reads val.val_freq whenever there is a val block."""
    for key in [key for key in good["datasets"] if key.startswith("val")]:
        del good["datasets"][key]
    check_options(copy.deepcopy(good))
    del good["val"]["val_freq"]
    with pytest.raises(UserError, match="'val_freq' is missing"):
        check_options(good)


def test_wandb(good, monkeypatch):
    """A missing package is named before the experiment's folder is made; new releases are adapted to."""
    good["logger"].update(wandb={"project": "x", "resume_id": None}, use_tb_logger=True)
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(UserError, match="pip install wandb"):
        check_options(copy.deepcopy(good))
    fakes = {
        name: types.ModuleType(name)
        for name in ("wandb", "wandb.util", "wandb.sdk", "wandb.sdk.lib", "wandb.sdk.lib.runid")
    }
    fakes["wandb"].__spec__, fakes["wandb"].util = object(), fakes["wandb.util"]
    fakes["wandb.sdk.lib.runid"].generate_id = lambda: "id"
    for name, module in fakes.items():
        monkeypatch.setitem(sys.modules, name, module)
    check_options(good)
    training_loop._restore_generate_id()
    assert fakes["wandb"].util.generate_id() == "id"


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_gpus_that_are_not_there(good):
    good["num_gpu"] = 2
    with pytest.raises(UserError, match="shows no CUDA GPU"):
        check_options(good)


def test_other_models_are_left_alone():
    check_options({"model_type": "SRModel", "anything": 1})


def test_tests_need_weights_and_leave_the_training_set_out(good, tmp_path):
    good["is_train"] = False
    with pytest.raises(UserError, match="a test needs trained weights"):
        check_options(good)
    (tmp_path / "w.pth").touch()
    good["path"]["pretrain_network_g"] = str(tmp_path / "w.pth")
    with pytest.raises(UserError, match=r"w.pth: not a checkpoint"):
        check_options(copy.deepcopy(good))
    save_whole(
        {"params": build_network(dict(good["network_g"], hidden_list=[8])).state_dict()},
        str(tmp_path / "w.pth"),
    )
    with pytest.raises(UserError, match=r"w.pth: expected weights that fit network_g"):
        check_options(copy.deepcopy(good))
    save_whole(
        {"params": build_network(copy.deepcopy(good["network_g"])).state_dict()}, str(tmp_path / "w.pth")
    )
    good["path"]["pretrain_network_g"] = str(tmp_path / "w.pth")
    check_options(good)
    assert list(good["datasets"]) == ["val_x2", "val_pair"]


def test_the_check_draws_what_one_network_draws(good):
    """The network is built once, in the check: the run goes on with the random numbers that BasicSR has."""
    torch.manual_seed(0)
    build_network(copy.deepcopy(good["network_g"]))
    expected = torch.rand(1)
    torch.manual_seed(0)
    check_options(good)
    assert torch.equal(torch.rand(1), expected)


@pytest.mark.parametrize(
    ("gpus", "dist", "num_gpu", "words"),
    [
        (4, False, 4, None),
        (2, True, 0, "hide them with CUDA_VISIBLE_DEVICES="),
        (2, True, 2, "3 processes here, but there are 2 GPUs"),
    ],
)
def test_devices(good, monkeypatch, gpus, dist, num_gpu, words):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "3")
    good.update(dist=dist, num_gpu=num_gpu)
    if words is None:
        check_options(good)
        assert good["num_gpu"] == 1  # DataParallel would lose autocast's dtype
        return
    with pytest.raises(UserError, match=words):
        check_options(good)
