"""Convert the parameter tree of the authors' Thera to a state dict of ours and its network_g block."""

from __future__ import annotations

import re

import torch

from ..archs.building import build
from ..archs.thera_arch import SIZES
from ..errors import UserError

State = dict[str, torch.Tensor]

# Names in the tree, with '.' for '/' -> names of ours. Every rule is applied to every name, in this order.
_NAMES = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"^params\.", ""),
        (r"layers_(\d+)", r"\1"),
        # EDSR-baseline
        (r"^encoder\.head\.0\.", "encoder.net.conv_first."),
        (r"^encoder\.body\.(\d+)\.body\.0\.", r"encoder.net.body.\1.conv1."),
        (r"^encoder\.body\.(\d+)\.body\.2\.", r"encoder.net.body.\1.conv2."),
        (r"^encoder\.body\.\d+\.(bias|kernel)$", r"encoder.net.conv_after_body.\1"),
        # RDN
        (r"^encoder\.Conv_0\.", "encoder.net.SFENet1."),
        (r"^encoder\.Conv_1\.", "encoder.net.SFENet2."),
        (r"^encoder\.Conv_2\.", "encoder.net.GFF.0."),
        (r"^encoder\.Conv_3\.", "encoder.net.GFF.1."),
        (r"^encoder\.RDB_(\d+)\.RDB_Conv_(\d+)\.Conv_0\.", r"encoder.net.RDBs.\1.convs.\2.conv.0."),
        (r"^encoder\.RDB_(\d+)\.Conv_0\.", r"encoder.net.RDBs.\1.LFF."),
        # the ConvNeXt of plus
        (r"^refine\.(\d+)\.residual\.0\.", r"tail.\1.depthwise."),
        (r"^refine\.(\d+)\.residual\.1\.", r"tail.\1.norm."),
        (r"^refine\.(\d+)\.residual\.2\.", r"tail.\1.expand."),
        (r"^refine\.(\d+)\.residual\.4\.", r"tail.\1.project."),
        (r"^refine\.(\d+)\.LayerNorm_0\.", r"tail.\1.norm."),
        (r"^refine\.(\d+)\.Conv_0\.", r"tail.\1.project."),
        # the SwinIR of pro
        (r"^refine\.Conv_0\.", "tail.net.conv_first."),
        (r"^refine\.Conv_1\.", "tail.net.conv_after_body."),
        (r"^refine\.Conv_2\.", "tail.net.conv_last."),
        (r"^refine\.PatchEmbed_0\.LayerNorm_0\.", "tail.net.patch_embed.norm."),
        (r"^refine\.LayerNorm_0\.", "tail.net.norm."),
        (r"^refine\.RSTB_(\d+)\.Conv_0\.", r"tail.net.layers.\1.conv."),
        (
            r"^refine\.RSTB_(\d+)\.BasicLayer_0\.SwinTransformerBlock_(\d+)\.",
            r"tail.net.layers.\1.residual_group.blocks.\2.",
        ),
        (r"LayerNorm_0\.", "norm1."),
        (r"LayerNorm_1\.", "norm2."),
        (r"WindowAttention_0\.", "attn."),
        (r"Mlp_0\.Dense_0\.", "mlp.fc1."),
        (r"Mlp_0\.Dense_1\.", "mlp.fc2."),
        (r"\.(kernel|scale)$", ".weight"),
    )
)
_BLOCK = r"tail\.net\.layers\.(\d+)\.residual_group\.blocks\.(\d+)\.attn\.relative_position_bias_table"


def _renamed(path: str) -> str:
    name = path.replace("/", ".")
    for pattern, replacement in _NAMES:
        name = pattern.sub(replacement, name)
    return name


def _torch_layout(path: str, value: torch.Tensor) -> torch.Tensor:
    """Return a kernel of Flax, (h, w, in, out) or (in, out), in the order of torch; others as they are."""
    if path.endswith("/kernel"):
        value = value.permute(3, 2, 0, 1) if value.dim() == 4 else value.t()
    return value.contiguous()


def _encoder(state: State) -> dict:
    """Return the encoder's block, with sizes read off its tensors."""
    names = [name[len("encoder.net.") :] for name in state if name.startswith("encoder.net.")]
    if "conv_first.weight" in names:
        return {
            "type": "EDSR",
            "num_feat": len(state["encoder.net.conv_first.weight"]),
            "num_block": sum(bool(re.match(r"body\.\d+\.conv1\.weight", name)) for name in names),
        }
    if "SFENet1.weight" in names:
        return {
            "type": "LIIF_RDN",
            "num_feat": len(state["encoder.net.SFENet1.weight"]),
            "num_block": sum(bool(re.match(r"RDBs\.\d+\.LFF\.weight", name)) for name in names),
            "num_layer": sum(bool(re.match(r"RDBs\.0\.convs\.\d+\.conv\.0\.weight", name)) for name in names),
            "growth": len(state["encoder.net.RDBs.0.convs.0.conv.0.weight"]),
        }
    raise UserError("expected an EDSR or an RDN as Thera's encoder, found neither.")


def _tail(state: State) -> tuple[str, dict]:
    """Return the size, 'air', 'plus' or 'pro', and the tail's arguments."""
    if "tail.net.conv_first.weight" in state:
        tables = {}  # (layer, block) -> number of heads
        for name, value in state.items():
            match = re.match(_BLOCK, name)
            if match:
                tables[int(match[1]), int(match[2])] = value.shape[1]
        depths = [sum(layer == i for layer, _ in tables) for i in range(1 + max(i for i, _ in tables))]
        return "pro", {
            "depths": depths,
            "num_heads": [tables[layer, 0] for layer in range(len(depths))],
            "embed_dim": len(state["tail.net.conv_first.weight"]),
            "num_feat": len(state["tail.net.conv_last.weight"]),
        }
    widths = {}
    for name, value in state.items():
        match = re.match(r"tail\.(\d+)\.depthwise\.weight", name)
        if match:
            widths[int(match[1])] = len(value)
    return ("plus", {"widths": [widths[i] for i in sorted(widths)]}) if widths else ("air", {})


def convert_thera(tree: State) -> tuple[dict, State]:
    """Convert a Thera; its sizes are read off its arrays.

    Args:
        tree: path such as ``params/out_conv/kernel`` -> array.

    Returns:
        The network_g block and the state dict.

    Raises:
        UserError: if a name belongs to no Thera, or the encoder is another one.
    """
    state = {_renamed(path): _torch_layout(path, value) for path, value in tree.items()}
    for path, name in zip(tree, state):
        if not re.match(r"(encoder\.net|tail|out_conv)\.|(components|k)$", name):
            raise UserError(f"parameter '{path}' belongs to no Thera.")
    size, tail = _tail(state)
    block: dict = {"type": "Thera", "encoder": _encoder(state), "size": size}
    waves = state["components"].shape[1]
    if waves != SIZES[size]["waves"]:
        block["waves"] = waves
    published = {
        key: list(value) if isinstance(value, tuple) else value for key, value in SIZES[size].items()
    }
    if any(value != published[key] for key, value in tail.items()):
        block["tail"] = tail
    # A SwinIR keeps tables that no training changes, and that the authors' tree does not have.
    net = build(block)
    learned = {name for name, _ in net.named_parameters()}
    tables = {name: value for name, value in net.state_dict().items() if name not in learned}
    return block, {**state, **tables}
