"""The authors' published EDSR-baseline-LIIF: what it gives here is what was published.

The file is searched in ../shared/weights, in $LIIF_WEIGHTS and in the user's cache folder; without it these
tests are skipped and say so. Source: yinboc/liif; the values of Set5 are those of later papers.
"""

import hashlib
import os

import numpy as np
import pytest
import skimage.data
import torch
from torch.utils.data import default_collate

from liif_plugin import load
from liif_plugin.archs.reference import reference_image
from liif_plugin.checkpoints.conversion import convert_file
from liif_plugin.cli import main
from liif_plugin.coords import cell_of
from liif_plugin.data.paired_scale_dataset import PairedScaleDataset
from liif_plugin.evaluation.published import PUBLISHED
from liif_plugin.evaluation.single_image import predict
from liif_plugin.export import formats
from liif_plugin.inference.render import as_float, render
from liif_plugin.metrics.continuous_metric import continuous_psnr


def photo(h: int, w: int) -> np.ndarray:
    """A part of a real picture: the eye of scikit-image's cat."""
    return np.ascontiguousarray(skimage.data.chelsea()[100 : 100 + h, 130 : 130 + w])


def test_the_file_is_the_published_one_and_is_converted(authors_checkpoint):
    assert os.path.getsize(authors_checkpoint) == 18_890_445
    digest = hashlib.sha256(authors_checkpoint.read_bytes()).hexdigest()
    assert digest == "1cf77e16f33ee17bd04049f497eaea1e06f25585dbb1919e4c7cd1d9d4d23d57"
    converted = convert_file(str(authors_checkpoint))
    assert len(converted.state) == 78
    assert converted.parameters == 1_567_299
    published = torch.load(authors_checkpoint, map_location="cpu", weights_only=True)["model"]["sd"]
    unused = [name for name in published if "sub_mean" in name or "add_mean" in name]
    assert len(published) - len(unused) == 78
    assert torch.equal(converted.state["imnet.layers.8.bias"], published["imnet.layers.8.bias"])


@pytest.mark.slow
@pytest.mark.parametrize("scale", [2, 4])
def test_set5_is_the_published_value(authors_model, bench, scale):
    """2 to 4 million pixels: a minute on a free core."""
    net = load(authors_model, "cpu")
    dataset = PairedScaleDataset(
        {
            "name": "Set5",
            "phase": "val",
            "scale": scale,
            "protocol": "benchmark",
            "dataroot_gt": str(bench / "Set5" / "HR"),
            "dataroot_lq": str(bench / "Set5" / "LR_bicubic" / f"X{scale}"),
        }
    )
    scores = []
    for item in dataset:
        batch = default_collate([item])
        sr = predict(net, batch["lq"], tuple(batch["gt"].shape[-2:]))
        scores.append(continuous_psnr(sr, batch["gt"], scale, "benchmark"))
    # the published value has two decimals
    assert sum(scores) / len(scores) == pytest.approx(
        PUBLISHED["Set5"]["EDSR-baseline-LIIF"][scale], abs=0.005
    )


def test_a_rendered_picture(authors_model):
    """Every pixel is the paper's equations in plain form; the sum of its levels is the one first rendered."""
    net, lq = load(authors_model, "cpu"), as_float(photo(24, 28))
    sr = render(net, lq, (60, 70))
    with torch.no_grad():
        plain = reference_image(net, net.encode(lq), (60, 70))
    assert (sr - plain).abs().max() < 1e-5
    levels = (sr.clamp(0, 1) * 255).round().to(torch.int64)
    assert levels.sum().item() == pytest.approx(1_198_809, abs=30)  # single roundings differ by machine


def test_tiles(authors_model):
    net, lq = load(authors_model, "cpu"), as_float(photo(40, 44))
    whole = render(net, lq, (100, 97))
    assert (render(net, lq, (100, 97), tile=16) - whole).abs().max() < 1e-5


def test_onnx(authors_model, tmp_path):
    if torch.torch_version.TorchVersion(torch.__version__) < formats.OLDEST:
        pytest.skip(f"export needs PyTorch {formats.OLDEST}")
    pytest.importorskip("onnxruntime")
    folder = tmp_path / "onnx"
    with pytest.raises(SystemExit) as stopped:
        main(["export", "--model", authors_model, "-o", str(folder)])
    assert not stopped.value.code, stopped.value.code
    run = formats.run_onnx(str(folder / "encoder.onnx"), str(folder / "decoder.onnx"))
    net, lq = load(authors_model, "cpu"), as_float(photo(17, 22))
    coord = torch.rand(1, 500, 2, generator=torch.Generator().manual_seed(0)) * 2 - 1
    cell = cell_of((50, 61)).expand_as(coord)
    assert (run(lq, coord, cell) - net(lq, coord, cell)).abs().max() < 1e-4
