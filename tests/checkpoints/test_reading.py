"""Checkpoint files that are none, each refused in one sentence that says why; real ones are read quickly."""

import pickle
import struct
import time
import zipfile
from collections import OrderedDict

import pytest
import torch

from helpers.processes import forked
from liif_plugin.checkpoints.reading import load_named_params, load_safely
from liif_plugin.errors import UserError


def doubled(levels, memo_of=0):
    """Opcodes that push a tuple which holds another one twice, which holds another one twice, `levels`
    times.
    """
    code = b"K\x01K\x02\x86" + b"q" + bytes([memo_of])
    for level in range(levels):
        code += b"h" + bytes([memo_of + level]) + b"\x86" + b"q" + bytes([memo_of + level + 1])
    return code


def as_key(levels):
    """A pickle of protocol 2: {tuple: 1}."""
    return b"\x80\x02}" + doubled(levels) + b"K\x01s."


def nested(levels):
    """A pickle of protocol 2: {((((...),),),): 1}, no tuple twice."""
    return b"\x80\x02}" + b")" + b"\x85" * levels + b"K\x01s."


def in_a_zip(path, code):
    torch.save({"params": {"a": torch.zeros(1)}}, path)
    with zipfile.ZipFile(path) as archive:
        entries = {entry.filename: archive.read(entry) for entry in archive.infolist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in entries.items():
            archive.writestr(name, code if name.endswith("data.pkl") else data)


def in_the_old_format(path, code, position):
    """A file of torch before 1.6, whose pickle number `position` is `code`."""
    pickles = [
        pickle.dumps(part, 2) for part in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}, {}, [])
    ]
    pickles[position] = code
    path.write_bytes(b"".join(pickles))


WAYS = {
    "zip": in_a_zip,
    "bare": lambda path, code: path.write_bytes(code),
    "old object": lambda path, code: in_the_old_format(path, code, 3),
    "old keys": lambda path, code: in_the_old_format(path, code, 4),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("code", [as_key(60), nested(100_000)], ids=["doubled", "deep"])
def test_tuples_whose_hash_never_ends_are_refused(tmp_path, way, code):
    """In a process of its own: without the check it hangs, or Python dies of the recursion."""
    WAYS[way](tmp_path / "x.pth", code)
    done = forked(
        "-c",
        "from liif_plugin.checkpoints.reading import load_safely\n"
        "from liif_plugin.errors import UserError\n"
        "try:\n    load_safely('x.pth')\nexcept UserError as error:\n    print(error)",
        cwd=tmp_path,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert "x.pth: not a checkpoint that can be read safely: it holds a tuple in tuples" in done.stdout


def test_doubled_arguments_of_a_call_are_refused(tmp_path):
    """The same tuple inside the argument of an allowed call, as the key of an OrderedDict."""
    pair = doubled(60) + b"K\x01\x86"  # (tuple, 1)
    in_a_zip(tmp_path / "x.pth", b"\x80\x02ccollections\nOrderedDict\n(]" + pair + b"at" + b"R.")
    with pytest.raises(UserError, match="tuple in tuples"):
        load_safely(str(tmp_path / "x.pth"))


def test_real_tuples_are_read(tmp_path):
    """Long ones, ones in ones, and one that stands in many places: what a checkpoint may hold."""
    shared = (0.9, 0.999)
    content = {
        "long": tuple(range(50_000)),
        "in": ((((1, 2), 3), 4), 5),
        "groups": [{"betas": shared, "params": list(range(100))} for _ in range(100)],
        (1, (2, 3)): OrderedDict(a=torch.Size([1, 2])),
    }
    for new in (True, False):
        torch.save(content, tmp_path / "x.pth", _use_new_zipfile_serialization=new)
        assert load_safely(str(tmp_path / "x.pth")) == content


def test_a_large_checkpoint_costs_little_more(tmp_path):
    """As many tensors as RDN-LIIF with both moments of Adam: the look at the structure is a fraction of a
    second.
    """
    tensors = {f"encoder.net.RDBs.{i}.convs.conv.weight": torch.zeros(1) for i in range(1500)}
    state = {
        i: {"step": torch.zeros(1), "exp_avg": torch.zeros(1), "exp_avg_sq": torch.zeros(1)}
        for i in range(1500)
    }
    torch.save({"params": tensors, "optimizers": [{"state": state}]}, tmp_path / "x.pth")
    begin = time.process_time()
    content = load_safely(str(tmp_path / "x.pth"))
    taken = time.process_time() - begin
    assert len(content["params"]) == 1500
    begin = time.process_time()
    torch.load(tmp_path / "x.pth", weights_only=True)
    assert taken < 5 * (time.process_time() - begin) + 1


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "the file is empty"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
            "a pointer of Git LFS; fetch the file itself",
        ),
        (b"\n<!DOCTYPE html><html>404</html>", "it is a web page"),
        (b"1234567890", "damaged, cut off or not written by torch.save"),
        (bytes(9000), "holds nothing but zeros"),
        (pickle.dumps(print), "damaged, cut off or not written by torch.save|no code in a checkpoint is run"),
        (pickle.dumps(print, 2), "it contains a call of .*print, and no code in a checkpoint is run"),
        (b"\x80\x02" + b"\x8a" + struct.pack("<B", 5), "damaged, cut off"),
    ],
)
def test_the_sentence_says_what_the_file_is(tmp_path, data, words):
    (tmp_path / "x.pth").write_bytes(data)
    with pytest.raises(UserError, match=f"x.pth: not a checkpoint that can be read safely: .*({words})"):
        load_safely(str(tmp_path / "x.pth"))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (5, "found int"),
        ([10**600], "found list"),
        ({10**600: 1}, "found a key of type int"),
        ({1: 2, "state": 3}, "found a key of type int, state"),
        ({}, "found an empty dictionary"),
        (torch.zeros(1), "found Tensor"),
    ],
)
def test_numbers_that_are_no_checkpoint(tmp_path, content, words):
    torch.save(content, tmp_path / "x.pth")
    with pytest.raises(UserError, match=f"expected a BasicSR checkpoint with 'params', {words}"):
        load_named_params(str(tmp_path / "x.pth"))


def test_a_number_that_python_cannot_print(tmp_path):
    torch.save({10**5000: 1}, tmp_path / "x.pth")
    with pytest.raises(UserError, match="not a checkpoint that can be read safely"):
        load_named_params(str(tmp_path / "x.pth"))
