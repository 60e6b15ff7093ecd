"""Checkpoints of the authors' code and of MMagic -> a BasicSR state dict plus the network_g block that builds its network.

Sizes are read off the tensors, so that a checkpoint whose notes are wrong is converted all the same.
"""

from __future__ import annotations

import re

import torch

from ..errors import UserError
from .reading import load_safely

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


# names inside MMagic's LIIF, whose EDSR is BasicSR's -> names inside the authors' RDN
_MMAGIC_RDN = (
    (r"^sfe([12])\.", r"SFENet\1."),
    (r"^rdbs\.(\d+)\.layers\.(\d+)\.conv\.", r"RDBs.\1.convs.\2.conv.0."),
    (r"^rdbs\.(\d+)\.lff\.", r"RDBs.\1.LFF."),
    (r"^gff\.", "GFF."),
)


def load_foreign(path: str) -> dict:
    """An official checkpoint's {'name', 'args', 'sd'}, or MMagic's as {'name': 'mmagic', 'sd'}, loaded without running code in it.

    Raises:
        UserError: for a file that is neither; it says what the file is.
    """
    content = load_safely(path)
    model = content.get("model") if isinstance(content, dict) else None
    if isinstance(model, dict) and {"name", "args", "sd"} <= set(model):
        return model
    state = content.get("state_dict") if isinstance(content, dict) else None
    if isinstance(state, dict) and any(str(name).startswith("generator.imnet.") for name in state):
        prefix = "generator."
        return {
            "name": "mmagic",
            "sd": {
                name[len(prefix) :]: value for name, value in state.items() if str(name).startswith(prefix)
            },
        }
    found = ", ".join(map(str, content))[:200] if isinstance(content, dict) else type(content).__name__
    if isinstance(content, dict) and {"params", "params_ema"} & set(content):
        raise UserError(
            f"{path}: is a BasicSR checkpoint already (it holds {found}); use it as path.pretrain_network_g."
        )
    if isinstance(state, dict):
        raise UserError(
            f"{path}: is an OpenMMLab checkpoint, but of no LIIF; its tensors are {', '.join(map(str, list(state)[:3]))} ..."
        )
    if (
        isinstance(content, dict)
        and content
        and all(isinstance(value, torch.Tensor) for value in content.values())
    ):
        raise UserError(
            f"{path}: is a bare state dict ({', '.join(map(str, list(content)[:3]))} ...); expected the authors' or MMagic's checkpoint."
        )
    raise UserError(
        f"{path}: expected the authors' format {{'model': {{'name', 'args', 'sd'}}}} or MMagic's, found {found}."
    )


def _count(state: State, pattern: str) -> int:
    """One more than the largest number that the group of ``pattern`` matches."""
    return 1 + max(int(found[1]) for found in map(re.compile(pattern).match, state) if found)


def _res_scale(spec: dict) -> float:
    """The factor of EDSR's residual blocks, which no tensor tells: 0.1 in the authors' large EDSR, 1 in EDSR-baseline."""
    args = spec.get("args") or {}
    return float(args.get("res_scale", 0.1 if spec.get("name") == "edsr" else 1))


def _edsr(state: State, spec: dict) -> tuple[dict, State]:
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
    block = {
        "type": "EDSR",
        "num_feat": len(state["head.0.bias"]),
        "num_block": _count(state, r"body\.(\d+)\.body"),
    }
    factor = _res_scale(spec)
    return (block if factor == 1 else {**block, "res_scale": factor}), renamed


def _rdn(state: State) -> tuple[dict, State]:
    block = {
        "type": "LIIF_RDN",
        "num_feat": len(state["SFENet1.bias"]),
        "num_block": _count(state, r"RDBs\.(\d+)\."),
        "num_layer": _count(state, r"RDBs\.0\.convs\.(\d+)\."),
        "growth": len(state["RDBs.0.convs.0.conv.0.bias"]),
    }
    return block, dict(state)


def _network(state: State, spec: dict) -> tuple[dict, State]:
    """An encoder, or a whole fixed-scale network, of the authors -> (options, state dict)."""
    if "head.0.weight" in state:
        return _edsr(state, spec)
    if "SFENet1.weight" in state:
        return _rdn(state)
    raise UserError(
        f"expected an EDSR or an RDN, found tensors such as {', '.join(map(str, list(state)[:3]))}."
    )


def _fixed_scale(state: State, spec: dict) -> tuple[dict, State]:
    block, renamed = _network(state, spec)
    if block["type"] == "EDSR":
        shuffled = [
            value.shape[0] // block["num_feat"]
            for name, value in state.items()
            if re.match(r"tail\.0\.\d+\.weight", name)
        ]
        # in [-1, 1] like the authors', by BasicSR's own input shift
        block.update(num_in_ch=3, num_out_ch=3, img_range=2.0, rgb_mean=[0.5, 0.5, 0.5])
    else:
        names = [name for name in state if re.match(r"UPNet\.\d+\.weight", name)]
        shuffled = [state[name].shape[0] // block["growth"] for name in names[:-1]]
    if not shuffled:
        raise UserError("an encoder alone, without an upsampler or a decoder, makes no pictures.")
    block["upscale"] = round(torch.tensor(shuffled).double().sqrt().prod().item())
    return block, renamed


def _switches(in_features: int, channels: int) -> dict[str, bool]:
    """feat_unfold and cell_decode, read off the width of the decoder's input."""
    for unfold in (True, False):
        for cell in (True, False):
            if in_features == channels * (9 if unfold else 1) + 2 + 2 * cell:
                return {"feat_unfold": unfold, "cell_decode": cell}
    raise UserError(f"a decoder with {in_features} inputs fits no LIIF on {channels} channels.")


def _mmagic(state: State) -> tuple[dict, State]:
    """LIIF of MMagic, with EDSR or RDN -> (network_g options, state dict)."""
    decoder = {name: value for name, value in state.items() if name.startswith("imnet.")}
    encoder = {name: value for name, value in state.items() if name not in decoder}
    if "conv_first.weight" in encoder:
        own = re.compile(r"^(conv_first|conv_after_body|body\.\d+\.conv[12])\.(weight|bias)$")
        strange = next((name for name in encoder if not own.match(name)), None)
        if strange is not None:
            raise UserError(f"tensor '{strange}' belongs to no EDSR of MMagic.")
        channels = len(encoder["conv_first.bias"])
        block = {"type": "EDSR", "num_feat": channels, "num_block": _count(encoder, r"body\.(\d+)\.")}
    elif "sfe1.weight" in encoder:
        for pattern, name in _MMAGIC_RDN:
            encoder = {re.sub(pattern, name, key): value for key, value in encoder.items()}
        block, encoder = _rdn(encoder)
        channels = block["num_feat"]
    else:
        raise UserError(
            f"expected an EDSR or an RDN of MMagic, found tensors such as {', '.join(list(encoder)[:3])}."
        )
    hidden = [len(value) for name, value in decoder.items() if name.endswith(".bias")][:-1]
    switches = _switches(decoder["imnet.layers.0.weight"].shape[1], channels)
    return (
        {"type": "LIIF", "encoder": block, "hidden_list": hidden, **switches},
        {**{f"encoder.net.{name}": value for name, value in encoder.items()}, **decoder},
    )


def convert(model: dict) -> tuple[dict, State]:
    """A LIIF or MetaSR with EDSR or RDN, or an EDSR or RDN with its upsampler -> (network_g options, state dict).

    Args:
        model: as ``load_foreign`` returns it.

    Raises:
        UserError: for another network.
    """
    if (
        not isinstance(model["sd"], dict)
        or not all(isinstance(v, torch.Tensor) and v.dim() for v in model["sd"].values())
        or not all(isinstance(k, str) for k in model["sd"])
    ):
        raise UserError("expected a state dict of tensors, found something else.")
    try:
        return _converted(model)
    except UserError:
        raise
    except Exception as error:  # tensors that are missing or of odd shapes are met in many places
        raise UserError(
            f"a checkpoint that no known network fits ({type(error).__name__}: {error})."
        ) from error


def _converted(model: dict) -> tuple[dict, State]:
    if model["name"] == "mmagic":
        return _mmagic(model["sd"])
    name, args, state = model["name"], model["args"] or {}, model["sd"]
    if name not in ("liif", "metasr"):
        return _fixed_scale(state, model)
    encoder, renamed = _network(
        {key[len("encoder.") :]: value for key, value in state.items() if key.startswith("encoder.")},
        args.get("encoder_spec") or {},
    )
    decoder = {key: value for key, value in state.items() if key.startswith("imnet.")}
    hidden = [len(value) for key, value in decoder.items() if key.endswith(".bias")][:-1]
    block = {"type": {"liif": "LIIF", "metasr": "MetaSR"}[name], "encoder": encoder, "hidden_list": hidden}
    if name == "liif":
        block.update(
            {key: bool(args.get(key, True)) for key in ("feat_unfold", "local_ensemble", "cell_decode")}
        )
    return block, {**{f"encoder.net.{key}": value for key, value in renamed.items()}, **decoder}
