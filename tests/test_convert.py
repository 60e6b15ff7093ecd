"""The authors' checkpoints through `liif convert`, against what their own code made of them."""

import pytest
import torch
from basicsr.archs import build_network

from conftest import GOLDEN
from liif_plugin.cli import main
from liif_plugin.compat.option_files import read_options
from liif_plugin.render import render


def converted(name, tmp_path):
    """Through the command line: the network that its block builds, with the weights that it wrote."""
    main_quietly(["convert", str(GOLDEN / f"{name}.pth"), "-o", str(tmp_path / "out.pth")])
    net = build_network(read_options(str(tmp_path / "out.yml"))["network_g"]).eval()
    net.load_state_dict(torch.load(tmp_path / "out.pth", weights_only=True)["params"], strict=True)
    return net


def main_quietly(argv):
    with pytest.raises(SystemExit) as stopped:
        main(argv)
    assert not stopped.value.code, stopped.value.code


@pytest.mark.parametrize("name, tolerance", [("liif", 1e-5), ("rdn-liif", 1e-5), ("metasr", 1e-4), ("rdn-metasr", 1e-4)])
def test_continuous_networks(golden, tmp_path, name, tolerance):
    net, numbers = converted(name, tmp_path), golden(name)
    with torch.no_grad():
        feat = net.encode(numbers["inp"])
        rgb = net.query(feat, numbers["random_coord"], numbers["random_cell"])
    assert (feat - numbers["feat"]).abs().max() < 1e-5
    assert ((rgb - 0.5) / 0.5 - numbers["random_pred"]).abs().max() < tolerance
    grids = [key for key in numbers if key.startswith("image_")]
    assert grids
    for key in grids:
        assert (render(net, numbers["inp"], tuple(numbers[key].shape[-2:])).clamp(0, 1) - numbers[key]).abs().max() < tolerance, key


@pytest.mark.parametrize("name", ["edsr-x2", "edsr-x3", "edsr-x4", "rdn-x2", "rdn-x4"])
def test_fixed_scale_networks(golden, tmp_path, name):
    net, numbers = converted(name, tmp_path), golden(name)
    with torch.no_grad():
        assert (net(numbers["inp"]) - numbers["image"]).abs().max() < 1e-5


def test_sizes_of_the_paper():
    """The published checkpoint files hold each parameter three times (Adam's two moments), four bytes each."""
    for encoder, size in (({"type": "EDSR"}, 18_890_445), ({"type": "LIIF_RDN"}, 268_184_311)):
        net = build_network({"type": "LIIF", "encoder": encoder})
        assert abs(12 * sum(p.numel() for p in net.parameters()) / size - 1) < 0.01


@pytest.mark.parametrize("content, words", [
    ({"params": {}}, "found params"), ([1, 2], "found list"),
    ({"model": {"name": "liif", "args": {}, "sd": {}}}, "expected an EDSR or an RDN"),
    ({"model": {"name": "x", "args": {}, "sd": {"a.b": torch.zeros(1)}}}, "found tensors such as a.b"),
])  # fmt: skip
def test_what_is_no_official_checkpoint(tmp_path, content, words):
    torch.save(content, tmp_path / "in.pth")
    with pytest.raises(SystemExit) as stopped:
        main(["convert", str(tmp_path / "in.pth"), "-o", str(tmp_path / "out.pth")])
    assert words in str(stopped.value.code) and not (tmp_path / "out.pth").exists()


def test_code_in_a_checkpoint_is_not_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "pwned"), "w"))

    torch.save({"model": Evil()}, tmp_path / "in.pth")
    with pytest.raises(SystemExit) as stopped:
        main(["convert", str(tmp_path / "in.pth"), "-o", str(tmp_path / "out.pth")])
    assert "not a checkpoint that can be read safely" in str(stopped.value.code) and not (tmp_path / "pwned").exists()
