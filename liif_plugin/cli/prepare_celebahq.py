"""Make the data of the paper's Table 4 (CelebA-HQ): folders and LMDBs of 256, 128, 64 and 32 pixels.

  liif prepare celebahq data1024x1024 -o datasets/celebAHQ --split split.json

Pillow's bicubic makes 256 x 256 from the original, and the others from 256 x 256, as the authors did.
split.json maps train, val and test to lists of names (the authors' repository has it); without it the
sub-folders train, val and test of FOLDER are the splits.
"""

from __future__ import annotations

import argparse
import json
import os

AFTER_INTERRUPT = "The same command continues."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "source",
        metavar="FOLDER",
        help="folder of square images of 256 pixels or more, searched with its sub-folders",
    )
    parser.add_argument(
        "-o",
        "--output",
        required=True,
        metavar="FOLDER",
        help="folder that gets 256, 128, 64, 32, their LMDBs, split.json",
    )
    parser.add_argument("--split", metavar="FILE", help="the authors' split.json")


def run(args: argparse.Namespace) -> int:
    from ..data.derive import CELEBAHQ_SIZES, celebahq_images, derive_folders, read_splits
    from ..data.image_source import list_images
    from ..data.prepare import lmdb_key, prepare_lmdb
    from ..data.work_folder import disk_errors
    from ..errors import UserError, printable
    from ..files import atomic_write

    folders = [str(size) for size in CELEBAHQ_SIZES]
    lmdbs = {folder: os.path.join(args.output, f"{folder}.lmdb") for folder in folders}
    split_file = os.path.join(args.output, "split.json")
    if os.path.exists(split_file) and all(map(os.path.isdir, lmdbs.values())):
        raise UserError(f"{args.output}: is finished already; delete it or choose another name.")
    splits = read_splits(args.split, args.source)
    if not splits:
        raise UserError(
            f"{args.source}: has no sub-folders train, val or test; name the authors' split.json with "
            "--split."
        )
    left_out = []
    if not all(os.path.isdir(os.path.join(args.output, folder)) for folder in folders):
        left_out = derive_folders(args.source, args.output, folders, celebahq_images, {"task": "celebahq"})
    for name, reason in left_out:
        print(printable(f"left out: {name}: {reason}"))
    for folder, output in lmdbs.items():
        if not os.path.isdir(output):
            report = prepare_lmdb(os.path.join(args.output, folder), output, None)
            print(f"{printable(output)}: {report.stored} images.")
    # An interruption may have lost the list of those left out
    made = set(list_images(os.path.join(args.output, folders[0])))
    splits = {
        split: [f"{lmdb_key(name)}.png" for name in names if name in made] for split, names in splits.items()
    }
    with disk_errors(split_file), atomic_write(split_file, text=True) as file:
        json.dump(splits, file, indent=1)
    print(
        f"{printable(split_file)}: "
        + ", ".join(f"{split} {len(names)}" for split, names in splits.items())
        + "."
    )
    return 1 if left_out else 0
