"""Convert a checkpoint of the authors' code or of MMagic (LIIF) to a BasicSR .pth.

The authors' code is that of LIIF (LIIF, MetaSR, EDSR, RDN), LTE (LTE, LTE+), LMF (LM-LIIF, LM-LTE), SRNO, or
Thera, whose .pkl files hold arrays of JAX; JAX is not needed.

  liif convert edsr-baseline-liif.pth -o liif_edsr.pth
  liif convert --known                                          published weights: size, SHA-256, address
  liif convert --fetch edsr-baseline-liif -o liif_edsr.pth      download one of them and verify it

The network_g block for it is printed, and written beside the .pth as liif_edsr.yml. Nothing in the file is
executed; names and shapes are checked. Nothing is downloaded without --fetch. A checkpoint of MMagic that
still holds its log (message_hub) holds code: run MMagic's publish_model.py on it first.
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
    from ..checkpoints.download import KNOWN

    for name, weights in KNOWN.items():
        size = "size not published" if weights.size is None else f"{weights.size:,} bytes"
        digest = weights.sha256 if len(weights.sha256) == 64 else f"{weights.sha256}..."
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
    import yaml

    from ..archs.building import build
    from ..checkpoints.conversion import convert, load_foreign
    from ..checkpoints.download import fetch
    from ..checkpoints.files import save_whole
    from ..checkpoints.reading import check_fits
    from ..errors import UserError, printable
    from ..files import atomic_write

    block_file = args.output[: -len(".pth")] + ".yml"
    for path in (args.output, block_file):
        if os.path.exists(path):
            raise UserError(f"{path}: exists already; delete it or choose another name.")
    folder = os.path.dirname(args.output) or "."
    checkpoint = args.checkpoint or fetch(args.fetch, folder)
    try:
        block, state = convert(load_foreign(checkpoint))
        network = build(block)
    except UserError as error:
        raise UserError(
            str(error) if str(error).startswith(checkpoint) else f"{checkpoint}: {error}"
        ) from error
    check_fits(state, network, checkpoint)
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder}: this folder cannot be made ({error.strerror}).") from error
    save_whole({"params": state}, args.output)
    text = yaml.safe_dump({"network_g": block}, sort_keys=False, default_flow_style=None)
    with atomic_write(block_file, text=True) as file:
        file.write(text)
    parameters = sum(value.numel() for value in network.parameters())
    print(
        f"{printable(args.output)}: {block['type']}, {parameters:,} parameters in {len(state)} "
        f"tensors.\n\n{text}"
    )
