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
from collections.abc import Callable

AFTER_INTERRUPT = "Finished pictures are complete; --skip-existing continues with the others."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("inputs", nargs="+", metavar="INPUT", help="pictures, folders or quoted patterns")
    parser.add_argument(
        "-o", "--output", required=True, metavar="OUT", help="file to write, or folder for several inputs"
    )
    parser.add_argument(
        "--model",
        default="liif-light",
        metavar="NAME|FILE|FOLDER",
        help="weights by name, a .pth file or an experiment's folder (default liif-light)",
    )
    size = parser.add_argument_group("size (default: --scale 4)")
    size.add_argument("--scale", metavar="S|SxS", help="2.7, or 2x3.1: width times 2, height times 3.1")
    size.add_argument("--size", metavar="WxH", help="exact size in pixels")
    size.add_argument(
        "--width", type=int, metavar="N", help="width in pixels; without --height the shape is kept"
    )
    size.add_argument(
        "--height", type=int, metavar="N", help="height in pixels; without --width the shape is kept"
    )
    size.add_argument(
        "--short-side", type=int, metavar="N", help="length of the shorter side; the shape is kept"
    )
    size.add_argument(
        "--at-least",
        metavar="WxH",
        help="at least this width and height, no larger than necessary; the shape is kept",
    )
    size.add_argument(
        "--max-pixels",
        type=float,
        metavar="N",
        help="limit for width times height of the result, e.g. 50e6; reduces other sizes",
    )
    size.add_argument(
        "--window",
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
        "--quality", type=int, default=95, metavar="1-100", help="quality of JPEG and WebP (default 95)"
    )
    files.add_argument("--skip-existing", action="store_true", help="do not compute results that exist")
    files.add_argument("--overwrite", action="store_true", help="replace results that exist")
    how = parser.add_argument_group("computation")
    how.add_argument(
        "--device", choices=["auto", "cpu", "cuda"], default="auto", help="auto: cuda if available"
    )
    how.add_argument(
        "--precision",
        choices=["auto", "fp32", "bf16", "fp16"],
        default="auto",
        help="auto: bf16 if the hardware has units for it, else fp32",
    )
    how.add_argument(
        "--memory",
        type=float,
        default=1.0,
        metavar="GiB",
        help="limit for rendering, in addition to network and input (default 1; 0: no limit)",
    )
    how.add_argument(
        "--cell",
        type=float,
        metavar="N",
        help="side of the cell in input pixels, instead of 1/scale (Figure 6 of the paper)",
    )


def _pair(name: str, text: str | None, kind: type) -> tuple | None:
    """Read 'AxB', width and height, as (height, width); of floats, one number stands for both."""
    from ..errors import UserError

    if text is None:
        return None
    try:
        numbers = [kind(part) for part in text.lower().split("x")]
    except ValueError:
        numbers = []
    if len(numbers) == 1 and kind is float:
        numbers *= 2
    if len(numbers) != 2 or not all(0 < number < 1e9 for number in numbers):
        example = "WIDTHxHEIGHT such as 3840x2160"
        if kind is float:
            example = "2.7 or 2x3.1 (WIDTHxHEIGHT), factors above 0"
        raise UserError(f"{name} {text}: expected {example}.")
    return numbers[1], numbers[0]


def _window(text: str | None) -> tuple[float, float, float, float] | None:
    """Read 'x,y,width,height' as (top, left, height, width)."""
    from ..errors import UserError

    if text is None:
        return None
    try:
        x, y, width, height = (float(part) for part in text.split(","))
    except ValueError as error:
        raise UserError(
            f"--window {text}: expected x,y,width,height in pixels of the input, such as 100.5,80,64,48."
        ) from error
    return y, x, height, width


def _target(args: argparse.Namespace):
    """Check the options for the size of the result. Return them as a Target."""
    from ..errors import UserError
    from ..inference.upscaling import Target

    if args.max_pixels is not None and not 1 <= args.max_pixels < 1e12:
        raise UserError(f"--max-pixels {args.max_pixels:g}: expected a number from 1 on.")
    for name in ("width", "height", "short_side"):
        value = getattr(args, name)
        if value is not None and not 0 < value < 10**9:
            raise UserError(f"--{name.replace('_', '-')} {value}: expected a positive number of pixels.")
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
        scale=_pair("--scale", args.scale, float) if given else (4.0, 4.0),
        size=_pair("--size", args.size, int),
        height=args.height,
        width=args.width,
        short_side=args.short_side,
        at_least=_pair("--at-least", args.at_least, int),
        max_pixels=None if args.max_pixels is None else int(args.max_pixels),
    )


def engine_of(args: argparse.Namespace):
    """Load the network and choose how it is run; print both in one line.

    Args:
        args: model, device, precision, memory and cell of the command line.
    """
    import torch

    from ..checkpoints.loading import load
    from ..errors import UserError, printable
    from ..inference.render import is_continuous
    from ..inference.upscaling import Engine, memory_budget
    from ..precision import choose_precision

    if args.device == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: this machine shows no CUDA GPU.")
    if not 0 <= args.memory < 1e6 or (args.cell is not None and not 0 < args.cell < 1e6):
        raise UserError("--memory and --cell: expected a positive number; --memory 0 sets no limit.")
    device = torch.device("cuda" if args.device != "cpu" and torch.cuda.is_available() else "cpu")
    precision = choose_precision(args.precision, device)
    net = load(args.model, device)
    if not is_continuous(net):
        raise UserError(
            f"--model {args.model}: {type(net).__name__} has one fixed scale; "
            "expected a network for any scale, such as LIIF."
        )
    reason = ""
    if args.precision == "auto":
        multiplies = "multiplies" if precision == "bf16" else "does not multiply"
        reason = f" (chosen: this machine {multiplies} bfloat16 in hardware)"
    print(f"{printable(args.model)}: {type(net).__name__} on {device.type} in {precision}{reason}.")
    return Engine(net, device, precision, memory_budget(args.memory), args.cell)


def _say_what_is_lost(picture, source: str, destination: str) -> bool:
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


def _advance(bar) -> Callable[[int], None]:
    """Return a function that moves a progress bar on by a number of pixels."""

    def advance(pixels: int) -> None:
        bar.update(pixels)

    return advance


def run(args: argparse.Namespace) -> int:
    import os
    import sys

    from tqdm import tqdm

    from ..errors import UserError, printable
    from ..files import remove_leftovers
    from ..image_io.paths import make_folder_of, pair_paths
    from ..image_io.reading import read_picture
    from ..inference.upscaling import geometry, upscale_file

    if not 1 <= args.quality <= 100:
        raise UserError(f"--quality {args.quality}: expected 1 to 100.")
    target, window = _target(args), _window(args.window)
    pairs = pair_paths(args.inputs, args.output, args.format)
    engine = engine_of(args)
    # Killed runs leave temporary files beside their results.
    for folder in {os.path.dirname(destination) or "." for _, destination in pairs}:
        remove_leftovers(folder)
    failed = skipped = 0
    said_what_is_lost = False
    for number, (source, destination) in enumerate(pairs, start=1):
        exists = os.path.exists(destination)
        if exists and args.skip_existing:
            skipped += 1
            continue
        try:
            if exists and not args.overwrite:
                raise UserError(
                    f"{destination}: exists already; choose --skip-existing, --overwrite or another name."
                )
            make_folder_of(destination)
            picture = read_picture(source)
            where = geometry(*picture.size, target, window)
            sizes = f"{picture.size[1]} x {picture.size[0]} -> {where.window[3]} x {where.window[2]}"
            label = f"{number}/{len(pairs)} {printable(source)}  {sizes}"
            with tqdm(total=where.pixels, unit="px", unit_scale=True, desc=label, disable=None) as bar:
                upscale_file(engine, picture, destination, where, _advance(bar), args.quality)
            if bar.disable:
                print(f"{label}  {printable(destination)}", flush=True)
            said_what_is_lost = said_what_is_lost or _say_what_is_lost(picture, source, destination)
        except (UserError, MemoryError, RuntimeError) as error:
            if isinstance(error, RuntimeError) and "memory" not in str(error):
                raise
            sentence = str(error)
            if not isinstance(error, UserError):
                sentence = (
                    f"{printable(source)}: there is not as much memory as was needed; "
                    "choose less with --memory, and .png or .tif."
                )
            failed += 1
            print(f"liif upscale: {' '.join(sentence.split())}", file=sys.stderr, flush=True)
    written = len(pairs) - failed - skipped
    summary = f"{written} of {len(pairs)} written to {printable(args.output)}"
    summary += f", {skipped} were there already" if skipped else ""
    summary += f", {failed} failed" if failed else ""
    print(f"{summary}.")
    return 1 if failed else 0
