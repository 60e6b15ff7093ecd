"""Enlarge pictures to any size with a trained network: files, folders with their sub-folders, patterns.

  liif upscale photo.jpg -o large.png --scale 2.7
  liif upscale photos -o large --at-least 3840x2160          every picture of the folder, the structure kept
  liif upscale 'scans/*.tif' -o out --scale 2 --format png
  liif upscale photo.jpg -o part.png --window 100.5,80,64,48 --size 1920x1440     only that part, x,y,width,height in its pixels

Sizes are WIDTHxHEIGHT, scales WIDTHxHEIGHT or one number. LIIF networks are trained for x1 to x4 and asked beyond that with good
results; below x1 they only take samples, which a plain resize does better. Gray, transparent and 16-bit pictures stay what they are, a
palette becomes RGB; the colour profile (not in BMP) and EXIF data (in JPEG, PNG, WebP) are kept, the orientation applied. JPEG, PNG,
WebP, TIFF and BMP; not animations or videos (take the frames out, enlarge their folder, join them). A picture that fails is named and
the rest goes on; the exit code is then 1.
"""

from __future__ import annotations

import argparse

AFTER_INTERRUPT = "Finished pictures are whole; --skip-existing goes on with the rest."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("inputs", nargs="+", metavar="INPUT", help="pictures, folders or quoted patterns")
    parser.add_argument(
        "-o", "--output", required=True, metavar="OUT", help="a file for one picture, else a folder"
    )
    parser.add_argument(
        "--model",
        default="liif-light",
        metavar="NAME|FILE|FOLDER",
        help="weights by name, a .pth file or an experiment's folder (default liif-light)",
    )
    size = parser.add_argument_group("size (default: --scale 4)")
    size.add_argument("--scale", metavar="S|SxS", help="2.7, or 2x3.1: width times 2, height times 3.1")
    size.add_argument("--size", metavar="WxH", help="exactly that size")
    size.add_argument("--width", type=int, metavar="N", help="that wide; alone it keeps the shape")
    size.add_argument("--height", type=int, metavar="N", help="that high; alone it keeps the shape")
    size.add_argument("--short-side", type=int, metavar="N", help="the shorter side, the shape kept")
    size.add_argument(
        "--at-least",
        metavar="WxH",
        help="the smallest size that covers it, the shape kept; nothing is shrunk",
    )
    size.add_argument(
        "--max-pixels",
        type=float,
        metavar="N",
        help="at most N pixels in all, e.g. 50e6, whatever else is asked for",
    )
    size.add_argument(
        "--window",
        metavar="x,y,w,h",
        help="only this part, in pixels of the input, fractions allowed; sizes are then its own",
    )
    files = parser.add_argument_group("files")
    files.add_argument(
        "--format",
        choices=["png", "jpg", "webp", "tif", "bmp"],
        help="of the results (default: that of the input)",
    )
    files.add_argument(
        "--quality", type=int, default=95, metavar="1-100", help="of JPEG and WebP (default 95)"
    )
    files.add_argument("--skip-existing", action="store_true", help="leave out what is there already")
    files.add_argument("--overwrite", action="store_true", help="write over what is there already")
    how = parser.add_argument_group("how (chosen by itself)")
    how.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto", help="where to compute")
    how.add_argument(
        "--precision",
        choices=["auto", "fp32", "bf16", "fp16"],
        default="auto",
        help="auto: bf16 where the hardware multiplies it, else fp32",
    )
    how.add_argument(
        "--memory",
        type=float,
        default=1.0,
        metavar="GiB",
        help="for rendering, beside network and input (default 1; 0: no limit)",
    )
    how.add_argument(
        "--cell",
        type=float,
        metavar="N",
        help="ask with cells of N input pixels instead of the true ones (Figure 6 of the paper)",
    )


def _pair(name: str, text: str | None, kind: type) -> tuple | None:
    """'AxB' in the order width, height -> (height, width)."""
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
        example = (
            "2.7 or 2x3.1 (WIDTHxHEIGHT), factors above 0"
            if kind is float
            else "WIDTHxHEIGHT such as 3840x2160"
        )
        raise UserError(f"{name} {text}: expected {example}.")
    return numbers[1], numbers[0]


def _target(args: argparse.Namespace):
    """(Target, window) of the options, each checked."""
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
    window = None
    if args.window is not None:
        try:
            window = tuple(float(part) for part in args.window.split(","))
        except ValueError:
            window = ()
        if len(window) != 4:
            raise UserError(
                f"--window {args.window}: expected x,y,width,height in pixels of the input, such as 100.5,80,64,48."
            )
        x, y, width, height = window
        window = (y, x, height, width)
    scale = _pair("--scale", args.scale, float) if given else (4.0, 4.0)
    limit = None if args.max_pixels is None else int(args.max_pixels)
    size, least = _pair("--size", args.size, int), _pair("--at-least", args.at_least, int)
    return Target(scale, size, args.height, args.width, args.short_side, least, limit), window


def engine_of(args: argparse.Namespace):
    """The network and how it is run by ``args`` (model, device, precision, memory, cell), said in one line."""
    import torch

    from ..checkpoints.loading import load
    from ..errors import UserError, printable
    from ..inference.render import is_continuous
    from ..inference.upscaling import Engine
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
            f"--model {args.model}: {type(net).__name__} has one fixed scale; expected a network for any scale, such as LIIF."
        )
    why = (
        "chosen: this machine "
        + ("multiplies" if precision == "bf16" else "does not multiply")
        + " bfloat16 in hardware"
    )
    print(
        f"{printable(args.model)}: {type(net).__name__} on {device.type} in {precision}{f' ({why})' if args.precision == 'auto' else ''}."
    )
    return Engine(net, device, precision, int(args.memory * 2**30), args.cell)


def run(args: argparse.Namespace) -> int:
    import sys

    from tqdm import tqdm

    from ..errors import UserError, printable
    from ..image_io.jobs import jobs_of
    from ..image_io.reading import read_picture
    from ..inference.upscaling import geometry, upscale_file

    if not 1 <= args.quality <= 100:
        raise UserError(f"--quality {args.quality}: expected 1 to 100.")
    target, window = _target(args)
    jobs = jobs_of(args.inputs, args.output, args.format)
    engine = engine_of(args)
    failed = skipped = 0
    for number, (source, destination) in enumerate(jobs, start=1):
        try:
            if jobs.exists(destination) and args.skip_existing:
                skipped += 1
                continue
            jobs.make_room(destination, args.overwrite)
            picture = read_picture(source)
            where = geometry(*picture.size, target, window)
            label = f"{printable(source)}  {picture.size[1]} x {picture.size[0]} -> {where.window[3]} x {where.window[2]}"
            with tqdm(
                total=where.pixels,
                unit="px",
                unit_scale=True,
                desc=f"{number}/{len(jobs)} {label}",
                disable=None,
            ) as bar:
                upscale_file(engine, picture, destination, where, bar.update, args.quality)
            if bar.disable:
                print(f"{number}/{len(jobs)} {label}  {printable(destination)}", flush=True)
        except (UserError, MemoryError, RuntimeError) as error:
            if isinstance(error, RuntimeError) and "memory" not in str(error):
                raise
            if not isinstance(error, UserError):
                error = f"{printable(source)}: there is not as much memory as was needed; choose less with --memory, and .png or .tif."
            failed += 1
            print(f"liif upscale: {' '.join(str(error).split())}", file=sys.stderr, flush=True)
    print(
        f"{len(jobs) - failed - skipped} of {len(jobs)} written to {printable(args.output)}"
        + (f", {skipped} were there already" if skipped else "")
        + (f", {failed} failed" if failed else "")
        + "."
    )
    return 1 if failed else 0
