"""What is exported answers as the network does, without it; what does not is not kept."""

import dataclasses
import json
import os
import runpy
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from basicsr.archs import build_network
from PIL import Image

from helpers import ROOT
from helpers.networks import ENCODERS as SMALL
from helpers.pictures import picture
from helpers.processes import python
from liif_plugin import load, upscale
from liif_plugin.archs.base import ContinuousNetwork
from liif_plugin.cli import main
from liif_plugin.coords import cell_of, grid
from liif_plugin.errors import UserError
from liif_plugin.export import formats, writing
from liif_plugin.inference.render import render

EDSR = {"type": "EDSR", "num_feat": 8, "num_block": 1}
if torch.torch_version.TorchVersion(torch.__version__) < formats.OLDEST:
    pytest.skip(f"export needs PyTorch {formats.OLDEST}", allow_module_level=True)
onnx, onnxruntime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")


def network(options: dict, seed: int = 0):
    """(net, network_g) with random weights that answer in a trained network's range."""
    torch.manual_seed(seed)
    net = build_network(dict(options)).eval().requires_grad_(False)
    return net, options


def exported(folder: Path, options: dict, format: str = "onnx") -> tuple:
    """(net, export.json) of a small network."""
    net, options = network(options)
    return net, writing.export(net, options, "small", str(folder), format)


@pytest.fixture(scope="module")
def light(tmp_path_factory):
    """The folder of `liif export --model liif-light -o liif-light_onnx`."""
    folder = tmp_path_factory.mktemp("export") / "liif-light_onnx"
    with pytest.raises(SystemExit) as stop:
        main(["export", "--model", "liif-light", "-o", str(folder)])
    assert not stop.value.code
    return folder


def code_of(readme: Path) -> str:
    return readme.read_text().split("```python\n")[1].split("```")[0]


def run_code(folder: Path, monkeypatch) -> dict:
    monkeypatch.chdir(folder)
    values: dict = {}
    exec(code_of(folder / "README.md"), values)
    return values


def test_the_files_say_what_they_are(light):
    assert (
        sorted(os.listdir(light)) == ["README.md", "decoder.onnx", "encoder.onnx", "export.json"]
        and len(os.listdir(light.parent)) == 1
    )
    about = json.loads((light / "export.json").read_text())
    net = load("liif-light", "cpu")
    assert (
        about["halo"] == net.halo
        and about["pad_multiple"] == 1
        and about["residual"] == "bilinear"
        and about["opset"] == 18
    )
    assert len(about["differences"]) == 7 and max(about["differences"].values()) < 1e-5
    for part in ("encoder", "decoder"):
        model = onnx.load(light / about[part]["file"])
        assert not {"GridSample", "Resize", "If", "Loop"} & {node.op_type for node in model.graph.node}
        assert {node.domain for node in model.graph.node} == {""} and model.opset_import[0].version == 18
        for way, values in (("inputs", model.graph.input), ("outputs", model.graph.output)):
            found = {
                v.name: [d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim] for v in values
            }
            assert found == {name: tensor["shape"] for name, tensor in about[part][way].items()}
    assert list(about["decoder"]["inputs"]) == ["table", "skip", "coord", "cell"]


@pytest.mark.parametrize(
    ("batch", "h", "w", "queries"), [(1, 20, 31, 700), (3, 1, 1, 1), (2, 1, 9, 50), (1, 64, 64, 9000)]
)
def test_any_sizes_in_onnxruntime(light, batch, h, w, queries):
    encoder, decoder = (
        onnxruntime.InferenceSession(light / f"{part}.onnx") for part in ("encoder", "decoder")
    )
    generator = torch.Generator().manual_seed(1)
    lq = torch.rand(batch, 3, h, w, generator=generator)
    coord, cell = (
        torch.rand(batch, queries, 2, generator=generator) * 2 - 1,
        torch.rand(batch, queries, 2, generator=generator),
    )
    table, skip = encoder.run(["table", "skip"], {"lq": lq.numpy()})
    rgb = decoder.run(None, {"table": table, "skip": skip, "coord": coord.numpy(), "cell": cell.numpy()})[0]
    assert np.abs(rgb - load("liif-light", "cpu")(lq, coord, cell).numpy()).max() < 1e-4


def test_a_whole_number_of_pixels_has_no_hole_at_the_border(light):
    """At x1 the last row has four equal codes: an optimizer that drops the 1e-9 of the areas makes it 0/0."""
    run = formats.run_onnx(str(light / "encoder.onnx"), str(light / "decoder.onnx"))
    coord = grid((12, 9)).unsqueeze(0)
    assert bool(run(torch.rand(1, 3, 12, 9), coord, cell_of((12, 9)).expand_as(coord)).isfinite().all())


def test_the_code_in_its_readme_gives_the_picture(light, monkeypatch):
    values = run_code(light, monkeypatch)
    whole = render(load("liif-light", "cpu"), torch.from_numpy(values["lq"]), (100, 200)).clamp(0, 1)
    assert np.abs(values["image"] - whole[0].permute(1, 2, 0).numpy()).max() < 1e-4


@pytest.mark.parametrize(("ask", "tile"), [(["--scale", "2.7"], 24), (["--size", "130x77"], 1000)])
def test_the_script_enlarges_as_liif_upscale_without_torch(light, tmp_path, ask, tile):
    data = pytest.importorskip("skimage.data")
    photo = data.chelsea()[80:140, 100:175]
    Image.fromarray(photo).save(tmp_path / "photo.png")
    code = (
        "import runpy, sys\nfor name in ('torch', 'liif_plugin', 'basicsr'):\n    sys.modules[name] = None\n"
        "runpy.run_path(sys.argv.pop(1), run_name='__main__')"
    )
    script = ROOT / "scripts" / "onnx_upscale.py"
    argv = ("-c", code, script, light, "photo.png", "-o", "out.png", "--tile", tile, *ask)
    done = python(*argv, cwd=tmp_path, env={"LIIF_PLUGIN_AUTOLOAD": "0"})
    assert done.returncode == 0, done.stderr
    how = {"scale": 2.7} if ask[0] == "--scale" else {"size": (77, 130)}
    expected, got = (
        upscale(photo, **how, model=load("liif-light", "cpu"), precision="fp32"),
        np.asarray(Image.open(tmp_path / "out.png")),
    )
    assert got.shape == expected.shape
    difference = np.abs(got.astype(int) - expected)
    assert difference.max() <= 1 and (difference > 0).mean() < 1e-3


SWITCHES = {
    "-c -u -e": {
        "type": "LIIF",
        "encoder": EDSR,
        "hidden_list": [16],
        "cell_decode": False,
        "feat_unfold": False,
        "local_ensemble": False,
    },
    "MetaSR": {"type": "MetaSR", "encoder": EDSR, "hidden_list": [16]},
}
FAMILY = {
    "LTE": {"type": "LTE", "encoder": EDSR, "hidden_dim": 12, "hidden_list": [16, 16]},
    "LMLIIF": {"type": "LMLIIF", "encoder": EDSR, "hidden_dim": 8, "hidden_depth": 2, "hypernet_list": [16]},
    "LMLTE": {"type": "LMLTE", "encoder": EDSR, "wave_dim": 8, "hidden_dim": 4, "hypernet_list": [16]},
    "SRNO": {"type": "SRNO", "encoder": EDSR, "width": 12, "heads": 3, "hidden_dim": 16},
    "Thera": {"type": "Thera", "encoder": EDSR, "waves": 12},
}
TAILS = {
    "bilinear": {"residual": "bilinear"},
    "blended": {"residual": "bilinear", "local_ensemble": True, "radius": 6.0, "tail": {"hidden": 8}},
    "plus": {"size": "plus", "tail": {"widths": [8, 12]}},
    "pro": {"size": "pro", "tail": {"embed_dim": 8, "depths": [2], "num_heads": [2], "num_feat": 8}},
}
MORE = {
    **{f"Thera {name}": {**FAMILY["Thera"], **tail} for name, tail in TAILS.items()},
    "the paper's": {"type": "LIIF", "encoder": EDSR, "hidden_list": [16, 16, 16, 16]},
    "-c": {"type": "LIIF", "encoder": EDSR, "hidden_list": [16, 16], "cell_decode": False},
    "-u": {
        "type": "LIIF",
        "encoder": EDSR,
        "hidden_list": [16, 16],
        "feat_unfold": False,
        "residual": "bilinear",
    },
    "-e": {
        "type": "LIIF",
        "encoder": EDSR,
        "hidden_list": [16, 16],
        "local_ensemble": False,
        "residual": "bilinear",
    },
    **{
        kind: {"type": "LIIF", "encoder": {"type": kind, **SMALL[kind]}, "hidden_list": [16]}
        for kind in SMALL
        if kind != "EDSR"
    },
}


def check_small(folder: Path, options: dict) -> None:
    """It exports; its script, in tiles, gives what render gives as a whole."""
    net, about = exported(folder, options)
    assert max(about["differences"].values()) < 1e-5
    assert ("cell" in about["decoder"]["inputs"]) == options.get("cell_decode", True)
    script = runpy.run_path(str(ROOT / "scripts" / "onnx_upscale.py"))
    image = picture(3, 37, 45).astype(np.float32) / 255
    got = script["upscale"](script["Network"](str(folder)), image, (80, 101), tile=12, at_once=1000)
    whole = (
        render(net, torch.from_numpy(image).permute(2, 0, 1).unsqueeze(0), (80, 101))[0]
        .permute(1, 2, 0)
        .numpy()
    )
    different = np.abs(got - whole).max(axis=2) > 1e-4
    # without the ensemble a position half-way between two codes may round to either of them
    nearest = options["type"] == "MetaSR" or not options.get("local_ensemble", options["type"] != "Thera")
    assert different.mean() <= (0.03 if nearest else 0)


@pytest.mark.parametrize("options", {**SWITCHES, **FAMILY}.values(), ids={**SWITCHES, **FAMILY})
def test_other_networks(tmp_path, options):
    check_small(tmp_path / "out", options)


@pytest.mark.slow
@pytest.mark.parametrize("options", MORE.values(), ids=MORE)
def test_all_other_networks(tmp_path, options):
    check_small(tmp_path / "out", options)


def test_torch_export(tmp_path, monkeypatch):
    options = {"type": "LIIF", "encoder": EDSR, "hidden_list": [16], "residual": "bilinear"}
    net, about = exported(tmp_path / "out", options, "torch")
    assert sorted(os.listdir(tmp_path / "out")) == ["README.md", "decoder.pt2", "encoder.pt2", "export.json"]
    values = run_code(tmp_path / "out", monkeypatch)
    whole = render(net, values["lq"], (100, 200)).clamp(0, 1)
    assert (values["image"].permute(2, 0, 1) - whole[0]).abs().max() < 1e-5 and "opset" not in about


@pytest.mark.parametrize(
    ("change", "words"),
    [(lambda rgb: rgb + 2e-4, "differs from PyTorch by 2.0e-04"), (lambda rgb: rgb * np.nan, "by nan")],
)
def test_what_differs_is_not_kept(tmp_path, monkeypatch, change, words):
    net, options = network({"type": "LIIF", "encoder": EDSR, "hidden_list": [16]})
    wrong = dataclasses.replace(
        formats.FORMATS["torch"],
        write=lambda part, path: Path(path).write_text(""),
        run=lambda *files: lambda *given: change(net(*given)),
    )
    monkeypatch.setitem(formats.FORMATS, "torch", wrong)
    with pytest.raises(UserError, match=words):
        writing.export(net, options, "small", str(tmp_path / "out"), "torch")
    assert not list(tmp_path.iterdir())


def test_a_folder_on_another_disk(tmp_path, monkeypatch):
    """A link, or a mount point: files cannot be renamed into it from beside it."""
    net, options = network({"type": "LIIF", "encoder": EDSR, "hidden_list": [16]})
    quick = dataclasses.replace(
        formats.FORMATS["torch"],
        write=lambda part, path: Path(path).write_text("new"),
        run=lambda *files: net,
    )
    monkeypatch.setitem(formats.FORMATS, "torch", quick)
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as other:
        (tmp_path / "link").symlink_to(other)
        writing.export(net, options, "small", str(tmp_path / "link"), "torch")
        assert sorted(os.listdir(other)) == ["README.md", "decoder.pt2", "encoder.pt2", "export.json"]


def test_what_is_there_is_kept_or_replaced_as_asked(tmp_path, monkeypatch):
    net, options = network({"type": "LIIF", "encoder": EDSR, "hidden_list": [16]})
    quick = dataclasses.replace(
        formats.FORMATS["torch"],
        write=lambda part, path: Path(path).write_text("new"),
        run=lambda *files: net,
    )
    monkeypatch.setitem(formats.FORMATS, "torch", quick)
    for name in ("decoder.pt2", "notes.txt"):
        (tmp_path / name).write_text("old")
    with pytest.raises(UserError, match=r"has decoder\.pt2 already; choose another folder, or overwrite it"):
        writing.export(net, options, "small", str(tmp_path), "torch")
    writing.export(net, options, "small", str(tmp_path), "torch", overwrite=True)
    assert (tmp_path / "decoder.pt2").read_text() == "new" and (tmp_path / "notes.txt").read_text() == "old"
    with pytest.raises(UserError, match="is a file; expected a folder"):
        writing.export(net, options, "small", str(tmp_path / "notes.txt"), "torch")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"type": "Bicubic"}, "got Bicubic: it has no weights"),
        ({"type": "SIREN"}, "fitted to each picture"),
        (
            {"type": "EDSR", "num_in_ch": 3, "num_out_ch": 3, "num_feat": 8, "num_block": 1, "upscale": 2},
            "expected a network for any scale such as LIIF, got EDSR: it has no encode and query",
        ),
    ],
)
def test_networks_without_two_halves(tmp_path, options, words):
    with pytest.raises(UserError, match=words):
        exported(tmp_path / "out", options)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("base", [ContinuousNetwork, torch.nn.Module])
def test_an_own_decoder_is_exported_as_it_is(tmp_path, base):
    """encode and query are enough: the encoder's file hands the feature map over."""

    class Mine(base):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.rand(3, 5))

        def encode(self, lq):
            return torch.einsum("bchw,cd->bdhw", lq, self.weight)

        def query(self, feat, coord, cell):
            return feat.mean(dim=(2, 3))[:, None, :3] + coord.sum(dim=-1, keepdim=True) * cell[..., :1]

    about = writing.export(Mine(), {"type": "Mine"}, "mine", str(tmp_path / "out"))
    assert max(about["differences"].values()) < 1e-6
    assert about["encoder"]["outputs"]["features"]["shape"] == ["batch", "height", "width", 5]
    assert about["halo"] is None


def test_without_the_packages(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(
        SystemExit, match=r"--format onnx needs onnxruntime: `pip install 'liif-plugin\[export\]'`"
    ):
        main(["export", "-o", str(tmp_path / "out")])


def test_what_pytorch_cannot_export_is_one_line(tmp_path, monkeypatch):
    def fail(part, path):
        raise RuntimeError("a node that nobody knows\nand 40 lines more")

    monkeypatch.setitem(formats.FORMATS, "onnx", dataclasses.replace(formats.FORMATS["onnx"], write=fail))
    with pytest.raises(
        UserError,
        match=r"cannot export the encoder of LIIF with EDSR \(RuntimeError: a node that nobody knows\)",
    ):
        exported(tmp_path / "out", {"type": "LIIF", "encoder": EDSR, "hidden_list": [16]})
    assert not list(tmp_path.iterdir())
