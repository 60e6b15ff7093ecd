"""Pocket versions of Tables 1, 3 and 4 of the paper, and of the comparison on Set5 with BasicSR's own networks: the same option
files, small encoders, equal budgets, on a CPU.

  python scripts/pocket_tables.py --data ../shared/data -o pocket        everything, resumable; about 80 minutes on two cores
  python scripts/pocket_tables.py --data ../shared/data -o pocket --tables 1 --seeds 0 1 2
  python scripts/pocket_tables.py --data ../shared/data -o pocket_long --tables 1 --rows LIIF MetaSR --iterations 9000

FOLDER needs train/ (any pictures), bench/SET/HR, bench/SET/LR_bicubic/X2 ... and faces/train, faces/test (256 x 256). Each row is
its option file plus the changes that ``pocket`` makes, written to OUTPUT/options. The tables are made by `liif compare` and end up
in OUTPUT/comparisons/TABLE/table.md.
"""

from __future__ import annotations

import argparse
import glob
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import yaml

from liif_plugin.config.option_files import packaged_files, read_options

LIIF = [sys.executable, "-m", "liif_plugin"]
ABLATIONS = {
    "-c": "no_cell",
    "-u": "no_unfold",
    "-e": "no_ensemble",
    "-d": "shallow",
    **{f"x{s} only": f"x{s}_only" for s in (2, 3, 4)},
}
# table -> row -> option file, or one for each scale
ROWS = {
    1: {
        "LIIF": "train_liif_edsr",
        "MetaSR": "train_metasr_edsr",
        "EDSR": {s: f"train_edsr_x{s}" for s in (2, 3, 4)},
    },
    3: {"LIIF": "train_liif_edsr", **{row: f"train_liif_edsr_{file}" for row, file in ABLATIONS.items()}},
    4: {
        row: {s: f"train_{file}_celebahq_{task}" for s, task in ((2, "64_128"), (8, "32_256"))}
        for row, file in (("up-sampling, resized truths", "edsr"), ("LIIF, size-varied truths", "liif"))
    },
    5: {
        "EDSR": {s: f"train_edsr_x{s}" for s in (2, 3, 4)},
        "SwinIR": {s: f"train_swinir_x{s}" for s in (2, 3, 4)},
        "MetaSR": "train_metasr_edsr",
        "LIIF": "train_liif_edsr",
    },
}
NAMES = {1: "table_1", 3: "table_3", 4: "table_4", 5: "set5"}


def pocket(file: str, data: str, iterations: int, seed: int) -> dict:
    """What makes the row of ``file`` a pocket row. ``data``: the folder that ``prepare`` filled."""
    encoder = {"num_feat": 32, "num_block": 4}
    fixed_scale = file.startswith(("train_edsr", "train_swinir"))
    network = (
        encoder
        if fixed_scale
        else {"encoder": encoder, "hidden_list": [64, 64] if file.endswith("shallow") else [64] * 4}
    )
    if file.startswith("train_metasr"):
        network["hidden_list"] = [64]
    if file.startswith("train_swinir"):
        network = {"embed_dim": 32, "depths": [2, 2], "num_heads": [2, 2], "img_size": 32}
    train = {
        "batch_size_per_gpu": 8,
        "num_worker_per_gpu": 0,
        "persistent_workers": False,
        "pin_memory": False,
        "dataset_enlarge_ratio": 1000,
    }
    if "celebahq" in file:
        low, high = file.rsplit("_", 2)[1:]
        train.update(
            dataroot_gt=f"{data}/faces/{high}.lmdb",
            dataroot_lq=f"{data}/faces/{low}.lmdb",
            meta_info_file=f"{data}/faces/split.json",
        )
    else:
        train.update(
            dataroot_gt=f"{data}/train.lmdb", io_backend={"type": "lmdb"}, lq_size=32, too_small="skip"
        )
        if not fixed_scale:
            train["num_queries"] = 1024
    others = [
        name for name in read_options(str(packaged_files()[f"{file}.yml"]))["datasets"] if name != "train"
    ]
    return {
        "_base_": f"{file}.yml",
        "name": f"{file}_seed{seed}",
        "num_gpu": 0,
        "manual_seed": seed,
        "datasets": {"train": train, **dict.fromkeys(others)},
        "network_g": network,
        "train": {
            "total_iter": iterations,
            "optim_g": {"lr": 1e-3},
            "channels_last": True,
            "precision": "auto",
            "scheduler": {
                "type": "CosineAnnealingRestartLR",
                "periods": [iterations],
                "restart_weights": [1],
                "eta_min": 1e-6,
            },
        },
        "logger": {"print_freq": 100, "save_checkpoint_freq": 500, "use_tb_logger": False},
    }


def prepare(shared: str, data: str) -> None:
    for arguments, made in (
        (
            [f"{shared}/train", "-o", f"{data}/train.lmdb", "--whole", "--min-size", "128"],
            f"{data}/train.lmdb",
        ),
        (["celebahq", f"{shared}/faces", "-o", f"{data}/faces"], f"{data}/faces/split.json"),
    ):
        if not os.path.exists(made):
            subprocess.run([*LIIF, "prepare", *arguments], check=True)


def files_of(tables: list[int]) -> list[str]:
    """Every option file of ``tables`` once."""
    rows = [row for table in tables for row in ROWS[table].values()]
    return list(
        dict.fromkeys(file for row in rows for file in (row.values() if isinstance(row, dict) else [row]))
    )


def weights_of(root: str, file: str, seed: int) -> str:
    return os.path.join(root, "experiments", f"{file}_seed{seed}", "models", "net_g_latest.pth")


def train(root: str, file: str, seed: int, iterations: int, threads: int) -> str | None:
    """Train one row, or go on with it. Returns a complaint, or None."""
    name = f"{file}_seed{seed}"
    path = os.path.join(root, "options", f"{name}.yml")
    if os.path.isfile(path) and read_options(path)["train"]["total_iter"] != iterations:
        return f"{path}: was begun with another number of iterations; choose another folder with -o."
    with open(path, "w", encoding="utf-8") as option_file:
        yaml.safe_dump(pocket(file, "data", iterations, seed), option_file, sort_keys=False)
    if os.path.isfile(weights_of(root, file, seed)):
        return None
    print(f"{name} ...", flush=True)
    with open(os.path.join(root, f"{name}.log"), "a", encoding="utf-8") as log:
        code = subprocess.run(
            [*LIIF, "train", "-opt", f"options/{name}.yml", "--auto_resume"],
            cwd=root,
            stdout=log,
            stderr=log,
            env={**os.environ, "OMP_NUM_THREADS": str(threads)},
        ).returncode
    print(f"{name}: {'done' if code == 0 else f'exit code {code}'}", flush=True)
    return None if code == 0 else f"{name}: exit code {code}, see {root}/{name}.log"


def comparison(root: str, shared: str, table: int, seed: int) -> dict:
    """The compare_*.yml of one table. B100 is cut to its first 25 images, because a CPU measures."""

    def source(file: str) -> dict:
        name = f"{file}_seed{seed}"
        return {"opt": os.path.join(root, "options", f"{name}.yml"), "weights": weights_of(root, file, seed)}

    models = [] if table == 4 else [{"name": "Bicubic", "network_g": {"type": "Bicubic"}}]
    for row, files in ROWS[table].items():
        given = (
            {"scales": {s: source(file) for s, file in files.items()}}
            if isinstance(files, dict)
            else source(files)
        )
        models.append({"name": row, **given})
    if table == 4:
        data = os.path.join(root, "data", "faces")
        datasets = {
            f"faces_{low}_{high}": {
                "type": "SizeVariedDataset",
                "at_scale": scale,
                "dataroot_gt": f"{data}/{high}.lmdb",
                "dataroot_lq": f"{data}/{low}.lmdb",
                "meta_info_file": f"{data}/split.json",
                "split": "test",
                "protocol": "plain",
            }
            for low, high, scale in ((64, 128, 2), (32, 256, 8))
        }
    else:
        sets = {"Set5": None} if table == 5 else {"Set5": None, "Set14": None, "B100": 25}
        datasets = {
            name: {
                "dataroot_gt": f"{shared}/bench/{name}/HR",
                "dataroot_lq": f"{shared}/bench/{name}/LR_bicubic/X{{scale}}",
                "protocol": "benchmark",
                "first_k": first,
                "lq_scales": [2, 3, 4],
                "scales": [2, 3, 4, 6, 8],
            }
            for name, first in sets.items()
        }
    plan = {"name": f"{NAMES[table]}_seed{seed}", "models": models, "datasets": datasets}
    if table == 5:
        plan["figure"] = {"dataset": "Set5", "scale": 4, "image": "img_003", "box": [60, 100, 64, 64]}
    return plan


def compare(root: str, shared: str, table: int, seed: int) -> str | None:
    """Measure one table, or go on with it. Returns a complaint, or None."""
    plan = comparison(root, shared, table, seed)
    path = os.path.join(root, "options", f"compare_{plan['name']}.yml")
    with open(path, "w", encoding="utf-8") as file:
        yaml.safe_dump(plan, file, sort_keys=False)
    folder = os.path.join(root, "comparisons", plan["name"])
    for cells in glob.glob(
        os.path.join(glob.escape(root), "comparisons", "*", "cells")
    ):  # rows that two tables share are measured once
        if os.path.dirname(cells) != folder:
            shutil.copytree(cells, os.path.join(folder, "cells"), dirs_exist_ok=True)
    code = subprocess.run([*LIIF, "compare", "-opt", path, "-o", folder]).returncode
    return None if code == 0 else f"{path}: exit code {code}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True, metavar="FOLDER", help="folder with train, bench and faces")
    parser.add_argument(
        "-o", "--output", default="pocket", metavar="FOLDER", help="folder for everything (default ./pocket)"
    )
    parser.add_argument(
        "--tables", type=int, nargs="+", choices=sorted(ROWS), default=sorted(ROWS), help="default: all"
    )
    parser.add_argument("--rows", nargs="+", metavar="ROW", help="only these rows, e.g. LIIF MetaSR")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], metavar="N", help="default: 0")
    parser.add_argument(
        "--iterations", type=int, default=3000, metavar="N", help="training steps of every row (default 3000)"
    )
    parser.add_argument(
        "--jobs", type=int, default=2, metavar="N", help="rows trained at once, one thread each (default 2)"
    )
    args = parser.parse_args()
    for table in args.tables:
        ROWS[table] = {row: files for row, files in ROWS[table].items() if not args.rows or row in args.rows}
    for folder in ("options", "data"):
        os.makedirs(os.path.join(args.output, folder), exist_ok=True)
    prepare(os.path.abspath(args.data), os.path.join(args.output, "data"))
    with ThreadPoolExecutor(args.jobs) as pool:
        runs = [
            pool.submit(train, args.output, file, seed, args.iterations, max(1, os.cpu_count() // args.jobs))
            for seed in args.seeds
            for file in files_of(args.tables)
        ]
        try:
            complaints = [run.result() for run in runs if run.result()]
        except KeyboardInterrupt:  # the rows in training have got the signal too; the others must not start
            pool.shutdown(wait=True, cancel_futures=True)
            sys.exit("stopped; the same command goes on")
    root, shared = os.path.abspath(args.output), os.path.abspath(args.data)
    measured = (
        [compare(root, shared, table, seed) for table in args.tables for seed in args.seeds]
        if not complaints
        else []
    )
    complaints += [complaint for complaint in measured if complaint]
    sys.exit("\n".join(complaints) or 0)


if __name__ == "__main__":
    main()
