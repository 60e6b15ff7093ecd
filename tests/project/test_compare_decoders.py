"""The comparison of decoders: all rows have one recipe, and the script does what its page says."""

import compare_decoders
import pytest
import torch
from basicsr.archs import build_network
from PIL import Image

from helpers import GOLDEN
from liif_plugin.config.option_files import packaged_files, read_options

ENCODER = {"type": "EDSR", "num_feat": 8, "num_block": 1}


def resolved(tmp_path, row, **arguments):
    """Return the options of a row as `liif train` reads them."""
    options = compare_decoders.row_options(
        row, **{"seed": 0, "iterations": 6000, "rates": (1e-4, 1e-3), **arguments}
    )
    return read_options(str(tmp_path / compare_decoders.write_options(str(tmp_path), options)))


def test_rows_differ_in_the_network_alone(tmp_path):
    recipes = []
    for row, (file, changes) in compare_decoders.ROWS.items():
        options = resolved(tmp_path, row)
        network = options.pop("network_g")
        published = read_options(str(packaged_files()[file]))["network_g"]
        assert network == {**published, **changes}
        assert network["encoder"] == {"type": "EDSR", "num_feat": 64, "num_block": 16}
        assert options.pop("name") == compare_decoders.run_name(row, 0)
        recipes.append(options)
    assert all(recipe == recipes[0] for recipe in recipes)
    # L1 on [-1, 1], one cosine, 8 crops of 32 x 32.
    assert recipes[0]["train"]["pixel_opt"] == {"type": "L1Loss", "loss_weight": 2.0, "reduction": "mean"}
    assert recipes[0]["train"]["scheduler"]["periods"] == [6000]
    assert recipes[0]["train"]["part_lr"] == {"encoder": 1e-4}
    assert recipes[0]["datasets"]["train"]["batch_size_per_gpu"] == 8
    assert len({compare_decoders.run_name(row, 0) for row in compare_decoders.ROWS}) == len(recipes)


def test_a_seed_changes_the_seed_alone(tmp_path):
    one, other = resolved(tmp_path, "LTE"), resolved(tmp_path, "LTE", seed=3)
    assert (one.pop("manual_seed"), other.pop("manual_seed")) == (0, 3)
    assert (one.pop("name"), other.pop("name")) == ("LTE_seed0", "LTE_seed3")
    assert one == other


def test_another_recipe_needs_another_folder(tmp_path):
    resolved(tmp_path, "LTE")
    resolved(tmp_path, "LTE")  # the same again goes on
    with pytest.raises(SystemExit, match="begun with other options"):
        resolved(tmp_path, "LTE", rates=(1e-4, 2e-3))


@pytest.mark.parametrize("text", ["1e-4", "1e-4:", "0:1", "a:b", "1:nan"])
def test_rates_that_are_none(text, capsys):
    with pytest.raises(SystemExit):
        compare_decoders.parse(["search", "-o", "x", "--data", "x", "--weights", "x", "--pairs", text])
    assert "expected ENCODER:DECODER such as 1e-4:1e-3" in capsys.readouterr().err


def test_only_the_published_encoder_is_taken(tmp_path, bench):
    published = bench.parents[1] / "weights" / "edsr-baseline-liif.pth"
    if not published.is_file():
        pytest.skip("no published weights beside the benchmark images")
    path = tmp_path / "encoder.pth"
    compare_decoders.write_encoder(str(published), str(path))
    state = torch.load(path, weights_only=True)["params"]
    original = torch.load(published, map_location="cpu", weights_only=True)["model"]["sd"]
    assert torch.equal(state["encoder.net.conv_first.weight"], original["encoder.head.0.weight"])
    net = build_network({"type": "LTE", "encoder": {"type": "EDSR", "num_feat": 64, "num_block": 16}})
    assert set(state) == {name for name in net.state_dict() if name.startswith("encoder.")}
    with pytest.raises(SystemExit, match=r"expected the encoder .*'num_block': 16"):
        compare_decoders.write_encoder(str(GOLDEN / "liif.pth"), str(path))


@pytest.fixture
def tiny(tmp_path, image_folder, monkeypatch):
    """Make a folder of a comparison with small networks and pictures; return it and its data folder."""
    output, data = tmp_path / "out", tmp_path / "data"
    (output / "datasets" / "light_train.lmdb").mkdir(parents=True)  # `prepare` finds it made
    hr = image_folder("data/bench/Set5/HR", count=2, h=48, w=48)
    for scale in (2, 3, 4):
        folder = data / "bench" / "Set5" / "LR_bicubic" / f"X{scale}"
        folder.mkdir(parents=True)
        for path in hr.iterdir():
            Image.open(path).resize((48 // scale, 48 // scale), Image.BICUBIC).save(folder / path.name)
    torch.manual_seed(0)
    net = build_network({"type": "LIIF", "encoder": ENCODER})
    encoder = {name: value for name, value in net.state_dict().items() if name.startswith("encoder.")}
    torch.save({"params": encoder}, output / "encoder.pth")
    original = compare_decoders.row_options

    def row_options(*arguments):
        options = original(*arguments)
        options["network_g"]["encoder"] = ENCODER
        train = {"dataroot_gt": str(hr), "io_backend": None, "lq_size": 12, "num_queries": 64}
        options["datasets"] = {"train": {**train, "batch_size_per_gpu": 2}}
        options["logger"] = {"print_freq": 1}
        return options

    monkeypatch.setattr(compare_decoders, "row_options", row_options)
    return output, data


def command(*arguments):
    """Run the script inside this process; return its exit code."""
    args = compare_decoders.parse([str(argument) for argument in arguments])
    try:
        args.run(args)
    except SystemExit as stop:
        return stop.code or 0
    return 0


@pytest.mark.slow
def test_search_train_measure_report(tiny, capsys):
    output, data = tiny
    where = ("-o", output, "--data", data)
    rows = ("--rows", "Thera air", "LM-LIIF")
    assert command("search", *where, "--weights", "-", "--search-iterations", 2, "--pairs", "1e-9:1e-9") == 0
    assert "chosen: encoder 1e-09, decoder 1e-09" in capsys.readouterr().out
    assert command("train", *where, "--weights", "-", *rows, "--iterations", 2) == 0
    # The encoder is the given one: two steps of at most eta_min = 1e-6 have hardly moved it.
    given = torch.load(output / "encoder.pth", weights_only=True)["params"]
    for name in ("Thera_air_seed0", "LM_LIIF_seed0"):
        path = output / "experiments" / name / "models" / "net_g_latest.pth"
        state = torch.load(path, weights_only=True)["params"]
        assert max((state[key] - value).abs().max().item() for key, value in given.items()) < 3e-6
        assert set(given) < set(state)
    # A finished row is not trained again, and measured with its published neighbours.
    before = path.stat().st_mtime_ns
    assert command("train", *where, "--weights", "-", *rows, "--iterations", 2) == 0
    assert path.stat().st_mtime_ns == before
    assert command("measure", *where, *rows, "--sets", "Set5", "--scales", 2, "--first-k", 1) == 0
    table = (output / "comparisons" / "decoders" / "table.md").read_text()
    assert "Thera air" in table and "LM-LIIF" in table and "Bicubic" in table
    capsys.readouterr()
    assert command("report", "-o", output, *rows) == 0
    shown = capsys.readouterr().out
    assert "| Thera air, seed 0 | 2 |" in shown and "Set5_x4" in shown
    assert (output / "curves.png").stat().st_size > 1000


def test_nothing_to_measure_yet(tmp_path):
    where = ("-o", tmp_path, "--data", tmp_path)
    assert "no row is finished" in command("measure", *where)
    assert "run `search` first" in command("train", *where, "--weights", "-")
