"""LIIF and MetaSR in two halves, cut where the work for each LR pixel ends and the work for each query begins.

The encoder's half ends behind what can be computed once per LR pixel (``LIIF.project``), so that the decoder's half only gathers
rows of a table, by index: no GridSample, which some runtimes get wrong.
"""

from __future__ import annotations

from torch import Tensor, nn

from ..archs.liif_arch import LIIF, Projection
from ..archs.metasr_arch import MetaSR, Unfolded
from ..errors import UserError

B, h, w, Q = "batch", "height", "width", "queries"  # sizes that stay free
WHY_NOT = {
    "Bicubic": "it has no weights; every runtime has a cubic Resize of its own",
    "SIREN": "it is fitted to each picture anew, so that there is nothing to export before a picture is known",
}


def check_exportable(net: nn.Module, where: str) -> None:
    """Raise UserError for a network that has no two halves."""
    if not isinstance(net, (LIIF, MetaSR)):
        name = type(net).__name__
        why = WHY_NOT.get(
            name, "it is not one for any scale, and torch.onnx.export takes networks of one scale as they are"
        )
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
        if getattr(net, "residual", None) is not None:
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
    """table, skip where there is one, coord (B, Q, 2), cell (B, Q, 2) where the network asks for it -> rgb (B, Q, 3), not clamped.

    Attributes:
        inputs, outputs: as in EncoderPart.
    """

    def __init__(self, net: LIIF | MetaSR):
        super().__init__()
        self.net = net
        self.inputs = {**EncoderPart(net).outputs, "coord": (B, Q, 2)}
        if getattr(net, "cell_decode", True):
            self.inputs["cell"] = (B, Q, 2)
        self.outputs = {"rgb": (B, Q, 3)}

    def forward(self, *given: Tensor) -> Tensor:
        named = dict(zip(self.inputs, given))
        table, coord, cell = named["table"], named["coord"], named.get("cell")
        B, h, w, D = table.shape
        if isinstance(self.net, MetaSR):
            return self.net.sample(Unfolded(table.reshape(B, h * w, D), (h, w)), coord, cell)
        skip = named["skip"].reshape(B, h * w, 3) if "skip" in named else None
        return self.net.sample(
            Projection(table.reshape(B, h * w, D), skip, (h, w), (0, 0, h, w)), coord, cell
        )
