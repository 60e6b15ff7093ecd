"""LIIF and MetaSR in two halves: the work for each LR pixel, and the work for each query.

The encoder's half includes all that can be computed once for each LR pixel (``LIIF.prepare``). The decoder's
half only gathers rows of a table by index. It needs no GridSample, which some runtimes get wrong.
"""

from __future__ import annotations

from torch import Tensor, nn

from ..archs.base import is_continuous
from ..archs.liif_arch import LIIF, Projection
from ..archs.metasr_arch import MetaSR, Unfolded
from ..errors import UserError

B, h, w, Q = "batch", "height", "width", "queries"  # sizes that stay free
WHY_NOT = {
    "Bicubic": "it has no weights; every runtime has a cubic Resize of its own",
    "SIREN": "it is fitted to each picture anew: there is nothing to export before a picture is known",
}
OWN_DECODER = (
    "only these two know how to be cut into an encoder and a decoder. Export an own decoder by calling "
    "torch.onnx.export on a module that calls its encode, and on one that calls its query"
)
FIXED_SCALE = "it has no encode and query, and torch.onnx.export takes networks of one scale as they are"


def exportable(net: nn.Module, where: str) -> LIIF | MetaSR:
    """Return ``net`` if it can be exported.

    Args:
        net: any network of the registry.
        where: the beginning of the message.

    Raises:
        UserError: for any other network, with the reason and what to do instead.
    """
    if isinstance(net, (LIIF, MetaSR)):
        return net
    name = type(net).__name__
    any_scale = is_continuous(net)
    why = WHY_NOT.get(name, OWN_DECODER if any_scale else FIXED_SCALE)
    raise UserError(f"{where}: expected LIIF or MetaSR, got {name}: {why}.")


class EncoderPart(nn.Module):
    """lq (B, 3, h, w) in [0, 1] -> table (B, h, w, D), and skip (B, h, w, 3) with the residual.

    Attributes:
        inputs, outputs: name -> shape, with names for the sizes that are free.
    """

    def __init__(self, net: LIIF | MetaSR):
        super().__init__()
        self.net = net
        self.inputs = {"lq": (B, 3, h, w)}
        first = net.imnet.linears[0].out_features if isinstance(net, LIIF) else 9 * net.encoder.out_channels
        self.outputs = {"table": (B, h, w, first)}
        if net.residual is not None:
            self.outputs["skip"] = (B, h, w, 3)

    def forward(self, lq: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        B, _, h, w = lq.shape
        feat = self.net.encode(lq)
        if isinstance(self.net, MetaSR):
            return self.net.prepare(feat).features.reshape(B, h, w, -1)
        table, skip, _, _ = self.net.prepare(feat)
        table = table.reshape(B, h, w, table.shape[2])
        return table if skip is None else (table, skip.reshape(B, h, w, 3))


class DecoderPart(nn.Module):
    """table, coord (B, Q, 2) -> rgb (B, Q, 3), not clamped.

    Further inputs are skip, if the encoder's half returns it, and cell (B, Q, 2), if the network uses it.

    Attributes:
        inputs, outputs: as in EncoderPart.
    """

    def __init__(self, net: LIIF | MetaSR):
        super().__init__()
        self.net = net
        self.inputs = {**EncoderPart(net).outputs, "coord": (B, Q, 2)}
        if net.uses_cell:
            self.inputs["cell"] = (B, Q, 2)
        self.outputs = {"rgb": (B, Q, 3)}

    def forward(self, *given: Tensor) -> Tensor:
        named = dict(zip(self.inputs, given))
        table, coord = named["table"], named["coord"]
        cell = named.get("cell", coord)  # a network without a cell does not look at it
        B, h, w, D = table.shape
        if isinstance(self.net, MetaSR):
            return self.net.sample(Unfolded(table.reshape(B, h * w, D), (h, w)), coord, cell)
        skip = named["skip"].reshape(B, h * w, 3) if "skip" in named else None
        return self.net.sample(
            Projection(table.reshape(B, h * w, D), skip, (h, w), (0, 0, h, w)), coord, cell
        )
