"""Write a network as two files that run without this package: ONNX, or torch.export's .pt2.

  liif export -o standard_onnx                                  the network that comes with the package
  liif export --model experiments/LIIF_EDSR_DIV2K -o liif_onnx
  liif export --model light -o light_pt2 --format torch

The encoder takes an image (batch, 3, height, width), RGB in [0, 1], and returns a table of features. The
decoder takes this table, positions and cells, and returns colours. All sizes are free. The files
export.json and README.md describe names, shapes, ranges and the overlap of tiles, and how to run the
networks. The files are compared with PyTorch; if they differ by more than 1e-4, they are not kept. Every
network for any scale that has weights can be exported.
"""

from __future__ import annotations

import argparse

from .arguments import add_model

AFTER_INTERRUPT = "Nothing was written."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-o",
        "--output",
        required=True,
        metavar="FOLDER",
        help="folder for encoder, decoder, export.json and README.md",
    )
    add_model(parser)
    parser.add_argument(
        "--format",
        choices=["onnx", "torch"],
        default="onnx",
        help="onnx (default), or torch: torch.export's .pt2",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an export that exists")


def run(args: argparse.Namespace) -> None:
    import os

    from ..checkpoints.loading import find, load
    from ..errors import printable
    from ..export.writing import check_room, export

    check_room(args.output, args.format, args.overwrite)
    network_g, _ = find(args.model)
    net = load(args.model, "cpu")
    about = export(
        net,
        network_g,
        args.model,
        args.output,
        args.format,
        args.overwrite,
        lambda line: print(printable(line), flush=True),
    )
    for part in ("encoder", "decoder"):
        path = os.path.join(args.output, about[part]["file"])
        shapes = [
            ", ".join(
                f"{name} ({', '.join(map(str, one['shape']))})" for name, one in about[part][way].items()
            )
            for way in ("inputs", "outputs")
        ]
        print(f"{printable(path)}  {os.path.getsize(path) / 2**20:.1f} MiB  {shapes[0]} -> {shapes[1]}")
    print(
        f"Largest difference from PyTorch: {max(about['differences'].values()):.1e} (allowed "
        f"{about['tolerance']:g}). {printable(os.path.join(args.output, 'README.md'))} says how to run them."
    )
