"""The plain forms are the same function, and `liif bench` runs as a user runs it."""

import json
import sys

import numpy as np
import pytest
import torch
from basicsr.archs import build_network

from helpers.pictures import picture
from liif_plugin.bench import large, parts, plain
from liif_plugin.checkpoints.conversion import convert, load_foreign
from liif_plugin.cli import main
from liif_plugin.inference.render import render
from liif_plugin.precision import choose_precision, has_bfloat16


def test_the_plain_decoder_is_the_same_function(golden):
    from helpers import GOLDEN

    block, state = convert(load_foreign(str(GOLDEN / "liif.pth")))
    net, numbers = build_network(block).eval(), golden("liif")
    net.load_state_dict(state)
    with torch.no_grad():
        feat = net.encode(numbers["inp"])
        rgb = plain.query(net, feat, numbers["random_coord"], numbers["random_cell"])
    assert ((rgb - 0.5) / 0.5 - numbers["random_pred"]).abs().max() < 1e-5  # the authors' numbers
    size = tuple(n * 3 + 1 for n in feat.shape[-2:])
    assert (plain.decode(net, feat[:1], size) - render(net, numbers["inp"][:1], size)).abs().max() < 1e-5


def test_the_plain_item():
    lq, coord, cell, gt = plain.item(picture(0, 200, 210), 48, 100, np.random.default_rng(0))
    assert (
        lq.shape == (3, 48, 48)
        and coord.shape == cell.shape == (100, 2)
        and gt.shape == (100, 3)
        and 0 <= gt.min() <= gt.max() <= 1
    )


def test_parts(image_folder, monkeypatch):
    monkeypatch.setattr(
        parts, "NETWORK", {"type": "LIIF", "encoder": {"type": "EDSR", "num_feat": 8, "num_block": 1}}
    )
    cpu, net = torch.device("cpu"), parts.network(torch.device("cpu"))
    for result in (
        parts.decode(net, cpu, torch.float32, 8, 1),
        parts.whole(net, cpu, torch.bfloat16, 8, 9, 1),
        parts.training_step(net, cpu, torch.float32, 1, 1),
        parts.data(str(image_folder(h=200, w=200)), 1, 2),
    ):
        assert result.ratio == pytest.approx(result.plain_seconds / result.seconds) and result.rate > 0
    assert (
        parts.decode(net, cpu, torch.float32, 8, 1).psnr > 100 and parts.matmul_rate(torch.float32, cpu) > 1e8
    )


def test_auto_precision_is_what_the_hardware_multiplies(monkeypatch):
    cpu = torch.device("cpu")
    for capable, name in (
        ("avx512_bf16", "bf16"),
        ("amx_bf16", "bf16"),
        ("avx512_f", "fp32"),
        ("bf16", "bf16"),
    ):
        monkeypatch.setattr(
            torch.cpu, "get_capabilities", lambda capable=capable: {capable: True}, raising=False
        )
        assert choose_precision("auto", cpu) == name and choose_precision("fp16", cpu) == "fp16"
        assert choose_precision("auto", torch.device("mps")) == "fp32"  # says nothing of itself


@pytest.mark.slow
def test_command(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["liif"])
    with pytest.raises(SystemExit) as stop:
        main(["bench", "--quick", "--json", str(tmp_path / "bench.json")])
    assert stop.value.code == 0 and "share of the matrix product" in capsys.readouterr().out
    facts = json.loads((tmp_path / "bench.json").read_text())
    lines = facts["results"]
    assert len(lines) == (6 if has_bfloat16(torch.device("cpu")) else 4) and all(
        line["ratio"] > 0.5 for line in lines
    )


def test_large(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["liif"])
    monkeypatch.setattr(large, "SIZES", ((40, 50), (60, 80), (90, 100)))
    with pytest.raises(SystemExit) as stop:
        main(["bench", "--large", "--quick", "--model", "liif-light"])
    said = capsys.readouterr().out
    assert stop.value.code == 0 and "80 x 60" in said and "s a megapixel" in said
    for wrong in (
        ["--model", "liif-light"],
        ["--large", "--memory", "0"],
        ["--json", "no/such/folder/x.json"],
    ):
        with pytest.raises(SystemExit, match="--m|--json no"):
            main(["bench", *wrong])
