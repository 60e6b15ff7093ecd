"""Arguments that several subcommands share: types for argparse, and the network that --model names."""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from ..checkpoints import DEFAULT_MODEL

if TYPE_CHECKING:
    from ..inference.upscaling import Engine


def whole_number(lowest: int, highest: int | None = None) -> Callable[[str], int]:
    """Return the argparse type of a whole number from ``lowest`` to ``highest``; None is no limit."""

    def parse(text: str) -> int:
        value = int(text)
        if value < lowest or (highest is not None and value > highest):
            limits = f"{lowest} or more" if highest is None else f"{lowest} to {highest}"
            raise argparse.ArgumentTypeError(f"expected {limits}, got {text}")
        return value

    parse.__name__ = "int"  # as below
    return parse


def positive_number(text: str) -> float:
    """Read a finite number above 0."""
    value = float(text)
    if not 0 < value < math.inf:  # nan fails too
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {text}")
    return value


def memory_limit(text: str) -> float:
    """Read a number of GiB; 0 is no limit."""
    value = float(text)
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"expected a number of GiB, 0 for no limit, got {text}")
    return value


# argparse names the type where the text is no number
positive_number.__name__ = memory_limit.__name__ = "float"


def image_size(text: str) -> tuple[int, int]:
    """Read 'WIDTHxHEIGHT' as (height, width)."""
    sides = re.fullmatch(r"([1-9]\d{0,8})x([1-9]\d{0,8})", text, re.IGNORECASE)
    if sides is None:
        raise argparse.ArgumentTypeError(f"expected WIDTHxHEIGHT such as 3840x2160, got {text}")
    return int(sides[2]), int(sides[1])


def scale_factors(text: str) -> tuple[float, float]:
    """Read one factor, or 'XxY' for width and height, as the factors (y, x)."""
    try:
        factors = [float(part) for part in text.lower().split("x")]
    except ValueError:
        factors = []
    if len(factors) not in (1, 2) or not all(0 < factor < math.inf for factor in factors):
        raise argparse.ArgumentTypeError(f"expected 2.7 or 2x3.1 (WIDTHxHEIGHT), factors above 0, got {text}")
    return factors[-1], factors[0]


def window(text: str) -> tuple[float, float, float, float]:
    """Read 'x,y,width,height' as (top, left, height, width)."""
    try:
        x, y, width, height = (float(part) for part in text.split(","))
    except ValueError as error:
        raise argparse.ArgumentTypeError(
            f"expected x,y,width,height in pixels of the input, such as 100.5,80,64,48, got {text}"
        ) from error
    return y, x, height, width


def add_model(parser: argparse.ArgumentParser) -> None:
    """Add --model, which ``checkpoints.loading.load`` takes."""
    parser.add_argument(
        "--model",
        default=DEFAULT_MODEL,
        metavar="NAME|FILE|FOLDER",
        help=f"weights by name, a .pth file or an experiment's folder (default {DEFAULT_MODEL})",
    )


def add_engine(parser: argparse.ArgumentParser, memory: str) -> argparse._ArgumentGroup:
    """Add what ``engine_of`` takes besides --model. Return the group of these arguments.

    Args:
        parser: of the subcommand.
        memory: what the memory is for, the help of --memory.
    """
    group = parser.add_argument_group("computation")
    group.add_argument(
        "--device", choices=["auto", "cpu", "cuda"], default="auto", help="auto: cuda if available"
    )
    group.add_argument(
        "--precision",
        choices=["auto", "fp32", "bf16", "fp16"],
        default="auto",
        help="auto: bf16 if the hardware has units for it, else fp32",
    )
    group.add_argument(
        "--memory", type=memory_limit, default=1.0, metavar="GiB", help=f"{memory} (default 1; 0: no limit)"
    )
    return group


def engine_of(args: argparse.Namespace, cell: float | None = None) -> Engine:
    """Load the network and choose how it is run; print both in one line.

    Args:
        args: model, device, precision and memory of the command line.
        cell: side of the queries' cells in input pixels; None is the true one.
    """
    import torch

    from ..checkpoints.loading import load
    from ..errors import UserError, printable
    from ..inference.render import continuous
    from ..inference.upscaling import Engine, memory_budget
    from ..precision import choose_precision

    if args.device == "cuda" and not torch.cuda.is_available():
        raise UserError("device cuda: this machine shows no CUDA GPU.")
    device = torch.device("cuda" if args.device != "cpu" and torch.cuda.is_available() else "cpu")
    precision = choose_precision(args.precision, device)
    net = continuous(load(args.model, device), f"model {args.model}")
    reason = ""
    if args.precision == "auto":
        multiplies = "multiplies" if precision == "bf16" else "does not multiply"
        reason = f" (chosen: this machine {multiplies} bfloat16 in hardware)"
    print(f"{printable(args.model)}: {type(net).__name__} on {device.type} in {precision}{reason}.")
    return Engine(net, device, precision, memory_budget(args.memory), cell)
