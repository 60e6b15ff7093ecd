"""Convert a checkpoint of the authors' code or of MMagic (LIIF) to a BasicSR .pth.

The authors' code is that of LIIF (LIIF, MetaSR, EDSR, RDN), LTE (LTE, LTE+), LMF (LM-LIIF, LM-LTE), SRNO, or
Thera, whose .pkl files hold arrays of JAX; JAX is not needed.

  liif convert edsr-baseline-liif.pth -o liif_edsr.pth
  liif convert --known                                          published weights: size, SHA-256, address
  liif convert --fetch edsr-baseline-liif -o liif_edsr.pth      download and verify one of them

The command also writes liif_edsr.yml beside the .pth and prints it: the network_g block for these weights.
Names and shapes are checked, and no code in the file is executed. Nothing is downloaded without --fetch. If a
checkpoint of MMagic still contains its log (message_hub), run MMagic's publish_model.py on it first, because
such a log contains code.
"""

from __future__ import annotations

import argparse
import os


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "checkpoint", nargs="?", metavar="FILE", help="checkpoint in the authors' or MMagic's format"
    )
    parser.add_argument("-o", "--output", metavar="NAME.pth", help="BasicSR checkpoint to write")
    parser.add_argument("--known", action="store_true", help="list the published weights")
    parser.add_argument(
        "--fetch", metavar="NAME", help="download these published weights into the folder of the output first"
    )


def _list_known() -> None:
    from ..checkpoints.downloadable import KNOWN

    for name, weights in KNOWN.items():
        size = "size not published" if weights.size is None else f"{weights.size:,} bytes"
        digest = weights.sha256 if len(weights.sha256) == 64 else f"{weights.sha256}..."
        digest = digest if weights.sha256 else "not published"
        print(f"{name}: {weights.what}, {size}\n  {weights.url}\n  SHA-256 {digest}")


def run(args: argparse.Namespace) -> None:
    from ..errors import UserError

    if args.known:
        _list_known()
        return
    if not args.output or not args.output.endswith(".pth"):
        raise UserError(f"-o {args.output or ''}: expected a name that ends in .pth.")
    if (args.checkpoint is None) == (args.fetch is None):
        raise UserError("expected either a checkpoint FILE or --fetch NAME.")
    _convert(args)


def _convert(args: argparse.Namespace) -> None:
    from ..checkpoints.conversion import convert_file, write_converted
    from ..checkpoints.download import fetch
    from ..checkpoints.downloadable import known
    from ..errors import UserError, printable

    for path in (args.output, args.output.removesuffix(".pth") + ".yml"):
        if os.path.exists(path):
            raise UserError(f"{path}: exists already; delete it or choose another name.")
    if args.fetch and not known(args.fetch).sha256:
        raise UserError(
            f"--fetch {args.fetch}: its authors publish no checksum; "
            f"`liif models --download {args.fetch} --unverified` takes the file all the same."
        )
    folder = os.path.dirname(args.output) or "."
    converted = convert_file(args.checkpoint or fetch(args.fetch, folder))
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder}: this folder cannot be made ({error.strerror}).") from error
    text = write_converted(converted, args.output)
    print(
        f"{printable(args.output)}: {converted.block['type']}, {converted.parameters:,} parameters in "
        f"{len(converted.state)} tensors.\n\n{text}"
    )
