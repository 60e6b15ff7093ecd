"""Put trained weights among the networks that come with the package.

  python scripts/bundle.py experiments/standard standard --data "General100, BSDS400"

Takes the averaged weights (EMA) of models/net_g_latest.pth, or of --weights, and writes NAME.pth and NAME.yml
to liif_plugin/checkpoints/bundled. With --half the numbers are stored in float16, half as many bytes.
"""

from __future__ import annotations

import argparse
from glob import escape, glob
from pathlib import Path

import torch
import yaml

import liif_plugin.register  # noqa: F401  (BasicSR needs its stand-ins)
from liif_plugin.checkpoints.loading import load
from liif_plugin.checkpoints.reading import load_params
from liif_plugin.config.option_files import plain, read_options
from liif_plugin.files import atomic_write

BUNDLED = Path(__file__).resolve().parents[1] / "liif_plugin" / "checkpoints" / "bundled"


def bundle(experiment: str, name: str, weights: str, about: dict[str, str], half: bool) -> Path:
    """Write NAME.pth and NAME.yml; return the path of the weights."""
    options = sorted(glob(f"{escape(experiment)}/*.yml"))
    network = plain(read_options(options[0])["network_g"])
    state = load_params(weights, "params_ema")
    dtype = torch.float16 if half else torch.float32
    path = BUNDLED / f"{name}.pth"
    with atomic_write(str(path)) as file:
        torch.save({"params": {key: value.to(dtype) for key, value in state.items()}}, file)
    with atomic_write(str(path.with_suffix(".yml")), text=True) as file:
        yaml.safe_dump({"network_g": network, "about": about}, file, sort_keys=False, allow_unicode=True)
    load(str(path), "cpu")  # it can be read
    return path


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("experiment", help="folder of the training, with its option file")
    parser.add_argument("name", help="name for --model")
    parser.add_argument("--weights", help="another file than models/net_g_latest.pth")
    parser.add_argument("--data", required=True, help="what it was trained on")
    parser.add_argument("--scores", default="", help="a line for `liif models`")
    parser.add_argument("--half", action="store_true", help="store float16")
    args = parser.parse_args()
    weights = args.weights or f"{args.experiment}/models/net_g_latest.pth"
    about = {"data": args.data, "scores": args.scores}
    path = bundle(args.experiment, args.name, weights, about, args.half)
    print(f"{path}: {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
