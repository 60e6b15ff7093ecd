"""Option files that are built on one another; every row of the paper's tables trains, validates and saves."""

import math

import pytest
import torch
import yaml
from basicsr.models.base_model import BaseModel
from basicsr.models.lr_scheduler import CosineAnnealingRestartLR
from basicsr.utils.registry import ARCH_REGISTRY

from helpers import ROOT
from helpers.fuzzing import refused
from helpers.processes import liif, losses
from helpers.training import TINY_YML
from liif_plugin.config.option_files import OptionLoader, merge, packaged_files, read_options
from liif_plugin.config.parser import read_command_line, write_option_copy
from liif_plugin.errors import UserError

TRAIN_FILES = sorted(path.name for path in (ROOT / "options").rglob("train_*.yml"))


@pytest.fixture
def write(tmp_path):
    def file(name, text):
        (tmp_path / name).write_text(text)
        return str(tmp_path / name)

    return file


def test_blocks_are_merged_key_by_key(write):
    write(
        "a.yml",
        "name: a\nnetwork_g: {type: LIIF, hidden_list: [1], encoder: {type: EDSR, num_feat: 8}}\n"
        "train: {lr: 1e-3, steps: 5}\n",
    )
    opt = read_options(
        write("b.yml", "_base_: a.yml\nname: b\nnetwork_g: {encoder: {num_feat: 16}}\ntrain: {steps: ~}\n")
    )
    assert opt == {
        "name": "b",
        "network_g": {"type": "LIIF", "hidden_list": [1], "encoder": {"type": "EDSR", "num_feat": 16}},
        "train": {"lr": 1e-3, "steps": None},
    }


def test_another_type_replaces_a_block_and_nothing_takes_it_out(write):
    write(
        "a.yml",
        "network_g: {type: LIIF, hidden_list: [1]}\ndatasets: {train: {type: A, x: 1}, val: {type: A}}\n",
    )
    write("c.yml", "extra: 1\n")
    opt = read_options(
        write("b.yml", "_base_: [a.yml, c.yml]\nnetwork_g: {type: EDSR, upscale: 2}\ndatasets: {val: ~}\n")
    )
    assert opt == {
        "network_g": {"type": "EDSR", "upscale": 2},
        "datasets": {"train": {"type": "A", "x": 1}},
        "extra": 1,
    }


def test_merge_alters_neither():
    base, changes = {"a": {"b": 1}}, {"a": {"c": 2}}
    assert (
        merge(base, changes) == {"a": {"b": 1, "c": 2}}
        and base == {"a": {"b": 1}}
        and changes == {"a": {"c": 2}}
    )


def test_a_packaged_file_is_a_base_anywhere(write):
    opt = read_options(write("mine.yml", "_base_: train_liif_edsr.yml\nname: mine\ntrain: {total_iter: 7}\n"))
    assert opt["name"] == "mine" and opt["train"]["total_iter"] == 7 and opt["network_g"]["type"] == "LIIF"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("_base_: nowhere.yml", "there is no .*nowhere.yml"),
        ("_base_: train_lif_edsr.yml", "did you mean 'train_liif_edsr.yml'"),
        ("_base_: 3", "expected the name of an option file"),
        ("_base_: x.yml", "is built on this very file"),
    ],
)
def test_mistakes_with_bases(write, text, words):
    with pytest.raises(UserError, match=words):
        read_options(write("x.yml", text + "\nname: x\n"))


def test_a_circle_of_two_is_noticed(write):
    write("a.yml", "_base_: b.yml\n")
    with pytest.raises(UserError, match="is built on this very file"):
        read_options(write("b.yml", "_base_: a.yml\n"))


@pytest.mark.parametrize(
    "text",
    [
        "# words\n_base_: a.yml\nname: b\n",
        '"_base_": a.yml\nname: b\n',
        "\ufeff_base_: a.yml\nname: b\n",
        "  _base_: a.yml\n  name: b\n",
        "{_base_: a.yml, name: b}\n",
        "\ufeffname: b\n",
    ],
)
def test_the_copy_in_the_experiment_is_whole(write, tmp_path, text):
    from basicsr.utils.options import copy_opt_file as stock_copy

    write("a.yml", "train: {lr: 1e-4}\n")
    (tmp_path / "experiment").mkdir()
    path = write("b.yml", text)
    expected = read_options(path)
    stock_copy(path, str(tmp_path / "experiment"))
    write_option_copy(path, str(tmp_path / "experiment"))
    (tmp_path / "a.yml").unlink()
    copy = tmp_path / "experiment" / "b.yml"
    assert "GENERATE TIME" in copy.read_text() and "_base_" not in copy.read_text()
    assert read_options(str(copy)) == expected


def test_shared_bases_are_read_once(write):
    """Each file is built twice on the one before: without a memory 2 ** 40 files would be read."""
    write("0.yml", "name: x\n")
    for i in range(1, 41):
        write(f"{i}.yml", f"_base_: [{i - 1}.yml, {i - 1}.yml]\nn{i}: 1\n")
    assert len(read_options(str(write("top.yml", "_base_: 40.yml\n")))) == 41


def test_merge_keys_that_double(write):
    """Older releases of PyYAML double the entries at every level."""
    lines = ["a0: &a0 {k: 1}"] + [f"a{i}: &a{i} {{<<: [*a{i - 1}, *a{i - 1}]}}" for i in range(1, 60)]
    path = write("x.yml", "\n".join(lines))
    result = refused(lambda: read_options(path), "check its merge keys")
    assert isinstance(result, UserError) or result["a59"] == {"k": 1}


def test_keys_are_compared_in_linear_time(write):
    """2,000 keys would be compared two million times if each were compared with each."""

    def comparisons(count):
        class Key(str):
            compared = 0

            def __eq__(self, other):
                Key.compared += 1
                return str.__eq__(self, other)

            __hash__ = str.__hash__

        loader = OptionLoader("".join(f"k{i}: 1\n" for i in range(count)))
        construct = loader.construct_object
        loader.construct_object = lambda node, deep=False: (
            Key(value) if isinstance(value := construct(node, deep), str) else value
        )
        assert len(loader.get_single_data()) == count
        return Key.compared

    assert comparisons(2000) < 20 * 2000


@pytest.mark.parametrize("number", ["9" * 5000, "0x" + "f" * 5000, "-0x" + "f" * 300])
def test_a_number_that_cannot_be_printed(write, number):
    with pytest.raises(UserError, match=r"x.yml: not a readable yml file: .*(too large|Exceeds|exceeds)"):
        read_options(write("x.yml", f"name: x\nn: {number}\n"))


def test_an_alias_is_a_block_of_its_own(write):
    opt = read_options(write("x.yml", "a: &a {type: lmdb}\nb: *a\n"))
    opt["a"].pop("type")
    assert opt["b"] == {"type": "lmdb"}


SMALL = (
    "name: {name}\nnum_gpu: auto\nmanual_seed: 0\n"
    "datasets: {{train: {{num_worker_per_gpu: 0, persistent_workers: true}},"
    " val_x2: {{scale: 2}}, val_x3: {val}}}\n"
    "path: {{pretrain_network_g: ~}}\n"
)


def command(write, *forced, name="x", val="{scale: 3}"):
    path = write("given.yml", SMALL.format(name=name, val=val))
    return read_command_line(["liif", "-opt", path, *(["--force_yml", *forced] if forced else [])])


def test_forced_values_are_applied_here(write):
    argv, opt = command(write, "datasets:val_x3=~", "datasets:val_x2:scale=2.5", "manual_seed=~")
    assert "--force_yml" not in argv and list(opt["datasets"]) == ["train", "val_x2"]
    assert opt["datasets"]["val_x2"]["scale"] == 2.5 and opt["manual_seed"] is None


def test_no_workers_are_not_persistent(write):
    """`num_worker_per_gpu: 0` is enough for train_liif_edsr.yml, which has persistent_workers: true."""
    assert command(write)[1]["datasets"]["train"]["persistent_workers"] is False
    forced = command(write, "datasets:train:num_worker_per_gpu=2")[1]
    assert forced["datasets"]["train"]["persistent_workers"] is True


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"name": "a/b"}, "name: expected a name that a folder can have, without '/' and"),
        ({"val": "{type: PairedImageDataset}"}, "datasets.val_x3: 'scale' is missing; PairedImageDataset"),
        (
            {"val": "{type: PairedImageDataset, scale: 2.5}"},
            "datasets.val_x3: scale: expected a whole number",
        ),
    ],
)
def test_mistakes_before_basicsr_parses(write, change, words):
    with pytest.raises(UserError, match=words):
        command(write, **change)


def test_a_run_from_its_own_copy(tmp_path, tiny_yml):
    """experiments/NAME/NAME.yml resumes the run; a new run would rename that file before reading it."""
    yml = tiny_yml(total=2, every=2)
    done = liif("train", "-opt", yml, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    copies = list((tmp_path / "experiments" / "tiny").glob("*.yml"))
    text = copies[0].read_text()
    resumed = liif("train", "-opt", str(copies[0]), "--auto_resume", cwd=tmp_path)
    assert resumed.returncode == 0 and copies[0].read_text() == text, resumed.stderr
    anew = liif("train", "-opt", str(copies[0]), cwd=tmp_path)
    assert anew.returncode == 1 and "resume it with --auto_resume" in anew.stderr
    assert [path.name for path in (tmp_path / "experiments").glob("[!.]*")] == ["tiny"]


def test_rows_differ_in_few_lines():
    """A reader sees at once what differs: every derived file changes at most 25 lines."""
    for name in TRAIN_FILES:
        lines = [
            line
            for line in packaged_files()[name].read_text().splitlines()
            if line.strip() and not line.startswith("#")
        ]
        if name not in ("train_liif_edsr.yml", "train_liif_celebahq_64_128.yml"):
            assert lines[0].startswith("_base_") and len(lines) <= 25, name


def test_every_file_has_a_name_of_its_own():
    """Files are found by their bare names, whatever sub-folder they are in."""
    paths = list((ROOT / "options").rglob("*.yml"))
    assert len(packaged_files()) == len(paths) > 35
    assert [path.name for path in (ROOT / "options").glob("*.yml")] == ["train_liif_edsr.yml"]


def test_the_demo_is_no_base():
    """Tuning the demo must not change the recipe of the shipped weights."""
    for path in packaged_files().values():
        assert "_base_: train_liif_demo.yml" not in path.read_text(), path


@pytest.mark.parametrize("name", ["test_bicubic_benchmark.yml", "test_liif_edsr.yml"])
def test_the_benchmark_files_name_every_set_and_scale(name):
    datasets = read_options(str(packaged_files()[name]))["datasets"]
    expected = {
        f"test_{part}_x{scale}": (part, scale) for part in ("Set5", "Set14", "B100") for scale in (2, 3, 4)
    }
    assert list(datasets) == list(expected)
    for key, (part, scale) in expected.items():
        assert datasets[key]["name"] == f"{part}_x{scale}"
        assert datasets[key]["dataroot_gt"] == f"datasets/bench/{part}/HR"
        assert datasets[key]["dataroot_lq"] == f"datasets/bench/{part}/LR_bicubic/X{scale}"


def test_the_ablations_differ_from_liif_in_one_thing():
    whole = read_options(str(packaged_files()["train_liif_edsr.yml"]))["network_g"]
    for part, key, value in (
        ("no_cell", "cell_decode", False),
        ("no_unfold", "feat_unfold", False),
        ("no_ensemble", "local_ensemble", False),
        ("shallow", "hidden_list", [256, 256]),
    ):
        other = read_options(str(packaged_files()[f"train_liif_edsr_{part}.yml"]))["network_g"]
        assert {k: v for k, v in other.items() if whole[k] != v} == {key: value}
    assert ARCH_REGISTRY.get("LIIF")  # the names above are arguments of it: test_options builds every file


LIIFS_MILESTONES = [200_000, 400_000, 600_000, 800_000]


@pytest.mark.parametrize(
    ("names", "network", "batch", "lr", "total", "milestones"),
    [
        (["lte_edsr", "lte_rdn"], "LTE", 16, 1e-4, 1_000_000, LIIFS_MILESTONES),
        (["lmliif_edsr"], "LMLIIF", 16, 1e-4, 1_200_000, [*LIIFS_MILESTONES, 1_000_000]),
        (["lmlte_edsr"], "LMLTE", 16, 1e-4, 1_200_000, [*LIIFS_MILESTONES, 1_000_000]),
        (["lmliif_rdn"], "LMLIIF", 16, 1e-4, 1_000_000, LIIFS_MILESTONES),
        (["lmlte_rdn"], "LMLTE", 16, 1e-4, 1_000_000, LIIFS_MILESTONES),
        (["lte_swinir"], "LTE", 32, 2e-4, 500_000, [250_000, 400_000, 450_000, 475_000]),
        (["lmliif_swinir"], "LMLIIF", 32, 2e-4, 500_000, [250_000, 400_000, 450_000, 475_000]),
        (["lmlte_swinir"], "LMLTE", 32, 2e-4, 500_000, [250_000, 400_000, 450_000, 475_000]),
        (["srno_edsr", "srno_rdn"], "SRNO", 64, 4e-4, 262_500, None),
        (
            [f"thera_{size}_{encoder}" for size in ("air", "plus", "pro") for encoder in ("edsr", "rdn")],
            "Thera",
            16,
            1e-4,
            5_000_000,
            None,
        ),
    ],
)
def test_the_recipes_of_the_family(names, network, batch, lr, total, milestones):
    """The published settings, as the authors' option files have them."""
    encoders = {"edsr": "EDSR", "rdn": "LIIF_RDN", "swinir": "SwinIR"}
    for name in names:
        opt = read_options(str(packaged_files()[f"train_{name}.yml"]))
        train, data = opt["train"], opt["datasets"]["train"]
        assert opt["network_g"]["type"] == network
        assert opt["network_g"]["encoder"]["type"] == encoders[name.rsplit("_", 1)[1]]
        assert (data["batch_size_per_gpu"], train["optim_g"]["lr"], train["total_iter"]) == (batch, lr, total)
        assert train["scheduler"].get("milestones") == milestones
        side = 128 if network == "SRNO" else 48
        assert (data["lq_size"], data["num_queries"]) == (side, side**2)
        is_thera = network == "Thera"
        assert data["scale_range"] == ([1.2, 4] if is_thera else [1, 4])
        assert data.get("shrink_range") == ([1, 2] if is_thera else None)
        assert train["pixel_opt"]["loss_weight"] == (1 if is_thera else 2)
        assert train.get("gradient_weight") == (1e-4 if is_thera else None)
        assert train.get("grad_clip") == (10 if is_thera else None)
        assert train["optim_g"]["type"] == ("AdamW" if is_thera else "Adam")
        assert opt["val"].get("cell_clamp") == (None if is_thera else 4)


@pytest.mark.parametrize("name", ["srno", "thera_air"])
def test_the_learning_rates_of_the_family(name):
    """SRNO: up for 50 epochs of 250 iterations, then a cosine of 1,000; Thera: one cosine to 0."""
    train = read_options(str(packaged_files()[f"train_{name}_edsr.yml"]))["train"]
    lr, total, warmup = train["optim_g"]["lr"], train["total_iter"], train["warmup_iter"]
    optimizer = torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))], lr=lr)
    arguments = {key: value for key, value in train["scheduler"].items() if key != "type"}
    scheduler = CosineAnnealingRestartLR(optimizer, **arguments)
    model = BaseModel({"num_gpu": 0, "is_train": True})
    model.optimizers, model.schedulers = [optimizer], [scheduler]
    rising = 12_500 if name == "srno" else 0
    moments = {
        1,
        2,
        100,
        rising - 1,
        rising,
        rising + 1,
        rising + 2,
        rising + 3,
        total // 2,
        total - 1,
        total,
    }
    for i in sorted(moment for moment in moments if moment > 0):
        scheduler.last_epoch = max(i - 2, 0)  # as after i - 1 iterations
        model.update_learning_rate(i, warmup)
        if i < rising:
            expected = lr * i / rising
        else:
            expected = lr * (1 + math.cos(math.pi * (i - rising) / (total - rising))) / 2
        assert abs(model.get_current_learning_rate()[0] - expected) < 1e-4 * lr, i


def smoke(name: str, root) -> dict:
    """The changes that let the row ``name`` run 4 iterations on a few small images; its network stays."""
    opt = read_options(str(packaged_files()[name]))
    tiny = yaml.safe_load(TINY_YML.format(root=root / "hr", total=4, every=4, workers=0))
    celeb = "celebahq" in name
    train = {
        "batch_size_per_gpu": 1,
        "num_worker_per_gpu": 0,
        "persistent_workers": False,
        "pin_memory": False,
        "dataset_enlarge_ratio": 8,
        "cache": None,
        "dataroot_gt": str(root / "hr"),
    }
    if celeb:
        low, high = name[:-4].rsplit("_", 2)[1:]
        sides = {
            "dataroot_gt": str(root / "faces" / f"{high}.lmdb"),
            "dataroot_lq": str(root / "faces" / f"{low}.lmdb"),
            "meta_info_file": str(root / "faces" / "split.json"),
        }
        train.update(sides)
        sets = {"val": {**sides, "split": "test"}}
    else:
        train.update(lq_size=16, io_backend={"type": "disk"})
        train.update({} if opt["datasets"]["train"].get("num_queries", 0) is None else {"num_queries": 64})
        scale = int(name[-5]) if name[-5].isdigit() else 2.5
        val = {**tiny["datasets"]["val_x2"], "scale": scale}
        sets = {**{key: None for key in opt["datasets"] if key != "train"}, "val_small": val}
    logger = {"print_freq": 1, "save_checkpoint_freq": 4, "use_tb_logger": False}
    schedule = {"total_iter": 4, "scheduler": tiny["train"]["scheduler"]}
    if opt["train"].get("teacher"):
        schedule["teacher"] = "light"  # in place of published weights that this machine may not have
    return {
        "_base_": name,
        "name": "smoke",
        "datasets": {"train": train, **sets},
        "path": {"pretrain_network_g": None, "strict_load_g": True},
        "logger": logger,
        "train": schedule,
        "val": {"val_freq": 4, "save_img": True},
    }


@pytest.fixture(scope="module")
def smoke_data(tmp_path_factory):
    """hr: three pictures of 72 x 80; faces: what `liif prepare celebahq` makes of six of 256 x 256."""
    from PIL import Image

    from helpers.pictures import picture

    root = tmp_path_factory.mktemp("smoke")
    for folder, count, h, w in (
        ("hr", 3, 72, 80),
        ("faces_in/train", 4, 256, 256),
        ("faces_in/test", 2, 256, 256),
    ):
        (root / folder).mkdir(parents=True)
        for i in range(count):
            Image.fromarray(picture(i, h, w)).save(root / folder / f"{i}.png")
    done = liif("prepare", "celebahq", "faces_in", "-o", "faces", cwd=root)
    assert done.returncode == 0, done.stderr
    return root


@pytest.mark.slow
@pytest.mark.parametrize("name", TRAIN_FILES)
def test_every_row_trains_validates_and_saves(name, smoke_data, tmp_path):
    (tmp_path / "smoke.yml").write_text(yaml.safe_dump(smoke(name, smoke_data), sort_keys=False))
    done = liif("train", "-opt", "smoke.yml", cwd=tmp_path, env={"OMP_NUM_THREADS": "2"})
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    assert sorted(losses(done.stdout + done.stderr)) == [1, 2, 3, 4] and "# psnr" in done.stdout + done.stderr
    experiment = tmp_path / "experiments" / "smoke"
    assert (experiment / "models" / "net_g_4.pth").is_file() and (
        experiment / "training_states" / "4.state"
    ).is_file()
    assert list((experiment / "visualization").rglob("*.png"))
