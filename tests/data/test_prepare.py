"""LMDBs that are whole or not there, and say what they left out."""

import lmdb
import numpy as np
import pytest
from PIL import Image

from helpers.pictures import picture
from helpers.processes import liif
from liif_plugin.data import prepare
from liif_plugin.data.image_source import ImageSource
from liif_plugin.data.prepare import Cut, lmdb_key, prepare_lmdb
from liif_plugin.errors import UserError


def test_windows_cover_the_image():
    assert Cut(480, 240).starts(1000) == [0, 240, 480, 520]
    assert Cut(480, 240).starts(480) == [0]
    assert Cut(480, 240).starts(300) == [0]
    assert Cut(10, 100).starts(35) == [0, 25]


def test_cut_images_read_back(image_folder, tmp_path):
    folder = image_folder(h=64, w=72)
    report = prepare_lmdb(str(folder), str(tmp_path / "sub.lmdb"), Cut(48, 24), png_level=1)
    source = ImageSource(str(tmp_path / "sub.lmdb"), "here")
    assert report.stored == len(source) == 3 * 2 * 2 and report.sources == 3 and not report.left_out
    whole = np.asarray(Image.open(folder / "img_0.png"))
    assert source.names[:2] == ["img_0_s001.png", "img_0_s002.png"]
    assert np.array_equal(source.read(0), whole[:48, :48]) and np.array_equal(
        source.read(1), whole[:48, 24:72]
    )
    assert np.array_equal(source.read(3), whole[16:64, 24:72])
    assert sorted(path.name for path in (tmp_path / "sub.lmdb").iterdir()) == [
        "data.mdb",
        "lock.mdb",
        "meta_info.txt",
    ]


@pytest.mark.parametrize(("level", "magic"), [(None, b"BM"), (0, b"\x89PNG"), (9, b"\x89PNG")])
def test_storage(image_folder, tmp_path, level, magic):
    """BMP by default, because nothing decodes faster; the pixels are the same in any storage."""
    folder = image_folder()
    prepare_lmdb(str(folder), str(tmp_path / "x.lmdb"), None, png_level=level)
    with lmdb.open(str(tmp_path / "x.lmdb"), readonly=True, lock=False) as env, env.begin() as txn:
        assert all(value.startswith(magic) for _, value in txn.cursor())
    assert np.array_equal(
        ImageSource(str(tmp_path / "x.lmdb"), "here").read(1), np.asarray(Image.open(folder / "img_1.png"))
    )


def test_basicsr_reads_it(image_folder, tmp_path):
    from basicsr.data.data_util import paired_paths_from_lmdb

    folder = image_folder()
    Image.fromarray(picture(5, 64, 64)).save(folder / "a b.v2 (ü).png")
    prepare_lmdb(str(folder), str(tmp_path / "x.lmdb"), None)
    paths = paired_paths_from_lmdb([str(tmp_path / "x.lmdb")] * 2, ["lq", "gt"])
    assert len(paths) == 4
    source = ImageSource(str(tmp_path / "x.lmdb"), "here")
    assert [p["gt_path"] for p in paths] == [name[:-4] for name in source.names]
    assert lmdb_key("a b.v2 (ü).png").isascii() and len(source.read(0))


def test_a_map_of_any_size(tmp_path, monkeypatch):
    """A flat first image and noise behind it: the case in which BasicSR's estimate of the size fails."""
    real_open = prepare.lmdb.open
    monkeypatch.setattr(
        prepare.lmdb, "open", lambda path, map_size, **more: real_open(path, map_size=2**16, **more)
    )
    (tmp_path / "in").mkdir()
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(tmp_path / "in" / "0.png")
    for i in range(1, 6):
        Image.fromarray(np.random.default_rng(i).integers(0, 256, (100, 100, 3), dtype=np.uint8)).save(
            tmp_path / "in" / f"{i}.png"
        )
    assert prepare_lmdb(str(tmp_path / "in"), str(tmp_path / "out.lmdb"), None).stored == 6


def test_finishing_needs_room_too(tmp_path, monkeypatch):
    """An LMDB that is opened again has a map of exactly its size, in which not even deleting is possible."""
    (tmp_path / "in").mkdir()
    for i in range(1500):
        Image.fromarray(picture(i, 2, 2)).save(tmp_path / "in" / f"{i:04d}.png")
    finish = prepare._finish
    monkeypatch.setattr(prepare, "_finish", lambda *args: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        prepare_lmdb(str(tmp_path / "in"), str(tmp_path / "out.lmdb"), None)
    monkeypatch.setattr(prepare, "_finish", finish)
    real_open = prepare.lmdb.open
    monkeypatch.setattr(
        prepare.lmdb, "open", lambda path, map_size, **more: real_open(path, map_size=4096, **more)
    )
    assert prepare_lmdb(str(tmp_path / "in"), str(tmp_path / "out.lmdb"), None).stored == 1500
    assert len(ImageSource(str(tmp_path / "out.lmdb"), "x")) == 1500


def test_left_out_by_name(image_folder, tmp_path):
    folder = image_folder()
    (folder / "broken.png").write_bytes((folder / "img_0.png").read_bytes()[:200])
    Image.fromarray(picture(0, 20, 90)).save(folder / "flat.png")
    done = liif("prepare", folder, "-o", "out.lmdb", "--whole", "--min-size", "40", cwd=tmp_path)
    assert done.returncode == 1  # a file could not be read
    assert "3 images from 5 files" in done.stdout
    assert "left out: broken.png: not a whole image file" in done.stdout
    assert "left out: flat.png: (height, width) = (20, 90) is below the minimum size 40" in done.stdout


def test_goes_on_after_an_interruption(image_folder, tmp_path, monkeypatch):
    folder, output = image_folder(count=6), str(tmp_path / "out.lmdb")
    encode, seen = prepare._encode, []

    def stop_at_the_fourth(source, name, *rest):
        seen.append(name)
        if name == "img_3.png" and len(seen) < 7:
            raise KeyboardInterrupt
        return encode(source, name, *rest)

    monkeypatch.setattr(prepare, "_encode", stop_at_the_fourth)
    with pytest.raises(KeyboardInterrupt):
        prepare_lmdb(str(folder), output, None)
    assert not (tmp_path / "out.lmdb").exists() and (tmp_path / ".out.lmdb.partial").is_dir()
    with pytest.raises(UserError, match="with other settings; delete that folder"):
        prepare_lmdb(str(folder), output, Cut(32, 32))
    seen[:] = ["x"] * 7
    assert prepare_lmdb(str(folder), output, None).stored == 6
    assert 3 <= len(seen) - 7 <= 5  # what was stored is not encoded again
    assert np.array_equal(ImageSource(output, "x").read(5), picture(5, 64, 72))


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["nowhere", "-o", "x.lmdb"], "expected a folder of images"),
        (["images", "-o", "x"], "ends in .lmdb"),
        (["images", "-o", "there.lmdb"], "exists already"),
        (["empty", "-o", "x.lmdb"], "holds no images"),
        (["images", "-o", "x.lmdb", "--crop-size", "0"], "--crop-size: expected 1 or more, got 0"),
        (["images", "-o", "x.lmdb", "--min-size", "999"], "none of 3"),
    ],
)
def test_mistakes(image_folder, tmp_path, monkeypatch, capsys, argv, words):
    from liif_plugin.cli import main

    image_folder()
    (tmp_path / "there.lmdb").mkdir()
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        main(["prepare", *argv])
    code = stopped.value.code
    said = capsys.readouterr().err if code == 2 else code
    assert words in said and len(said.splitlines()) == 1


@pytest.fixture
def deny(monkeypatch):
    """Deny reading one path, as its permissions would; the tests may run as root, who may read everything."""
    import builtins
    import os

    stock_open, stock_scandir, denied = builtins.open, os.scandir, set()

    def refuse(path):
        if str(path) in denied:
            raise PermissionError(13, "Permission denied", str(path))

    def opening(path, *args, **kwargs):
        refuse(path)
        return stock_open(path, *args, **kwargs)

    def scanning(path="."):
        refuse(path)
        return stock_scandir(path)

    monkeypatch.setattr(builtins, "open", opening)
    monkeypatch.setattr(os, "scandir", scanning)
    return lambda path: denied.add(str(path))


def test_an_unreadable_folder_is_refused(image_folder, tmp_path, deny):
    """Its pictures would be missing without a word."""
    folder = image_folder()
    (folder / "sub").mkdir()
    deny(folder / "sub")
    with pytest.raises(UserError, match=r"sub: this folder cannot be read \(Permission denied\)"):
        prepare_lmdb(str(folder), str(tmp_path / "out.lmdb"), None)
    with pytest.raises(UserError, match="this folder cannot be read"):
        ImageSource(str(folder), "here")
    assert not (tmp_path / "out.lmdb").exists()


def test_an_unreadable_file_is_left_out_by_name(image_folder, tmp_path, deny):
    """The others are stored; no word of a full disk."""
    folder = image_folder()
    deny(folder / "img_1.png")
    report = prepare_lmdb(str(folder), str(tmp_path / "out.lmdb"), None)
    assert report.left_out == [("img_1.png", "cannot be read (Permission denied).")]
    assert report.stored == 2
    assert report.unreadable == 1


@pytest.mark.parametrize("kind", ["avif", "heic", "jfif", "JPE", "gif"])
def test_pictures_of_other_formats_are_left_out_by_name(image_folder, tmp_path, kind):
    folder = image_folder()
    (folder / f"photo.{kind}").write_bytes(b"x")
    (folder / "notes.txt").write_bytes(b"x")
    report = prepare_lmdb(str(folder), str(tmp_path / "out.lmdb"), None)
    assert report.left_out == [(f"photo.{kind}", "its format is not read; convert it to PNG")]
    assert (report.sources, report.stored, report.unreadable) == (4, 3, 1)


def test_a_folder_of_other_formats_alone(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "photo.heic").write_bytes(b"x")
    with pytest.raises(UserError, match=r"but 1 others, such as photo.heic; convert them to PNG"):
        prepare_lmdb(str(tmp_path / "in"), str(tmp_path / "out.lmdb"), None)


def test_two_at_once(image_folder, tmp_path, monkeypatch):
    """The second one is refused while the first one works; the finished LMDB holds images alone."""
    folder, output = image_folder(), str(tmp_path / "out.lmdb")
    finish, refusals = prepare._finish, []

    def second_one_comes(*args):
        with pytest.raises(UserError, match="another command is writing there") as refusal:
            prepare_lmdb(str(folder), output, None)
        refusals.append(refusal)
        return finish(*args)

    monkeypatch.setattr(prepare, "_finish", second_one_comes)
    assert prepare_lmdb(str(folder), output, None).stored == 3
    assert len(refusals) == 1
    with lmdb.open(output, readonly=True, lock=False) as env, env.begin() as txn:
        assert [key for key, _ in txn.cursor()] == [b"img_0", b"img_1", b"img_2"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [folder.name, "out.lmdb"]
