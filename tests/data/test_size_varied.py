"""Ground truths of every size, against the authors' numbers."""

import json

import numpy as np
import pytest
import torch
from basicsr.data import build_dataset
from PIL import Image

from helpers.pictures import picture
from liif_plugin.coords import grid
from liif_plugin.data.deterministic import SampleIndex
from liif_plugin.errors import UserError


@pytest.fixture
def faces(tmp_path, golden):
    """Nine pairs of 32 x 32 and 128 x 128, all of them the authors' picture."""
    numbers = golden("size_varied")
    for name in ("lr", "hr"):
        (tmp_path / name).mkdir()
        # torchvision's ToPILImage, through which the authors' floats went, cuts off
        image = (numbers[name] * 255).byte().permute(1, 2, 0).numpy()
        for i in range(9):
            Image.fromarray(image).save(tmp_path / name / f"{i}.png")
    return {
        "name": "f",
        "type": "SizeVariedDataset",
        "phase": "train",
        "dataroot_gt": str(tmp_path / "hr"),
        "dataroot_lq": str(tmp_path / "lr"),
        "use_hflip": False,
    }


def test_equals_the_authors(faces, golden):
    numbers = golden("size_varied")
    dataset = build_dataset({**faces, "num_queries": 1024})
    assert [dataset.side_of(i) for i in range(9)] == numbers["sizes"].tolist()
    dataset.num_queries = 6400  # all pixels of item 4
    item = dataset[SampleIndex(4, 0, 0)]
    assert (item["lq"] - numbers["lr"]).abs().max() < 1 / 255  # theirs never was 8-bit
    order = np.lexsort((item["coord"][:, 1], item["coord"][:, 0]))
    assert torch.equal(item["gt"][order], numbers["gt4"])
    assert (item["coord"][order] - numbers["coord4"]).abs().max() < 2e-7
    assert torch.equal(item["coord"][order], grid((80, 80))) and torch.allclose(
        item["cell"], numbers["cell4"]
    )


def test_resized_truths_validation_and_split(faces, tmp_path):
    whole = build_dataset({**faces, "gt_resize": 128, "num_queries": None})
    assert {tuple(whole[SampleIndex(i, 0, i)]["gt"].shape) for i in range(9)} == {(3, 128, 128)}
    assert torch.allclose(
        build_dataset({**faces, "gt_resize": 128})[SampleIndex(0, 0, 0)]["cell"], torch.tensor(2 / 128)
    )
    (tmp_path / "split.json").write_text(json.dumps({"train": ["1.png", "5.png"], "test": ["0.png"]}))
    split = {**faces, "meta_info_file": str(tmp_path / "split.json"), "split": "train"}
    assert build_dataset(split).gt.names == ["1.png", "5.png"]
    with pytest.raises(
        UserError, match=r"split: expected one of train, test, got 'tarin'.*did you mean 'train'"
    ):
        build_dataset({**split, "split": "tarin"})
    val = {key: value for key, value in split.items() if key != "use_hflip"}
    item = build_dataset({**val, "phase": "val", "split": "test"})[0]
    assert (
        item["gt"].shape == (3, 128, 128)
        and item["scale"].tolist() == [4, 4]
        and item["lq_path"].endswith("0.png")
    )


def test_flips_are_shared(faces):
    dataset = build_dataset({**faces, "use_hflip": True, "gt_resize": 32, "num_queries": None})
    plain = build_dataset({**faces, "gt_resize": 32, "num_queries": None})
    flipped = [
        torch.equal(dataset[SampleIndex(8, 0, i)]["lq"], plain[SampleIndex(8, 0, i)]["lq"].flip(-1))
        for i in range(20)
    ]
    truths = [
        torch.equal(dataset[SampleIndex(8, 0, i)]["gt"], plain[SampleIndex(8, 0, i)]["gt"].flip(-1))
        for i in range(20)
    ]
    assert flipped == truths and 3 < sum(flipped) < 17


def test_mistakes(faces, tmp_path):
    with pytest.raises(UserError, match="needs gt_resize"):
        build_dataset({**faces, "num_queries": None})
    with pytest.raises(UserError, match="expected 1 to 1024"):
        build_dataset({**faces, "num_queries": 1025})
    Image.fromarray(picture(0, 32, 32)).save(tmp_path / "hr" / "9.png")
    with pytest.raises(UserError, match=r"has 9.png, but"):
        build_dataset(faces)
    Image.fromarray(picture(0, 32, 32)).save(tmp_path / "lr" / "9.png")
    with pytest.raises(UserError, match="square images of one size"):
        build_dataset(faces)
