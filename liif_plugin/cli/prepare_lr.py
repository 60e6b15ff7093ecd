"""Make the LR x2, x3, x4 folders of a set of images as the field has them: MATLAB's imresize, bit for bit.

  liif prepare lr Urban100/HR -o Urban100/LR_bicubic                  Urban100/LR_bicubic/X2, X3, X4
  liif prepare lr mine -o mine_LR --scales 2 8 --border mirror        as DIV2K was made

Every HR image is cropped at the bottom and the right to a multiple of the scale. Gray images stay gray. The
older sets (Set5, Set14, B100, Urban100) repeat the border pixel, which is the default; newer MATLAB (DIV2K)
mirrors the image.
"""

from __future__ import annotations

import argparse

from .arguments import whole_number

AFTER_INTERRUPT = "The same command goes on where it stopped."


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
