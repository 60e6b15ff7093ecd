"""Make LR images x2, x3, x4 of a folder of HR images, equal to those of MATLAB's imresize in every pixel.

  liif prepare lr Urban100/HR -o Urban100/LR_bicubic                  Urban100/LR_bicubic/X2, X3, X4
  liif prepare lr mine -o mine_LR --scales 2 8 --border mirror        as DIV2K was made

HR images are cropped at the bottom and the right to a multiple of the scale. Gray images stay gray. The
default --border replicate repeats the border pixel, as in Set5, Set14, B100 and Urban100; --border mirror
mirrors the image, as newer versions of MATLAB do (DIV2K).
"""

from __future__ import annotations

import argparse

from .arguments import whole_number

AFTER_INTERRUPT = "The same command continues."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", metavar="FOLDER", help="folder of HR images, searched with its sub-folders")
    parser.add_argument(
        "-o", "--output", required=True, metavar="FOLDER", help="folder that gets X2, X3, ..."
    )
    parser.add_argument(
        "--scales",
        type=whole_number(1),
        nargs="+",
        default=[2, 3, 4],
        metavar="N",
        help="scales (default 2 3 4)",
    )
    parser.add_argument(
        "--border",
        choices=["replicate", "mirror"],
        default="replicate",
        help="border rule (default replicate)",
    )


def run(args: argparse.Namespace) -> int:
    from ..data.derive import derive_folders, lr_images
    from ..errors import printable

    scales = sorted(set(args.scales))
    folders = [f"X{scale}" for scale in scales]
    left_out = derive_folders(
        args.source,
        args.output,
        folders,
        lambda image: lr_images(image, scales, args.border),
        {"scales": scales, "border": args.border},
    )
    print(f"{printable(args.output)}: {', '.join(folders)}.")
    for name, reason in left_out:
        print(printable(f"left out: {name}: {reason}"))
    return 1 if left_out else 0
