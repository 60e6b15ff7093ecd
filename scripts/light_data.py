"""Make the training pictures of liif-light.

General100 is cut into pieces, so that its clean pictures weigh as much as BSDS400. BSDS400 is shrunk,
because its JPEG blocks must not be learned.

  python scripts/light_data.py --data ../shared/data/train -o light
  then, in ./light: liif train -opt train_liif_light.yml

FOLDER needs General100/ and BSDS400/. Writes OUTPUT/pictures and OUTPUT/datasets/light_train.lmdb.
"""

from __future__ import annotations

import argparse
import glob
import os

from PIL import Image

import liif_plugin.register  # noqa: F401  (BasicSR needs its stand-ins)
from liif_plugin.data.prepare import Cut, prepare_lmdb

SHRINK = 0.75  # 481 x 321 -> 361 x 241: no JPEG block keeps its edges, and a crop of 128 still has room
CUT = Cut(192, 160)


def write_pictures(data: str, folder: str) -> int:
    """Every picture as PNG under ``folder``; returns how many there are."""
    os.makedirs(folder, exist_ok=True)
    count = 0
    for path in sorted(glob.glob(f"{data}/General100/*.png")):
        picture = Image.open(path).convert("RGB")
        for y in CUT.starts(picture.height):
            for x in CUT.starts(picture.width):
                box = x, y, min(x + CUT.size, picture.width), min(y + CUT.size, picture.height)
                picture.crop(box).save(os.path.join(folder, f"general_{count:05d}.png"))
                count += 1
    for path in sorted(glob.glob(f"{data}/BSDS400/*.jpg")):
        picture = Image.open(path).convert("RGB")
        size = round(picture.width * SHRINK), round(picture.height * SHRINK)
        picture.resize(size, Image.BICUBIC).save(
            os.path.join(folder, f"bsds_{os.path.basename(path)[:-4]}.png")
        )
        count += 1
    return count


def make_lmdb(data: str, output: str) -> None:
    """Write OUTPUT/pictures and OUTPUT/datasets/light_train.lmdb from the pictures below ``data``."""
    pictures = os.path.join(output, "pictures")
    lmdb = os.path.join(output, "datasets", "light_train.lmdb")
    os.makedirs(os.path.dirname(lmdb), exist_ok=True)
    print(f"{pictures}: {write_pictures(data, pictures)} pictures")
    report = prepare_lmdb(pictures, lmdb, cut=None, min_size=128)
    print(f"{lmdb}: {report.stored} pictures, {len(report.left_out)} below 128 pixels left out")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True, metavar="FOLDER", help="folder with General100 and BSDS400")
    parser.add_argument(
        "-o", "--output", required=True, metavar="FOLDER", help="where to write pictures and the LMDB"
    )
    args = parser.parse_args()
    make_lmdb(args.data, args.output)


if __name__ == "__main__":
    main()
