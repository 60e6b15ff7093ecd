"""Whether what was exported answers as the network does."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ..coords import cell_of, grid
from ..errors import UserError

TOLERANCE = 1e-4  # on colours in [0, 1]
# (h, w) of the image -> (H, W) of the target: x1, x3.7, odd and unequal sizes and scales, a tiny image, below x1
CASES = [
    ((16, 16), (16, 16)),
    ((11, 14), (41, 52)),
    ((9, 17), (18, 53)),
    ((5, 23), (12, 100)),
    ((2, 3), (8, 12)),
    ((24, 13), (11, 7)),
]
EDGES = [-1.0, -1 + 1e-6, -0.5, 0.0, 1 / 3, 1 - 1e-6, 1.0]

Run = Callable[[Tensor, Tensor, Tensor], Tensor]  # lq, coord, cell -> rgb


def _questions(generator: torch.Generator):
    """(what it is, lq, coord, cell): whole images, then two images at once, at the border, at ties and anywhere."""
    for lr, target in CASES:
        coord = grid(target).unsqueeze(0)
        yield (
            f"{lr[1]} x {lr[0]} to {target[1]} x {target[0]}",
            (1, 3, *lr),
            coord,
            cell_of(target).expand_as(coord),
        )
    edges = torch.cartesian_prod(torch.tensor(EDGES), torch.tensor(EDGES))
    coord = torch.cat([edges.expand(2, -1, -1), torch.rand(2, 500, 2, generator=generator) * 2 - 1], dim=1)
    yield (
        "two images, 500 random positions and the border",
        (2, 3, 10, 13),
        coord,
        torch.rand(coord.shape, generator=generator) / 5,
    )


@torch.no_grad()
def differences(net: nn.Module, run: Run) -> dict[str, float]:
    """What was asked -> the largest difference between ``run`` and ``net``; nan where either is not finite."""
    generator = torch.Generator().manual_seed(0)
    found = {}
    for what, shape, coord, cell in _questions(generator):
        lq = torch.rand(shape, generator=generator)
        found[what] = (run(lq, coord, cell) - net(lq, coord, cell)).abs().max().item()
    return found


def check(net: nn.Module, run: Run, name: str) -> dict[str, float]:
    """``differences``, all of them within TOLERANCE.

    Raises:
        UserError: for a larger one.
    """
    found = differences(net, run)
    for what, difference in found.items():
        if not difference <= TOLERANCE:  # nan fails too
            raise UserError(
                f"{name}: differs from PyTorch by {difference:.1e} ({what}), and {TOLERANCE:g} is allowed; nothing was kept."
            )
    return found
