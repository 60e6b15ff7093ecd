"""Train and measure a small LIIF, without a download.

The command packs pictures of scikit-image into an LMDB and trains a small LIIF on them with BasicSR's
trainer. Then it measures this network, the default network and bicubic on two other pictures, and draws a
figure.

  liif demo                     about two minutes on two CPU cores; writes ./liif_demo
  liif demo --iterations 3000   longer training

After an interruption, the same command continues.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time

from .arguments import whole_number

AFTER_INTERRUPT = "The same command continues from the last checkpoint."
HELD_OUT = ("chelsea", "coffee")
TRAINING = (
    "astronaut",
    "rocket",
    "immunohistochemistry",
    "hubble_deep_field",
    "retina",
    "camera",
    "brick",
    "grass",
    "gravel",
    "coins",
    "moon",
    "motorcycle",
)
SCALES = (2, 2.7, 3, 4, 6)
TRAINED = "trained now"  # what the demo's own network is called in the table and in the figure


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-o",
        "--output",
        default="liif_demo",
        metavar="FOLDER",
        help="folder for everything (default ./liif_demo)",
    )
    parser.add_argument(
        "--iterations",
        type=whole_number(1),
        metavar="N",
        help="training steps (default: as in train_liif_demo.yml)",
    )


def _write_pictures(folder: str) -> None:
    """Write the images as PNG files; of the stereo pair only the left one."""
    import skimage.data
    from PIL import Image

    for split, names in (("train", TRAINING), ("val", HELD_OUT)):
        os.makedirs(os.path.join(folder, split), exist_ok=True)
        for name in names:
            picture = (
                skimage.data.stereo_motorcycle()[0] if name == "motorcycle" else getattr(skimage.data, name)()
            )
            Image.fromarray(picture).save(os.path.join(folder, split, f"{name}.png"))


def _prepare(root: str) -> None:
    from ..data.prepare import Cut, prepare_lmdb
    from ..errors import printable

    for split, cut in (("train", Cut(256, 192)), ("val", None)):
        output = os.path.join(root, "datasets", f"{split}.lmdb")
        if not os.path.isdir(output):
            report = prepare_lmdb(os.path.join(root, "pictures", split), output, cut)
            print(f"  {printable(output)}: {report.stored} images from {report.sources} pictures")


def _is_trained(experiment: str, total: int) -> bool:
    """Return whether an earlier demo has finished ``total`` iterations."""
    from ..checkpoints.reading import load_safely

    latest = os.path.join(experiment, "models", "net_g_latest.pth")
    content = load_safely(latest) if os.path.isfile(latest) else {}
    return isinstance(content, dict) and content.get("iter") == total


def _train(root: str, option_file: str, total: int, forced: list[str]) -> None:
    """Run BasicSR's trainer in a process of its own: its log goes to a file, a progress bar is shown here."""
    from tqdm import tqdm

    from ..errors import UserError
    from . import Terminated

    log_path = os.path.join(root, "train.log")
    command = [sys.executable, "-m", "liif_plugin", "train"]
    command += ["-opt", os.path.abspath(option_file), "--auto_resume"]
    command += ["--force_yml", *forced] if forced else []
    with open(log_path, "w", encoding="utf-8") as log, tqdm(total=total, unit="it", desc="training") as bar:
        process = subprocess.Popen(
            command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        try:
            assert process.stdout is not None
            for line in process.stdout:
                log.write(line)
                if "l_pix:" in line:
                    step = int(line.split("iter:")[1].split(", lr")[0].replace(",", ""))
                    bar.set_postfix_str(f"loss {float(line.split('l_pix:')[1]):.4f}", refresh=False)
                    bar.update(step - bar.n)
        except KeyboardInterrupt as stop:
            if isinstance(stop, Terminated):
                process.terminate()  # Ctrl-C reaches the whole group, a SIGTERM this process alone
            try:
                process.communicate(timeout=60)  # it saves a whole state
            finally:
                process.kill()
            raise
        if process.wait() != 0:
            raise UserError(f"training stopped with an error; see the end of {log_path}.")


def _networks(option_file: str, weights: str) -> dict:
    """Return caption -> network: bicubic, what was trained here, what comes with the package."""
    from ..checkpoints import DEFAULT_MODEL
    from ..checkpoints.loading import build, load
    from ..config.option_files import read_options

    trained = build(read_options(option_file)["network_g"], weights, "params", "liif demo")
    return {
        "bicubic": build({"type": "Bicubic"}, None, "params", "liif demo"),
        TRAINED: trained,
        DEFAULT_MODEL: load(DEFAULT_MODEL, "cpu"),
    }


def _held_out(root: str, scale: float):
    from ..data.arbitrary_scale_dataset import ArbitraryScaleDataset

    lmdb = os.path.join(root, "datasets", "val.lmdb")
    return ArbitraryScaleDataset(
        {"name": "held out", "phase": "val", "dataroot_gt": lmdb, "scale": scale, "protocol": "benchmark"}
    )


def _table(root: str, networks: dict) -> list[list[str]]:
    """Return a header and rows: the PSNR of every held-out picture, network and scale."""
    from ..evaluation.single_image import predict
    from ..metrics.continuous_metric import continuous_psnr

    first = next(iter(networks))
    lines = [
        [
            "luma PSNR, dB",
            *(f"{picture}: {net}" if net == first else net for picture in HELD_OUT for net in networks),
        ]
    ]
    for scale in SCALES:
        scores = {}
        for item in _held_out(root, scale):
            lq, gt = item["lq"].unsqueeze(0), item["gt"].unsqueeze(0)
            picture = os.path.splitext(os.path.basename(item["gt_path"]))[0]
            for name, net in networks.items():
                scores[picture, name] = continuous_psnr(
                    predict(net, lq, gt.shape[-2:]), gt, scale, "benchmark"
                )
        lines.append(
            [f"x{scale:g}", *(f"{scores[picture, name]:.2f}" for picture in HELD_OUT for name in networks)]
        )
    return lines


def _figure(root: str, networks: dict, path: str) -> None:
    """Draw both held-out pictures at x4 and x12: input, every network, truth, the same part of each."""
    from ..evaluation.figure import contact_sheet, to_picture
    from ..evaluation.single_image import predict
    from ..metrics.continuous_metric import continuous_psnr

    # picture -> scale -> (top, left, side) of the part that is shown
    parts = {
        "chelsea": {4: (60, 100, 144), 12: (24, 60, 228)},
        "coffee": {4: (60, 260, 144), 12: (24, 180, 300)},
    }
    rows = []
    for scale in (4, 12):
        for item in _held_out(root, scale):
            lq, gt = item["lq"].unsqueeze(0), item["gt"].unsqueeze(0)
            picture = os.path.splitext(os.path.basename(item["gt_path"]))[0]
            top, left, side = parts[picture][scale]
            part = (slice(None), slice(None), slice(top, top + side), slice(left, left + side))
            small = tuple(slice(s.start // scale, s.stop // scale) for s in part[2:])
            row = [
                (
                    f"input {lq.shape[-1]} x {lq.shape[-2]}\n{picture}, x{scale}",
                    to_picture(lq[..., small[0], small[1]]),
                )
            ]
            for name, net in networks.items():
                sr = predict(net, lq, gt.shape[-2:])
                row.append(
                    (f"{name}\n{continuous_psnr(sr, gt, scale, 'benchmark'):.2f} dB", to_picture(sr[part]))
                )
            rows.append([*row, ("ground truth", to_picture(gt[part]))])
    contact_sheet(rows).save(path)


def run(args: argparse.Namespace) -> None:
    start = time.perf_counter()
    import torch

    from ..config.option_files import find_option_file, read_options
    from ..errors import printable
    from ..evaluation.tables import markdown_table

    root, shown = args.output, printable(args.output)
    option_file = find_option_file("train_liif_demo.yml")
    opt = read_options(option_file)
    total = args.iterations or opt["train"]["total_iter"]
    print(f"1/4 Pictures: {len(TRAINING)} to train on, {', '.join(HELD_OUT)} held out -> {shown}/pictures")
    _write_pictures(os.path.join(root, "pictures"))
    print(f"2/4 LMDB -> {shown}/datasets")
    os.makedirs(os.path.join(root, "datasets"), exist_ok=True)
    _prepare(root)
    print(
        f"3/4 Training with BasicSR, {total} iterations; log in {shown}/train.log,"
        f" weights in {shown}/experiments/{opt['name']}/models"
    )
    forced = [f"train:total_iter={total}", f"train:scheduler:periods=[{total}]"] if args.iterations else []
    if not _is_trained(os.path.join(root, "experiments", opt["name"]), total):
        _train(root, option_file, total, forced)
    print(
        "4/4 Held-out pictures: bicubic, the network trained now, and the weights that come with the package"
    )
    networks = _networks(
        option_file, os.path.join(root, "experiments", opt["name"], "models", "net_g_latest.pth")
    )
    figure = os.path.join(root, "figure.png")
    with torch.no_grad():
        header, *lines = _table(root, networks)
        table = markdown_table(header, lines)
        _figure(root, networks, figure)
    with open(os.path.join(root, "table.txt"), "w", encoding="utf-8") as file:
        file.write(table + "\n")
    print(table)
    print(f"Look at {printable(figure)}. {time.perf_counter() - start:.0f} s in all.")
