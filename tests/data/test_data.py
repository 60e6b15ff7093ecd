"""Items of both datasets: what they hold, that LR and HR are the same place, that sources and workers
agree.
"""

import json
import logging
import pickle

import cv2
import numpy as np
import pytest
import torch
from basicsr.data import build_dataset
from PIL import Image
from torch.utils.data import DataLoader

from helpers.pictures import LEAVING, picture
from liif_plugin.data.crops import augment, draw_queries
from liif_plugin.data.deterministic import SampleIndex
from liif_plugin.data.image_source import ImageSource, check_name, decode_rgb
from liif_plugin.data.prepare import prepare_lmdb
from liif_plugin.errors import UserError
from liif_plugin.resize import matlab_imresize


def train_opt(root, **more):
    return {
        "name": "t",
        "type": "ArbitraryScaleDataset",
        "phase": "train",
        "dataroot_gt": str(root),
        "lq_size": 12,
        "num_queries": 64,
        **more,
    }


def val_opt(root, scale, **more):
    return {
        "name": "v",
        "type": "ArbitraryScaleDataset",
        "phase": "val",
        "dataroot_gt": str(root),
        "scale": scale,
        **more,
    }


def same(a, b):
    return all(torch.equal(a[key], b[key]) if torch.is_tensor(a[key]) else a[key] == b[key] for key in a)


def ramp(h, w):
    """Red grows down, green to the right: a colour tells where it comes from."""
    y, x = np.mgrid[0:h, 0:w]
    return np.stack([y * 2, x * 2, np.zeros_like(x)], axis=-1).astype(np.uint8)


def test_training_item(image_folder):
    dataset = build_dataset(train_opt(image_folder()))
    item = dataset[SampleIndex(1, 0, 5)]
    assert {key: tuple(value.shape) for key, value in item.items()} == {
        "lq": (3, 12, 12),
        "coord": (64, 2),
        "cell": (64, 2),
        "gt": (64, 3),
    }
    assert all(value.dtype == torch.float32 for value in item.values())
    assert item["lq"].min() >= 0 and item["lq"].max() <= 1 and item["coord"].abs().max() < 1
    side = 2 / item["cell"][0, 0].item()
    assert 12 <= round(side) <= 48 and abs(side - round(side)) < 1e-4
    assert len({tuple(c) for c in item["coord"].tolist()}) == 64  # without replacement


def test_windows_coincide_on_a_ramp(tmp_path):
    """The LR picture sampled bilinearly at the queries has the queries' colours: same place, same flips,
    same scale.
    """
    Image.fromarray(ramp(120, 120)).save(tmp_path / "ramp.png")
    dataset = build_dataset(train_opt(tmp_path, num_queries=100))
    orders = set()
    for position in range(40):
        item = dataset[SampleIndex(0, 0, position)]
        at = item["coord"].flip(-1).view(1, 1, -1, 2)
        read = torch.nn.functional.grid_sample(
            item["lq"].unsqueeze(0), at, mode="bilinear", align_corners=False
        )[0, :, 0].T
        inner = item["coord"].abs().max(dim=1).values < 0.8
        assert (read - item["gt"])[inner].abs().max() < 3 / 255
        red, green = item["lq"][:2]
        ends = [channel[-1, 0] - channel[0, 0] for channel in (red, green)] + [
            channel[0, -1] - channel[0, 0] for channel in (red, green)
        ]
        orders.add(tuple(torch.stack(ends).sign().int().tolist()))
    assert len(orders) == 8  # two flips and the transpose, in every combination


def test_shrunk_crops(tmp_path):
    """A ramp of slope 2 has a slope of 2 a behind a shrink by a; the small side limits a; half are shrunk."""
    Image.fromarray(ramp(100, 120)).save(tmp_path / "ramp.png")
    options = {"scale_range": [2, 4], "num_queries": 576, "use_hflip": False, "use_rot": False}
    plain, shrunk = (
        build_dataset(train_opt(tmp_path, **options, **more)) for more in ({}, {"shrink_range": [1, 3]})
    )
    factors, sides = [], []
    for position in range(300):
        item = shrunk[SampleIndex(0, 0, position)]
        side = round(2 / item["cell"][0, 0].item())
        rows = ((item["coord"][:, 0] + 1) / 2 * side - 0.5).round()
        inner = (rows > 2) & (rows < side - 3)
        slope = np.polyfit(rows[inner].numpy(), item["gt"][inner, 0].numpy() * 255, 1)[0]
        factors.append(slope / 2)
        sides.append(side)
        assert slope / 2 * side < 100 + 1.5
        # The LR image is made from the shrunk crop, so it covers the same place.
        lq_slope = np.polyfit(np.arange(2, 10), item["lq"][0, 2:10, 5].numpy() * 255, 1)[0]
        assert abs(lq_slope / slope - side / 12) < 0.25
    factors, sides = np.array(factors), np.array(sides)
    is_shrunk = factors > 1.03
    assert abs(is_shrunk.mean() - 0.5) < 0.1 and factors.max() < 3.1 and factors.min() > 0.97
    # Uniform between 1 and the limit: the mean of a is that of (1 + limit) / 2 over the sides.
    expected = (1 + np.minimum(3, 100 / sides[is_shrunk])) / 2
    assert abs(factors[is_shrunk].mean() / expected.mean() - 1) < 0.08
    # The scales stay those that are drawn without the option.
    drawn = [round(2 / plain[SampleIndex(0, 0, i)]["cell"][0, 0].item()) for i in range(300)]
    assert drawn == sides.tolist()


def test_augment_moves_all_images_alike():
    a = ramp(10, 10)
    for flips in np.ndindex(2, 2, 2):
        small, large = augment([a[::2, ::2], a], tuple(map(bool, flips)))
        assert abs(small[0, 0].astype(int) - large[0, 0].astype(int)).max() <= 2


def test_queries_are_uniform_and_right():
    hr = ramp(20, 25)
    counts = np.zeros((20, 25))
    for seed in range(400):
        coord, cell, gt = draw_queries(hr, 50, np.random.default_rng(seed))
        row, column = (
            ((coord[:, 0] + 1) * 10 - 0.5).round().long(),
            ((coord[:, 1] + 1) * 12.5 - 0.5).round().long(),
        )
        assert torch.equal((gt * 255).round().byte(), torch.from_numpy(hr[row, column]))
        counts[row, column] += 1
    assert np.allclose(cell[0], [2 / 20, 2 / 25])
    # 500 cells, 40 expected in each, variance 36: chi-square of 499 degrees of freedom, mean 499, deviation
    # 32
    assert ((counts - 40) ** 2 / 36).sum() < 499 + 5 * 32


def test_queries_of_a_turned_picture():
    hr = ramp(20, 25)
    for flips in (tuple(map(bool, flags)) for flags in np.ndindex(2, 2, 2)):
        turned = np.ascontiguousarray(augment([hr], flips)[0])
        expected, got = (
            draw_queries(turned, 60, np.random.default_rng(3)),
            draw_queries(hr, 60, np.random.default_rng(3), flips),
        )
        assert all(torch.equal(a, b) for a, b in zip(expected, got))


def test_scales_fill_the_range(image_folder):
    dataset = build_dataset(train_opt(image_folder()))
    sides = [2 / dataset[SampleIndex(0, 0, i)]["cell"][0, 0].item() for i in range(300)]
    assert min(sides) < 13 and max(sides) > 47 and abs(np.mean(sides) - 30) < 2


def test_items_depend_on_seed_epoch_and_position_alone(image_folder):
    folder = image_folder()
    dataset = build_dataset(train_opt(folder))
    item = dataset[SampleIndex(0, 1, 7)]
    assert same(item, build_dataset(train_opt(folder))[SampleIndex(0, 1, 7)])
    assert same(item, dataset[SampleIndex(0, 1, 7)])
    assert not same(item, dataset[SampleIndex(0, 2, 7)])
    assert not same(item, dataset[SampleIndex(0, 1, 8)])
    assert not same(item, build_dataset(train_opt(folder, seed=1))[SampleIndex(0, 1, 7)])


def test_a_loader_that_is_not_basicsrs(image_folder):
    """Plain indices: each worker and each epoch draws anew."""
    dataset = build_dataset(train_opt(image_folder()))
    torch.manual_seed(0)
    loader = DataLoader(dataset, num_workers=2)
    epochs = [[item["lq"] for item in loader] for _ in range(2)]
    assert not any(torch.equal(a, b) for a, b in zip(*epochs))
    torch.manual_seed(0)
    again = [item["lq"] for item in DataLoader(dataset, num_workers=2)]
    assert all(torch.equal(a, b) for a, b in zip(epochs[0], again))


@pytest.mark.parametrize("cache", [None, "memory"])
def test_folder_and_lmdb_agree(image_folder, tmp_path, cache):
    folder = image_folder()
    prepare_lmdb(str(folder), str(tmp_path / "images.lmdb"), cut=None)
    plain = build_dataset(train_opt(folder))
    packed = build_dataset(train_opt(tmp_path / "images.lmdb", io_backend={"type": "lmdb"}, cache=cache))
    assert len(plain) == len(packed) == 3
    for i in range(3):
        assert same(plain[SampleIndex(i, 0, i)], packed[SampleIndex(i, 0, i)])
    assert same(pickle.loads(pickle.dumps(packed))[SampleIndex(1, 0, 0)], plain[SampleIndex(1, 0, 0)])


def test_one_lmdb_for_training_and_two_validations(image_folder, tmp_path):
    """The very case in which stock BasicSR stops with 'already open in this process', in this process and in
    forked workers.
    """
    prepare_lmdb(str(image_folder()), str(tmp_path / "images.lmdb"), cut=None)
    train = build_dataset(train_opt(tmp_path / "images.lmdb"))
    vals = [build_dataset(val_opt(tmp_path / "images.lmdb", s)) for s in (2, 3)]
    assert all(len(list(DataLoader(d, num_workers=w))) == 3 for d in (train, *vals) for w in (0, 2))


def test_stock_dataset_shares_an_lmdb_too(image_folder, tmp_path):
    prepare_lmdb(str(image_folder()), str(tmp_path / "images.lmdb"), cut=None)
    root = str(tmp_path / "images.lmdb")
    opt = {
        "name": "s",
        "type": "PairedImageDataset",
        "phase": "val",
        "scale": 1,
        "dataroot_gt": root,
        "dataroot_lq": root,
    }
    first, second = (build_dataset({**opt, "io_backend": {"type": "lmdb"}}) for _ in range(2))
    assert torch.equal(first[0]["gt"], second[0]["gt"]) and len(list(DataLoader(first, num_workers=1))) == 3


def test_validation_crops_equal_the_authors(golden, tmp_path):
    import skimage.data

    Image.fromarray(skimage.data.chelsea()).save(tmp_path / "chelsea.png")
    expected = golden("resize_chelsea")
    for scale in (2, 3, 4, 6, 8, 12):
        item = build_dataset(val_opt(tmp_path, scale))[0]
        assert torch.equal((item["lq"] * 255).round().byte(), expected[f"val_x{scale}"])
        assert item["gt"].shape[-2:] == tuple(n * scale for n in item["lq"].shape[-2:])


def test_validation_at_odd_and_unequal_scales(image_folder):
    item = build_dataset(val_opt(image_folder(h=64, w=72), [2, 3.1]))[0]
    assert (
        item["lq"].shape == (3, 32, 23)
        and item["gt"].shape == (3, 64, 71)
        and item["scale"].tolist() == [2, 3.1]
    )
    assert item["lq_path"].endswith("img_0.png")


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda rgb: rgb[..., 0], "gray"),
        (lambda rgb: rgb.astype(np.uint16) * 257, "16 bit"),
        (lambda rgb: np.dstack([rgb, np.full(rgb.shape[:2], 255, np.uint8)]), "opaque alpha"),
    ],
)
def test_kinds_of_images(make, expected):
    rgb = picture(0, 20, 24)
    image = make(rgb)
    order = image if image.ndim == 2 else image[..., [2, 1, 0, 3][: image.shape[2]]]
    decoded = decode_rgb(cv2.imencode(".png", order)[1].tobytes(), "x.png")
    assert np.array_equal(decoded, np.repeat(rgb[..., :1], 3, 2) if expected == "gray" else rgb)


def test_palette(tmp_path):
    image = Image.fromarray(picture(0, 20, 24)).quantize(16)
    image.save(tmp_path / "p.png")
    assert np.array_equal(
        decode_rgb((tmp_path / "p.png").read_bytes(), "p"), np.asarray(image.convert("RGB"))
    )


def test_bad_images_are_refused_by_name(tmp_path, image_folder):
    rgba = np.dstack([picture(0, 20, 24), np.full((20, 24), 100, np.uint8)])
    with pytest.raises(UserError, match=r"x.png: has transparent pixels"):
        decode_rgb(cv2.imencode(".png", rgba)[1].tobytes(), "x.png")
    folder = image_folder()
    whole = (folder / "img_1.png").read_bytes()
    (folder / "img_1.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"img_1.png: not a whole image"):
        build_dataset(train_opt(folder))[1]
    (folder / "img_1.png").write_bytes(b"")
    with pytest.raises(UserError, match=r"img_1.png: not an image file"):
        build_dataset(train_opt(folder))


def test_small_images(image_folder, tmp_path):
    folder = image_folder()
    Image.fromarray(picture(9, 40, 80)).save(folder / "small.png")
    with pytest.raises(
        UserError,
        match=r"48 x 48.*1 of 4 images are smaller, .*: small.png \(40, 80\).*too_small: skip",
    ):
        build_dataset(train_opt(folder))
    assert len(build_dataset(train_opt(folder, too_small="skip"))) == 3


def test_meta_info_first_k_and_missing_names(image_folder, tmp_path):
    folder = image_folder()
    (tmp_path / "list.txt").write_text("img_2.png (64,72,3)\nimg_0.png\n")
    source = ImageSource(str(folder), "here", meta_info_file=str(tmp_path / "list.txt"))
    assert source.names == ["img_2.png", "img_0.png"]
    assert len(build_dataset(train_opt(folder, first_k=2))) == 2
    (tmp_path / "list.txt").write_text("img_7.png\n")
    with pytest.raises(UserError, match=r"lists img_7.png, which is not in"):
        ImageSource(str(folder), "here", meta_info_file=str(tmp_path / "list.txt"))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"scale": 4}, "'scale' is for validation sets"),
        ({"batch_size_per_gpu": 2, "total_iter": 9}, "before iteration 9"),
        ({"scale_rnage": [1, 4]}, "unknown option 'scale_rnage'.*did you mean 'scale_range'"),
        ({"scale_range": [4, 1]}, "1 <= low <= high"),
        ({"scale_range": [0.5, 2]}, "1 <= low"),
        ({"scale_range": "x"}, "positive number"),
        ({"shrink_range": [0.5, 2]}, "shrink_range: expected .* 1 <= low"),
        ({"shrink_probability": 1.5}, "shrink_probability: expected a number of 0 or more and of at most 1"),
        ({"num_queries": 145}, "1 to 144"),
        ({"num_queries": 0}, "1 or more"),
        ({"num_queries": None}, "needs one scale"),
        ({"cache": "disk"}, "cache: expected memory or ~"),
        ({"io_backend": {"type": "lmdb"}}, "io_backend.type is 'lmdb'"),
        ({"dataroot_gt": "nowhere"}, "there is no folder nowhere"),
        ({"dataroot_gt": None}, "got nothing"),
        ({"batch_size_per_gpu": 16}, "would end before iteration 1; set dataset_enlarge_ratio to 8"),
    ],
)
def test_mistakes_are_named(image_folder, change, words):
    with pytest.raises(UserError, match=words):
        build_dataset({**train_opt(image_folder()), **change})


@pytest.mark.parametrize("scale", [None, 0, -1, [1, 2, 3], "2", True, float("nan")])
def test_wrong_validation_scales(image_folder, scale):
    with pytest.raises(UserError, match="positive number or a pair"):
        build_dataset(val_opt(image_folder(), scale))


def test_validation_sets_refuse_what_they_do_not_read(image_folder):
    with pytest.raises(UserError, match="'num_queries' is for training sets"):
        build_dataset(val_opt(image_folder(), 2, num_queries=3))


def test_images_that_differ_in_their_extension_alone(image_folder):
    folder = image_folder()
    Image.fromarray(picture(0, 64, 64)).save(folder / "img_0.jpg")
    with pytest.raises(UserError, match=r"has both img_0.jpg and img_0.png"):
        build_dataset(train_opt(folder))


def test_empty_folder_and_how_to_get(tmp_path):
    with pytest.raises(UserError, match="holds no images"):
        build_dataset(train_opt(tmp_path))
    with pytest.raises(UserError, match="Ask your aunt"):
        build_dataset(train_opt(tmp_path / "no", how_to_get="Ask your aunt."))


def test_damaged_lmdb(image_folder, tmp_path):
    root = tmp_path / "images.lmdb"
    prepare_lmdb(str(image_folder()), str(root), cut=None)
    lines = (root / "meta_info.txt").read_text()
    (root / "meta_info.txt").write_text(lines + "other.png (64,72,3) 1\n")
    with pytest.raises(UserError, match="key 'other' is listed but not in the LMDB"):
        build_dataset(train_opt(root))[3]
    (root / "meta_info.txt").write_text("nonsense\n")
    with pytest.raises(UserError, match="expected lines like"):
        build_dataset(train_opt(root))
    (root / "meta_info.txt").write_text(lines)
    (tmp_path / "cut.lmdb").mkdir()
    (tmp_path / "cut.lmdb" / "meta_info.txt").write_text(lines)
    (tmp_path / "cut.lmdb" / "data.mdb").write_bytes((root / "data.mdb").read_bytes()[:100])
    with pytest.raises(UserError, match="cannot be opened"):
        build_dataset(train_opt(tmp_path / "cut.lmdb"))[0]


@pytest.mark.parametrize("name", LEAVING)
def test_names_that_leave_the_folder_are_refused_where_they_are_read(image_folder, tmp_path, name):
    """`save_img: true` writes results under the names of a set that somebody else packed."""
    folder = image_folder()
    prepare_lmdb(str(folder), str(tmp_path / "images.lmdb"), cut=None)
    (tmp_path / "split.json").write_text(json.dumps({"train": ["img_0.png"], "other": [name]}))
    with pytest.raises(UserError, match=r"split.json: the name '.*' leads out of its folder"):
        ImageSource(str(folder), "here", str(tmp_path / "split.json"), split="train")
    (tmp_path / "list.txt").write_text(f"{name} (64,72,3)\n")
    with pytest.raises(UserError, match=r"list.txt: the name '.*' leads out of its folder"):
        ImageSource(str(folder), "here", str(tmp_path / "list.txt"))
    (tmp_path / "images.lmdb" / "meta_info.txt").write_text(f"{name} (64,72,3) 1\n")
    with pytest.raises(UserError, match=r"meta_info.txt: the name '.*' leads out of its folder"):
        ImageSource(str(tmp_path / "images.lmdb"), "here")


@pytest.mark.parametrize("name", ["train/a.png", "a..b.png", "...png", "a b/ü.png", ".hidden"])
def test_names_that_stay(name):
    check_name("here", name)


def test_pictures_of_other_formats_are_named(image_folder, caplog):
    folder = image_folder()
    (folder / "photo.heic").write_bytes(b"x")
    caplog.set_level("WARNING", "basicsr")
    logging.getLogger("basicsr").addHandler(caplog.handler)
    assert len(ImageSource(str(folder), "here")) == 3
    logging.getLogger("basicsr").removeHandler(caplog.handler)
    assert "1 pictures are left out, because their format is not read: photo.heic" in caplog.text


def paired(tmp_path, image_folder, scale=2, h=64, w=73):
    hr = image_folder("hr", h=h, w=w)
    (tmp_path / "lr").mkdir()
    for path in hr.glob("*.png"):
        image = np.asarray(Image.open(path))
        size = (h // scale, w // scale)
        small = matlab_imresize(image[: size[0] * scale, : size[1] * scale], size)
        Image.fromarray(small).save(tmp_path / "lr" / f"{path.stem}x{scale}.png")
    return {
        "name": "p",
        "type": "PairedScaleDataset",
        "dataroot_gt": str(hr),
        "dataroot_lq": str(tmp_path / "lr"),
        "filename_tmpl": "{}x" + str(scale),
        "lq_size": 12,
        "num_queries": 64,
    }


def test_paired_items(tmp_path, image_folder):
    opt = paired(tmp_path, image_folder)
    val = {
        **{key: value for key, value in opt.items() if key not in ("lq_size", "num_queries")},
        "phase": "val",
    }
    item = build_dataset(val)[0]
    assert (
        item["lq"].shape == (3, 32, 36)
        and item["gt"].shape == (3, 64, 72)
        and item["scale"].tolist() == [2, 2]
    )
    train = build_dataset({**opt, "phase": "train"})
    item = train[SampleIndex(0, 0, 0)]
    assert item["lq"].shape == (3, 12, 12) and torch.allclose(item["cell"], torch.tensor(2 / 24))
    whole = build_dataset({**opt, "phase": "train", "num_queries": None})[SampleIndex(0, 0, 0)]
    assert whole["gt"].shape == (3, 24, 24)
    # The same place, the same flips
    assert (torch.nn.functional.avg_pool2d(whole["gt"], 2) - whole["lq"]).abs().mean() < 0.02


@pytest.mark.parametrize(
    "template",
    ["{", "}x2", "{}{}", "{name}x2", "{1}", "x2", "{.x}", "{:5q}", "{[x]}", "{!z}", "{:99999999999999}"],
)
def test_broken_templates_of_names(tmp_path, image_folder, template):
    """Each ended in a traceback of str.format, or gave every HR image the same LR image."""
    opt = {**paired(tmp_path, image_folder), "phase": "train", "filename_tmpl": template}
    with pytest.raises(
        UserError, match=r"dataset p: filename_tmpl: expected a name in which \{\} stands for"
    ):
        build_dataset(opt)


def test_paired_mistakes(tmp_path, image_folder):
    whole = paired(tmp_path, image_folder)
    opt = {
        **{key: value for key, value in whole.items() if key not in ("lq_size", "num_queries")},
        "phase": "val",
    }
    with pytest.raises(UserError, match=r"has img_0.png, but .* has no 'img_0'"):
        build_dataset({**opt, "filename_tmpl": "{}"})
    with pytest.raises(UserError, match="no LR image of it at scale 3"):
        build_dataset({**opt, "scale": 3})
    with pytest.raises(UserError, match="unknown option 'scale_range'"):
        build_dataset({**whole, "scale_range": [1, 4], "phase": "train"})
