"""Pack a folder of images into an LMDB that liif_plugin and BasicSR read.

  liif prepare DIV2K_train_HR -o DIV2K_train_HR.lmdb --whole      images are not cut (as in the paper)
  liif prepare DIV2K_train_HR -o DIV2K_train_HR_sub.lmdb          480 x 480 every 240 pixels (as in BasicSR)
  liif prepare lr --help                                          LR folders by MATLAB's imresize
  liif prepare celebahq --help                                    data of the paper's Table 4

The LMDB is written under a temporary name and renamed when it is complete. After an interruption, the same
command continues. The command names each image that it leaves out, with the reason, also files of formats
that it cannot read, such as HEIC. The exit code is 1 if a file could not be read.
"""

from __future__ import annotations

import argparse

from .arguments import whole_number

AFTER_INTERRUPT = "The same command continues."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", metavar="FOLDER", help="folder of images, searched with its sub-folders")
    parser.add_argument("-o", "--output", required=True, metavar="NAME.lmdb", help="the LMDB to write")
    parser.add_argument("--whole", action="store_true", help="do not cut images into sub-images")
    parser.add_argument(
        "--crop-size",
        type=whole_number(1),
        default=480,
        metavar="N",
        help="side of the sub-images (default 480)",
    )
    parser.add_argument(
        "--step",
        type=whole_number(1),
        default=240,
        metavar="N",
        help="distance between sub-images (default 240)",
    )
    parser.add_argument(
        "--min-size",
        type=int,
        default=1,
        metavar="N",
        help="leave out images with a side below N, e.g. 192 for 48 x 4",
    )
    parser.add_argument(
        "--png-level",
        type=int,
        choices=range(10),
        metavar="0-9",
        help="store PNG of this level, not BMP: level 1 takes 0.6 of the room, 40 times as long to read",
    )


def run(args: argparse.Namespace) -> int:
    from ..data.prepare import Cut, prepare_lmdb
    from ..errors import printable

    cut = None if args.whole else Cut(args.crop_size, args.step)
    report = prepare_lmdb(args.source, args.output, cut=cut, min_size=args.min_size, png_level=args.png_level)
    print(f"{printable(args.output)}: {report.stored} images from {report.sources} files.")
    for name, reason in report.left_out:
        print(printable(f"left out: {name}: {reason}"))
    return 1 if report.unreadable else 0
