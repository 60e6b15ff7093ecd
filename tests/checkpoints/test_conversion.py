"""The authors' checkpoints through `liif convert`, against what their own code made of them."""

import dataclasses
import re

import pytest
import torch
from basicsr.archs import build_network

from helpers import GOLDEN
from liif_plugin.checkpoints import download as weights
from liif_plugin.checkpoints import downloadable
from liif_plugin.checkpoints.conversion import convert, load_foreign
from liif_plugin.cli import main
from liif_plugin.config.option_files import read_options
from liif_plugin.inference.render import render


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


@pytest.mark.parametrize(
    ("name", "tolerance"), [("liif", 1e-5), ("rdn-liif", 1e-5), ("metasr", 1e-4), ("rdn-metasr", 1e-4)]
)
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
        assert (
            render(net, numbers["inp"], tuple(numbers[key].shape[-2:])).clamp(0, 1) - numbers[key]
        ).abs().max() < tolerance, key


@pytest.mark.parametrize("name", ["edsr-x2", "edsr-x3", "edsr-x4", "rdn-x2", "rdn-x4"])
def test_fixed_scale_networks(golden, tmp_path, name):
    net, numbers = converted(name, tmp_path), golden(name)
    with torch.no_grad():
        assert (net(numbers["inp"]) - numbers["image"]).abs().max() < 1e-5


@pytest.mark.parametrize(
    ("spec", "factor"),
    [
        ({"name": "edsr-baseline", "args": {}}, 1),
        ({"name": "edsr", "args": {}}, 0.1),
        ({"name": "edsr", "args": {"res_scale": 0.5}}, 0.5),
    ],
)
def test_the_factor_of_edsrs_blocks(spec, factor):
    """No tensor tells it; the authors' large EDSR has 0.1."""
    model = load_foreign(str(GOLDEN / "liif.pth"))
    block, _ = convert({**model, "args": {**model["args"], "encoder_spec": spec}})
    assert block["encoder"].get("res_scale", 1) == factor


def test_sizes_of_the_paper():
    """The published checkpoint files hold each parameter three times (Adam's two moments), four bytes
    each.
    """
    for encoder, size in (({"type": "EDSR"}, 18_890_445), ({"type": "LIIF_RDN"}, 268_184_311)):
        net = build_network({"type": "LIIF", "encoder": encoder})
        assert abs(12 * sum(p.numel() for p in net.parameters()) / size - 1) < 0.01


def as_mmagic(net) -> dict:
    """What MMagic would save of ``net``: its names, its bookkeeping."""
    names = (
        (r"^encoder\.net\.", ""),
        (r"^SFENet([12])\.", r"sfe\1."),
        (r"^GFF\.", "gff."),
        (r"^RDBs\.(\d+)\.LFF\.", r"rdbs.\1.lff."),
        (r"^RDBs\.(\d+)\.convs\.(\d+)\.conv\.0\.", r"rdbs.\1.layers.\2.conv."),
    )
    state = {"step_counter": torch.zeros(1), "data_preprocessor.mean": torch.zeros(3)}
    for name, value in net.state_dict().items():
        for pattern, replacement in names:
            name = re.sub(pattern, replacement, name)
        state[f"generator.{name}"] = value
    return {"meta": {"epoch": 1, "mmedit_version": "0.8.0"}, "state_dict": state}


@pytest.mark.parametrize(
    "switches",
    [{}, {"feat_unfold": False}, {"cell_decode": False}, {"feat_unfold": False, "cell_decode": False}],
)
@pytest.mark.parametrize(
    "encoder",
    [
        {"type": "EDSR", "num_feat": 8, "num_block": 2},
        {"type": "LIIF_RDN", "num_feat": 8, "num_block": 2, "num_layer": 3, "growth": 4},
    ],
)
def test_mmagic(tmp_path, encoder, switches):
    torch.manual_seed(0)
    net = build_network({"type": "LIIF", "encoder": encoder, "hidden_list": [16, 16], **switches})
    torch.save(as_mmagic(net), tmp_path / "in.pth")
    main_quietly(["convert", str(tmp_path / "in.pth"), "-o", str(tmp_path / "out.pth")])
    other = build_network(read_options(str(tmp_path / "out.yml"))["network_g"])
    other.load_state_dict(torch.load(tmp_path / "out.pth", weights_only=True)["params"], strict=True)
    lq = torch.rand(1, 3, 9, 7)
    assert torch.equal(render(net, lq, (20, 23)), render(other, lq, (20, 23)))


def published(monkeypatch, data: bytes, url: str, **changes):
    import hashlib

    entry = downloadable.Weights("liif.pth", url, len(data), hashlib.sha256(data).hexdigest(), "a test's")
    monkeypatch.setitem(downloadable.KNOWN, "ours", dataclasses.replace(entry, **changes))


def test_fetched_verified_and_converted(server, tmp_path, monkeypatch):
    folder, address = server
    data = (GOLDEN / "liif.pth").read_bytes()
    (folder / "liif.pth").write_bytes(data)
    published(monkeypatch, data, f"{address}/liif.pth")
    main_quietly(["convert", "--fetch", "ours", "-o", str(tmp_path / "got" / "a.pth")])
    assert sorted(path.name for path in (tmp_path / "got").iterdir()) == ["a.pth", "a.yml", "liif.pth"]
    (folder / "liif.pth").unlink()  # what is there already is verified and used
    main_quietly(["convert", "--fetch", "ours", "-o", str(tmp_path / "got" / "b.pth")])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"sha256": "0" * 64}, "is not liif.pth: its SHA-256 is"),
        ({"size": 5}, "sends more than the 5 bytes"),
        ({"size": 10**7}, "but liif.pth has 10,000,000"),
        ({"url": "/no.pth"}, "cannot be fetched"),
    ],
)
def test_what_is_not_the_published_file_is_not_kept(server, tmp_path, monkeypatch, changes, words):
    folder, address = server
    data = (GOLDEN / "liif.pth").read_bytes()
    (folder / "liif.pth").write_bytes(data)
    changes = {key: address + value if key == "url" else value for key, value in changes.items()}
    published(monkeypatch, data, **{"url": f"{address}/liif.pth", **changes})
    with pytest.raises(SystemExit) as stopped:
        main(["convert", "--fetch", "ours", "-o", str(tmp_path / "got" / "a.pth")])
    assert words in str(stopped.value.code) and not list((tmp_path / "got").iterdir())


def test_the_folder_of_the_output_is_made(tmp_path):
    main_quietly(["convert", str(GOLDEN / "liif.pth"), "-o", str(tmp_path / "new" / "deep" / "x.pth")])
    assert sorted(path.name for path in (tmp_path / "new" / "deep").iterdir()) == ["x.pth", "x.yml"]


@pytest.mark.parametrize("target", ["file/x.pth", "folder.pth"])
def test_an_output_that_cannot_be_written_has_no_word_of_a_training(tmp_path, monkeypatch, target):
    (tmp_path / "file").touch()

    def full(obj, file):
        raise OSError(28, "No space left on device")

    if target != "file/x.pth":
        monkeypatch.setattr(torch, "save", full)
    with pytest.raises(SystemExit) as stopped:
        main(["convert", str(GOLDEN / "liif.pth"), "-o", str(tmp_path / target)])
    said = str(stopped.value.code)
    assert "cannot be" in said
    assert "auto_resume" not in said
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_nothing_is_fetched_without_being_asked(monkeypatch, capsys):
    monkeypatch.setattr(weights, "_download", lambda *a: pytest.fail("fetched"))
    main_quietly(["convert", "--known"])
    said = capsys.readouterr().out
    assert (
        "18,890,445 bytes" in said
        and "7bf835bc969b85ead12ef3bd8e4bca7349777ae1fdbea6021f1b62608f4a323a" in said
    )
    for argv, words in (
        (["--fetch", "edsr-liif", "-o", "a.pth"], "did you mean"),
        (["-o", "a.pth"], "expected either"),
        (["x.pth"], "ends in .pth"),
    ):
        with pytest.raises(SystemExit) as stopped:
            main(["convert", *argv])
        assert words in str(stopped.value.code)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"params": {}}, "is a BasicSR checkpoint already"),
        ([1, 2], "found list"),
        ({"a": torch.zeros(1)}, "is a bare state dict (a ...)"),
        (
            {"state_dict": {"backbone.x": torch.zeros(1)}, "meta": {}},
            "is an OpenMMLab checkpoint, but of no LIIF",
        ),
        (
            {
                "state_dict": {
                    "generator.imnet.layers.0.weight": torch.zeros(1),
                    "generator.x": torch.zeros(1),
                }
            },
            "an RDN of MMagic",
        ),
        ({"model": {"name": "liif", "args": {}, "sd": {}}}, "expected an EDSR or an RDN"),
        ({"model": {"name": "x", "args": {}, "sd": {"a.b": torch.zeros(1)}}}, "found tensors such as a.b"),
    ],
)
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
    assert (
        "not a checkpoint that can be read safely" in str(stopped.value.code)
        and not (tmp_path / "pwned").exists()
    )
