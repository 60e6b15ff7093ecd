"""Enlarge pictures to any size with a trained network: files, folders with their sub-folders, patterns.

  liif upscale photo.jpg -o large.png --scale 2.7
  liif upscale photos -o large --at-least 3840x2160          a folder with its sub-folders
  liif upscale 'scans/*.tif' -o out --scale 2 --format png
  liif upscale photo.jpg -o part.png --window 100.5,80,64,48 --size 1920x1440
                                                             a part: x,y,width,height in pixels of the input

Sizes are WIDTHxHEIGHT; scales are WIDTHxHEIGHT or one number. LIIF networks are trained for scales from 1
to 4. Above 4, quality decreases gradually; below 1, use an ordinary resize.

Reads and writes JPEG, PNG, WebP, TIFF and BMP. Animations and videos are refused: extract the frames and
enlarge their folder. Gray, transparent and 16-bit pictures stay so; a palette becomes RGB. The colour
profile is kept (except in BMP), and EXIF data in JPEG, PNG and WebP. The orientation is applied to the
pixels.

If a picture fails, the command names it and continues with the next one. The exit code is then 1.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from .arguments import (
    add_engine,
    add_model,
    engine_of,
    image_size,
    positive_number,
    scale_factors,
    whole_number,
    window,
)

if TYPE_CHECKING:
    from ..image_io.reading import Picture
    from ..inference.upscaling import Engine, Target

PHOTO_MODEL, GOOD_JPEG = "photo", 90  # from this quality on blocks are hard to see
AFTER_INTERRUPT = "Finished pictures are complete; --skip-existing continues with the others."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("inputs", nargs="+", metavar="INPUT", help="pictures, folders or quoted patterns")
    parser.add_argument(
        "-o", "--output", required=True, metavar="OUT", help="file to write, or folder for several inputs"
    )
    add_model(parser)
    size = parser.add_argument_group("size (default: --scale 4)")
    size.add_argument(
        "--scale", type=scale_factors, metavar="S|SxS", help="2.7, or 2x3.1: width times 2, height times 3.1"
    )
    size.add_argument("--size", type=image_size, metavar="WxH", help="exact size in pixels")
    pixels = whole_number(1)
    size.add_argument(
        "--width", type=pixels, metavar="N", help="width in pixels; without --height the shape is kept"
    )
    size.add_argument(
        "--height", type=pixels, metavar="N", help="height in pixels; without --width the shape is kept"
    )
    size.add_argument(
        "--short-side", type=pixels, metavar="N", help="length of the shorter side; the shape is kept"
    )
    size.add_argument(
        "--at-least",
        type=image_size,
        metavar="WxH",
        help="at least this width and height, no larger than necessary; the shape is kept",
    )
    size.add_argument(
        "--max-pixels",
        type=positive_number,
        metavar="N",
        help="limit for width times height of the result, e.g. 50e6; reduces other sizes",
    )
    size.add_argument(
        "--window",
        type=window,
        metavar="x,y,w,h",
        help="only this part, in pixels of the input (fractions allowed); sizes are those of the part",
    )
    files = parser.add_argument_group("files")
    files.add_argument(
        "--format",
        choices=["png", "jpg", "webp", "tif", "bmp"],
        help="format of the results (default: as the input)",
    )
    files.add_argument(
        "--quality",
        type=whole_number(1, 100),
        default=95,
        metavar="1-100",
        help="quality of JPEG and WebP (default 95)",
    )
    files.add_argument("--skip-existing", action="store_true", help="do not compute results that exist")
    files.add_argument("--overwrite", action="store_true", help="replace results that exist")
    how = add_engine(parser, "limit for rendering, in addition to network and input")
    how.add_argument(
        "--cell",
        type=positive_number,
        metavar="N",
        help="side of the cell in input pixels, instead of 1/scale (Figure 6 of the paper)",
    )


def _target(args: argparse.Namespace) -> Target:
    """Return the options for the size of the result as a Target."""
    from ..errors import UserError
    from ..inference.upscaling import Target

    ways = {
        "--scale": args.scale,
        "--size": args.size,
        "--width/--height": args.width or args.height,
        "--short-side": args.short_side,
        "--at-least": args.at_least,
    }
    given = [name for name, value in ways.items() if value is not None]
    if len(given) > 1:
        raise UserError(f"{' and '.join(given)}: give one of them.")
    return Target(
        scale=args.scale if given else (4.0, 4.0),
        size=args.size,
        height=args.height,
        width=args.width,
        short_side=args.short_side,
        at_least=args.at_least,
        max_pixels=None if args.max_pixels is None else max(1, int(args.max_pixels)),
    )


def _say_what_is_lost(picture: Picture, source: str, destination: str) -> bool:
    """Say that the colour space of a PNG is not kept in another format. Return whether it was said."""
    import sys

    from ..errors import printable
    from ..image_io.png import is_srgb

    if destination.lower().endswith(".png") or picture.icc is not None or is_srgb(picture.colour_space):
        return False
    names = ", ".join(name.decode() for name, _ in picture.colour_space)
    print(
        f"{printable(source)}: its colour space ({names}) is kept only in .png; other programs will take "
        f"{printable(destination)} for sRGB. This is said once.",
        file=sys.stderr,
    )
    return True


def _suggest_photo(picture: Picture, source: str, model: str) -> bool:
    """Suggest the network for photographs if a JPEG has visible blocks. Return whether it was suggested."""
    import sys

    from ..errors import printable

    quality = picture.jpeg_quality
    if quality is None or quality >= GOOD_JPEG or model == PHOTO_MODEL:
        return False
    print(
        f"{printable(source)}: a JPEG of quality {quality}: its blocks are enlarged too; "
        f"`--model {PHOTO_MODEL}` removes them. This is said once.",
        file=sys.stderr,
    )
    return True


def _upscale_one(
    engine: Engine, source: str, destination: str, target: Target, args: argparse.Namespace, count: str
) -> Picture:
    """Enlarge one picture and write it; show the progress behind ``count``. Return the input."""
    import os

    from tqdm import tqdm

    from ..errors import UserError, printable
    from ..image_io.paths import make_folder_of
    from ..image_io.reading import read_picture
    from ..inference.upscaling import geometry, upscale_file

    if os.path.exists(destination) and not args.overwrite:
        raise UserError(
            f"{destination}: exists already; choose --skip-existing, --overwrite or another name."
        )
    make_folder_of(destination)
    picture = read_picture(source)
    where = geometry(*picture.size, target, args.window)
    sizes = f"{picture.size[1]} x {picture.size[0]} -> {where.window[3]} x {where.window[2]}"
    label = f"{count} {printable(source)}  {sizes}"
    with tqdm(total=where.pixels, unit="px", unit_scale=True, desc=label, disable=None) as bar:
        upscale_file(engine, picture, destination, where, bar.update, args.quality)
    if bar.disable:
        print(f"{label}  {printable(destination)}", flush=True)
    return picture


def run(args: argparse.Namespace) -> int:
    import os
    import sys

    from ..errors import UserError, printable
    from ..files import remove_leftovers
    from ..image_io.paths import pair_paths

    target = _target(args)
    pairs = pair_paths(args.inputs, args.output, args.format)
    engine = engine_of(args, args.cell)
    # Killed runs leave temporary files beside their results.
    for folder in {os.path.dirname(destination) or "." for _, destination in pairs}:
        remove_leftovers(folder)
    failed = skipped = 0
    said_what_is_lost = suggested_photo = False
    for number, (source, destination) in enumerate(pairs, start=1):
        if args.skip_existing and os.path.exists(destination):
            skipped += 1
            continue
        try:
            picture = _upscale_one(engine, source, destination, target, args, f"{number}/{len(pairs)}")
            said_what_is_lost = said_what_is_lost or _say_what_is_lost(picture, source, destination)
            suggested_photo = suggested_photo or _suggest_photo(picture, source, args.model)
        except (UserError, MemoryError, RuntimeError) as error:
            if isinstance(error, RuntimeError) and "memory" not in str(error):
                raise
            sentence = args.parser.with_flag(str(error))
            if not isinstance(error, UserError):
                sentence = (
                    f"{printable(source)}: there is not as much memory as was needed; "
                    "choose less with --memory, and .png or .tif."
                )
            failed += 1
            print(f"liif upscale: {sentence}", file=sys.stderr, flush=True)
    written = len(pairs) - failed - skipped
    summary = f"{written} of {len(pairs)} written to {printable(args.output)}"
    summary += f", {skipped} were there already" if skipped else ""
    summary += f", {failed} failed" if failed else ""
    print(f"{summary}.")
    return 1 if failed else 0
