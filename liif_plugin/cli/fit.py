"""Fit SIREN, a network with sine functions, to one picture and render it at any size (1-SIREN of the paper).

  liif fit picture.png -o picture_x4.png --scale 4
  liif fit picture.png -o large.png --size 1600x900 --iterations 3000

The network learns from this picture only, so it interpolates and adds no detail. Its weights are written
beside the result (large.pth). A photo may take half an hour on a CPU.
"""

from __future__ import annotations

import argparse
import math
import os
import time

from .arguments import image_size, positive_number, whole_number

AFTER_INTERRUPT = "Nothing was written."
STEPS_BEFORE_ESTIMATE = 5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("picture", metavar="PICTURE", help="8 or 16 bits, RGB or gray")
    parser.add_argument("-o", "--output", required=True, metavar="NAME.png", help="the rendered picture")
    parser.add_argument(
        "--scale",
        type=positive_number,
        metavar="S",
        help="render S times as large (default 1: the fit itself)",
    )
    parser.add_argument("--size", type=image_size, metavar="WxH", help="render at this size instead")
    parser.add_argument(
        "--iterations", type=whole_number(1), default=1000, metavar="N", help="steps of Adam (default 1000)"
    )
    parser.add_argument("--lr", type=positive_number, default=1e-4, help="learning rate (default 1e-4)")
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N", help="of the initial parameters (default 0)"
    )


def _target(args: argparse.Namespace, h: int, w: int) -> tuple[int, int]:
    """Return the size of the result, (H, W), for a picture of h x w pixels."""
    from ..errors import UserError

    if args.size is not None and args.scale is not None:
        raise UserError("--scale and --size: give one of them.")
    if args.size is not None:
        return args.size
    scale = args.scale or 1.0
    return max(1, round(h * scale)), max(1, round(w * scale))


def _check(args: argparse.Namespace, weights: str) -> None:
    """Raise UserError for what would fail only after the fit, which may take half an hour."""
    from ..errors import UserError
    from ..image_io.paths import make_folder_of

    if not args.output.lower().endswith(".png"):
        raise UserError(f"-o {args.output}: expected a name that ends in .png.")
    for path in (args.output, weights):
        if os.path.exists(path):
            raise UserError(f"{path}: exists already; delete it or choose another name.")
    make_folder_of(args.output)
    if not os.access(os.path.dirname(args.output) or ".", os.W_OK):
        raise UserError(f"-o {args.output}: its folder cannot be written to.")


def _psnr(mse: float) -> float:
    return -10 * math.log10(max(mse, 1e-12))


def _fit(siren, image):
    """Fit ``siren`` to an image (3, h, w); show the progress, and early how long it will take."""
    from tqdm import tqdm

    start = time.monotonic()
    with tqdm(total=siren.iterations, unit="it", desc="fitting", disable=None) as bar:

        def show(step: int, mse: float) -> None:
            bar.set_postfix_str(f"{_psnr(mse):.2f} dB", refresh=False)
            bar.update()
            if step == STEPS_BEFORE_ESTIMATE:
                seconds = (time.monotonic() - start) / step * siren.iterations
                bar.write(f"{siren.iterations:,} steps: about {_duration(seconds)}. Ctrl-C stops it.")

        return siren.fit(image, show)


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def run(args: argparse.Namespace) -> None:
    import torch

    from ..archs.siren_arch import SIREN
    from ..checkpoints.files import save_whole
    from ..coords import cell_of, pixel_centres
    from ..errors import UserError, printable
    from ..evaluation.figure import to_picture
    from ..files import atomic_write
    from ..image_io.reading import read_picture
    from ..inference.render import as_float

    picture = read_picture(args.picture)
    if picture.alpha is not None and picture.alpha.min() < picture.alpha.max(initial=0):
        raise UserError(
            f"{args.picture}: has transparent parts, and the network fits three colours; flatten it onto a "
            "background first."
        )
    image = as_float(picture.colour)[0]
    height, width = picture.size
    size = _target(args, height, width)
    weights = os.path.splitext(args.output)[0] + ".pth"
    _check(args, weights)

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    siren = SIREN(iterations=args.iterations, lr=args.lr, seed=args.seed)
    net = _fit(siren, image.to(device))
    # The feature map of a SIREN is the vector of its network's parameters.
    parameters = torch.nn.utils.parameters_to_vector(net.parameters())
    prepared = siren.prepare(parameters.unsqueeze(0))

    @torch.no_grad()
    def draw(size: tuple[int, int]) -> torch.Tensor:
        rows, columns = (pixel_centres(n).to(device) for n in size)
        return siren.decode(prepared, rows, columns, cell_of(size).to(device))[0].cpu()

    mse = (draw((height, width)) - image).clamp(-1, 1).square().mean().item()
    drawn = to_picture(draw(size))
    save_whole({"params": {name: value.cpu() for name, value in net.state_dict().items()}}, weights)
    try:
        with atomic_write(args.output) as file:
            drawn.save(file, format="PNG")
    except UserError as error:
        raise UserError(f"{error} The fitted network is in {weights}.") from error
    print(
        f"{printable(args.picture)}, {width} x {height}: fitted to {_psnr(mse):.2f} dB PSNR in "
        f"{args.iterations} steps; {len(parameters):,} parameters in {printable(weights)}."
    )
    print(f"{printable(args.output)}: {size[1]} x {size[0]}.")
