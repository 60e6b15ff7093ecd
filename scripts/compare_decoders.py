"""Train every decoder of the family by one recipe, from one encoder, and measure them.

The encoder is that of the published EDSR-baseline-LIIF, the decoder is new, and everything is trained: the
same crops in the same order, the same number of iterations, the same loss and schedule. The recipe is
options/compare/_one_recipe.yml. Each training has one thread. After an interruption the same command goes on.

  python scripts/compare_decoders.py search -o OUTPUT --weights edsr-baseline-liif.pth --data ../shared/data
      try pairs of learning rates on LIIF; writes OUTPUT/rates.json
  python scripts/compare_decoders.py train -o OUTPUT --weights edsr-baseline-liif.pth --data ../shared/data
      train the rows, one after the other, with the rates of the search or of --rates
  python scripts/compare_decoders.py measure -o OUTPUT --data ../shared/data
      measure the finished rows with `liif compare`: OUTPUT/comparisons/decoders/table.md
  python scripts/compare_decoders.py report -o OUTPUT
      print how far each row is; draw OUTPUT/curves.png; list size and SHA-256 of the final weights

--weights is the authors' file. --data is a folder with train/General100, train/BSDS400, bench/Set5,
bench/Set14 and bench/B100. OUTPUT gets everything that is written: options, logs, experiments, pictures.
6,000 iterations of one row are 1.5 to 4.5 hours of one core without bfloat16 (AVX2).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from glob import escape, glob
from typing import Any

import torch
import yaml
from draw_curves import draw_rows, read_log
from light_data import make_lmdb

import liif_plugin.register  # noqa: F401  (BasicSR needs its stand-ins)
from liif_plugin.checkpoints.conversion import convert, load_foreign
from liif_plugin.config.option_files import packaged_files, read_options
from liif_plugin.files import atomic_write

LIIF = [sys.executable, "-m", "liif_plugin"]
RECIPE = "_one_recipe.yml"
# row -> packaged option file that has the network, and what differs from it
ROWS: dict[str, tuple[str, dict]] = {
    "LIIF": ("train_liif_edsr.yml", {}),
    "LM-LIIF": ("train_lmliif_edsr.yml", {}),
    "Thera air": ("train_thera_air_edsr.yml", {}),
    "LTE": ("train_lte_edsr.yml", {}),
    "MetaSR": ("train_metasr_edsr.yml", {}),
    "LM-LTE": ("train_lmlte_edsr.yml", {}),
    "SRNO": ("train_srno_edsr.yml", {}),
    "Thera plus": ("train_thera_plus_edsr.yml", {}),
    "LIIF -c": ("train_liif_edsr_no_cell.yml", {}),
    "LIIF -u": ("train_liif_edsr_no_unfold.yml", {}),
    "LIIF -e": ("train_liif_edsr_no_ensemble.yml", {}),
    "LIIF -d": ("train_liif_edsr_shallow.yml", {}),
    "LM-LIIF, bilinear residual": ("train_lmliif_edsr.yml", {"residual": "bilinear"}),
    "Thera air, bilinear residual, 4 pi": (
        "train_thera_air_edsr.yml",
        {"residual": "bilinear", "radius": 12.566370614359172},
    ),
}
# Decoders whose authors multiply the cell by max(scale / 4, 1) when they measure.
CLAMPED = ("LTE", "LM-LIIF", "LM-LTE", "SRNO")
SEARCH_ROW = "LIIF"
PAIRS = ["5e-5:5e-4", "1e-4:1e-3", "2e-4:2e-3"]


def rate_pair(text: str) -> tuple[float, float]:
    """Return (encoder's rate, decoder's rate) of ``1e-4:1e-3``."""
    encoder, separator, decoder = text.partition(":")
    try:
        rates = float(encoder), float(decoder)
    except ValueError:
        rates = 0.0, 0.0
    if not separator or not all(0 < rate < math.inf for rate in rates):
        raise argparse.ArgumentTypeError(f"expected ENCODER:DECODER such as 1e-4:1e-3, got {text}")
    return rates


def run_name(row: str, seed: int) -> str:
    """Return the name of a row's training: ``Thera_air_seed0``."""
    words = row.replace(",", "").replace("-", "_").split()
    return "_".join([*words, f"seed{seed}"]).replace("__", "_")


def row_options(row: str, seed: int, iterations: int, rates: tuple[float, float]) -> dict[str, Any]:
    """Return the option file of one row: the recipe, its network, its seed and its learning rates."""
    file, changes = ROWS[row]
    return {
        "_base_": RECIPE,
        "name": run_name(row, seed),
        "manual_seed": seed,
        "network_g": {**_plain(read_options(str(packaged_files()[file]))["network_g"]), **changes},
        "train": {
            "total_iter": iterations,
            "optim_g": {"lr": rates[1]},
            "part_lr": {"encoder": rates[0]},
            "scheduler": {"periods": [iterations]},
        },
    }


def _plain(value: Any) -> Any:
    """Return nested dicts and lists of plain types, for YAML."""
    return json.loads(json.dumps(value))


# The folder of a comparison


def prepare(output: str, data: str, weights: str) -> None:
    """Make what all rows share, if it is not there: training pictures, test sets, the encoder's weights."""
    os.makedirs(os.path.join(output, "options"), exist_ok=True)
    os.makedirs(os.path.join(output, "datasets"), exist_ok=True)
    bench = os.path.join(output, "datasets", "bench")
    if not os.path.exists(bench):
        os.symlink(os.path.abspath(os.path.join(data, "bench")), bench)
    if not os.path.isdir(os.path.join(output, "datasets", "light_train.lmdb")):
        make_lmdb(os.path.join(data, "train"), output)
    encoder = os.path.join(output, "encoder.pth")
    if not os.path.isfile(encoder):
        write_encoder(weights, encoder)


def write_encoder(weights: str, path: str) -> None:
    """Write the encoder of the authors' checkpoint ``weights`` as a BasicSR checkpoint.

    Raises:
        SystemExit: if it is not the encoder of EDSR-baseline-LIIF.
    """
    network, state = convert(load_foreign(weights))
    expected = read_options(str(packaged_files()["train_liif_edsr.yml"]))["network_g"]["encoder"]
    if dict(network["encoder"]) != dict(expected):
        sys.exit(f"{weights}: expected the encoder {dict(expected)}, found {dict(network['encoder'])}.")
    encoder = {name: value for name, value in state.items() if name.startswith("encoder.")}
    with atomic_write(path) as file:
        torch.save({"params": encoder}, file)


def write_options(folder: str, options: dict) -> str:
    """Write an option file below ``folder``; return its path relative to it.

    Raises:
        SystemExit: if the training was begun with other options.
    """
    path = os.path.join(folder, "options", f"{options['name']}.yml")
    if os.path.isfile(path):
        with open(path, encoding="utf-8") as file:
            if yaml.safe_load(file) != options:
                sys.exit(f"{path}: this training was begun with other options; choose another folder (-o).")
    else:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as file:
            yaml.safe_dump(options, file, sort_keys=False)
    return os.path.relpath(path, folder)


def final_weights(folder: str, name: str) -> str:
    """Return the path of the weights at the end of a training, which may not exist yet."""
    return os.path.join(folder, "experiments", name, "models", "net_g_latest.pth")


def logs(folder: str, name: str) -> list[str]:
    """Return BasicSR's logs of a training, the oldest first."""
    return sorted(glob(os.path.join(escape(os.path.join(folder, "experiments", name)), "train_*.log")))


def train(folder: str, options: dict) -> str | None:
    """Train one row, or go on with it; return a complaint, or None."""
    name, path = options["name"], write_options(folder, options)
    if os.path.isfile(final_weights(folder, name)):
        return None
    print(f"{name} ...", flush=True)
    with open(os.path.join(folder, f"{name}.out"), "a", encoding="utf-8") as out:
        code = subprocess.run(
            [*LIIF, "train", "-opt", path, "--auto_resume"],
            cwd=folder,
            stdout=out,
            stderr=out,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        ).returncode
    print(f"{name}: {'done' if code == 0 else f'exit code {code}'}", flush=True)
    return None if code == 0 else f"{name}: exit code {code}, see {folder}/{name}.out"


# The subcommands


def search(args: argparse.Namespace) -> None:
    """Train LIIF shortly with each pair of rates; the lowest loss of the last third decides.

    All pairs see the same crops, so their losses compare. The test sets do not take part in the choice.
    """
    prepare(args.output, args.data, args.weights)
    results = []
    for pair in args.pairs:
        options = row_options(SEARCH_ROW, 0, args.search_iterations, pair)
        options["name"] = f"search_{pair[0]:g}_{pair[1]:g}"
        options["val"] = {"val_freq": args.search_iterations}
        options["logger"] = {
            "print_freq": min(10, args.search_iterations),
            "save_checkpoint_freq": 50,
        }
        complaint = train(args.output, options)
        losses, scores = read_log(logs(args.output, options["name"]))
        last = [loss for step, loss in losses if step > args.search_iterations * 2 / 3]
        if complaint or not last:
            print(complaint or f"{options['name']}: no loss in its log")
            continue  # a pair that diverges is no candidate
        results.append({"encoder": pair[0], "decoder": pair[1], "loss": sum(last) / len(last)})
        psnr = "  ".join(f"{name} {line[-1][1]:.2f}" for name, line in scores.items())
        print(f"encoder {pair[0]:g}, decoder {pair[1]:g}: loss {results[-1]['loss']:.5f}  {psnr}", flush=True)
    if not results:
        sys.exit("no pair of rates could be trained")
    best = min(results, key=lambda result: result["loss"])
    with atomic_write(os.path.join(args.output, "rates.json"), text=True) as file:
        json.dump({"best": best, "tried": results}, file, indent=1)
    print(f"chosen: encoder {best['encoder']:g}, decoder {best['decoder']:g}")


def train_rows(args: argparse.Namespace) -> None:
    """Train the rows in the order of the table, all rows of one seed before the next seed."""
    rates, found = args.rates, os.path.join(args.output, "rates.json")
    if rates is None:
        if not os.path.isfile(found):
            sys.exit(f"{found}: not there; run `search` first, or give --rates ENCODER:DECODER.")
        with open(found, encoding="utf-8") as file:
            best = json.load(file)["best"]
        rates = best["encoder"], best["decoder"]
    prepare(args.output, args.data, args.weights)
    pool = ThreadPoolExecutor(args.jobs)
    runs = [
        pool.submit(train, args.output, row_options(row, seed, args.iterations, rates))
        for seed in args.seeds
        for row in args.rows
    ]
    try:
        complaints = [complaint for run in runs if (complaint := run.result())]
    except KeyboardInterrupt:  # the rows in training have got the signal too; the others must not start
        pool.shutdown(wait=True, cancel_futures=True)
        sys.exit("stopped; the same command goes on")
    sys.exit("\n".join(complaints) or 0)


def finished(args: argparse.Namespace) -> dict[str, str]:
    """Return row -> name of its training, for the rows with final weights; the row tells its seed."""
    names = {(row, seed): run_name(row, seed) for row in args.rows for seed in args.seeds}
    return {
        row if len(args.seeds) == 1 else f"{row}, seed {seed}": name
        for (row, seed), name in names.items()
        if os.path.isfile(final_weights(args.output, name))
    }


def comparison(args: argparse.Namespace) -> dict:
    """Return the option file of `liif compare` for the finished rows.

    Beyond x4 each row has its authors' rule for the cell: clamped for ``CLAMPED``, true for the others.
    """
    output = os.path.abspath(args.output)
    models: list[dict] = [{"name": "Bicubic", "published": "Bicubic", "network_g": {"type": "Bicubic"}}]
    for row, name in finished(args).items():
        opt = os.path.join(output, "options", f"{name}.yml")
        model = {"name": row, "opt": opt, "weights": final_weights(output, name)}
        if row.split(",")[0] in CLAMPED:
            model["cell_clamp"] = 4
        if row.startswith("LIIF") and "-" not in row:
            model["published"] = "EDSR-baseline-LIIF"
        models.append(model)
    datasets = {
        name: {
            "published": name,
            "dataroot_gt": os.path.join(os.path.abspath(args.data), "bench", name, "HR"),
            "dataroot_lq": os.path.join(os.path.abspath(args.data), "bench", name, "LR_bicubic", "X{scale}"),
            "protocol": "benchmark",
            "lq_scales": [2, 3, 4],
            "scales": args.scales,
            "first_k": args.first_k,
        }
        for name in args.sets
    }
    return {"name": "decoders", "models": models, "datasets": datasets}


def measure(args: argparse.Namespace) -> None:
    """Measure the finished rows with `liif compare`; what has been measured is not measured again."""
    if not finished(args):
        sys.exit(f"{args.output}: no row is finished; `report` says how far they are.")
    path = os.path.join(args.output, "compare.yml")
    with open(path, "w", encoding="utf-8") as file:
        yaml.safe_dump(comparison(args), file, sort_keys=False)
    folder = os.path.join(args.output, "comparisons", "decoders")
    sys.exit(subprocess.run([*LIIF, "compare", "-opt", path, "-o", folder]).returncode)


def report(args: argparse.Namespace) -> None:
    """Print the state of each row, draw the curves, and list the final weights."""
    curves = {}
    print("| row | iteration | loss | validation |\n|---|---|---|---|")
    for row in args.rows:
        for seed in args.seeds:
            name = run_name(row, seed)
            losses, scores = read_log(logs(args.output, name))
            if not losses:
                continue
            label = f"{row}, seed {seed}"
            curves[label] = scores
            last = sorted(scores.items())
            psnr = ", ".join(f"{set_} {line[-1][1]:.2f} at {line[-1][0]:,}" for set_, line in last)
            print(f"| {label} | {losses[-1][0]:,} | {losses[-1][1]:.4f} | {psnr or 'none yet'} |")
    if any(curves.values()):
        path = os.path.join(args.output, "curves.png")
        draw_rows(curves, path)
        print(f"\n{path}")
    print("\n| weights | bytes | SHA-256 |\n|---|---|---|")
    for row, name in finished(args).items():
        with open(final_weights(args.output, name), "rb") as file:
            content = file.read()
        print(f"| {row} | {len(content):,} | {hashlib.sha256(content).hexdigest()} |")


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Return the parsed command line, ``run`` being the subcommand's function."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("-o", "--output", required=True, metavar="OUTPUT", help="folder for everything")
    rows = argparse.ArgumentParser(add_help=False)
    rows.add_argument(
        "--rows", nargs="+", choices=list(ROWS), default=list(ROWS), metavar="ROW", help=f"of {list(ROWS)}"
    )
    rows.add_argument("--seeds", type=int, nargs="+", default=[0], metavar="N", help="default: 0")
    data = argparse.ArgumentParser(add_help=False)
    data.add_argument("--data", required=True, metavar="FOLDER", help="folder with train and bench")
    weights = argparse.ArgumentParser(add_help=False)
    weights.add_argument("--weights", required=True, metavar="FILE", help="edsr-baseline-liif.pth")

    def command(name: str, run: Any, *parents: argparse.ArgumentParser) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=run.__doc__.splitlines()[0], parents=[shared, *parents])
        sub.set_defaults(run=run)
        return sub

    sub = command("search", search, data, weights)
    sub.add_argument(
        "--pairs",
        nargs="+",
        type=rate_pair,
        default=[rate_pair(pair) for pair in PAIRS],
        metavar="ENCODER:DECODER",
        help=f"default: {' '.join(PAIRS)}",
    )
    sub.add_argument("--search-iterations", type=int, default=300, metavar="N", help="default: 300")
    sub = command("train", train_rows, rows, data, weights)
    sub.add_argument("--iterations", type=int, default=6000, metavar="N", help="default: 6000")
    sub.add_argument(
        "--rates", type=rate_pair, metavar="ENCODER:DECODER", help="default: those that `search` has chosen"
    )
    sub.add_argument("--jobs", type=int, default=1, metavar="N", help="rows at once, default 1")
    sub = command("measure", measure, rows, data)
    sub.add_argument("--sets", nargs="+", default=["Set5", "Set14", "B100"], metavar="SET")
    sub.add_argument("--scales", nargs="+", type=float, default=[2, 3, 4, 6, 8, 12], metavar="SCALE")
    sub.add_argument("--first-k", type=int, metavar="K", help="only the first K images of each set")
    command("report", report, rows)
    return parser.parse_args(arguments)


def main() -> None:
    args = parse()
    args.run(args)


if __name__ == "__main__":
    main()
