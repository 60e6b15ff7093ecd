"""Fit one sine network (SIREN) to one picture and render it at any size: the paper's 1-SIREN, which sees nothing but that picture.

  liif fit picture.png -o picture_x4.png --scale 4
  liif fit picture.png -o large.png --size 1600x900 --iterations 3000

It interpolates; it cannot invent detail as a network trained on many pictures can. The network itself is written beside the picture
(large.pth).
"""

from __future__ import annotations

import argparse
import math
import os

AFTER_INTERRUPT = "Nothing was written."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("picture", metavar="PICTURE", help="8 or 16 bits, RGB or gray")
    parser.add_argument("-o", "--output", required=True, metavar="NAME.png", help="the rendered picture")
    parser.add_argument(
        "--scale", type=float, metavar="S", help="render S times as large (default 1: look at the fit)"
    )
    parser.add_argument("--size", metavar="WxH", help="render at this size instead")
    parser.add_argument(
        "--iterations", type=int, default=1000, metavar="N", help="steps of Adam (default 1000)"
    )
    parser.add_argument("--lr", type=float, default=1e-4, help="learning rate (default 1e-4)")
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N", help="of the initial parameters (default 0)"
    )


def _target(args: argparse.Namespace, h: int, w: int) -> tuple[int, int]:
    from ..errors import UserError

    if args.size is not None and args.scale is not None:
        raise UserError("--scale and --size: give one of them.")
    if args.size is None:
        scale = 1.0 if args.scale is None else args.scale
        if not 0 < scale < math.inf:
            raise UserError(f"--scale: expected a positive number, got {scale}.")
        return max(1, round(h * scale)), max(1, round(w * scale))
    parts = args.size.lower().split("x")
    if len(parts) != 2 or not all(part.isdigit() and int(part) > 0 for part in parts):
        raise UserError(f"--size: expected WIDTHxHEIGHT such as 1600x900, got {args.size}.")
    return int(parts[1]), int(parts[0])


def run(args: argparse.Namespace) -> None:
    import torch
    from tqdm import tqdm

    from ..archs.siren_arch import SIREN
    from ..checkpoints.writing import save_whole
    from ..errors import UserError, printable
    from ..evaluation.figure import to_picture
    from ..image_io.reading import read_picture
    from ..inference.render import as_float, render

    if args.iterations < 1:
        raise UserError(f"--iterations {args.iterations}: expected 1 or more.")
    if not args.output.lower().endswith(".png"):
        raise UserError(f"-o {args.output}: expected a name that ends in .png.")
    picture = read_picture(args.picture)
    if picture.alpha is not None and picture.alpha.min() < picture.alpha.max(initial=0):
        raise UserError(
            f"{args.picture}: has transparent parts, and one function of three colours cannot; put it on a background first."
        )
    image = as_float(picture.colour)[0]
    size = _target(args, *image.shape[-2:])
    weights = os.path.splitext(args.output)[0] + ".pth"
    for path in (args.output, weights):
        if os.path.exists(path):
            raise UserError(f"{path}: exists already; delete it or choose another name.")
    try:
        folder = os.path.dirname(args.output) or "."
        os.makedirs(folder, exist_ok=True)
    except OSError as error:
        raise UserError(f"-o {args.output}: its folder cannot be made ({error.strerror}).") from error
    if not os.access(folder, os.W_OK):
        raise UserError(f"-o {args.output}: its folder cannot be written to.")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    siren = SIREN(iterations=args.iterations, lr=args.lr, seed=args.seed)
    with tqdm(total=args.iterations, unit="it", desc="fitting", disable=None) as bar:

        def show(step: int, mse: float) -> None:
            bar.set_postfix_str(f"{-10 * math.log10(max(mse, 1e-12)):.2f} dB", refresh=False)
            bar.update()

        net = siren.fit(image.to(device), show)
    parameters = torch.nn.utils.parameters_to_vector(net.parameters())

    class Fitted:
        """The network that was just fitted, under the contract that ``render`` knows."""

        @staticmethod
        def encode(_):
            return parameters.unsqueeze(0)

        query = siren.query

    again = render(Fitted, image.unsqueeze(0).to(device), tuple(image.shape[-2:]))
    mse = (again.cpu() - image).clamp(-1, 1).square().mean().item()
    drawn = to_picture(render(Fitted, image.unsqueeze(0).to(device), size))
    save_whole({"params": {name: value.cpu() for name, value in net.state_dict().items()}}, weights)
    try:
        drawn.save(args.output)
    except OSError as error:
        raise UserError(
            f"{args.output}: cannot be written ({error}); the fitted network is in {weights}."
        ) from error
    print(
        f"{printable(args.picture)}, {image.shape[-1]} x {image.shape[-2]}: fitted to {-10 * math.log10(max(mse, 1e-12)):.2f} dB PSNR in "
        f"{args.iterations} steps; {len(parameters):,} parameters in {printable(weights)}."
    )
    print(f"{printable(args.output)}: {size[1]} x {size[0]}.")
