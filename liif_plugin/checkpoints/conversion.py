"""Convert checkpoints of the authors' code of each network, and of MMagic.

The result is a BasicSR state dict and its network_g block. Sizes are read off the tensors, so that a
checkpoint with wrong notes is converted all the same.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable
from typing import NamedTuple

import torch
import yaml

from ..archs.building import build
from ..errors import UserError
from ..files import atomic_write
from .files import save_whole
from .jax_pickle import is_plain_pickle, load_tree
from .reading import check_fits, contents, load_safely
from .thera_conversion import convert_thera

State = dict[str, torch.Tensor]
_EXPECTED = "expected the authors' format {'model': {'name', 'args', 'sd'}}, MMagic's, or a pickle of Thera"

# (name in the authors' EDSR, name in BasicSR's); the last convolution of the body is conv_after_body there
_EDSR = (
    (r"^head\.0\.(.*)$", r"conv_first.\1"),
    (r"^body\.(\d+)\.body\.0\.(.*)$", r"body.\1.conv1.\2"),
    (r"^body\.(\d+)\.body\.2\.(.*)$", r"body.\1.conv2.\2"),
    (r"^body\.\d+\.(weight|bias)$", r"conv_after_body.\1"),
    (r"^tail\.0\.(.*)$", r"upsample.\1"),
    (r"^tail\.1\.(.*)$", r"conv_last.\1"),
)
# tensors that the authors' EDSR holds and never uses
_UNUSED = re.compile(r"^(sub_mean|add_mean)\.")


# (name in MMagic's RDN, name in the authors'); MMagic's EDSR is BasicSR's
_MMAGIC_EDSR = re.compile(r"^(conv_first|conv_after_body|body\.\d+\.conv[12])\.(weight|bias)$")
_MMAGIC_RDN = (
    (r"^sfe([12])\.", r"SFENet\1."),
    (r"^rdbs\.(\d+)\.layers\.(\d+)\.conv\.", r"RDBs.\1.convs.\2.conv.0."),
    (r"^rdbs\.(\d+)\.lff\.", r"RDBs.\1.LFF."),
    (r"^gff\.", "GFF."),
)


def load_foreign(path: str) -> dict:
    """Load a checkpoint of the authors or of MMagic without running code in it.

    Returns:
        {'name', 'args', 'sd'} of the authors, {'name': 'mmagic', 'sd'}, or {'name': 'thera', 'sd'}.

    Raises:
        UserError: for another file; it says what the file is.
    """
    if os.path.isfile(path) and is_plain_pickle(path):
        return {"name": "thera", "sd": {name: torch.tensor(value) for name, value in load_tree(path).items()}}
    content = load_safely(path)
    if not isinstance(content, dict):
        raise UserError(f"{path}: {_EXPECTED}, found {contents(content)}.")
    model, state = content.get("model"), content.get("state_dict")
    if isinstance(model, dict) and {"name", "args", "sd"} <= set(model):
        return model
    if isinstance(state, dict):
        if any(str(name).startswith("generator.imnet.") for name in state):
            return {"name": "mmagic", "sd": _below("generator.", state)}
        raise UserError(
            f"{path}: is an OpenMMLab checkpoint, but of no LIIF; its tensors are {_some_names(state)} ..."
        )
    if {"params", "params_ema"} & set(content):
        raise UserError(
            f"{path}: is a BasicSR checkpoint already (it holds {contents(content)}); use it as "
            "path.pretrain_network_g."
        )
    if content and all(isinstance(value, torch.Tensor) for value in content.values()):
        raise UserError(
            f"{path}: is a bare state dict ({_some_names(content)} ...); expected the authors' or MMagic's "
            "checkpoint."
        )
    raise UserError(f"{path}: {_EXPECTED}, found {contents(content)}.")


def _below(prefix: str, state: dict) -> dict:
    """Return the entries whose names begin with ``prefix``, without it."""
    return {
        name[len(prefix) :]: value
        for name, value in state.items()
        if isinstance(name, str) and name.startswith(prefix)
    }


def _some_names(state: dict) -> str:
    """Return the first three names of a state dict."""
    return ", ".join(name if isinstance(name, str) else type(name).__name__ for name in list(state)[:3])


def _count(state: State, pattern: str) -> int:
    """Return one more than the largest number in the group of ``pattern`` among the names that match."""
    matches = (re.match(pattern, name) for name in state)
    return 1 + max(int(match[1]) for match in matches if match)


def _res_scale(spec: dict) -> float:
    """Return the factor of EDSR's residual blocks: 0.1 in the authors' large EDSR, 1 in EDSR-baseline.

    No tensor tells it.
    """
    args = spec.get("args") or {}
    return float(args.get("res_scale", 0.1 if spec.get("name") == "edsr" else 1))


def _renamed(name: str, rules: tuple[tuple[str, str], ...]) -> str | None:
    """Return ``name`` by the first rule whose pattern matches, or None."""
    for pattern, replacement in rules:
        if re.match(pattern, name):
            return re.sub(pattern, replacement, name)
    return None


def _edsr(state: State, spec: dict) -> tuple[dict, State]:
    """Convert an EDSR of the authors.

    Args:
        state: its tensors.
        spec: {'name', 'args'} of the checkpoint.
    """
    renamed = {}
    for name, value in state.items():
        if _UNUSED.match(name):
            continue
        new = _renamed(name, _EDSR)
        if new is None:
            raise UserError(f"tensor '{name}' belongs to no EDSR.")
        renamed[new] = value
    block = {
        "type": "EDSR",
        "num_feat": len(state["head.0.bias"]),
        "num_block": _count(state, r"body\.(\d+)\.body"),
    }
    factor = _res_scale(spec)
    if factor != 1:
        block["res_scale"] = factor
    return block, renamed


def _rdn(state: State) -> tuple[dict, State]:
    """Convert an RDN of the authors: its names are ours."""
    block = {
        "type": "LIIF_RDN",
        "num_feat": len(state["SFENet1.bias"]),
        "num_block": _count(state, r"RDBs\.(\d+)\."),
        "num_layer": _count(state, r"RDBs\.0\.convs\.(\d+)\."),
        "growth": len(state["RDBs.0.convs.0.conv.0.bias"]),
    }
    return block, dict(state)


def _swinir(state: State) -> tuple[dict, State]:
    """Convert a SwinIR of the authors of LTE and LMF: its names are BasicSR's.

    Its features go through ``conv_before_upsample``, as with BasicSR's ``upsampler: pixelshuffle``.
    """
    # (layer, block) -> the table of relative positions ((2 window - 1)^2, heads)
    tables: dict[tuple[int, int], torch.Tensor] = {}
    masks: dict[tuple[int, int], torch.Tensor] = {}  # (layer, block) -> (windows, window^2, window^2)
    for name, value in state.items():
        match = re.match(
            r"layers\.(\d+)\.residual_group\.blocks\.(\d+)\.(attn\.rel\w+_table|attn_mask)$", name
        )
        if match:
            kind = masks if match[3] == "attn_mask" else tables
            kind[int(match[1]), int(match[2])] = value
    depths = [sum(layer == i for layer, _ in tables) for i in range(1 + max(i for i, _ in tables))]
    window = (1 + math.isqrt(len(tables[0, 0]))) // 2
    embed_dim, first = len(state["conv_first.bias"]), "layers.0.residual_group.blocks.0.mlp.fc1.bias"
    block = {
        "type": "SwinIR",
        "embed_dim": embed_dim,
        "depths": depths,
        "num_heads": [tables[layer, 0].shape[1] for layer in range(len(depths))],
        "window_size": window,
        "mlp_ratio": len(state[first]) / embed_dim,
    }
    if masks:  # they belong to the image size of the training
        block["img_size"] = window * math.isqrt(len(next(iter(masks.values()))))
    if "conv_before_upsample.0.weight" in state:
        block["upsampler"] = "pixelshuffle"
    return block, dict(state)


def _network(state: State, spec: dict) -> tuple[dict, State]:
    """Convert an encoder, or a whole network of a fixed scale, of the authors."""
    if "head.0.weight" in state:
        return _edsr(state, spec)
    if "SFENet1.weight" in state:
        return _rdn(state)
    if "patch_embed.norm.weight" in state:
        return _swinir(state)
    raise UserError(f"expected an EDSR or an RDN, or a SwinIR, found tensors such as {_some_names(state)}.")


def _fixed_scale(state: State, spec: dict) -> tuple[dict, State]:
    """Convert an EDSR or RDN with its upsampler, which is a network of one scale."""
    block, renamed = _network(state, spec)
    # how many times more channels each convolution before a pixel shuffle has
    if block["type"] == "EDSR":
        names = [name for name in state if re.match(r"tail\.0\.\d+\.weight", name)]
        gains = [state[name].shape[0] // block["num_feat"] for name in names]
        # images in [-1, 1] like the authors', by BasicSR's own input shift
        block.update(num_in_ch=3, num_out_ch=3, img_range=2.0, rgb_mean=[0.5, 0.5, 0.5])
    else:
        names = [name for name in state if re.match(r"UPNet\.\d+\.weight", name)]
        gains = [state[name].shape[0] // block["growth"] for name in names[:-1]]
    if not gains:
        raise UserError("an encoder alone, without an upsampler or a decoder, makes no pictures.")
    block["upscale"] = round(math.prod(math.sqrt(gain) for gain in gains))
    return block, renamed


def _switches(in_features: int, channels: int) -> dict[str, bool]:
    """Return feat_unfold and cell_decode, which the width of the decoder's input tells."""
    for unfold in (True, False):
        for cell in (True, False):
            if in_features == channels * (9 if unfold else 1) + 2 + 2 * cell:
                return {"feat_unfold": unfold, "cell_decode": cell}
    raise UserError(f"a decoder with {in_features} inputs fits no LIIF on {channels} channels.")


def _hidden_list(decoder: State) -> list[int]:
    """Return the widths of the hidden layers of an MLP."""
    return [len(value) for name, value in decoder.items() if name.endswith(".bias")][:-1]


def _continuous(encoder: State, decoder: State) -> State:
    """Return the state dict of a network for any scale, whose encoder lies in ``encoder.net``."""
    return {**{f"encoder.net.{name}": value for name, value in encoder.items()}, **decoder}


def _mmagic_encoder(state: State) -> tuple[dict, State]:
    """Convert the encoder of a LIIF of MMagic."""
    if "conv_first.weight" in state:
        for name in state:
            if not _MMAGIC_EDSR.match(name):
                raise UserError(f"tensor '{name}' belongs to no EDSR of MMagic.")
        channels = len(state["conv_first.bias"])
        return {"type": "EDSR", "num_feat": channels, "num_block": _count(state, r"body\.(\d+)\.")}, state
    if "sfe1.weight" in state:
        return _rdn({_renamed(name, _MMAGIC_RDN) or name: value for name, value in state.items()})
    raise UserError(f"expected an EDSR or an RDN of MMagic, found tensors such as {_some_names(state)}.")


def _mmagic(state: State) -> tuple[dict, State]:
    """Convert a LIIF of MMagic, with EDSR or RDN."""
    decoder = {name: value for name, value in state.items() if name.startswith("imnet.")}
    block, encoder = _mmagic_encoder({name: value for name, value in state.items() if name not in decoder})
    switches = _switches(decoder["imnet.layers.0.weight"].shape[1], block["num_feat"])
    network_g = {"type": "LIIF", "encoder": block, "hidden_list": _hidden_list(decoder), **switches}
    return network_g, _continuous(encoder, decoder)


def _split(model: dict) -> tuple[dict, State, State, dict]:
    """Return the encoder's block and tensors, the decoder's tensors, and the arguments of a checkpoint."""
    args, state = model["args"] or {}, model["sd"]
    block, encoder = _network(_below("encoder.", state), args.get("encoder_spec") or {})
    decoder = {name: value for name, value in state.items() if not name.startswith("encoder.")}
    return block, encoder, decoder, args


def _liif(model: dict) -> tuple[dict, State]:
    """Convert a LIIF or MetaSR."""
    encoder_block, encoder, decoder, args = _split(model)
    is_liif = model["name"] == "liif"
    block: dict = {"type": "LIIF" if is_liif else "MetaSR", "encoder": encoder_block}
    block["hidden_list"] = _hidden_list(_below("imnet.", decoder))
    if is_liif:
        for switch in ("feat_unfold", "local_ensemble", "cell_decode"):
            block[switch] = bool(args.get(switch, True))
    return block, _continuous(encoder, decoder)


def _lte(model: dict) -> tuple[dict, State]:
    """Convert an LTE, or an LTE+, which is the same function in another layout."""
    encoder_block, encoder, decoder, _ = _split(model)
    if model["name"] == "lte-fast":
        decoder = _of_lte_plus(decoder)
    block = {
        "type": "LTE",
        "encoder": encoder_block,
        "hidden_dim": len(decoder["coef.bias"]),
        "hidden_list": _hidden_list(_below("imnet.", decoder)),
    }
    return block, _continuous(encoder, decoder)


def _of_lte_plus(decoder: State) -> State:
    """Return the tensors of LTE+ as LTE has them.

    Its frequencies are all of y, then all of x; LTE's follow each other in pairs. Its MLP is made of 1x1
    convolutions.
    """
    if "layers.0.weight" not in decoder:
        raise UserError("expected the layers of LTE+, layers.0 and so on, found none.")
    converted = {}
    K = len(decoder["phase.weight"])
    for name, value in decoder.items():
        if name.startswith("layers."):
            name = f"imnet.{name}"
            value = value.flatten(1) if value.dim() == 4 else value
        elif name.startswith("freq."):
            value = torch.stack([value[:K], value[K:]], dim=1).flatten(0, 1)
        converted[name] = value
    return converted


def _lm(model: dict) -> tuple[dict, State]:
    """Convert an LM-LIIF or LM-LTE."""
    encoder_block, encoder, decoder, args = _split(model)
    if args.get("cmsr_spec"):
        raise UserError("expected a network without CMSR (cmsr_spec), which is not supported.")
    widths = _hidden_list(_below("imnet.", decoder))
    block = {
        "type": "LMLIIF" if model["name"] == "lmliif" else "LMLTE",
        "encoder": encoder_block,
        "hidden_dim": widths[0],
        "hidden_depth": len(widths),
        "hypernet_list": _hidden_list(_below("hypernet.", decoder)),
        "local_ensemble": bool(args.get("local_ensemble", True)),
    }
    if model["name"] == "lmlte":
        block["wave_dim"] = len(decoder["coef.bias"])
    off = [name for name, on in _lm_switches(decoder, args, sum(widths)).items() if not on]
    if model["name"] == "lmlte" and "cell_decode" in off:
        raise UserError("expected an LM-LTE with cell_decode: true, found false, which is not supported.")
    return {**block, **dict.fromkeys(off, False)}, _continuous(encoder, decoder)


def _lm_switches(decoder: State, args: dict, modulated: int) -> dict[str, bool]:
    """Return the switches of an LM-LIIF or LM-LTE, whose render MLP has ``modulated`` hidden channels.

    The authors' default of mod_input is false, and published notes may lack it: the hypernet's size tells.
    """
    render = (args.get("imnet_spec") or {}).get("args") or {}
    switches = {name: bool(args.get(name, True)) for name in ("feat_unfold", "cell_decode")}
    switches |= {name: bool(render.get(name, True)) for name in ("mod_scale", "mod_shift")}
    outputs = len(list(_below("hypernet.", decoder).values())[-1])
    switches["mod_input"] = outputs > modulated * (switches["mod_scale"] + switches["mod_shift"])
    return switches


def _srno(model: dict) -> tuple[dict, State]:
    """Convert an SRNO."""
    encoder_block, encoder, decoder, _ = _split(model)
    heads, _, channels = decoder["conv0.kln.weight"].shape
    block = {
        "type": "SRNO",
        "encoder": encoder_block,
        "width": heads * channels,
        "heads": heads,
        "hidden_dim": len(decoder["fc1.bias"]),
    }
    return block, _continuous(encoder, decoder)


# name in the checkpoint -> how it is converted; others are networks of one scale
_CONVERTERS: dict[str, Callable[[dict], tuple[dict, State]]] = {
    "liif": _liif,
    "metasr": _liif,
    "lte": _lte,
    "lte-fast": _lte,
    "lmliif": _lm,
    "lmlte": _lm,
    "sronet": _srno,
    "thera": lambda model: convert_thera(model["sd"]),
    "mmagic": lambda model: _mmagic(model["sd"]),
}


def convert(model: dict) -> tuple[dict, State]:
    """Convert a network of the family, or an EDSR or RDN with its upsampler.

    Args:
        model: as ``load_foreign`` returns it.

    Returns:
        The network_g block and the state dict.

    Raises:
        UserError: for another network.
    """
    state = model["sd"]
    if (
        not isinstance(state, dict)
        or not all(isinstance(name, str) for name in state)
        or not all(isinstance(value, torch.Tensor) for value in state.values())
    ):
        raise UserError("expected a state dict of tensors, found something else.")
    name = model["name"]
    converter = _CONVERTERS.get(name) if isinstance(name, str) else None
    try:
        return converter(model) if converter else _fixed_scale(state, model)
    except UserError as error:
        if converter:
            raise
        raise UserError(
            f"'{str(name)[:40]}': expected one of {', '.join(_CONVERTERS)} or a network of one scale: {error}"
        ) from error
    except Exception as error:  # missing tensors and odd shapes are met in many places
        raise UserError(
            f"a checkpoint that no known network fits ({type(error).__name__}: {error})."
        ) from error


class Converted(NamedTuple):
    """A converted checkpoint.

    Attributes:
        block: the network_g block of an option file.
        state: the state dict.
        parameters: of the network; a state dict may hold other numbers too.
    """

    block: dict
    state: State
    parameters: int


def convert_file(checkpoint: str) -> Converted:
    """Convert a checkpoint of somebody else's, and check that the network it names takes every tensor.

    Args:
        checkpoint: its path.

    Raises:
        UserError: if it cannot be read safely or no known network fits.
    """
    try:
        block, state = convert(load_foreign(checkpoint))
        network = build(block)
    except UserError as error:
        raise UserError(
            str(error) if str(error).startswith(checkpoint) else f"{checkpoint}: {error}"
        ) from error
    check_fits(state, network, checkpoint)
    return Converted(block, state, sum(value.numel() for value in network.parameters()))


def write_converted(converted: Converted, path: str, about: dict | None = None) -> str:
    """Write a converted checkpoint to ``path`` and the option file of its network beside it.

    Args:
        converted: from ``convert_file``.
        path: NAME.pth.
        about: facts for the option file's block ``about``.

    Returns:
        The text of the option file, NAME.yml.
    """
    options = {"network_g": converted.block, **({} if about is None else {"about": about})}
    text = yaml.safe_dump(options, sort_keys=False, default_flow_style=None)
    save_whole({"params": converted.state}, path)
    with atomic_write(path.removesuffix(".pth") + ".yml", text=True) as file:
        file.write(text)
    return text
