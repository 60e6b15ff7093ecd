"""Checkpoints of the authors' code -> a BasicSR state dict plus the network_g block that builds its network.

Sizes are read off the tensors, so that a checkpoint whose notes are wrong is converted all the same.
"""

from __future__ import annotations

import re

import torch

from .errors import UserError
from .models.checkpoint import load_safely

State = dict[str, torch.Tensor]

# names inside the published EDSR -> names inside BasicSR's; the last conv of its body is conv_after_body here
_EDSR = (
    (r"^head\.0\.(.*)$", r"conv_first.\1"),
    (r"^body\.(\d+)\.body\.0\.(.*)$", r"body.\1.conv1.\2"),
    (r"^body\.(\d+)\.body\.2\.(.*)$", r"body.\1.conv2.\2"),
    (r"^body\.\d+\.(weight|bias)$", r"conv_after_body.\1"),
    (r"^tail\.0\.(.*)$", r"upsample.\1"),
    (r"^tail\.1\.(.*)$", r"conv_last.\1"),
)
_DEAD = re.compile(r"^(sub_mean|add_mean)\.")  # tensors that the published EDSR carries and never uses


def load_official(path: str) -> dict:
    """The ``model`` entry {'name', 'args', 'sd'} of an official checkpoint file, loaded without running code in it.

    Raises:
        UserError: for a file that is no such checkpoint.
    """
    content = load_safely(path)
    model = content.get("model") if isinstance(content, dict) else None
    if not isinstance(model, dict) or not {"name", "args", "sd"} <= set(model):
        found = ", ".join(map(str, content))[:200] if isinstance(content, dict) else type(content).__name__
        raise UserError(f"{path}: expected the authors' format {{'model': {{'name', 'args', 'sd'}}}}, found {found}.")
    return model


def _count(state: State, pattern: str) -> int:
    """One more than the largest number that the group of ``pattern`` matches."""
    return 1 + max(int(found[1]) for found in map(re.compile(pattern).match, state) if found)


def _edsr(state: State) -> tuple[dict, State]:
    renamed = {}
    for name, value in state.items():
        if _DEAD.match(name):
            continue
        for pattern, replacement in _EDSR:
            if re.match(pattern, name):
                renamed[re.sub(pattern, replacement, name)] = value
                break
        else:
            raise UserError(f"tensor '{name}' belongs to no EDSR.")
    return {"type": "EDSR", "num_feat": len(state["head.0.bias"]), "num_block": _count(state, r"body\.(\d+)\.body")}, renamed


def _rdn(state: State) -> tuple[dict, State]:
    block = {"type": "LIIF_RDN", "num_feat": len(state["SFENet1.bias"]), "num_block": _count(state, r"RDBs\.(\d+)\."),
             "num_layer": _count(state, r"RDBs\.0\.convs\.(\d+)\."), "growth": len(state["RDBs.0.convs.0.conv.0.bias"])}  # fmt: skip
    return block, dict(state)


def _network(state: State) -> tuple[dict, State]:
    """An encoder, or a whole fixed-scale network, of the authors -> (options, state dict)."""
    if "head.0.weight" in state:
        return _edsr(state)
    if "SFENet1.weight" in state:
        return _rdn(state)
    raise UserError(f"expected an EDSR or an RDN, found tensors such as {', '.join(list(state)[:3])}.")


def _fixed_scale(state: State) -> tuple[dict, State]:
    block, renamed = _network(state)
    if block["type"] == "EDSR":
        shuffled = [value.shape[0] // block["num_feat"] for name, value in state.items() if re.match(r"tail\.0\.\d+\.weight", name)]
        # in [-1, 1] like the authors', by BasicSR's own input shift
        block.update(num_in_ch=3, num_out_ch=3, img_range=2.0, rgb_mean=[0.5, 0.5, 0.5])
    else:
        names = [name for name in state if re.match(r"UPNet\.\d+\.weight", name)]
        shuffled = [state[name].shape[0] // block["growth"] for name in names[:-1]]
    if not shuffled:
        raise UserError("an encoder alone, without an upsampler or a decoder, makes no pictures.")
    block["upscale"] = round(torch.tensor(shuffled).double().sqrt().prod().item())
    return block, renamed


def convert(model: dict) -> tuple[dict, State]:
    """An official LIIF or MetaSR, with EDSR or RDN, or an EDSR or RDN with its upsampler -> (network_g options, state dict).

    Args:
        model: as ``load_official`` returns it.

    Raises:
        UserError: for another network.
    """
    name, args, state = model["name"], model["args"], model["sd"]
    if name not in ("liif", "metasr"):
        return _fixed_scale(state)
    encoder, renamed = _network({key[len("encoder.") :]: value for key, value in state.items() if key.startswith("encoder.")})
    decoder = {key: value for key, value in state.items() if key.startswith("imnet.")}
    hidden = [len(value) for key, value in decoder.items() if key.endswith(".bias")][:-1]
    block = {"type": {"liif": "LIIF", "metasr": "MetaSR"}[name], "encoder": encoder, "hidden_list": hidden}
    if name == "liif":
        block.update({key: bool(args.get(key, True)) for key in ("feat_unfold", "local_ensemble", "cell_decode")})
    return block, {**{f"encoder.net.{key}": value for key, value in renamed.items()}, **decoder}
