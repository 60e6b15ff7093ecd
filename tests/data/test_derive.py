"""LR folders as the field has them, and the folders of the CelebA-HQ task."""

import json
import os

import numpy as np
import pytest
from PIL import Image

from helpers.pictures import LEAVING, picture
from liif_plugin.cli import main
from liif_plugin.data import derive
from liif_plugin.data.derive import celebahq_images, derive_folders, lr_images, read_splits
from liif_plugin.data.image_source import ImageSource
from liif_plugin.errors import UserError


def call(*argv):
    """Exit code of ``liif ARGV``; a string is the message of a user's mistake."""
    with pytest.raises(SystemExit) as stop:
        main(list(map(str, argv)))
    return stop.value.code


@pytest.mark.parametrize("name", ["Set5", "Set14", "B100"])
def test_every_lr_file_of_the_benchmarks(bench, name, tmp_path):
    assert call("prepare", "lr", bench / name / "HR", "-o", tmp_path / "LR") == 0
    compared = 0
    for scale in (2, 3, 4):
        for path in (bench / name / "LR_bicubic" / f"X{scale}").glob("*.png"):
            with Image.open(path) as wanted, Image.open(tmp_path / "LR" / f"X{scale}" / path.name) as ours:
                assert wanted.mode == ours.mode and np.array_equal(np.asarray(wanted), np.asarray(ours)), path
            compared += 1
    assert compared == 3 * len(list((bench / name / "HR").glob("*.png")))


def test_lr_sizes_and_gray(tmp_path, image_folder):
    folder = image_folder(count=1, h=35, w=41)
    Image.fromarray(picture(3, 30, 30)[:, :, 0]).save(folder / "gray.png")
    assert call("prepare", "lr", folder, "-o", tmp_path / "out", "--scales", 3) == 0
    with (
        Image.open(tmp_path / "out" / "X3" / "img_0.png") as lr,
        Image.open(tmp_path / "out" / "X3" / "gray.png") as gray,
    ):
        assert lr.size == (13, 11) and gray.mode == "L"
    assert not (tmp_path / "out" / ".partial").exists()


def test_lr_left_out_and_refused(tmp_path, image_folder, capsys):
    folder = image_folder(count=1)
    Image.fromarray(picture(3, 2, 2)).save(folder / "dot.png")
    (folder / "broken.png").write_bytes(b"no picture")
    assert call("prepare", "lr", folder, "-o", tmp_path / "out") == 1
    said = capsys.readouterr().out
    assert (
        "left out: dot.png: (height, width) = (2, 2) is below one pixel at x3" in said
        and "left out: broken.png: not a whole image file" in said
    )
    assert "exists already" in call("prepare", "lr", folder, "-o", tmp_path / "out")
    no_folder = call("prepare", "lr", tmp_path / "nowhere", "-o", tmp_path / "out2")
    assert "expected a folder of images, found nothing" in no_folder
    assert call("prepare", "lr", folder, "-o", tmp_path / "out3", "--scales", 0) == 2
    assert "--scales: expected 1 or more, got 0" in capsys.readouterr().err


def test_goes_on_after_an_interruption(tmp_path, image_folder, monkeypatch):
    folder, made = image_folder(count=4), []

    def make(image):
        if len(made) == 2:
            raise KeyboardInterrupt
        made.append(1)
        return lr_images(image, [2], "mirror")

    monkeypatch.setattr(derive.os, "cpu_count", lambda: 1)
    with pytest.raises(KeyboardInterrupt):
        derive_folders(str(folder), str(tmp_path / "out"), ["X2"], make, {"a": 1})
    with pytest.raises(UserError, match="with other settings"):
        derive_folders(str(folder), str(tmp_path / "out"), ["X2"], make, {"a": 2})
    made.clear()
    made.append(1)  # one picture more than the two that are there would stop it again
    assert not derive_folders(
        str(folder), str(tmp_path / "out"), ["X2"], lambda image: lr_images(image, [2], "mirror"), {"a": 1}
    )
    assert len(list((tmp_path / "out" / "X2").glob("*.png"))) == 4


def test_a_loss_of_power_leaves_no_empty_image_in_the_result(tmp_path, image_folder, monkeypatch):
    """Images are not flushed one by one: empty and cut ones that a loss of power leaves are made again."""
    folder, out = image_folder(count=3), tmp_path / "out"

    def shrink(image):
        return lr_images(image, [2], "mirror")

    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(derive, "flush_disks", stop)
        with pytest.raises(KeyboardInterrupt):
            derive_folders(str(folder), str(out), ["X2"], shrink, {})
    made = sorted((out / ".partial" / "X2").glob("*.png"))
    whole = [path.read_bytes() for path in made]
    assert len(whole) == 3
    made[0].write_bytes(b"")
    made[1].write_bytes(whole[1][:-30])
    assert not derive_folders(str(folder), str(out), ["X2"], shrink, {})
    assert [path.read_bytes() for path in sorted((out / "X2").glob("*.png"))] == whole


def test_all_images_reach_the_disk_at_once_before_they_are_called_finished(
    tmp_path, image_folder, monkeypatch
):
    folder, out = image_folder(count=4), tmp_path / "out"
    finished, synced, flushes = out / ".partial" / derive.FINISHED, [], []
    stock = derive.flush_disks

    def flush():
        synced.append((len(list((out / ".partial").rglob("*.png"))), finished.exists()))
        stock()

    monkeypatch.setattr(derive, "flush_disks", flush)
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda descriptor: (flushes.append(descriptor), fsync(descriptor)))
    derive_folders(str(folder), str(out), ["X2", "X3"], lambda image: lr_images(image, [2, 3], "mirror"), {})
    assert synced == [(8, False)]
    assert len(flushes) < 8  # settings, the list of finished images and their folders, but no image


def test_celebahq_smaller_ones_come_from_256():
    image = picture(0, 512, 512)
    made = celebahq_images(image)
    whole = Image.fromarray(image).resize((256, 256), Image.BICUBIC)
    assert np.array_equal(made["256"], np.asarray(whole))
    for side in (128, 64, 32):
        assert np.array_equal(made[str(side)], np.asarray(whole.resize((side, side), Image.BICUBIC)))
    with pytest.raises(UserError, match="expected a square image"):
        celebahq_images(picture(0, 256, 300))


def test_celebahq_with_the_authors_split(tmp_path):
    (tmp_path / "in").mkdir()
    for i in range(3):
        Image.fromarray(picture(i, 256, 256)).save(tmp_path / "in" / f"{i:05d}.jpg")
    (tmp_path / "split.json").write_text(
        json.dumps({"train": ["00000.png", "00002.png"], "test": ["00001.png"]})
    )
    assert (
        call(
            "prepare", "celebahq", tmp_path / "in", "-o", tmp_path / "out", "--split", tmp_path / "split.json"
        )
        == 0
    )
    source = ImageSource(
        str(tmp_path / "out" / "64.lmdb"), "here", str(tmp_path / "out" / "split.json"), split="train"
    )
    assert source.names == ["00000.png", "00002.png"] and source.sizes == [(64, 64)] * 2
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(
        ["256", "128", "64", "32", "256.lmdb", "128.lmdb", "64.lmdb", "32.lmdb", "split.json"]
    )
    assert "is finished already" in call(
        "prepare", "celebahq", tmp_path / "in", "-o", tmp_path / "out", "--split", tmp_path / "split.json"
    )


def test_celebahq_goes_on_and_keeps_the_names_of_the_lmdb(tmp_path, monkeypatch):
    """An interruption while the LMDBs are written forgets nothing; names that an LMDB must quote are quoted
    in split.json too.
    """
    from liif_plugin.data import prepare

    (tmp_path / "in" / "train").mkdir(parents=True)
    for name, w in (("John Smith.v2", 256), ("narrow", 200)):
        Image.fromarray(picture(0, 256, w)).save(tmp_path / "in" / "train" / f"{name}.png")
    stock = prepare.prepare_lmdb
    monkeypatch.setattr(prepare, "prepare_lmdb", lambda *a: (_ for _ in ()).throw(KeyboardInterrupt))
    assert call("prepare", "celebahq", tmp_path / "in", "-o", tmp_path / "out") == 130
    monkeypatch.setattr(prepare, "prepare_lmdb", stock)
    assert call("prepare", "celebahq", tmp_path / "in", "-o", tmp_path / "out") == 0
    source = ImageSource(
        str(tmp_path / "out" / "32.lmdb"), "here", str(tmp_path / "out" / "split.json"), split="train"
    )
    assert len(source) == 1 and source.read(0).shape == (32, 32, 3)


def test_splits(tmp_path, image_folder):
    image_folder("in/train", 2), image_folder("in/test", 1)
    assert read_splits(None, str(tmp_path / "in")) == {
        "train": ["train/img_0.png", "train/img_1.png"],
        "test": ["test/img_0.png"],
    }
    (tmp_path / "split.json").write_text(json.dumps({"train": ["nobody.png"]}))
    with pytest.raises(UserError, match="1 of 1 names of 'train' are not in"):
        read_splits(str(tmp_path / "split.json"), str(tmp_path / "in"))
    (tmp_path / "split.json").write_text("[1]")
    with pytest.raises(UserError, match="expected a mapping from splits"):
        read_splits(str(tmp_path / "split.json"), str(tmp_path / "in"))
    image_folder("flat", 1)
    assert "has no sub-folders train" in call(
        "prepare", "celebahq", tmp_path / "flat", "-o", tmp_path / "out"
    )


def test_unreadable_and_unknown_files_are_left_out_by_name(tmp_path, image_folder, monkeypatch):
    from liif_plugin.data import image_source

    folder = image_folder(count=2)
    (folder / "photo.heic").write_bytes(b"x")
    stock = image_source.decode_rgb

    def denied(data, name):
        if name.endswith("img_0.png"):
            raise UserError(f"{name}: cannot be read (Permission denied).")
        return stock(data, name)

    monkeypatch.setattr(image_source, "decode_rgb", denied)
    left_out = derive_folders(
        str(folder), str(tmp_path / "out"), ["X2"], lambda image: lr_images(image, [2], "mirror"), {}
    )
    assert left_out == [
        ("img_0.png", "cannot be read (Permission denied)."),
        ("photo.heic", "its format is not read; convert it to PNG"),
    ]


def test_two_at_once(tmp_path, image_folder):
    folder, refusals = image_folder(count=1), []

    def make(image):
        with pytest.raises(UserError, match="another command is writing there") as refusal:
            derive_folders(str(folder), str(tmp_path / "out"), ["X2"], make, {})
        refusals.append(refusal)
        return lr_images(image, [2], "mirror")

    assert derive_folders(str(folder), str(tmp_path / "out"), ["X2"], make, {}) == []
    assert len(refusals) == 1


def test_names_of_a_split_that_leave_the_folder(tmp_path, image_folder):
    folder = image_folder()
    for name in LEAVING:
        (tmp_path / "split.json").write_text(json.dumps({"train": [name]}))
        with pytest.raises(UserError, match="leads out of its folder"):
            read_splits(str(tmp_path / "split.json"), str(folder))
