"""The trainer inside this process: learns, validates like one would by hand, takes stock networks, saves
whole files.
"""

import math
import os

import numpy as np
import pytest
import torch
import yaml
from basicsr.archs import build_network
from basicsr.models import build_model
from PIL import Image

from helpers.pictures import picture
from helpers.training import EDSR, LIIF, batch, options, steps, train_set, val_loader
from liif_plugin.checkpoints import files as checkpoint
from liif_plugin.checkpoints.files import newest_weights
from liif_plugin.errors import UserError
from liif_plugin.evaluation.single_image import picture_name, predict
from liif_plugin.evaluation.validation import validate
from liif_plugin.inference.render import render
from liif_plugin.metrics.continuous_metric import continuous_psnr
from liif_plugin.models.checks import check_options, fill_defaults
from liif_plugin.models.parts import check_parts


@pytest.mark.parametrize(
    "train",
    [
        {},
        {"precision": "bf16", "channels_last": True},
        {"grad_clip": 0.1, "ema_decay": 0.9},
        {"precision": "fp16"},
        {"precision": "auto"},
        {"optim_g": {"type": "AdamW", "lr": 5e-3}},
    ],
)
def test_twenty_steps_lower_the_loss(tmp_path, image_folder, train):
    torch.manual_seed(0)
    model, dataset = build_model(options(tmp_path, **train)), train_set(image_folder())
    losses = steps(model, dataset, 20)
    assert np.mean(losses[-5:]) < 0.75 * np.mean(losses[:5])
    assert model.output.shape == (4, 64, 3)
    if train.get("grad_clip"):
        norm = torch.nn.utils.clip_grad_norm_(model.net_g.parameters(), 1e9)
        assert norm < 0.1 + 1e-5


def test_parts_have_their_own_rates(tmp_path, image_folder):
    rates = {"encoder": 1e-3, "encoder.net.conv_first": 4e-3}
    torch.manual_seed(0)
    model = build_model(options(tmp_path, part_lr=rates, optim_g={"type": "Adam", "lr": 2e-3}))
    before = {name: value.clone() for name, value in model.net_g.named_parameters()}
    steps(model, train_set(image_folder()), 1)
    moved = {
        name: (value - before[name]).abs().max().item() for name, value in model.net_g.named_parameters()
    }
    # The first step of Adam moves every number by its learning rate, where the gradient is not tiny.
    assert moved["encoder.net.conv_first.weight"] == pytest.approx(4e-3, rel=1e-2)
    assert moved["encoder.net.body.0.conv1.weight"] == pytest.approx(1e-3, rel=1e-2)
    assert moved["imnet.layers.0.weight"] == pytest.approx(2e-3, rel=1e-2)
    assert len(moved) == sum(len(group["params"]) for group in model.optimizer_g.param_groups)


def test_frozen_parts_stay_as_they_are(tmp_path, image_folder):
    torch.manual_seed(0)
    model = build_model(options(tmp_path, freeze=["encoder", "imnet.layers.0.bias"]))
    before = {name: value.clone() for name, value in model.net_g.named_parameters()}
    steps(model, train_set(image_folder()), 2)
    still = {name for name, value in model.net_g.named_parameters() if torch.equal(value, before[name])}
    frozen = {name for name in before if name.startswith("encoder.") or name == "imnet.layers.0.bias"}
    assert still == frozen
    assert len(frozen) == len(before) - sum(len(group["params"]) for group in model.optimizer_g.param_groups)


def test_a_teacher_is_learned(tmp_path, image_folder):
    """With the teacher's own weights the loss is zero; its share is what the option says."""
    dataset = train_set(image_folder())
    torch.manual_seed(0)
    teacher = build_model(options(tmp_path))
    teacher.save(0, 1)
    weights = tmp_path / "models" / "net_g_1.pth"
    (tmp_path / "models" / "net_g_1.yml").write_text(yaml.safe_dump({"network_g": LIIF}))
    model = build_model(options(tmp_path, teacher=str(weights)))
    model.net_g.load_state_dict(teacher.net_g.state_dict())
    assert steps(model, dataset, 1) == [0.0]
    assert list(model.log_dict) == ["l_teacher"]
    assert model._last_loss() == "l_teacher 0.0000e+00"  # what a stopped run says
    torch.manual_seed(1)
    half = build_model(options(tmp_path, teacher=str(weights), teacher_weight=0.25))
    data = batch(dataset, 0)
    with torch.no_grad():
        answer = half.net_g(data["lq"], data["coord"], data["cell"])
        taught = teacher.net_g(data["lq"], data["coord"], data["cell"])
    steps(half, dataset, 1)
    scale = half.opt["train"]["pixel_opt"].get("loss_weight", 1.0)
    assert half.log_dict["l_teacher"] == pytest.approx(0.25 * scale * (answer - taught).abs().mean().item())
    assert half.log_dict["l_pix"] == pytest.approx(0.75 * scale * (answer - data["gt"]).abs().mean().item())


@pytest.mark.parametrize(
    ("part_lr", "message"),
    [
        ({"encodr": 1e-3}, "train.part_lr: expected parts of the network .*, got 'encodr'.*'encoder'"),
        ({"encoder": 0}, "train.part_lr: encoder: expected a number above 0"),
        ({"encoder.net.conv": 1e-3}, "got 'encoder.net.conv'"),
    ],
)
def test_mistakes_in_the_rates_of_parts(part_lr, message):
    with pytest.raises(UserError, match=message):
        check_parts(build_network(LIIF), part_lr, ())


@pytest.mark.parametrize(
    ("freeze", "message"),
    [
        (["encodr"], "train.freeze: expected parts of the network .*, got 'encodr'.*'encoder'"),
        (["encoder", "imnet"], "train.freeze: encoder, imnet is the whole network"),
    ],
)
def test_mistakes_in_what_is_frozen(freeze, message):
    with pytest.raises(UserError, match=message):
        check_parts(build_network(LIIF), {}, freeze)


def test_the_gradient_penalty_is_a_term_of_the_loss(tmp_path, image_folder):
    """It is logged, it is what the network says, and it makes the field smoother."""
    thera = {"type": "Thera", "encoder": {"type": "EDSR", "num_feat": 8, "num_block": 1}, "waves": 8}
    torch.manual_seed(0)
    model = build_model(options(tmp_path, thera, gradient_weight=0.01))
    dataset = train_set(image_folder())
    data = batch(dataset, 0)
    _, gradient = model.net_g(data["lq"], data["coord"], data["cell"], with_gradient=True)
    expected = 0.01 * gradient.abs().mean().item()
    steps(model, dataset, 1)
    assert list(model.log_dict) == ["l_pix", "l_gradient"]
    assert abs(model.log_dict["l_gradient"] - expected) < 1e-6 * expected
    steps(model, dataset, 19, start=1)
    assert model.log_dict["l_gradient"] < 0.7 * expected


@pytest.mark.slow
def test_compiled_training(tmp_path, image_folder):
    torch.manual_seed(0)
    model, dataset = build_model(options(tmp_path, compile=True)), train_set(image_folder())
    torch.manual_seed(0)
    plain = build_model(options(tmp_path))
    assert np.allclose(steps(model, dataset, 4), steps(plain, dataset, 4), rtol=1e-4)


def test_validation_is_what_one_would_do_by_hand(tmp_path, image_folder):
    torch.manual_seed(0)
    folder = image_folder()
    model, loader = build_model(options(tmp_path)), val_loader(folder, [2, 3.1])
    model.validation(loader, 7, None, save_img=True)
    by_hand = []
    for item in loader:
        sr = render(model.net_g.eval(), item["lq"], item["gt"].shape[-2:])
        by_hand.append(continuous_psnr(sr, item["gt"], (2, 3.1), "benchmark"))
    assert abs(model.metric_results["psnr"] - np.mean(by_hand)) < 1e-9
    assert sorted(path.name for path in (tmp_path / "vis" / "v[2, 3.1]").iterdir()) == [
        "img_0_7.png",
        "img_1_7.png",
        "img_2_7.png",
    ]
    assert np.asarray(Image.open(tmp_path / "vis" / "v[2, 3.1]" / "img_0_7.png")).shape == (64, 71, 3)
    assert model.best_metric_results["v[2, 3.1]"]["psnr"]["iter"] == 7
    # eval above; validation leaves the mode as it found it
    assert model.get_bare_model(model.net_g).training is False


def test_shards_add_up(tmp_path, image_folder):
    torch.manual_seed(0)
    dataset = val_loader(image_folder(count=5), 2.7).dataset
    net = build_model(options(tmp_path)).net_g.eval()
    metrics = {"psnr": {"type": "continuous_psnr"}}
    whole = validate(net, dataset, metrics, torch.device("cpu"))["psnr"]
    seen = []
    for rank in range(2):
        validate_shard = [dataset[i] for i in range(rank, 5, 2)]
        for item in validate_shard:
            sr = render(net, item["lq"].unsqueeze(0), item["gt"].shape[-2:])
            seen.append(continuous_psnr(sr, item["gt"].unsqueeze(0), 2.7, "benchmark"))
    assert len(seen) == 5 and abs(whole - np.mean(seen)) < 1e-9
    assert validate(net, dataset, metrics, torch.device("cpu"), stop=lambda: True) is None


def test_own_metrics_of_a_set_and_no_second_pass(tmp_path, image_folder):
    model = build_model(options(tmp_path))
    loader = val_loader(image_folder(), 2, metrics={"ssim": {"type": "continuous_ssim"}})
    model.validation(loader, 3, None, save_img=False)
    assert list(model.metric_results) == ["ssim"] and 0 < model.metric_results["ssim"] < 1
    model._steps = 5
    model.validation(loader, 5, None, save_img=False)
    model.metric_results = None
    model.validation(loader, 102, None, save_img=False)  # BasicSR's last pass over an unchanged network
    assert model.metric_results is None


def test_ema_is_what_is_validated(tmp_path, image_folder):
    torch.manual_seed(0)
    folder = image_folder()
    model = build_model(options(tmp_path, ema_decay=0.5))
    steps(model, train_set(folder), 3)
    loader = val_loader(folder, 2)
    model.validation(loader, 3, None, save_img=False)
    expected = validate(
        model.net_g_ema.eval(), loader.dataset, model.opt["val"]["metrics"], torch.device("cpu")
    )
    plain = validate(model.net_g.eval(), loader.dataset, model.opt["val"]["metrics"], torch.device("cpu"))
    assert model.metric_results == expected != plain


def test_a_stock_network_trains_and_is_measured_too(tmp_path, image_folder):
    torch.manual_seed(0)
    folder = image_folder()
    model = build_model(options(tmp_path, EDSR))
    losses = steps(model, train_set(folder, scale_range=[2, 2], num_queries=None), 20)
    assert np.mean(losses[-5:]) < np.mean(losses[:5])
    model.validation(val_loader(folder, 2), 20, None, save_img=False)
    assert math.isfinite(model.metric_results["psnr"])
    with pytest.raises(UserError, match="EDSR enlarges only by x2"):
        model.validation(val_loader(folder, 3), 20, None, save_img=False)


def test_stock_swinir_at_a_size_that_is_no_multiple_of_its_window():
    from basicsr.archs import build_network

    torch.manual_seed(0)
    net = build_network(
        {
            "type": "SwinIR",
            "upscale": 2,
            "img_size": 8,
            "window_size": 4,
            "depths": [2],
            "embed_dim": 12,
            "num_heads": [2],
            "upsampler": "pixelshuffledirect",
            "mlp_ratio": 2,
        }
    ).eval()
    lq = torch.rand(1, 3, 11, 13)
    assert predict(net, lq, (22, 26)).shape == (1, 3, 22, 26)
    assert torch.allclose(predict(net, lq[..., :8, :12], (16, 24)), net(lq[..., :8, :12]), atol=1e-6)


def test_resume_with_rates_of_parts(tmp_path, image_folder):
    folder, rates = image_folder(), {"encoder": 1e-3}
    model = build_model(options(tmp_path, part_lr=rates))
    steps(model, train_set(folder), 2)
    model.save(0, 2)
    expected = steps(model, train_set(folder), 2, start=2)
    state = torch.load(tmp_path / "training_states" / "2.state", weights_only=True)
    resume_from = {"pretrain_network_g": str(tmp_path / "models" / "net_g_2.pth")}
    again = options(tmp_path, part_lr=rates)
    again["path"].update(resume_from)
    again = build_model(again)
    again.resume_training(state)
    assert steps(again, train_set(folder), 2, start=2) == expected
    for other in ({}, {"encoder": 1e-3, "imnet.layers.0": 1e-4}, {"imnet": 1e-3}):
        with pytest.raises(UserError, match=r"train.part_lr: the training state was saved with other parts"):
            build_model(options(tmp_path, part_lr=other)).resume_training(state)


def test_resume_into_another_precision(tmp_path, image_folder):
    folder = image_folder()
    model = build_model(options(tmp_path))
    steps(model, train_set(folder), 2)
    model.save(0, 2)
    state = torch.load(tmp_path / "training_states" / "2.state", weights_only=True)
    again = build_model(options(tmp_path, precision="fp16"))
    again.resume_training(state)
    assert math.isfinite(steps(again, train_set(folder), 1, start=2)[0])
    assert state["optimizers"][0]["state"][0]["step"].device.type == "cpu"


def test_half_precision_touches_the_network_alone(tmp_path, image_folder):
    """A stock metric that multiplies matrices, and bicubic, must not be rounded by the network's autocast."""
    from basicsr.archs import build_network

    loader, cpu = val_loader(image_folder(), 2), torch.device("cpu")
    metrics = {"y": {"type": "calculate_psnr_pt", "crop_border": 2, "test_y_channel": True}}
    bicubic = build_network({"type": "Bicubic"})
    exact = validate(bicubic, loader.dataset, metrics, cpu)["y"]
    assert abs(validate(bicubic, loader.dataset, metrics, cpu, dtype=torch.bfloat16)["y"] - exact) < 1e-6


def test_queries_and_networks_must_match(tmp_path, image_folder):
    folder = image_folder()
    with pytest.raises(UserError, match=r"EDSR: set datasets.train.num_queries to ~"):
        steps(build_model(options(tmp_path, EDSR)), train_set(folder), 1)
    with pytest.raises(UserError, match=r"LIIF: set datasets.train.num_queries to a number"):
        steps(build_model(options(tmp_path)), train_set(folder, scale_range=[2, 2], num_queries=None), 1)


def test_a_loss_that_is_no_number_stops_the_run(tmp_path, image_folder):
    model = build_model(options(tmp_path))
    torch.nn.init.constant_(model.net_g.imnet.linears[-1].bias, math.nan)
    with pytest.raises(UserError, match="the loss became nan at iteration 1"):
        steps(model, train_set(image_folder()), 1)


def test_save_and_load(tmp_path, image_folder):
    torch.manual_seed(0)
    folder = image_folder()
    model = build_model(options(tmp_path, ema_decay=0.9))
    steps(model, train_set(folder), 2)
    model.save(0, 2)
    model.save(-1, -1)
    assert sorted(p.name for p in (tmp_path / "models").iterdir()) == ["net_g_2.pth", "net_g_latest.pth"]
    assert [p.name for p in (tmp_path / "training_states").iterdir()] == ["2.state"]
    saved = torch.load(tmp_path / "models" / "net_g_2.pth", weights_only=True)
    assert (
        set(saved) == {"params", "params_ema", "iter"}
        and saved["iter"] == 2
        and "mean" not in saved["params"]
    )
    assert torch.load(tmp_path / "models" / "net_g_latest.pth", weights_only=True)["iter"] == 2
    opt = options(tmp_path)
    opt["path"]["pretrain_network_g"] = str(tmp_path / "models" / "net_g_2.pth")
    again = build_model(opt)
    assert all(
        torch.equal(a, b)
        for a, b in zip(again.net_g.state_dict().values(), model.net_g.state_dict().values())
    )


def test_weights_of_which_nothing_fits_are_refused_without_strict_load_too(tmp_path):
    """BasicSR would train on from random weights; one tensor that fits is enough."""
    weights = tmp_path / "encoder.pth"
    opt = options(tmp_path)
    opt["path"].update(pretrain_network_g=str(weights), strict_load_g=False)
    for name, shape in (
        ("conv_first.bias", [8]),
        ("imnet.layers.0.bias", [5]),
    ):  # another name, another shape
        torch.save({"params": {name: torch.zeros(shape)}}, weights)
        with pytest.raises(UserError, match=r"encoder.pth: none of its 1 tensors fits network_g \(LIIF\)"):
            build_model(opt)
    bias = torch.rand_like(build_model(options(tmp_path)).net_g.imnet.layers[0].bias)
    torch.save({"params": {"imnet.layers.0.bias": bias, "other": torch.zeros(3)}}, weights)
    assert torch.equal(build_model(opt).net_g.imnet.layers[0].bias, bias)


def test_the_newest_weights(tmp_path):
    """A finished run is net_g_latest.pth; one that was taken up again and stopped has newer ones; a copied
    folder has any times.
    """
    assert newest_weights(str(tmp_path)) is None

    def put(name, iteration, time):
        torch.save(
            {"params": {}, **({} if iteration is None else {"iter": iteration})},
            tmp_path / f"net_g_{name}.pth",
        )
        os.utime(tmp_path / f"net_g_{name}.pth", (time, time))

    def newest():
        return os.path.basename(newest_weights(str(tmp_path)))

    put("best", None, 99)
    put(10, 10, 1)
    put(20, 20, 2)
    assert newest() == "net_g_20.pth"
    put("latest", 25, 3)
    assert newest() == "net_g_latest.pth"
    put(20, 20, 9)  # copied later
    assert newest() == "net_g_latest.pth"
    put(30, 30, 10)
    assert newest() == "net_g_30.pth"
    put("latest", 28, 11)  # copied last: file times do not count
    assert newest() == "net_g_30.pth"
    put("latest", None, 3)  # of an older version
    assert newest() == "net_g_latest.pth"


def test_a_test_takes_what_training_measured(tmp_path, image_folder, caplog):
    """The EMA weights where there are some; and a network without parameters is no matter for
    DistributedDataParallel.
    """
    model = build_model(options(tmp_path, ema_decay=0.9))
    steps(model, train_set(image_folder()), 2)
    model.save(0, 2)
    opt = options(tmp_path)
    opt["path"]["pretrain_network_g"] = str(tmp_path / "models" / "net_g_2.pth")
    opt["datasets"] = {}
    opt["is_train"] = False
    fill_defaults(opt)
    check_options(opt)
    tested = build_model(opt)
    assert all(
        torch.equal(a, b)
        for a, b in zip(tested.net_g.state_dict().values(), model.net_g_ema.state_dict().values())
    )
    bicubic = {**options(tmp_path), "is_train": False, "dist": True, "network_g": {"type": "Bicubic"}}
    assert type(build_model(bicubic).net_g).__name__ == "Bicubic"


@pytest.mark.parametrize(
    ("write", "words"),
    [
        (lambda path: path.write_bytes(b"PK\x03\x04 torn"), "not a checkpoint that can be read safely"),
        (
            lambda path: torch.save({"params": {"x": torch.zeros(1)}}, path),
            "expected weights that fit network_g .LIIF., found .* missing",
        ),
        (
            lambda path: torch.save({"model": {}}, path),
            "expected a BasicSR checkpoint with 'params', found model",
        ),
        (lambda path: torch.save([print], path), "not a checkpoint that can be read safely"),
    ],
)
def test_wrong_checkpoints(tmp_path, write, words):
    write(tmp_path / "w.pth")
    opt = options(tmp_path)
    opt["path"]["pretrain_network_g"] = str(tmp_path / "w.pth")
    with pytest.raises(UserError, match=words):
        build_model(opt)


def test_a_full_disk_leaves_the_old_checkpoint_whole(tmp_path, monkeypatch):
    path = tmp_path / "a.pth"
    checkpoint.save_in_experiment({"v": 1}, str(path))

    def full(obj, file):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(UserError, match=r"No space left on device.*Earlier checkpoints are complete"):
        checkpoint.save_in_experiment({"v": 2}, str(path))
    monkeypatch.undo()
    assert torch.load(path, weights_only=True) == {"v": 1} and [p.name for p in tmp_path.iterdir()] == [
        "a.pth"
    ]


def test_results_of_subfolders_stay_apart():
    assert picture_name("/set/a/1.png", "/set") == "a/1" != picture_name("/set/a_1.png", "/set")


def test_pictures_survive_an_image_of_one_pixel(tmp_path):
    Image.fromarray(picture(0, 2, 2)).save(tmp_path / "dot.png")
    model = build_model(options(tmp_path))
    loader = val_loader(tmp_path, 2, protocol="plain", metrics={"psnr": {"type": "continuous_psnr"}})
    model.validation(loader, 1, None, save_img=False)
    assert math.isfinite(model.metric_results["psnr"])
