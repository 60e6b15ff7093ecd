"""Damaged pictures, LMDBs and checkpoints: read as what they are, or refused by name in one line; nothing in
them is run.
"""

import io
import pickle
import shutil
import struct
import zipfile
import zlib

import cv2
import lmdb
import numpy as np
import pytest
import tifffile
import torch
from basicsr.data import build_dataset
from PIL import Image

from helpers.fuzzing import fuzzed, refused
from helpers.pictures import picture
from liif_plugin.basicsr_patches.resuming import load_resume_state
from liif_plugin.checkpoints.conversion import convert, load_foreign
from liif_plugin.checkpoints.loading import load
from liif_plugin.checkpoints.reading import load_params
from liif_plugin.data import lmdb_env
from liif_plugin.data.deterministic import SampleIndex
from liif_plugin.data.image_source import ImageSource, decode_rgb
from liif_plugin.data.prepare import prepare_lmdb
from liif_plugin.errors import UserError
from liif_plugin.image_io.reading import read_picture

RGB = picture(0, 24, 30)


def saved(image: Image.Image, kind: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def png_of_size(width: int, height: int, bits: int = 8) -> bytes:
    """A whole PNG of one pixel whose header says ``width`` x ``height``, with the right checksum."""
    raw = bytearray(saved(Image.new("L", (1, 1)), "PNG"))
    raw[16:24] = struct.pack(">II", width, height)
    raw[24] = bits
    raw[29:33] = struct.pack(">I", zlib.crc32(bytes(raw[12:29])))
    return bytes(raw)


def tiff(array: np.ndarray, **options) -> bytes:
    file = io.BytesIO()
    colour = {"photometric": "rgb"} if array.shape[2:] == (3,) else {}
    tifffile.imwrite(file, array, **colour, **options)
    return file.getvalue()


def kinds_of_pictures() -> dict:
    """name -> (bytes, what reading a picture to enlarge gives, what reading one to train on gives): 'yes',
    'no' or 'either'.
    """
    image, gray = Image.fromarray(RGB), Image.fromarray(RGB[..., 0])
    clear = Image.fromarray(np.dstack([RGB, np.full(RGB.shape[:2], 90, np.uint8)]))
    deep = cv2.imencode(".png", RGB.astype(np.uint16) * 257)[1].tobytes()
    frames = {"save_all": True, "append_images": [image.rotate(90), image.rotate(180)]}
    return {
        "cmyk.jpg": (saved(image.convert("CMYK"), "JPEG"), "yes", "yes"),
        "cmyk.tif": (saved(image.convert("CMYK"), "TIFF"), "yes", "either"),
        "bit.png": (saved(gray.convert("1"), "PNG"), "yes", "yes"),
        "bit.tif": (saved(gray.convert("1"), "TIFF"), "yes", "either"),
        "palette.png": (saved(image.quantize(16), "PNG"), "yes", "yes"),
        "palette_clear.png": (saved(image.quantize(16), "PNG", transparency=0), "yes", "no"),
        "clear.png": (saved(clear, "PNG"), "yes", "no"),
        "clear.webp": (saved(clear, "WEBP"), "yes", "no"),
        "gray.png": (saved(gray, "PNG"), "yes", "yes"),
        "gray_clear.png": (saved(clear.convert("LA"), "PNG"), "yes", "no"),
        "deep.png": (deep, "yes", "yes"),
        "deep.tif": (tiff(RGB.astype(np.uint16) * 257), "yes", "yes"),
        "animated.gif": (saved(image, "GIF", **frames), "no", "either"),
        "animated.webp": (saved(image, "WEBP", **frames), "no", "either"),
        "animated.png": (saved(image, "PNG", **frames), "no", "either"),
        "pages.tif": (saved(image, "TIFF", **frames), "no", "either"),
        "float.tif": (tiff(RGB.astype(np.float32)), "no", "no"),
        "whole.tif": (tiff(RGB.astype(np.int32)), "no", "no"),
        "bool.tif": (tiff(RGB[..., 0] > 90), "yes", "either"),
        "five.tif": (tiff(np.zeros((9, 9, 5), np.uint8)), "no", "either"),
        "bomb.png": (png_of_size(60000, 60000), "no", "no"),
        "wide.png": (png_of_size(2**31 - 1, 1), "no", "no"),
        "huge.png": (png_of_size(2**31 - 1, 2**31 - 1, 16), "no", "no"),
        "flat.png": (png_of_size(0, 5), "no", "no"),
        "large.png": (png_of_size(19000, 19000), "no", "no"),
        "bits.png": (png_of_size(1, 1, 7), "no", "no"),
        "empty.png": (b"", "no", "no"),
        "zero.png": (bytes(5000), "no", "no"),
        "text.png": (b"hello", "no", "no"),
        "html.jpg": (b"<html><body>404</body></html>", "no", "no"),
        "elf.png": (b"\x7fELF" + bytes(200), "no", "no"),
        "ps.png": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(pwned) (w) file\n", "no", "no"),
        "svg.png": (
            b"<svg xmlns='http://www.w3.org/2000/svg'><image href='/etc/hostname'/></svg>",
            "no",
            "no",
        ),
        "zip.png": (b"PK\x03\x04" + bytes(100), "no", "no"),
        "signature.png": (b"\x89PNG\r\n\x1a\n", "no", "no"),
        "bmp.bmp": (
            b"BM"
            + struct.pack("<IHHIIiiHHIIiiII", 60, 0, 0, 54, 40, 2**30, -(2**30), 1, 24, 0, 0, 0, 0, 0, 0),
            "no",
            "no",
        ),
        "ppm.ppm": (b"P6 99999999 99999999 255\n" + bytes(10), "no", "no"),
    }


def outcome(work, expected: str, name: str) -> None:
    result = refused(work, name)
    assert expected == "either" or isinstance(result, UserError) == (expected == "no"), f"{name}: {result}"


def test_kinds_of_pictures(tmp_path, capfd):
    kinds = kinds_of_pictures()
    for name, (data, enlarged, trained) in kinds.items():
        (tmp_path / name).write_bytes(data)
        outcome(lambda path=tmp_path / name: read_picture(str(path)), enlarged, name)
        outcome(lambda name=name, data=data: decode_rgb(data, name), trained, name)
        assert (tmp_path / name).read_bytes() == data
    fuzzed("pictures", 2 * len(kinds))


def test_broken_pictures_of_a_data_set():
    """Cut off and overwritten at random: an image of three channels, or a refusal.

    (Pictures to enlarge: test_pictures.)
    """
    rng, kinds, cases, refusals = np.random.default_rng(0), kinds_of_pictures(), 0, 0
    for name in ("cmyk.jpg", "palette.png", "deep.png", "gray.png", "clear.webp", "deep.tif", "animated.gif"):
        whole = np.frombuffer(kinds[name][0], np.uint8)
        for case in range(20):
            broken = whole.copy()
            at = rng.integers(0, len(whole), 4)
            broken[at] = rng.integers(0, 256, 4)
            broken = broken[: rng.integers(0, len(whole))] if case % 2 else broken
            image = refused(lambda broken=broken, name=name: decode_rgb(broken.tobytes(), name), name)
            refusals += isinstance(image, UserError)
            assert isinstance(image, UserError) or (
                image.ndim == 3 and image.shape[2] == 3 and image.dtype == np.uint8
            )
            cases += 1
    fuzzed("pictures", cases)
    assert cases / 4 < refusals < cases


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    root = tmp_path_factory.mktemp("packed")
    for name, count, first in (("a", 3, 0), ("b", 3, 5)):
        (root / name).mkdir()
        for i in range(first, first + count):
            Image.fromarray(picture(i, 40, 44)).save(root / name / f"{i}.png")
        prepare_lmdb(str(root / name), str(root / f"{name}.lmdb"), cut=None)
    return root


def used(root, **more):
    """Everything that training and validation do with an LMDB: list, measure, read each image."""
    lmdb_env._ENVS.pop(str(root), None)
    source = ImageSource(str(root), f"set {root.name}", **more)
    images = [source.read(i) for i in range(len(source))]
    if not more:
        opt = {
            "name": root.name,
            "type": "ArbitraryScaleDataset",
            "phase": "train",
            "dataroot_gt": str(root),
            "lq_size": 8,
            "num_queries": 16,
        }
        dataset = build_dataset(opt)
        assert dataset[SampleIndex(0, 0, 0)]["lq"].shape == (3, 8, 8)
    return images


LISTS = [
    "",
    "\n\n",
    "nonsense\n",
    "0.png\n",
    "0.png (40,44,3)\n0.png (41,44,3)\n",
    "0.png (40,44,3) 1 2 3\n",
    "0.png (-40,44,3) 1\n",
    "0.png (40,44) 1\n",
    "0.png (4e1,44,3) 1\n",
    "0.png (99999,44,3) 1\n",
    "0.png (999999999,44,3) 1\n",
    "0.png (44,40,3) 1\n",
    "0.png (0,0,3) 1\n",
    "0 (40,44,3) 1\n",
    "../0.png (40,44,3) 1\n",
    "7.png (40,44,3) 1\n",
    "0.png (40,44,3) 1\n7.png (40,44,3) 1\n",
    "0.png (40,44,3) 1\n0.bmp (40,44,3) 1\n",
    "0.png (\u0661,44,3) 1\n",
    "0.png (40,44,3) 1\x00\n",
    "x" * 600 + ".png (40,44,3) 1\n",
    "ä.png (40,44,3) 1\n",
    "0.png\t(40,44,3)\t1\n",
    "{}",
    "- a\n- b\n",
    "0.png (nan,44,3) 1\n",
    "0.png(40,44,3) 1\n",
]
FINE = {"0.png (40,44,3) 1 2 3\n"}


def test_lists_of_lmdbs(packed, tmp_path):
    """meta_info.txt: wrong sizes, wrong names, another set's keys, no text at all.

    Read on demand and into memory.
    """
    cases = [text.encode() for text in LISTS] + [
        b"\xff\xfe\x00bad",
        b"\x00" * 300,
        (packed / "b.lmdb" / "meta_info.txt").read_bytes(),
    ]
    for number, content in enumerate(cases):
        root = tmp_path / f"case{number}.lmdb"
        shutil.copytree(packed / "a.lmdb", root)
        (root / "meta_info.txt").write_bytes(content)
        for more in ({}, {"cache": "memory"}):
            result = refused(lambda root=root, more=more: used(root, **more), root.name)
            right = isinstance(result, list) and np.array_equal(result[0], picture(0, 40, 44))
            assert isinstance(result, UserError) or right, content
        assert (root / "data.mdb").read_bytes() == (packed / "a.lmdb" / "data.mdb").read_bytes()
    fuzzed("LMDBs", 2 * len(cases))


def test_cut_off_lmdbs(packed, tmp_path):
    """A file that is shorter than its own pages would kill the process at the first touch beyond its end."""
    whole = (packed / "a.lmdb" / "data.mdb").read_bytes()
    lengths = [
        0,
        1,
        100,
        4095,
        4096,
        8191,
        8192,
        8193,
        12288,
        *range(16384, len(whole), 4096 * 3),
        len(whole) - 4096,
        len(whole) - 1,
    ]
    for number, length in enumerate(lengths):
        root = tmp_path / f"cut{number}.lmdb"
        root.mkdir()
        shutil.copy(packed / "a.lmdb" / "meta_info.txt", root)
        (root / "data.mdb").write_bytes(whole[:length])
        result = refused(lambda root=root: used(root), root.name)
        assert isinstance(result, UserError), length
    fuzzed("LMDBs", len(lengths))


def test_lmdbs_that_are_none(packed, tmp_path):
    def no_data(root):
        (root / "data.mdb").unlink()

    def no_list(root):
        (root / "meta_info.txt").unlink()

    def folders(root):
        for name in ("data.mdb", "meta_info.txt"):
            (root / name).unlink()
            (root / name).mkdir()

    def nothing(root):
        shutil.rmtree(root)

    def a_file(root):
        shutil.rmtree(root)
        root.write_bytes(b"x")

    def noise(root):
        (root / "data.mdb").write_bytes(np.random.default_rng(0).bytes(50_000))

    def no_picture(root):
        with lmdb.open(str(root), map_size=2**26) as env, env.begin(write=True) as txn:
            txn.put(b"1", b"not a picture")

    def empty_value(root):
        with lmdb.open(str(root), map_size=2**26) as env, env.begin(write=True) as txn:
            txn.put(b"1", b"")

    def half_picture(root):
        with lmdb.open(str(root), map_size=2**26) as env, env.begin(write=True) as txn:
            txn.put(b"1", txn.get(b"1")[:700])

    def emptied(root):
        with lmdb.open(str(root), map_size=2**26) as env, env.begin(write=True) as txn:
            for key in (b"0", b"1", b"2"):
                txn.delete(key)

    faults = [
        no_data,
        no_list,
        folders,
        nothing,
        a_file,
        noise,
        no_picture,
        empty_value,
        half_picture,
        emptied,
    ]
    for fault in faults:
        root = tmp_path / f"{fault.__name__}.lmdb"
        shutil.copytree(packed / "a.lmdb", root)
        fault(root)
        assert isinstance(refused(lambda root=root: used(root), root.name), UserError), fault.__name__
    fuzzed("LMDBs", len(faults))


NETWORK = {"type": "LIIF", "encoder": {"type": "EDSR", "num_feat": 8, "num_block": 1}, "hidden_list": [8]}


class Code:
    """A pickle that makes a file when it is read."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.fixture
def weights(tmp_path):
    from liif_plugin.archs.building import build

    (tmp_path / "net.yml").write_text(f"network_g: {NETWORK}".replace("'", ""))
    return build(NETWORK).state_dict()


def contents_of_checkpoints(state: dict, canary) -> dict:
    """name -> (what torch.save gets, whether it may be loaded)."""
    first, second = list(state)[:2]
    others = {
        "nan": state[first] * float("nan"),
        "inf": state[first] + float("inf"),
        "complex": state[first] * 1j,
        "whole": state[first].long(),
        "sparse": state[first].flatten(1).to_sparse(),
        "none": None,
        "text": "x",
        "list": [1.0],
        "shape": state[first][:1],
        "scalar": torch.tensor(1.0),
        "empty": torch.empty(0),
        "dict": {},
        "number": 3.0,
    }
    wrong = {f"value {name}": ({"params": {**state, first: value}}, False) for name, value in others.items()}
    return {
        **wrong,
        "good": ({"params": state}, True),
        "half": ({"params": {k: v.half() for k, v in state.items()}}, True),
        "bfloat": ({"params": {k: v.bfloat16() for k, v in state.items()}}, True),
        "double": ({"params": {k: v.double() for k, v in state.items()}}, True),
        "ema": ({"params_ema": state, "params": {}}, True),
        "module": ({"params": {f"module.{k}": v for k, v in state.items()}}, True),
        "bare": (state, False),
        "missing": ({"params": {k: v for k, v in state.items() if k != second}}, False),
        "more": ({"params": {**state, "extra.weight": torch.zeros(2)}}, False),
        "empty": ({}, False),
        "params none": ({"params": None}, False),
        "params list": ({"params": list(state.values())}, False),
        "keys": ({"params": dict(enumerate(state.values()))}, False),
        "list": ([state], False),
        "text": ("weights", False),
        "number": (1, False),
        "none": (None, False),
        "tensor": (torch.zeros(3), False),
        "state_dict": ({"state_dict": state}, False),
        "code": ({"params": Code(open, str(canary), "w")}, False),
        "code beside": ({"params": state, "more": Code(open, str(canary), "w")}, False),
        "code eval": ({"params": Code(eval, f"open({str(canary)!r}, 'w')")}, False),
        "code exec": (Code(exec, f"open({str(canary)!r}, 'w')"), False),
        "code key": ({Code(open, str(canary), "w"): 1}, False),
    }


def test_checkpoints(tmp_path, weights):
    canary, cases = tmp_path / "pwned", 0
    for name, (content, good) in contents_of_checkpoints(weights, canary).items():
        for new in (True, False):  # the zip, and the bare pickle of old
            path = tmp_path / "net.pth"
            try:
                torch.save(content, path, _use_new_zipfile_serialization=new)
            except (TypeError, ValueError, RuntimeError, AttributeError, pickle.PicklingError):
                continue
            before = path.read_bytes()
            result = refused(lambda path=path: load(str(path), "cpu"), "net.pth")
            assert isinstance(result, UserError) != good, f"{name}: {result}"
            refused(lambda path=path: convert(load_foreign(str(path))))
            refused(lambda path=path: load_params(str(path)), "net.pth")
            assert not canary.exists() and path.read_bytes() == before, name
            cases += 1
    fuzzed("checkpoints", cases)
    assert cases > 70


def broken_files(whole: bytes, canary) -> dict:
    rng = np.random.default_rng(0)
    files = {f"cut {n}": whole[:n] for n in (*range(0, 200, 40), *range(200, len(whole), len(whole) // 20))}
    for case in range(30):
        noisy = np.frombuffer(whole, np.uint8).copy()
        at = rng.integers(0, len(noisy), 40)
        noisy[at] = rng.integers(0, 256, 40)
        files[f"noise {case}"] = noisy.tobytes()
    evil = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(whole)) as old, zipfile.ZipFile(evil, "w") as new:
        for entry in old.infolist():
            code = (
                pickle.dumps(Code(open, str(canary), "w"))
                if entry.filename.endswith("data.pkl")
                else old.read(entry)
            )
            new.writestr(entry.filename, code)
    script = f"cos\nsystem\n(S'touch {canary}'\ntR.".encode()
    return {
        **files,
        "zip with code": evil.getvalue(),
        "pickle": pickle.dumps(Code(open, str(canary), "w")),
        "system": script,
        "protocol 0": pickle.dumps(Code(open, str(canary), "w"), 0),
        "html": b"<html>404</html>",
        "zeros": bytes(9000),
        "pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
        "empty zip": b"PK\x05\x06" + bytes(18),
    }


def test_broken_checkpoints(tmp_path, weights):
    canary = tmp_path / "pwned"
    torch.save({"params": weights}, tmp_path / "whole.pth")
    files = broken_files((tmp_path / "whole.pth").read_bytes(), canary)
    path, refusals = tmp_path / "net.pth", 0
    for name, data in files.items():
        path.write_bytes(data)
        refusals += isinstance(refused(lambda: load(str(path), "cpu"), "net.pth"), UserError)
        assert isinstance(refused(lambda: load_foreign(str(path)), "net.pth"), UserError), name
        assert not canary.exists() and path.read_bytes() == data, name
    fuzzed("checkpoints", len(files))
    assert refusals > 30  # noise in the numbers alone is not noticed


def test_foreign_checkpoints(tmp_path, weights):
    """The authors' format and MMagic's with nonsense inside."""
    noise = {"x": torch.zeros(2)}
    parts = [
        None,
        3,
        "x",
        [],
        {},
        noise,
        weights,
        {"encoder.head.0.weight": torch.zeros(1)},
        {"encoder.SFENet1.weight": torch.zeros(2)},
        {1: torch.zeros(1)},
        {"imnet.layers.0.weight": torch.zeros(3)},
        {"head.0.weight": torch.zeros(3, 3), "body.x": torch.zeros(1)},
        {"encoder.head.0.weight": torch.zeros(4, 3, 3, 3), "encoder.head.0.bias": torch.zeros(4)},
    ]
    contents = [
        {"model": {"name": name, "args": args, "sd": sd}}
        for name in ("liif", "metasr", "edsr", None)
        for sd in parts
        for args in (None, {"encoder_spec": {"args": {"res_scale": "x"}}})
    ]
    contents += [{"model": part} for part in parts] + [{"state_dict": part} for part in parts]
    contents += [
        {"state_dict": {"generator.imnet.layers.0.weight": value, **more}}
        for value in (torch.zeros(1), torch.zeros(3, 5), None)
        for more in ({}, {"generator.encoder.conv_first.weight": torch.zeros(8, 3, 3, 3)})
    ]
    for content in contents:
        torch.save(content, tmp_path / "foreign.pth")
        assert isinstance(refused(lambda: convert(load_foreign(str(tmp_path / "foreign.pth")))), UserError), (
            content
        )
    fuzzed("checkpoints", len(contents))


def test_training_states(tmp_path):
    """What --auto_resume and path.resume_state meet."""
    (tmp_path / "states").mkdir()
    path, canary = tmp_path / "states" / "5.state", tmp_path / "pwned"
    good = {"epoch": 0, "iter": 5, "optimizers": [], "schedulers": []}
    contents = [
        None,
        1,
        "x",
        [],
        {},
        {"epoch": 0},
        {"iter": 5},
        {**good, "epoch": "x"},
        {**good, "iter": None},
        {**good, "iter": [5]},
        {**good, "iter": 2.5},
        {**good, "more": Code(open, str(canary), "w")},
        Code(open, str(canary), "w"),
    ]
    opt = {
        "auto_resume": False,
        "path": {
            "resume_state": str(path),
            "experiments_root": str(tmp_path),
            "training_states": str(path.parent),
        },
        "datasets": {"train": {"batch_size_per_gpu": 1}},
        "dist": False,
        "num_gpu": 0,
        "is_train": True,
        "network_g": {},
    }
    for content in contents:
        torch.save(content, path)
        assert isinstance(refused(lambda: load_resume_state(opt), "5.state"), UserError), content
    torch.save(good, path)
    whole = path.read_bytes()
    lengths = range(0, len(whole), max(1, len(whole) // 15))
    for length in lengths:
        path.write_bytes(whole[:length])
        assert isinstance(refused(lambda: load_resume_state(opt), "5.state"), UserError), length
    assert not canary.exists()
    fuzzed("checkpoints", len(contents) + len(lengths))
