"""What lies beside the two files: export.json for programs, README.md for people."""

from __future__ import annotations

from pathlib import Path
from string import Template

import torch

from .. import __version__
from ..archs.base import ContinuousNetwork
from ..archs.metasr_arch import MetaSR
from .check import TOLERANCE
from .formats import OPSET, Part

TABLE = "what the decoder needs of each pixel of the image; hand it on as it is"
MEANING = {
    "lq": "the image, RGB in [0, 1]; any height and width",
    "skip": "the image itself, which the decoder enlarges bilinearly and adds to; hand it on as it is",
    "coord": "where: (y, x) in [-1, 1]; the centre of pixel i of n is -1 + (2i + 1)/n",
    "cell": "height and width of the asking pixel in the same unit: (2/H, 2/W) for an image of H x W",
    "rgb": "the colours; trained to lie in [0, 1], not clamped",
}


def description(
    net: ContinuousNetwork,
    network_g: dict,
    model: str,
    format: str,
    parts: dict[str, Part],
    files: list[str],
    differences: dict[str, float],
) -> dict:
    """Return the contents of export.json.

    Args:
        net: the network, on the CPU.
        network_g: its options.
        model: its name.
        format: a name of FORMATS.
        parts: "encoder" and "decoder".
        files: names of their files, in the same order.
        differences: what was compared -> the largest difference from PyTorch.

    Returns:
        Values that JSON can hold. halo: LR pixels around a part of the image that its result depends on, null
        for the whole image. pad_multiple: parts must start and end at multiples of this. whole_target: all
        pixels of a picture must be asked for in one call.
    """
    tensors = {
        name: {"file": file, **{way: _tensors(getattr(part, way)) for way in ("inputs", "outputs")}}
        for (name, part), file in zip(parts.items(), files)
    }
    return {
        "model": model,
        "network_g": network_g,
        "parameters": sum(value.numel() for value in net.parameters()),
        "format": format,
        **({"opset": OPSET} if format == "onnx" else {}),
        "made_by": f"liif_plugin {__version__}, PyTorch {torch.__version__}",
        **tensors,
        "halo": _parts(net)[0],
        "pad_multiple": _parts(net)[1],
        "whole_target": net.whole_features,
        "residual": net.residual,
        "tolerance": TOLERANCE,
        "differences": differences,
    }


def _tensors(shapes: dict[str, tuple]) -> dict:
    return {
        name: {"shape": list(shape), "dtype": "float32", "meaning": MEANING.get(name, TABLE)}
        for name, shape in shapes.items()
    }


def _template(name: str, **values: object) -> str:
    """Return a file of templates/ with its $names filled in."""
    text = (Path(__file__).parent / "templates" / name).read_text(encoding="utf-8")
    return Template(text).substitute({key: str(value) for key, value in values.items()})


def readme(about: dict) -> str:
    """Return the contents of README.md: the tensors, how to use them, and how exact they are.

    Args:
        about: from ``description``.
    """
    tensors = [
        f"| {about[part]['file']} | {direction[:-1]} | {name} "
        f"| {', '.join(map(str, tensor['shape']))} | {tensor['meaning']} |"
        for part in ("encoder", "decoder")
        for direction in ("inputs", "outputs")
        for name, tensor in about[part][direction].items()
    ]
    opset = f"; opset {about['opset']}" if "opset" in about else ""
    network = (
        f"{about['network_g']['type']}, {about['parameters']:,} parameters, by {about['made_by']}{opset}"
    )
    code = _template(
        f"usage_{about['format']}.txt",
        features=", ".join(about["encoder"]["outputs"]),
        given=", ".join(about["decoder"]["inputs"]),
    )
    return _template(
        "README.md",
        model=about["model"],
        network=network,
        tensors="\n".join(tensors),
        code=code,
        tiles=_tiles(about["halo"], about["pad_multiple"], about["whole_target"]),
        comparisons=len(about["differences"]),
        difference=f"{max(about['differences'].values()):.1e}",
    )


def _tiles(halo: int | None, multiple: int, whole_target: bool) -> str:
    """Return the sentences about encoding a large image in parts."""
    if whole_target:
        return (
            "Encode an image as a whole, and ask for all pixels of the target in one call of the decoder: "
            "every pixel depends on the others that are asked for with it."
        )
    if halo is None:
        return "Encode an image as a whole: every pixel depends on all of it."
    overlap = (
        f"A pixel depends on the {halo} pixels around it (halo): "
        "a large image can be encoded in parts with so much around each."
    )
    if multiple == 1:
        return overlap
    return f"{overlap} Parts begin and end at multiples of {multiple} pixels or at the border of the image."


def _parts(net: ContinuousNetwork) -> tuple[int | None, int]:
    """Return what encoding in parts needs: (LR pixels around a part, multiple at which parts begin).

    The first is None if a result depends on the whole image.
    """
    if isinstance(net, MetaSR):  # never run in tiles by this package, where half-way positions must not move
        halo = net.encoder.halo
        return None if halo is None else halo + 2, net.encoder.pad_multiple
    return None if net.whole_features else net.halo, net.pad_multiple
