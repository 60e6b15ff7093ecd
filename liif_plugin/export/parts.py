"""A network in two halves: the work for each LR pixel, and the work for each query.

``to_tables`` and ``from_tables`` of the network decide where the cut is. The decoder's half only gathers rows
of tables by index. It needs no GridSample, which some runtimes get wrong.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..archs.base import ContinuousNetwork, as_continuous
from ..errors import UserError

B, h, w, Q = "batch", "height", "width", "queries"  # sizes that stay free
FIXED_SCALE = "it has no encode and query, and torch.onnx.export takes networks of one scale as they are"


def exportable(net: nn.Module, where: str) -> ContinuousNetwork:
    """Return ``net`` if it can be exported.

    Args:
        net: any network of the registry.
        where: the beginning of the message.

    Raises:
        UserError: for any other network, with the reason and what to do instead.
    """
    continuous = as_continuous(net)
    why: str | None = FIXED_SCALE
    if isinstance(continuous, ContinuousNetwork):
        if continuous.not_exportable is None:
            return continuous
        why = continuous.not_exportable
    raise UserError(
        f"{where}: expected a network for any scale such as LIIF, got {type(net).__name__}: {why}."
    )


class EncoderPart(nn.Module):
    """lq (B, 3, h, w) in [0, 1] -> the tables of the network, (B, h, w, channels) each.

    Attributes:
        inputs, outputs: name -> shape, with names for the sizes that are free.
    """

    def __init__(self, net: ContinuousNetwork):
        super().__init__()
        self.net = net
        self.inputs = {"lq": (B, 3, h, w)}
        parameter = next(iter(net.parameters()), torch.empty(0))
        with torch.no_grad():
            tables = net.to_tables(net.encode(torch.zeros(1, 3, 8, 8).to(parameter)))
        self.outputs = {name: (B, h, w, table.shape[3]) for name, table in tables.items()}

    def forward(self, lq: Tensor) -> tuple[Tensor, ...]:
        return tuple(table.contiguous() for table in self.net.to_tables(self.net.encode(lq)).values())


class DecoderPart(nn.Module):
    """The tables of the network, coord (B, Q, 2) -> rgb (B, Q, 3), not clamped.

    A further input is cell (B, Q, 2), if the network uses it.

    Attributes:
        inputs, outputs: as in EncoderPart.
    """

    def __init__(self, net: ContinuousNetwork):
        super().__init__()
        self.net = net
        self.tables = list(EncoderPart(net).outputs)
        self.inputs = {**EncoderPart(net).outputs, "coord": (B, Q, 2)}
        if net.uses_cell:
            self.inputs["cell"] = (B, Q, 2)
        self.outputs = {"rgb": (B, Q, 3)}

    def forward(self, *given: Tensor) -> Tensor:
        named = dict(zip(self.inputs, given))
        coord = named["coord"]
        cell = named.get("cell", coord)  # a network without a cell does not look at it
        prepared = self.net.from_tables({name: named[name] for name in self.tables})
        return self.net.sample(prepared, coord, cell)
