"""The plain forms are the same function, and benchmarks/bench.py runs as a user runs it."""

import json

import bench
import bench_large
import bench_parts
import numpy as np
import pytest
import torch
from basicsr.archs import build_network
from plain_item import plain_item

from helpers import GOLDEN, ROOT
from helpers.pictures import picture
from helpers.processes import python
from liif_plugin.archs.reference import reference_image, reference_query
from liif_plugin.checkpoints.conversion import convert, load_foreign
from liif_plugin.inference.render import render
from liif_plugin.precision import choose_precision, has_bfloat16


def test_the_plain_decoder_is_the_same_function(golden):
    block, state = convert(load_foreign(str(GOLDEN / "liif.pth")))
    net, numbers = build_network(block).eval(), golden("liif")
    net.load_state_dict(state)
    with torch.no_grad():
        feat = net.encode(numbers["inp"])
        rgb = reference_query(net, feat, numbers["random_coord"], numbers["random_cell"])
    assert ((rgb - 0.5) / 0.5 - numbers["random_pred"]).abs().max() < 1e-5  # the authors' numbers
    size = tuple(n * 3 + 1 for n in feat.shape[-2:])
    assert (reference_image(net, feat[:1], size) - render(net, numbers["inp"][:1], size)).abs().max() < 1e-5


def test_the_plain_item():
    lq, coord, cell, gt = plain_item(picture(0, 200, 210), 48, 100, np.random.default_rng(0))
    assert (
        lq.shape == (3, 48, 48)
        and coord.shape == cell.shape == (100, 2)
        and gt.shape == (100, 3)
        and 0 <= gt.min() <= gt.max() <= 1
    )


def test_parts(image_folder, monkeypatch):
    monkeypatch.setattr(
        bench_parts, "NETWORK", {"type": "LIIF", "encoder": {"type": "EDSR", "num_feat": 8, "num_block": 1}}
    )
    cpu, net = torch.device("cpu"), bench_parts.network(torch.device("cpu"))
    for result in (
        bench_parts.measure_decoder(net, cpu, torch.float32, 8, 1),
        bench_parts.measure_render(net, cpu, torch.bfloat16, 8, 9, 1),
        bench_parts.measure_training_step(net, cpu, torch.float32, 1, 1),
        bench_parts.measure_items(str(image_folder(h=200, w=200)), 1, 2),
    ):
        assert result.ratio == pytest.approx(result.plain_seconds / result.seconds) and result.rate > 0
    assert (
        bench_parts.measure_decoder(net, cpu, torch.float32, 8, 1).psnr > 100
        and bench_parts.matmul_rate(torch.float32, cpu) > 1e8
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


def test_the_matrix_product_is_measured_in_every_pair(monkeypatch):
    rates = []
    monkeypatch.setattr(bench_parts, "matmul_rate", lambda dtype, device: rates.append(dtype) or 1e9)
    pairs = bench_parts.measure_pairs(
        lambda: None, lambda: None, torch.device("cpu"), 3, flop=1e6, dtype=torch.bfloat16
    )
    assert rates == [torch.bfloat16] * 3 and pairs.share > 0
    assert bench_parts.measure_pairs(lambda: None, lambda: None, torch.device("cpu"), 1).share is None


@pytest.mark.slow
def test_command(tmp_path):
    script = ROOT / "benchmarks" / "bench.py"
    done = python(script, "--quick", "--json", "bench.json", cwd=tmp_path, timeout=900)
    assert done.returncode == 0, done.stderr
    assert "share of the matrix product" in done.stdout and "GFLOP" not in done.stdout
    lines = json.loads((tmp_path / "bench.json").read_text())["results"]
    assert len(lines) == (6 if has_bfloat16(torch.device("cpu")) else 4)
    assert all(line["ratio"] > 0.5 for line in lines)


def test_large(monkeypatch, capsys):
    monkeypatch.setattr(bench_large, "SIZES", ((40, 50), (60, 80), (90, 100)))
    bench.main(["--large", "--quick", "--model", "liif-light"])
    said = capsys.readouterr().out
    assert "80 x 60" in said and "s a megapixel" in said


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--model", "liif-light"], "--model"),
        (["--large", "--memory", "0"], "--memory"),
        (["--json", "no/such/folder/x.json"], "--json no"),
        (["--runs", "0"], "--runs: expected 1 or more, got 0."),
    ],
)
def test_mistakes_get_one_line(argv, words):
    with pytest.raises(SystemExit, match=words):
        bench.main(argv)
