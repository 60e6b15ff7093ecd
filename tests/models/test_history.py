"""What a training leaves behind: the best network, scores, samples, the summary, a line in the terminal,
TensorBoard.
"""

import json
import math
import os

import numpy as np
import pytest
import torch
from basicsr.archs import build_network
from PIL import Image

from helpers.processes import liif
from helpers.training import EDSR, LIIF, val_loader
from liif_plugin.config.option_types import check_block
from liif_plugin.errors import UserError
from liif_plugin.evaluation.figure import to_picture
from liif_plugin.evaluation.tables import scale_text
from liif_plugin.inference.render import render
from liif_plugin.models.history import BestBy, History, Scores, label
from liif_plugin.models.samples import SAMPLES, draw_samples


def options(best_by=None, **better):
    sets = {
        f"val_{name}": {"name": name, "metrics": metrics}
        for name, metrics in (("a", None), ("b", None), ("c", {"lpips": {"type": "x", "better": "lower"}}))
    }
    return {
        "datasets": sets,
        "val": {"metrics": {"psnr": {"type": "x"}, "ssim": {"type": "x"}}, "best_by": best_by},
    }


def test_scores_survive_and_are_forgotten(tmp_path):
    scores = Scores(str(tmp_path / "v.jsonl"), write=True)
    for step in (10, 20):
        for name in ("a", "b"):
            scores.add(step, name, (2.0, 3.1), {"psnr": step + len(name), "other": math.inf})
    again = Scores(str(tmp_path / "v.jsonl"), write=False)
    assert again.at(20) == {
        "a": {"psnr": 21, "other": math.inf},
        "b": {"psnr": 21, "other": math.inf},
    } and again.scale("b") == [2.0, 3.1]
    scores.forget_after(10)
    assert Scores(str(tmp_path / "v.jsonl"), write=False).at(20) == {} != scores.at(10)
    (tmp_path / "v.jsonl").write_text("{half")
    with pytest.raises(UserError, match="delete it"):
        Scores(str(tmp_path / "v.jsonl"), write=True)


def test_best_by():
    mean = BestBy(options())
    assert (
        str(mean) == "mean psnr"
        and mean.score({"a": {"psnr": 1, "ssim": 9}, "b": {"psnr": 2}, "c": {"lpips": 7}}) == 1.5
    )
    assert mean.better({"a": {"psnr": 2}}, None) and mean.better({"a": {"psnr": 2}}, {"a": {"psnr": 1}})
    assert not mean.better({"a": {"psnr": 2}}, {"a": {"psnr": 2}})  # the earlier one stays
    assert not mean.better({"a": {"psnr": math.nan}}, None) and not mean.better({"c": {"lpips": 1}}, None)
    both, one_set = {"a": {"psnr": 30}, "b": {"psnr": 20}}, {"a": {"psnr": 29}}
    assert mean.better(both, one_set) and not mean.better(one_set, both)  # by the sets that both have
    assert mean.better({"b": {"psnr": 1}}, one_set)
    one = BestBy(options("b/ssim"))
    assert str(one) == "ssim of b" and one.score({"a": {"ssim": 1}, "b": {"ssim": 3}}) == 3
    low = BestBy(options("lpips"))
    assert low.better({"c": {"lpips": 0.1}}, {"c": {"lpips": 0.2}}) and not low.better(
        {"c": {"lpips": 0.3}}, {"c": {"lpips": 0.2}}
    )
    with pytest.raises(
        UserError, match=r"no val set has 'pnsr' .did you mean 'psnr'..; valid are psnr, ssim, lpips, a/psnr"
    ):
        BestBy(options("pnsr"))
    with pytest.raises(UserError, match="no val set has 'c/psnr'"):
        BestBy(options("c/psnr"))


def test_a_set_without_a_stated_scale(tmp_path):
    history = History({"path": {"models": str(tmp_path / "models")}, "rank": 0})
    paired = type("Paired", (list,), {"opt": {"name": "p"}})(
        [{"lq": torch.zeros(3, 10, 10), "gt": torch.zeros(3, 20, 31)}]
    )
    assert history.scale_of(paired) == [2.0, 3.1]
    stated = type("Stated", (list,), {"opt": {"name": "s"}})
    lq, gt = torch.zeros(3, 10, 10), torch.zeros(3, 29, 31)
    assert history.scale_of(
        stated([{"lq": lq, "gt": gt, "scale": torch.tensor([3.0, 3.1], dtype=torch.float64)}])
    ) == [3.0, 3.1]
    history._scales.clear()
    assert history.scale_of(stated([{"lq": lq, "gt": gt, "scale": 3}])) == [3.0, 3.0]


def test_scales_in_words():
    """Width x height, as everywhere in what is printed; the list is (y, x)."""
    assert [scale_text(s) for s in ((2.7, 2.7), (2.0, 2.0), [2, 3.1])] == ["x2.7", "x2", "x3.1x2"]
    assert (
        label("Set5_x2", (2.0, 2.0)) == "Set5_x2"
        and label("Set5", (2.7, 2.7)) == "Set5 x2.7"
        and label("Set5", None) == "Set5"
    )


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"cout": 2}, "did you mean 'count'"),
        ({"count": 0}, "count: expected a whole number"),
        ({"scales": []}, "scales: expected a list"),
        ({"scales": [2, "x4"]}, "scales: expected a list"),
        ([2, 4], "expected a block"),
        ({"scales": [200]}, "at most 64"),
    ],
)
def test_wrong_samples(wrong, words):
    with pytest.raises(UserError, match=words):
        check_block("val.samples", wrong, SAMPLES)


def test_samples_show_the_middle_of_the_first_pictures(image_folder):
    """The tile of the largest scale is shown pixel by pixel: it must be the render that one would make by
    hand.
    """
    torch.manual_seed(0)
    dataset = val_loader(image_folder(), 2).dataset  # inputs of 32 x 36
    net = build_network(dict(LIIF)).eval()
    sheet = draw_samples(net, dataset, {"count": 2, "scales": [2, 4.5], "size": 24}, torch.device("cpu"))
    side, gap, caption = 108, 8, 42
    assert sheet.size == (3 * (side + gap) + gap, 4 * (side + caption + gap) + gap)
    lq = dataset[1]["lq"][:, 4:28, 6:30].unsqueeze(0)
    by_hand = np.asarray(to_picture(render(net, lq, (108, 108))))
    x, y = gap + 2 * (side + gap), gap + 3 * (side + caption + gap)
    assert np.array_equal(np.asarray(sheet)[y : y + side, x : x + side], by_hand)
    # Below the input
    truth = to_picture(dataset[1]["gt"][:, 8:56, 12:60]).resize((side, side), Image.NEAREST)
    assert np.array_equal(np.asarray(sheet.crop((gap, y, gap + side, y + side))), np.asarray(truth))
    stock = draw_samples(build_network(dict(EDSR)).eval(), dataset, {"count": 1}, torch.device("cpu"))
    assert stock.width == 2 * (72 + gap) + gap  # its own scale and no other


def test_a_whole_training(tmp_path, tiny_yml, zygote):
    """In a terminal: the line is there, the log file has none of it; afterwards everything that the README
    promises is in the folder.
    """
    import fcntl
    import pty
    import struct
    import termios

    def edit(text):
        text = text.replace("use_tb_logger: false", "use_tb_logger: true\n  keep_checkpoints: 1")
        return text.replace(
            "save_img: true",
            "save_img: false\n  samples: {count: 1, scales: [2, 3]}\n  best_by: tiny_x2/psnr",
        )

    yml = tiny_yml(total=12, every=4, edit=edit)
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    terminal = {"out": os.devnull, "err": os.ttyname(slave), "env": {"TERM": "xterm", "COLUMNS": "120"}}
    pid, _ = zygote.start("train", "-opt", yml, **terminal)
    os.close(slave)
    shown = b""
    while True:
        try:
            part = os.read(master, 65536)
        except OSError:  # Linux: the other end is closed
            part = b""
        if not part:
            break
        shown += part
    os.close(master)
    assert zygote.wait(pid) == 0, shown.decode()
    experiment = tmp_path / "experiments" / "tiny"
    log = next(experiment.glob("*.log")).read_text()
    assert b"it/s" in shown and "it/s" not in log and "\r" not in log

    summary = json.loads((experiment / "summary.json").read_text())
    lines = [json.loads(line) for line in (experiment / "validation.jsonl").read_text().splitlines()]
    assert [(line["iter"], line["set"]) for line in lines] == [
        (i, s) for i in (4, 8, 12) for s in ("tiny_x2", "tiny_x2_x3.1")
    ]
    psnr = {line["iter"]: line["metrics"]["psnr"] for line in lines if line["set"] == "tiny_x2"}
    best = torch.load(experiment / "models" / "net_g_best.pth", weights_only=True)
    assert best["best"]["iter"] == summary["best_iter"] == max(psnr, key=psnr.get) and best["best"][
        "score"
    ] == max(psnr.values())
    assert (
        best["params"].keys()
        == torch.load(experiment / "models" / "net_g_latest.pth", weights_only=True)["params"].keys()
    )
    table = (experiment / "summary.md").read_text()
    assert (
        f"{psnr[12]:.4f}" in table
        and "x3.1x2" in table
        and "psnr of tiny_x2" in table
        and table.strip() in log
    )
    assert sorted(path.name for path in (experiment / "samples").iterdir()) == ["12.png", "4.png", "8.png"]
    assert Image.open(experiment / "samples" / "8.png").width == 3 * (108 + 8) + 8
    assert [path.name for path in (experiment / "training_states").iterdir()] == ["12.state"]
    assert sorted(path.name for path in (experiment / "models").iterdir()) == [
        "net_g_12.pth",
        "net_g_best.pth",
        "net_g_latest.pth",
    ]

    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / "tb_logger" / "tiny")).Reload()
    tags = events.Tags()
    assert {"metrics/tiny_x2/psnr", "metrics/tiny_x2_x3.1 x3.1x2/ssim", "losses/l_pix"} <= set(
        tags["scalars"]
    ) and tags["images"] == ["samples"]
    assert [round(event.value, 3) for event in events.Scalars("metrics/tiny_x2/psnr")] == [
        round(psnr[i], 3) for i in (4, 8, 12)
    ]


def test_the_best_network_is_the_one_that_was_measured(tmp_path, tiny_yml):
    """A rate that ruins the network after the first validation: net_g_best.pth is the earlier one, bit for
    bit.
    """
    yml = tiny_yml(total=8, every=4, edit=lambda text: text.replace("[100], gamma: 0.5", "[4], gamma: 3000"))
    done = liif("train", "-opt", yml, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    models = tmp_path / "experiments" / "tiny" / "models"
    best, fourth, last = (
        torch.load(models / f"net_g_{name}.pth", weights_only=True) for name in ("best", "4", "8")
    )
    assert best["best"]["iter"] == 4 and all(
        torch.equal(best["params"][key], fourth["params"][key]) for key in fourth["params"]
    )
    assert not all(torch.equal(best["params"][key], last["params"][key]) for key in last["params"])


def test_going_back_to_an_older_state(tmp_path, tiny_yml):
    """By name: the other course's best network and pictures give way; by --auto_resume they are this run's
    own.
    """
    yml = tiny_yml(
        total=8,
        every=4,
        edit=lambda text: text.replace("val_freq: 4", "val_freq: 4\n  samples: {count: 1, scales: [2]}"),
    )
    assert liif("train", "-opt", yml, cwd=tmp_path).returncode == 0
    models, samples = (tmp_path / "experiments" / "tiny" / name for name in ("models", "samples"))
    best = torch.load(models / "net_g_best.pth", weights_only=True)
    best["best"]["iter"], best["best"]["results"]["tiny_x2"]["psnr"] = 8, 99.0
    torch.save(best, models / "net_g_best.pth")
    before = (samples / "8.png").read_bytes()
    state = models.parent / "training_states" / "4.state"
    sets = [f"path:resume_state={state}", "val:samples:scales=[3]", "train:total_iter=6"]
    done = liif("train", "-opt", yml, "--force_yml", *sets, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (
        "it is called net_g_best_8.pth now" in done.stderr
        and "up to 8: --auto_resume would go on from those" in done.stderr
    )
    assert torch.load(models / "net_g_best_8.pth", weights_only=True)["best"]["iter"] == 8
    assert torch.load(models / "net_g_best.pth", weights_only=True)["best"]["iter"] == 6
    assert (
        not (samples / "8.png").exists()
        and (samples / "4.png").exists()
        and (samples / "6.png").read_bytes() != before
    )
