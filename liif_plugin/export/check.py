"""Compare what was exported with the network."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ..coords import cell_of, grid
from ..errors import UserError

TOLERANCE = 1e-4  # on colours in [0, 1]
# (h, w) of the image -> (H, W) of the target: x1, x3.7, unequal sizes and scales, a tiny image, below x1.
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


def _comparisons(generator: torch.Generator):
    """Yield (description, shape of lq, coord, cell).

    First whole images; then two images at once, at the border, between pixels and at random positions.
    """
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
    """Return the largest difference between ``run`` and ``net`` for each comparison.

    Args:
        net: the network in PyTorch.
        run: the exported files as one function.

    Returns:
        Description of the comparison -> difference of colours in [0, 1]; nan if either is not finite.
    """
    generator = torch.Generator().manual_seed(0)
    largest = {}
    for what, shape, coord, cell in _comparisons(generator):
        lq = torch.rand(shape, generator=generator)
        largest[what] = (run(lq, coord, cell) - net(lq, coord, cell)).abs().max().item()
    return largest


def check(net: nn.Module, run: Run, name: str) -> dict[str, float]:
    """Return ``differences``.

    Args:
        net: the network in PyTorch.
        run: the exported files as one function.
        name: the beginning of the message.

    Raises:
        UserError: if one of them is larger than TOLERANCE.
    """
    largest = differences(net, run)
    for what, difference in largest.items():
        if not difference <= TOLERANCE:  # nan fails too
            raise UserError(
                f"{name}: differs from PyTorch by {difference:.1e} ({what}), and {TOLERANCE:g} is allowed; "
                "nothing was kept."
            )
    return largest
