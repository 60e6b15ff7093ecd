"""What lies beside the two files: export.json for programs, README.md for people."""

from __future__ import annotations

import torch
from torch import nn

from .. import __version__
from .check import TOLERANCE
from .formats import OPSET

MEANING = {
    "lq": "the image, RGB in [0, 1]; any height and width",
    "table": "what the decoder needs of each pixel of the image; hand it on as it is",
    "skip": "the image itself, which the decoder enlarges bilinearly and adds to; hand it on as it is",
    "coord": "where: (y, x) in [-1, 1]; the centre of pixel i of n is -1 + (2i + 1)/n",
    "cell": "height and width of the asking pixel in the same unit: (2/H, 2/W) for an image of H x W",
    "rgb": "the colours; trained to lie in [0, 1], not clamped",
}


def description(
    net: nn.Module,
    network_g: dict,
    model: str,
    format: str,
    parts: dict[str, nn.Module],
    files: list[str],
    found: dict[str, float],
) -> dict:
    """The contents of export.json.

    halo: LR pixels around a part of the image that its result depends on, null where it is the whole image. pad_multiple: parts must start
    and end at
    multiples of this. differences: what was asked of both -> largest difference from PyTorch.
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
        "halo": _halo(net),
        "pad_multiple": net.encoder.pad_multiple,
        "residual": getattr(net, "residual", None),
        "tolerance": TOLERANCE,
        "differences": found,
    }


def _tensors(shapes: dict[str, tuple]) -> dict:
    return {
        name: {"shape": list(shape), "dtype": "float32", "meaning": MEANING[name]}
        for name, shape in shapes.items()
    }


_ONNX = """import numpy as np
import onnxruntime

encoder, decoder = (onnxruntime.InferenceSession(f"{name}.onnx") for name in ("encoder", "decoder"))
lq = np.random.default_rng(0).random((1, 3, 48, 64), dtype=np.float32)  # your image: RGB in [0, 1]
H, W = 100, 200  # any size
y, x = (((2 * np.arange(n) + 1) / n - 1).astype(np.float32) for n in (H, W))
coord = np.stack(np.meshgrid(y, x, indexing="ij"), axis=-1).reshape(1, H * W, 2)
cell = np.broadcast_to(np.float32([2 / H, 2 / W]), coord.shape)
values = dict(zip([tensor.name for tensor in encoder.get_outputs()], encoder.run(None, {"lq": lq})), coord=coord, cell=cell)
rgb = decoder.run(["rgb"], {tensor.name: values[tensor.name] for tensor in decoder.get_inputs()})[0]
image = rgb.reshape(H, W, 3).clip(0, 1)
"""
_TORCH = """import torch

encoder, decoder = (torch.export.load(f"{{name}}.pt2").module() for name in ("encoder", "decoder"))
lq = torch.rand(1, 3, 48, 64)  # your image: RGB in [0, 1]
H, W = 100, 200  # any size
y, x = ((2 * torch.arange(n) + 1) / n - 1 for n in (H, W))
coord = torch.cartesian_prod(y, x).unsqueeze(0)
cell = torch.tensor([2 / H, 2 / W]).expand_as(coord)
{features} = encoder(lq)
rgb = decoder({given})
image = rgb.reshape(H, W, 3).clamp(0, 1)
"""


def readme(about: dict) -> str:
    """The contents of README.md: which tensors there are, how they are used, how exact they are."""
    opset = f"; opset {about['opset']}" if "opset" in about else ""
    rows = [
        f"| {about[part]['file']} | {way[:-1]} | {name} | {', '.join(map(str, tensor['shape']))} | {tensor['meaning']} |"
        for part in ("encoder", "decoder")
        for way in ("inputs", "outputs")
        for name, tensor in about[part][way].items()
    ]
    features, given = ", ".join(about["encoder"]["outputs"]), ", ".join(about["decoder"]["inputs"])
    what = f"{about['network_g']['type']}, {about['parameters']:,} parameters, by {about['made_by']}{opset}"
    code = _ONNX if about["format"] == "onnx" else _TORCH.format(features=features, given=given)
    return f"""# {about["model"]}, exported

{what}. Encode an image once, then ask for colours at any positions, in as many calls as memory asks for. All tensors are float32.

| file | | tensor | shape | |
|---|---|---|---|---|
{chr(10).join(rows)}

```python
{code}```

{_parts(about)}

Largest difference from PyTorch, of colours in [0, 1], over {len(about["differences"])} comparisons (other sizes and scales, the border, two
images at once): {max(about["differences"].values()):.1e}; export.json has each.
"""


def _parts(about: dict) -> str:
    if about["halo"] is None:
        return "Encode an image as a whole: every pixel depends on all of it."
    multiple = about["pad_multiple"]
    where = (
        ""
        if multiple == 1
        else f" Parts begin and end at multiples of {multiple} pixels or at the border of the image."
    )
    halo = about["halo"]
    return f"A pixel depends on the {halo} pixels around it (halo): a large image can be encoded in parts with so much around each.{where}"


def _halo(net: nn.Module) -> int | None:
    """LR pixels: the encoder's, one for the 3x3 neighbours, one because the code that answers may be the next one."""
    return None if net.encoder.halo is None else net.encoder.halo + 2
