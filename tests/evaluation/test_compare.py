"""`liif compare`: results that are kept, numbers of the right model and scale, mistakes named first."""

from __future__ import annotations

import copy
import csv
import json
import re

import pytest
import torch
import yaml
from basicsr.archs import build_network
from PIL import Image

from helpers import ROOT
from helpers.networks import SMALL
from helpers.training import EDSR
from liif_plugin.cli import main
from liif_plugin.config.option_files import find_option_file, packaged_files, read_options
from liif_plugin.coords import cell_of
from liif_plugin.data.arbitrary_scale_dataset import ArbitraryScaleDataset
from liif_plugin.errors import UserError
from liif_plugin.evaluation import report, results
from liif_plugin.evaluation.costs import PeakMemory, complexity
from liif_plugin.evaluation.plan import read_plan
from liif_plugin.evaluation.published import CELL_CLAMPS, PUBLISHED, SOURCES, published
from liif_plugin.inference.render import render
from liif_plugin.metrics.continuous_metric import continuous_psnr

COMPARISONS = sorted(
    [*(ROOT / "options").rglob("compare_*.yml"), ROOT / "options" / "compare" / "decoders.yml"]
)
LIIF = {**SMALL, "hidden_list": [16]}


@pytest.fixture
def opt(tmp_path, image_folder, monkeypatch):
    monkeypatch.chdir(tmp_path)
    image_folder("hr", 2, 48, 60)
    for name, block in (("liif", LIIF), ("edsr", EDSR)):
        torch.manual_seed(1)
        torch.save({"params": build_network(dict(block)).state_dict()}, f"{name}.pth")
    return {
        "name": "small",
        "models": [
            {"name": "Bicubic", "network_g": {"type": "Bicubic"}},
            {"name": "EDSR", "scales": {2: {"network_g": EDSR, "weights": "edsr.pth"}}},
            {"name": "LIIF", "published": "RDN-LIIF", "network_g": LIIF, "weights": "liif.pth"},
        ],
        "datasets": {
            "Set5": {
                "dataroot_gt": "hr",
                "protocol": "benchmark",
                "published": "Set5",
                "scales": [2, 3, [2, 3.5]],
            }
        },
    }


def stopped(opt) -> int | str:
    """Run `liif compare`; its exit code, or the sentence that ends it."""
    with open("compare.yml", "w") as file:
        yaml.safe_dump(opt, file)
    with pytest.raises(SystemExit) as stop:
        main(["compare", "-opt", "compare.yml", "-o", "out"])
    return stop.value.code


def compare(opt) -> dict:
    """Run `liif compare`; the parsed table.json."""
    code = stopped(opt)
    assert code == 0, code
    with open("out/table.json") as file:
        return json.load(file)


def refused(opt) -> str:
    with open("compare.yml", "w") as file:
        yaml.safe_dump(opt, file)
    with pytest.raises(UserError) as error:
        read_plan("compare.yml")
    return str(error.value)


def test_table_and_figure(opt, tmp_path):
    opt["figure"] = {"dataset": "Set5", "scale": 4}
    table = compare(opt)
    scales = {(cell["model"], cell["scale"]) for cell in table["cells"]}
    assert scales == {(m, s) for m in ("Bicubic", "LIIF") for s in ("2", "3", "3.5x2")} | {("EDSR", "2")}
    item = ArbitraryScaleDataset(
        {"name": "a", "phase": "val", "dataroot_gt": "hr", "scale": 3, "protocol": "benchmark"}
    )[1]
    net = build_network({"type": "Bicubic"})
    expected = continuous_psnr(render(net, item["lq"][None], (48, 60)), item["gt"][None], 3, "benchmark")
    got = next(
        i for i in table["images"] if (i["model"], i["scale"], i["image"]) == ("Bicubic", "3", "img_1")
    )
    assert got["psnr"] == pytest.approx(expected, abs=1e-9)
    cell = next(c for c in table["cells"] if (c["model"], c["scale"]) == ("LIIF", "3"))
    assert cell["published"] == 34.68 and cell["difference"] == pytest.approx(cell["value"] - 34.68)
    assert (
        cell["parameters"] == sum(p.numel() for p in build_network(dict(LIIF)).parameters())
        and cell["seconds"] > 0
    )
    md, tex = (tmp_path / "out" / "table.md").read_text(), (tmp_path / "out" / "table.tex").read_text()
    assert (
        re.search(r"\| model +\| x2 +\| x3 +\| x3.5x2 +\|", md)
        and "A scale of two numbers is width x height." in md
        and f"{cell['value']:.2f}" in md
        and "published and measured" in md
    )
    assert tex.count("\\textbf") == 3 and "\\toprule" in tex and "--" in tex
    rows = list(csv.DictReader((tmp_path / "out" / "table.csv").open()))
    assert len(rows) == len(table["cells"]) and float(rows[0]["value"]) == table["cells"][0]["value"]
    with Image.open(tmp_path / "out" / "figure.png") as figure:
        assert figure.width > 600 and (255, 0, 0) in {
            color for _, color in figure.getcolors(figure.width * figure.height)
        }


def test_only_what_changed_is_measured_again(opt, monkeypatch):
    compare(opt)
    measured = []
    stock = results.measure_model
    monkeypatch.setattr(results, "measure_model", lambda *a: measured.append(a[0].name) or stock(*a))
    compare(opt)
    assert not measured
    torch.save({"params": build_network(dict(LIIF)).state_dict()}, "liif.pth")
    compare(opt)
    assert measured == ["LIIF"] * 3


def test_finished_pictures_are_a_model(opt, tmp_path):
    for scale in ("2", "3"):
        (tmp_path / f"theirs_Set5_{scale}").mkdir()
        for i in range(2):
            Image.open(tmp_path / "hr" / f"img_{i}.png").save(
                tmp_path / f"theirs_Set5_{scale}" / f"img_{i}.png"
            )
    opt["models"] = [{"name": "theirs", "images": "theirs_{dataset}_{scale}"}]
    opt["datasets"]["Set5"]["scales"] = [2, 3]
    table = compare(opt)
    assert [cell["value"] for cell in table["cells"]] == [float("inf")] * 2 and table["cells"][0][
        "parameters"
    ] is None


def test_given_lr_files_are_used(opt, bench):
    opt["models"] = [{**opt["models"][0], "published": "Bicubic"}]
    opt["datasets"] = {
        "Set5": {
            "published": "Set5",
            "dataroot_gt": str(bench / "Set5" / "HR"),
            "dataroot_lq": str(bench / "Set5" / "LR_bicubic" / "X{scale}"),
            "protocol": "benchmark",
            "lq_scales": [4],
            "scales": [4],
        }
    }
    (cell,) = compare(opt)["cells"]
    assert cell["value"] == pytest.approx(28.433, abs=1e-3) and abs(cell["difference"]) < 0.02


def test_a_gray_image_is_measured_by_the_rule_of_each_published_row(opt, bench, tmp_path):
    """Set14's bridge is gray: the published bicubic row takes its gray value as luma, LIIF's takes RGB."""
    bicubic = opt["models"][0]
    opt["models"] = [
        {**bicubic, "name": row, "published": row} for row in ("Bicubic", "EDSR-baseline-LIIF", "RDN")
    ]
    opt["datasets"] = {
        "Set14": {
            "published": "Set14",
            "dataroot_gt": str(bench / "Set14" / "HR"),
            "dataroot_lq": str(bench / "Set14" / "LR_bicubic" / "X{scale}"),
            "protocol": "benchmark",
            "lq_scales": [4],
            "scales": [4],
        }
    }
    cells = {(cell["model"], cell["metric"]): cell for cell in compare(opt)["cells"]}
    by_rgb, by_luma = cells["Bicubic", "psnr"], cells["Bicubic", "psnr (gray as luma)"]
    assert by_luma["value"] == pytest.approx(26.00, abs=0.01)  # published
    assert by_rgb["value"] - by_luma["value"] == pytest.approx(1.32 / 14, abs=0.002)
    assert (by_rgb["published"], by_luma["published"]) == (None, 26.00)
    assert cells["EDSR-baseline-LIIF", "psnr"]["published"] == 28.62
    assert cells["EDSR-baseline-LIIF", "psnr (gray as luma)"]["published"] is None
    # of RDN the rule is not known: both are printed
    assert cells["RDN", "psnr"]["published"] == cells["RDN", "psnr (gray as luma)"]["published"] == 28.81
    md = (tmp_path / "out" / "table.md").read_text()
    assert "## Set14: psnr (benchmark protocol, gray image as RGB)" in md
    assert "## Set14: psnr (gray as luma) (benchmark protocol, gray image as luma)" in md


def test_the_rule_of_the_option_file_comes_first(opt):
    """With gray_as_luma in the option file the other rule is the one that is added."""
    opt["metrics"] = {"psnr": {"type": "continuous_psnr", "gray_as_luma": ["img_003"]}}
    opt["datasets"] = {"Set14": {**opt["datasets"]["Set5"], "published": "Set14"}}
    with open("compare.yml", "w") as file:
        yaml.safe_dump(opt, file)
    plan = read_plan("compare.yml")
    assert plan.metrics_of(plan.columns[0]) == {
        "psnr": {"type": "continuous_psnr", "gray_as_luma": ["img_003"]},
        "psnr (gray as RGB)": {"type": "continuous_psnr", "gray_as_luma": False},
    }


def test_a_set_that_is_not_there_is_left_out_where_the_file_allows_it(opt, tmp_path):
    opt["models"] = opt["models"][:1]
    away = {**opt["datasets"]["Set5"], "dataroot_gt": "nowhere"}
    opt["datasets"]["Urban100"] = {**away, "if_missing": "skip"}
    assert {cell["dataset"] for cell in compare(opt)["cells"]} == {"Set5"}
    assert "folders are missing: Urban100." in (tmp_path / "out" / "table.md").read_text()
    for datasets, words in (
        ({"Urban100": {**away, "if_missing": "stop"}}, "there is no folder nowhere"),
        ({"Urban100": {**away, "if_missing": "skip"}}, "none of Urban100 is there"),
        ({"Urban100": {**away, "if_missing": "ignore"}}, "expected one of stop, skip"),
    ):
        with open("compare.yml", "w") as file:
            yaml.safe_dump({**opt, "datasets": datasets}, file)
        with pytest.raises(UserError, match=words):
            read_plan("compare.yml")


def test_published_yml(tmp_path, monkeypatch, bench):
    """The packaged file finds the network in the cache, and the sets in the user's folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LIIF_CACHE", str(tmp_path / "cache"))
    (tmp_path / "datasets").mkdir()
    (tmp_path / "datasets" / "bench").symlink_to(bench)
    path = str(packaged_files()["published.yml"])
    with pytest.raises(UserError, match="`liif models --download edsr-baseline-liif` downloads it"):
        read_plan(path)
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "edsr-baseline-liif.pth").touch()
    (tmp_path / "cache" / "edsr-baseline-liif.yml").write_text(yaml.safe_dump({"network_g": LIIF}))
    plan = read_plan(path)
    assert plan.precision == "fp32"
    assert plan.left_out == ["Urban100", "DIV2K_valid"]
    for column in plan.columns:
        known = published(column.published, plan.models[2].published, column.scale[0], "continuous_psnr")
        assert known is not None, column


def test_multiply_adds_are_the_literatures():
    """EDSR-baseline x2 on 1280 x 720: 316.3 G and 1.37 M parameters (Ahn et al. 2018, Table 1)."""
    net = build_network(dict(read_options(str(packaged_files()["train_edsr_x2.yml"]))["network_g"]))
    parameters, adds = complexity(net.eval(), (2, 2))
    assert abs(adds / 1e9 - 316.3) < 0.1 and round(parameters / 1e6, 2) == 1.37


def test_multiply_adds_of_a_continuous_network():
    """LIIF: a query costs 4 x 3 x 256 x 256 + the place in 4 corners; the rest is paid once per LR pixel."""
    net = build_network(dict(read_options(str(packaged_files()["train_liif_edsr.yml"]))["network_g"])).eval()
    (_, x2), (_, x30) = (complexity(net, (scale, scale)) for scale in (2, 30))
    pixels = 1280 * 720
    query = (900 * x30 - 4 * x2) / 896 / pixels  # x_s = LR part / s^2 + query
    assert 4 * 3 * 256**2 < query < 1.01 * 4 * 3 * 256**2
    assert abs(x2 / 1e9 - 1042.5) < 1  # counted in one call on 48 x 48 -> 96 x 96


def test_an_lr_folder_of_another_scale_is_refused(opt, tmp_path, image_folder):
    image_folder("lr4", 2, 12, 15)
    opt["datasets"]["Set5"].update(dataroot_lq="lr4", lq_scales=[2], scales=[2])
    assert "no LR image of it at scale 2" in stopped(opt)


def test_cell_clamp_of_a_model(opt):
    """Beyond x4 the clamped row asks with other cells; up to x4 both rows have the same values."""
    clamped = {**opt["models"][2], "name": "clamped", "cell_clamp": 4}
    opt["models"] = [opt["models"][2], clamped]
    opt["datasets"]["Set5"]["scales"] = [4, 8]
    values = {(cell["model"], cell["scale"]): cell["value"] for cell in compare(opt)["cells"]}
    assert values["LIIF", "4"] == values["clamped", "4"]
    assert values["LIIF", "8"] != values["clamped", "8"]
    net = build_network(dict(LIIF)).eval()
    net.load_state_dict(torch.load("liif.pth", weights_only=True)["params"])
    expected = []
    for item in ArbitraryScaleDataset({"name": "a", "phase": "val", "dataroot_gt": "hr", "scale": 8}):
        sr = render(net, item["lq"][None], (48, 56), cell_of((48, 56)) * 2)
        expected.append(continuous_psnr(sr, item["gt"][None], 8, "benchmark"))
    assert values["clamped", "8"] == pytest.approx(sum(expected) / 2, abs=1e-6)


def test_a_model_without_weights_shows_its_published_values(opt, tmp_path):
    """`if_missing: skip`; without it the missing file is an error."""
    opt["models"][2].update(weights="nowhere.pth")
    assert "there are no weights nowhere.pth" in refused(opt)
    opt["models"][2]["if_missing"] = "skip"
    table = compare(opt)
    assert {cell["model"] for cell in table["cells"]} == {"Bicubic", "EDSR"}
    text = (tmp_path / "out" / "table.md").read_text()
    assert "Not measured, because their weights are not there: LIIF." in text
    assert re.search(r"\| LIIF +\| x3 +\| 34\.68 +\| +\| +\|", text)


def test_other_pictures_are_measured_anew(opt, tmp_path):
    opt["models"], opt["datasets"]["Set5"]["scales"] = [{"name": "theirs", "images": "theirs"}], [2]
    (tmp_path / "theirs").mkdir()
    for i in range(2):
        Image.new("RGB", (60, 48)).save(tmp_path / "theirs" / f"img_{i}.png")
    black = compare(opt)["cells"][0]["value"]
    for i in range(2):
        Image.open(tmp_path / "hr" / f"img_{i}.png").save(tmp_path / "theirs" / f"img_{i}.png")
    assert black < 30 and compare(opt)["cells"][0]["value"] == float("inf")


def test_a_network_that_has_diverged_still_gets_its_table(opt, tmp_path):
    state = torch.load("liif.pth", weights_only=True)
    state["params"]["imnet.layers.0.bias"].fill_(float("nan"))
    torch.save(state, "liif.pth")
    compare(opt)
    assert "nan" in (tmp_path / "out" / "table.md").read_text() and (tmp_path / "out" / "table.tex").is_file()


@pytest.mark.parametrize("change", [{"first_k": 1}, {"protocol": "plain"}])
def test_another_task_is_not_compared_with_the_published_one(opt, change):
    opt["models"][0]["published"] = "Bicubic"
    opt["datasets"]["Set5"].update(change, scales=[2])
    assert all(cell["published"] is None for cell in compare(opt)["cells"])


def test_a_published_name_alone_says_nothing(opt, tmp_path):
    opt["models"] = opt["models"][:1]  # it bears the name of a published row, on a set of a published name
    opt["datasets"]["Set5"].update(scales=[2])
    assert compare(opt)["cells"][0]["published"] is None
    opt["models"][0]["published"] = "Bicubic"
    assert compare(opt)["cells"][0]["published"] == 33.66
    del opt["models"][0]["published"], opt["datasets"]["Set5"]["published"]
    assert compare(opt)["cells"][0]["published"] is None
    assert "published" not in (tmp_path / "out" / "table.md").read_text()


def test_the_tables_name_the_protocol_and_the_part_of_the_set(opt, tmp_path):
    opt["models"] = opt["models"][:1]
    opt["datasets"]["Set5"].update(first_k=1, scales=[2])
    opt["metrics"] = {
        "psnr": {"type": "continuous_psnr"},
        "rgb": {"type": "continuous_psnr", "protocol": "plain"},
        "stock": {"type": "calculate_psnr", "crop_border": 2, "better": "higher"},
    }
    compare(opt)
    md, tex = ((tmp_path / "out" / f"table.{ending}").read_text() for ending in ("md", "tex"))
    for metric, rules in (
        ("psnr", "benchmark protocol"),
        ("rgb", "plain protocol"),
        ("stock", "calculate_psnr, crop_border 2"),
    ):
        assert f"Set5: {metric} ({rules}, first 1 images)" in md
        assert f"Set5, {metric} ({rules}, first 1 images)".replace("_", "\\_") in tex


@pytest.mark.parametrize(("metric", "best"), [("calculate_niqe", "Bicubic"), ("calculate_ssim", "LIIF")])
def test_bold_is_the_best_value_of_the_metric(opt, metric, best):
    opt["metrics"] = {"m": {"type": metric, "crop_border": 0}}
    opt["datasets"]["Set5"].update(scales=[2])
    with open("compare.yml", "w") as file:
        yaml.safe_dump(opt, file)
    plan = read_plan("compare.yml")
    values = {"Bicubic": 0.1, "EDSR": 0.2, "LIIF": 0.3}
    tex = report.latex(plan, {(name, 0): {"metrics": {"m": value}} for name, value in values.items()})
    assert re.search(r"^(\w+) +& \\textbf", tex, re.M)[1] == best
    assert re.search(r"^(\w+) +& \\underline", tex, re.M)[1] == "EDSR"


def test_the_pictures_of_an_unequal_scale_have_a_folder_of_their_own(opt, tmp_path):
    opt["models"] = [{"name": "theirs", "images": "theirs_{dataset}_x{scale}"}]
    opt["datasets"]["Set5"]["scales"] = [2, [2, 2.5]]
    for name in ("theirs_Set5_x2", "theirs_Set5_x2.5x2"):  # as `liif upscale --scale 2.5x2`: width x height
        (tmp_path / name).mkdir()
        for i in range(2):
            with Image.open(tmp_path / "hr" / f"img_{i}.png") as truth:
                made = truth.point(lambda value: value // 2) if "2.5" in name else truth
                made.save(tmp_path / name / f"img_{i}.png")
    values = {cell["scale"]: cell["value"] for cell in compare(opt)["cells"]}
    assert values["2"] == float("inf") and values["2.5x2"] < 30
    (tmp_path / "theirs_Set5_x2.5x2" / "img_1.png").unlink()
    said = stopped(opt)
    assert "theirs_Set5_x2.5x2/img_1.png: cannot be read" in said and "{" not in said
    Image.new("RGB", (60, 40)).save(tmp_path / "theirs_Set5_x2.5x2" / "img_1.png")
    said = stopped(opt)
    assert "its picture in theirs_Set5_x2.5x2 has (40, 60)" in said and "{" not in said


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: b"",
        lambda text: text[: len(text) // 2],
        lambda text: b"\xff\x00" * 50,
        lambda text: b"[1, 2]",
        lambda text: b"{}",
        lambda text: text.replace(b'"psnr"', b'"other"', 1),
        lambda text: text.replace(b'"machine"', b'"engine"'),
        lambda text: re.sub(rb'"psnr": [-\d.]+', b'"psnr": "high"', text),
    ],
)
def test_a_damaged_result_is_measured_again(opt, tmp_path, capsys, damage):
    opt["models"] = opt["models"][:1]
    opt["datasets"]["Set5"].update(scales=[2])
    before = compare(opt)["cells"][0]["value"]
    (path,) = (tmp_path / "out" / "cells").iterdir()
    path.write_bytes(damage(path.read_bytes()))
    capsys.readouterr()
    assert compare(opt)["cells"][0]["value"] == before
    assert capsys.readouterr().err.count(f"{path.name}: a damaged result; measuring it again.") == 1
    assert compare(opt)["cells"][0]["value"] == before
    assert "damaged" not in capsys.readouterr().err


def test_peak_memory_sees_what_is_allocated():
    with PeakMemory(torch.device("cpu")) as peak:
        torch.ones(64 * 2**18).sum()
    assert peak.mib is None or 60 < peak.mib < 200


def test_published_numbers():
    assert (
        published("Set5", "RDN-LIIF", 8.0, "continuous_psnr") == 27.14
        and published("Set5", "RDN-LIIF", 8, "continuous_ssim") is None
    )
    assert (
        published("DIV2K_valid", "LIIF (-c)", 30, "continuous_psnr") == 20.51
        and published("Set5", "RDN", 6, "continuous_psnr") is None
    )
    assert (
        sum(len(row) for rows in PUBLISHED.values() for row in rows.values())
        == (8 * 9 + 3 + 4 * (3 + 3 + 3 * 5) + 4)  # LIIF's paper
        + (3 * 8 + 4 * 3 * 5)  # LTE
        + (6 + 11 * 8 + 5 * 3 * 3)  # the page of Thera: 12 rows of DIV2K, 3 rows of 5 sets
    )
    assert {row for rows in PUBLISHED.values() for row in rows} == set(SOURCES) >= set(CELL_CLAMPS)


def test_a_row_is_compared_where_its_cells_are_the_same(opt):
    """LTE's row beyond x4 was made with cell_clamp 4, LIIF's with the true cell; up to x4 both are equal."""
    base = opt["models"][2]
    rows = [("RDN-LTE", 4), ("RDN-LTE", None), ("RDN-LIIF", 4), ("RDN-LIIF", None)]
    opt["models"] = [
        {**base, "name": f"{row} {clamp}", "published": row, "cell_clamp": clamp} for row, clamp in rows
    ]
    opt["datasets"]["Set5"]["scales"] = [3, 6]
    known = {(cell["model"], cell["scale"]): cell["published"] for cell in compare(opt)["cells"]}
    assert known == {
        ("RDN-LTE 4", "3"): 34.72,
        ("RDN-LTE 4", "6"): 29.32,
        ("RDN-LTE None", "3"): 34.72,
        ("RDN-LTE None", "6"): None,
        ("RDN-LIIF 4", "3"): 34.68,
        ("RDN-LIIF 4", "6"): None,
        ("RDN-LIIF None", "3"): 34.68,
        ("RDN-LIIF None", "6"): 29.15,
    }
    with open("out/table.md") as file:
        assert "* RDN-LTE: survey of Liu et al." in file.read()


@pytest.mark.parametrize("path", COMPARISONS, ids=lambda p: p.name)
def test_packaged_files(path, tmp_path, monkeypatch):
    """With its folders and weights there, every packaged comparison passes its checks and builds."""
    monkeypatch.chdir(tmp_path)
    opt = read_options(str(path))
    for dataset in opt["datasets"].values():
        for root in {"dataroot_gt", "dataroot_lq"} & dataset.keys():
            for scale in (2, 3, 4):
                (tmp_path / dataset[root].replace("{scale}", str(scale))).mkdir(parents=True, exist_ok=True)
    for model in opt["models"]:
        for source in model.get("scales", {0: model}).values():
            if "opt" in source:
                weights = (
                    tmp_path
                    / "experiments"
                    / read_options(find_option_file(source["opt"]))["name"]
                    / "models"
                    / "net_g_latest.pth"
                )
                weights.parent.mkdir(parents=True, exist_ok=True)
                weights.touch()
    plan = read_plan(str(path))
    for model in plan.models:
        for source in model.by_scale.values():
            build_network(copy.deepcopy(source.network_g))
        if path.name.startswith("compare_table"):
            known = [
                published(column.published, model.published, column.scale[0], "continuous_psnr")
                for column in plan.columns
            ]
            assert any(known) or (model.published is None and "only" in model.name), model.name
    assert f"liif compare -opt {path.name}" in path.read_text()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda o: o.update(modles=1), "did you mean 'models'"),
        (lambda o: o.pop("datasets"), "'datasets' is missing"),
        (lambda o: o["models"][2].update(weights="no.pth"), "there are no weights no.pth"),
        (
            lambda o: o["models"][2].pop("network_g"),
            "expected one of `opt: train_NAME.yml`, `model: standard`",
        ),
        (lambda o: o["models"][2].update(name="EDSR"), "EDSR is given twice"),
        (lambda o: o["models"][1].pop("name"), "'name' is missing"),
        (lambda o: o["models"][1].update(scale=2, weight="x"), "did you mean 'weights'"),
        (lambda o: o["datasets"]["Set5"].update(protocol="bench"), "expected one of div2k"),
        (lambda o: o["datasets"]["Set5"].update(scales=2), "expected a list such as"),
        (lambda o: o["datasets"]["Set5"].update(lq_scales=4), "lq_scales: expected a list of numbers"),
        (lambda o: o["models"][1].update(param_key="params_ema"), "unknown option 'param_key'"),
        (lambda o: o["models"][2].update(scale=[2, 3]), "expected one number"),
        (lambda o: o["models"][2].update(cell="0/1"), "a part of an input"),
        (lambda o: o["models"][2].update(cell_clamp=0.5), "cell_clamp: expected a number of 1 or more"),
        (lambda o: o["models"][2].update(cell="1/2", cell_clamp=4), "cell and cell_clamp: give one of them"),
        (lambda o: o["models"].append({"name": "t", "images": "f", "scale": 4}), "unknown option 'scale'"),
        (lambda o: o.update(metrics=["psnr"]), "metrics: expected a block"),
        (lambda o: o.update(metrics={"p": {"type": "calculate_psnr"}}), "'crop_border' is missing"),
        (
            lambda o: o.update(metrics={"p": {"type": "continuous_psnr", "shave": 1}}),
            "unknown option 'shave'",
        ),
        (lambda o: o["datasets"]["Set5"].update(scales=[2, 2]), "is given twice"),
        (lambda o: o["datasets"]["Set5"].update(dataroot_gt="nowhere"), "there is no folder nowhere"),
        (lambda o: o["datasets"]["Set5"].update(lq_scales=[2]), "lq_scales needs dataroot_lq"),
        (lambda o: o.update(metrics={"psnr": {"type": "continuous_pnsr"}}), "did you mean 'continuous_psnr'"),
        (lambda o: o["models"][0].update(published="bicubic"), "nothing is published as .* 'Bicubic'"),
        (lambda o: o["datasets"]["Set5"].update(published="Set55"), "nothing is published as .* 'Set5'"),
        (lambda o: o["datasets"]["Set5"].pop("published"), "add e.g. `published: Set5`"),
        (lambda o: o.update(device="gpu"), "expected one of auto"),
        (lambda o: o.update(precision="bf61"), "did you mean 'bf16'"),
        (lambda o: o.update(figure={"dataset": "Set5"}), "figure: 'scale' is missing"),
        (lambda o: o.update(figure={"dataset": "Set6", "scale": 2, "image": "a"}), "'Set6' is none of Set5"),
        (
            lambda o: o.update(figure={"dataset": "Set5", "scale": 2, "image": "a", "box": [1, 2]}),
            "expected .top, left, height, width.",
        ),
    ],
)
def test_mistakes_are_named(opt, change, words):
    change(opt)
    assert re.search(words, refused(opt))


@pytest.mark.parametrize(
    ("models", "words"),
    [
        ([{"name": "LIIF", "network_g": LIIF}], "has no weights"),
        ([{"name": "LIIF", "network_g": LIIF, "weights": "edsr.pth"}], "expected weights that fit network_g"),
        ([{"name": "EDSR", "network_g": EDSR, "weights": "edsr.pth"}], "enlarges only by x2"),
        ([{"name": "theirs", "images": "nowhere"}], "cannot be read"),
    ],
)
def test_mistakes_while_measuring(opt, models, words):
    opt["models"] = models
    opt["datasets"]["Set5"]["scales"] = [3]
    assert words in stopped(opt)


def test_figure_outside_the_picture(opt):
    opt["figure"] = {"dataset": "Set5", "scale": 2, "image": "img_1", "box": [40, 0, 20, 20]}
    assert "reaches beyond the truth of (height, width) = (48, 60)" in stopped(opt)
