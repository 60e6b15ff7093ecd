"""Turn a checkpoint of the authors' code (LIIF, MetaSR, EDSR, RDN) into a BasicSR .pth, and print the network_g block for it.

  liif convert edsr-baseline-liif.pth -o liif_edsr.pth

The block is also written beside the .pth, as liif_edsr.yml. Nothing in the file is executed; names and shapes are checked.
"""

from __future__ import annotations

import argparse
import os


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("checkpoint", metavar="FILE", help="checkpoint in the authors' format")
    parser.add_argument("-o", "--output", required=True, metavar="NAME.pth", help="BasicSR checkpoint to write")


def run(args: argparse.Namespace) -> None:
    import yaml
    from basicsr.archs import ARCH_REGISTRY

    from ..convert import convert, load_official
    from ..errors import UserError
    from ..models.checkpoint import check_fits, save_whole

    if not args.output.endswith(".pth"):
        raise UserError(f"-o {args.output}: expected a name that ends in .pth.")
    block_file = args.output[: -len(".pth")] + ".yml"
    for path in (args.output, block_file):
        if os.path.exists(path):
            raise UserError(f"{path}: exists already; delete it or choose another name.")
    block, state = convert(load_official(args.checkpoint))
    options = {key: value for key, value in block.items() if key != "type"}
    check_fits(state, ARCH_REGISTRY.get(block["type"])(**options), args.checkpoint)
    save_whole({"params": state}, args.output)
    text = yaml.safe_dump({"network_g": block}, sort_keys=False, default_flow_style=None)
    with open(block_file, "w", encoding="utf-8") as file:
        file.write(text)
    parameters = sum(value.numel() for value in state.values())
    print(f"{args.output}: {block['type']}, {parameters:,} parameters in {len(state)} tensors.\n\n{text}")
