"""Checkpoints of LTE, LMF, SRNO and Thera through `liif convert`, against the authors' numbers."""

import pickle
import pickletools
import re

import numpy as np
import pytest
import torch
from basicsr.archs import build_network

from helpers import GOLDEN
from helpers.family import largest
from liif_plugin.checkpoints.conversion import convert, load_foreign
from liif_plugin.checkpoints.jax_pickle import load_tree
from liif_plugin.checkpoints.loading import load
from liif_plugin.checkpoints.thera_conversion import convert_thera
from liif_plugin.cli import main
from liif_plugin.errors import UserError
from liif_plugin.inference.render import render

# thera-air.pkl was written by JAX 0.10.2, Flax 0.12.8 and Optax 0.2.8 from thera-air-params.npz, with the
# state of an AdamW beside it, as the authors' training writes it.
FILES = {
    "lte.pth": 1e-5,
    "lte-fast.pth": 1e-5,
    "lm-liif.pth": 1e-5,
    "rdn-lm-liif.pth": 1e-5,
    "lm-lte.pth": 1e-5,
    "srno.pth": 3e-6,
    "thera-air.pkl": 1e-5,
}


def run_convert(source, target):
    """Return the message of an error, or None."""
    with pytest.raises(SystemExit) as stopped:
        main(["convert", str(source), "-o", str(target)])
    return stopped.value.code and str(stopped.value.code)


@pytest.mark.parametrize("file", FILES)
def test_pictures_of_a_converted_file_are_the_authors(golden, tmp_path, file):
    assert not run_convert(GOLDEN / file, tmp_path / "out.pth")
    net, numbers = load(tmp_path / "out.pth", device="cpu"), golden(file.split(".")[0])
    lq, (h, w) = numbers["inp"], numbers["inp"].shape[-2:]
    grids = [key for key in numbers if key.startswith("image_")]
    assert grids
    for key in grids:
        H, W = numbers[key].shape[-2:]
        # Thera's authors take the time of the height on both axes.
        cell = torch.tensor([2 / H, 2 * h / (H * w)]) if file.startswith("thera") else None
        assert largest(render(net, lq, (H, W), cell), numbers[key]) < FILES[file], key


def test_the_command_line_takes_a_converted_file(tmp_path):
    from PIL import Image

    assert not run_convert(GOLDEN / "thera-air.pkl", tmp_path / "thera.pth")
    Image.fromarray(np.arange(12 * 10 * 3, dtype=np.uint8).reshape(12, 10, 3)).save(tmp_path / "a.png")
    arguments = ["--model", str(tmp_path / "thera.pth"), "-o", str(tmp_path / "b.png")]
    with pytest.raises(SystemExit) as stopped:
        main(["upscale", str(tmp_path / "a.png"), "--scale", "2.5", *arguments])
    assert not stopped.value.code
    assert Image.open(tmp_path / "b.png").size == (25, 30)


@pytest.mark.parametrize("size", ["air", "plus", "pro"])
def test_sizes_of_thera_are_read_off_its_arrays(size):
    with np.load(GOLDEN / f"thera-{size}-params.npz") as arrays:
        block, state = convert_thera({path: torch.from_numpy(arrays[path]) for path in arrays.files})
    net = build_network(dict(block))
    assert block["size"] == size
    assert net.load_state_dict(state, strict=True)
    assert sum(p.numel() for p in net.parameters()) == {"air": 14289, "plus": 38073, "pro": 68577}[size]


def as_theras_tree(net):
    """The parameters of ``net``, a Thera air with an RDN, as the authors' tree has them."""
    names = (
        (r"^encoder\.net\.SFENet([12])\.", lambda m: f"encoder.Conv_{int(m[1]) - 1}."),
        (r"^encoder\.net\.GFF\.([01])\.", lambda m: f"encoder.Conv_{int(m[1]) + 2}."),
        (
            r"^encoder\.net\.RDBs\.(\d+)\.convs\.(\d+)\.conv\.0\.",
            r"encoder.RDB_\1.RDB_Conv_\2.Conv_0.",
        ),
        (r"^encoder\.net\.RDBs\.(\d+)\.LFF\.", r"encoder.RDB_\1.Conv_0."),
        (r"\.weight$", ".kernel"),
    )
    tree = {}
    for name, value in net.state_dict().items():
        for pattern, replacement in names:
            name = re.sub(pattern, replacement, name)
        value = value.permute(2, 3, 1, 0) if value.dim() == 4 else value
        tree["params/" + name.replace(".", "/")] = value
    return tree


def test_thera_with_an_rdn_round_trip():
    """FAMILY's names of the encoder; no file of the authors with an RDN was at hand."""
    torch.manual_seed(0)
    encoder = {"type": "LIIF_RDN", "num_feat": 8, "num_block": 2, "num_layer": 3, "growth": 4}
    net = build_network({"type": "Thera", "encoder": encoder})
    block, state = convert_thera(as_theras_tree(net))
    assert block == {"type": "Thera", "encoder": encoder, "size": "air"}
    own = net.state_dict()
    assert set(state) == set(own)
    assert all(torch.equal(state[name], own[name]) for name in own)


SWINIR = {
    "type": "SwinIR",
    "embed_dim": 12,
    "depths": [2, 2],
    "num_heads": [2, 3],
    "window_size": 4,
    "mlp_ratio": 2.0,
    "img_size": 12,
    "upsampler": "pixelshuffle",
}
ROUND_TRIPS = {
    "lte": {"type": "LTE", "hidden_dim": 8, "hidden_list": [10, 12]},
    "lmliif": {"type": "LMLIIF", "hidden_dim": 4, "hidden_depth": 2, "hypernet_list": [10, 11]},
    "lmlte": {
        "type": "LMLTE",
        "hidden_dim": 4,
        "hidden_depth": 3,
        "hypernet_list": [9],
        "wave_dim": 6,
        "local_ensemble": False,
    },
}


@pytest.mark.parametrize("name", ROUND_TRIPS)
def test_round_trip_with_the_authors_swinir(tmp_path, name):
    """Their SwinIR has BasicSR's names, and a convolution in front of an upsampler that is not there."""
    torch.manual_seed(0)
    net = build_network({"encoder": SWINIR, **ROUND_TRIPS[name]}).eval()
    state = {re.sub(r"^encoder\.net\.", "encoder.", key): value for key, value in net.state_dict().items()}
    args = {"encoder_spec": {"name": "swinir", "args": {"no_upsampling": True}}}
    args["local_ensemble"] = net.local_ensemble
    torch.save({"model": {"name": name, "args": args, "sd": state}, "epoch": 3}, tmp_path / "in.pth")
    assert not run_convert(tmp_path / "in.pth", tmp_path / "out.pth")
    other, lq = load(tmp_path / "out.pth", device="cpu"), torch.rand(1, 3, 9, 14)
    assert torch.equal(render(net, lq, (20, 31)), render(other, lq, (20, 31)))


def change(model, **tensors):
    return {**model, "sd": {**model["sd"], **tensors}}


@pytest.mark.parametrize(
    ("file", "changed", "words"),
    [
        ("lte", {"phase.weight": torch.zeros(15, 2)}, "with another shape (first: phase.weight)"),
        ("lte", {"imnet.layers.2.weight": torch.zeros(32, 31)}, "first: imnet.layers.2.weight"),
        ("srno", {"fc2.weight": torch.zeros(3, 255, 1, 1)}, "with another shape (first: fc2.weight)"),
        ("srno", {"more.weight": torch.zeros(3)}, "1 tensors too many (first: more.weight)"),
        ("lm-liif", {"hypernet.layers.2.weight": torch.zeros(71, 40)}, "first: hypernet.layers.2.weight"),
        ("lm-lte", {"imphase.weight": torch.zeros(3, 2)}, "with another shape (first: imphase.weight)"),
    ],
)
def test_wrong_shapes(tmp_path, file, changed, words):
    model = load_foreign(str(GOLDEN / f"{file}.pth"))
    torch.save({"model": change(model, **changed)}, tmp_path / "in.pth")
    message = run_convert(tmp_path / "in.pth", tmp_path / "out.pth")
    assert words in message, message
    assert not (tmp_path / "out.pth").exists()


@pytest.mark.parametrize("file", ["lte", "lte-fast", "lm-liif", "lm-lte", "srno", "liif"])
@pytest.mark.parametrize("name", ["liif", "lte", "lte-fast", "lmliif", "lmlte", "sronet", "ciaosr"])
def test_a_file_under_the_name_of_another_network(tmp_path, file, name):
    model = load_foreign(str(GOLDEN / f"{file}.pth"))
    if model["name"] == name:
        return
    torch.save({"model": {**model, "name": name}}, tmp_path / "in.pth")
    message = run_convert(tmp_path / "in.pth", tmp_path / "out.pth")
    assert message.startswith(f"liif convert: {tmp_path / 'in.pth'}: "), message
    assert not (tmp_path / "out.pth").exists()


def test_a_network_that_nobody_knows_is_named():
    model = load_foreign(str(GOLDEN / "lte.pth"))
    with pytest.raises(UserError, match="'ciaosr': expected one of liif, metasr, lte, lte-fast, lmliif"):
        convert({**model, "name": "ciaosr"})


def test_lmf_with_cmsr_is_refused():
    model = load_foreign(str(GOLDEN / "lm-liif.pth"))
    with pytest.raises(UserError, match="without CMSR"):
        convert({**model, "args": {**model["args"], "cmsr_spec": {"mse_threshold": 1}}})


def thera_file(tmp_path, change):
    """tests/golden/thera-air.pkl with its bytes changed by ``change``."""
    path = tmp_path / "in.pkl"
    path.write_bytes(change((GOLDEN / "thera-air.pkl").read_bytes()))
    return path


def named(module, name, *arguments):
    """A pickle that calls ``module.name`` with ``arguments``, written by hand."""
    data = b"\x80\x04c" + f"{module}\n{name}\n".encode()
    for value in arguments:
        data += pickle.dumps(value, protocol=4)[2:-1].replace(b"\x94", b"")  # without PROTO, STOP, MEMOIZE
    return data + {0: b")", 1: b"\x85", 2: b"\x86", 3: b"\x87"}[len(arguments)] + b"R."


def wrong_type_of_numbers(data):
    return data.replace(b"\x8c\x02f4", b"\x8c\x02O8")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda data: named("os", "system", "true"), "it asks for os.system, and nothing in a checkpoint"),
        (lambda data: named("builtins", "eval", "1"), "it asks for builtins.eval"),
        (lambda data: named("numpy", "frombuffer", b"a"), "it asks for numpy.frombuffer"),
        (lambda data: named("flax.core.frozen_dict", "freeze", 1), "flax.core.frozen_dict.freeze"),
        (lambda data: data.replace(b"\x8c\x0aFrozenDict", b"\x8c\x0aFrozenDick"), "frozen_dict.FrozenDick"),
        (lambda data: data[:1000], "damaged, cut off"),
        (lambda data: data[:-1], "damaged, cut off"),
        (lambda data: data[: len(data) // 2], "damaged, cut off"),
        (lambda data: data[:20] + bytes(40) + data[60:], "not a checkpoint that can be read safely"),
        (wrong_type_of_numbers, "numbers of the type 'O8'"),
        (lambda data: pickle.dumps({"params": 1}), "expected {'model': parameters, ...}"),
        (lambda data: pickle.dumps({"model": {"a": 1}}), "'a' of its parameters is no array"),
        (lambda data: pickle.dumps([1, 2]), "found list"),
        (lambda data: b"\x80\x04q\x00.", "damaged, cut off"),
        (lambda data: b"\x80\x04Nr\xff\xff\xff\x7f.", "numbers values that it does not have"),
        (lambda data: b"\x80\x04N2.", "the instruction DUP"),
    ],
)
def test_what_is_no_file_of_thera(tmp_path, change, words):
    message = run_convert(thera_file(tmp_path, change), tmp_path / "out.pth")
    assert words in message, message
    assert not (tmp_path / "out.pth").exists()


def test_a_tree_that_holds_itself_ends(tmp_path):
    tree = {}
    tree["again"] = tree
    message = run_convert(
        thera_file(tmp_path, lambda data: pickle.dumps({"model": tree})), tmp_path / "o.pth"
    )
    assert "is no array of numbers" in message


def test_a_tuple_that_doubles_is_not_read(tmp_path):
    value = ()
    for _ in range(60):
        value = (value, value)
    data = pickle.dumps({"model": 1}, protocol=4)[:-1] + pickle.dumps(value, protocol=4)[2:]
    message = run_convert(thera_file(tmp_path, lambda _: data), tmp_path / "out.pth")
    assert "a tuple in tuples that is too deep" in message, message


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"params/components": np.zeros((2, 31), np.float32)}, "with another shape"),
        ({"params/out_conv/kernel": np.zeros((1, 1, 15, 128), np.float32)}, "with another shape"),
        ({"params/out_conv/kernel": None}, "tensors missing (first: out_conv.weight)"),
        ({"params/components": None}, "no known network fits"),
        ({"params/wrong/kernel": np.zeros((3, 3), np.float32)}, "'params/wrong/kernel' belongs to no Thera"),
        ({"params/encoder/head/layers_0/kernel": None}, "expected an EDSR or an RDN as Thera's encoder"),
    ],
)
def test_a_tree_of_another_network(tmp_path, monkeypatch, changes, words):
    """The pickle is the real one; the arrays are changed behind it."""
    from liif_plugin.checkpoints import conversion

    tree = {**load_tree(str(GOLDEN / "thera-air.pkl")), **changes}
    tree = {name: value for name, value in tree.items() if value is not None}
    monkeypatch.setattr(conversion, "load_tree", lambda path: tree)
    message = run_convert(GOLDEN / "thera-air.pkl", tmp_path / "out.pth")
    assert words in message, message
    assert not (tmp_path / "out.pth").exists()


def test_one_file_leaves_nothing_for_the_next(tmp_path):
    """A pickle can set attributes of the classes that it names: each file has its own."""
    path = str(GOLDEN / "thera-air.pkl")
    spoil = b"\x80\x04cnumpy\nndarray\nN}\x8c\x05orderK\x01s\x86b."
    assert any(opcode.name == "BUILD" for opcode, _, _ in pickletools.genops(spoil))
    with pytest.raises(UserError, match="found type"):
        load_tree(str(thera_file(tmp_path, lambda data: spoil)))
    with np.load(GOLDEN / "thera-air-params.npz") as arrays:
        tree = load_tree(path)
        assert set(tree) == set(arrays.files)
        assert all(np.array_equal(tree[name], arrays[name]) for name in tree)


def test_jax_is_not_imported():
    import sys

    load_tree(str(GOLDEN / "thera-air.pkl"))
    assert not {"jax", "flax", "optax"} & set(sys.modules)
