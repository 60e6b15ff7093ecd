"""Convert checkpoints of the authors' code and of MMagic to a BasicSR state dict and its network_g block.

Sizes are read off the tensors, so that a checkpoint with wrong notes is converted all the same.
"""

from __future__ import annotations

import math
import re

import torch
import yaml

from ..archs.building import build
from ..errors import UserError
from ..files import atomic_write
from .reading import check_fits, contents, load_safely
from .writing import save_whole

State = dict[str, torch.Tensor]
_EXPECTED = "expected the authors' format {'model': {'name', 'args', 'sd'}} or MMagic's"

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
        {'name', 'args', 'sd'} of the authors, or {'name': 'mmagic', 'sd'}.

    Raises:
        UserError: for a file that is neither; it says what the file is.
    """
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
            f"checkpoint."
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


def _network(state: State, spec: dict) -> tuple[dict, State]:
    """Convert an encoder, or a whole network of a fixed scale, of the authors."""
    if "head.0.weight" in state:
        return _edsr(state, spec)
    if "SFENet1.weight" in state:
        return _rdn(state)
    raise UserError(f"expected an EDSR or an RDN, found tensors such as {_some_names(state)}.")


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
    """Return the state dict of a continuous network: its encoder is a network of BasicSR in
    ``encoder.net``.
    """
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


def convert(model: dict) -> tuple[dict, State]:
    """Convert a LIIF or MetaSR with EDSR or RDN, or an EDSR or RDN with its upsampler.

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
        or not all(isinstance(value, torch.Tensor) and value.dim() for value in state.values())
    ):
        raise UserError("expected a state dict of tensors, found something else.")
    try:
        return _converted(model)
    except UserError:
        raise
    except Exception as error:  # missing tensors and odd shapes are met in many places
        raise UserError(
            f"a checkpoint that no known network fits ({type(error).__name__}: {error})."
        ) from error


def _converted(model: dict) -> tuple[dict, State]:
    if model["name"] == "mmagic":
        return _mmagic(model["sd"])
    name, args, state = model["name"], model["args"] or {}, model["sd"]
    if name not in ("liif", "metasr"):
        return _fixed_scale(state, model)
    encoder_block, encoder = _network(_below("encoder.", state), args.get("encoder_spec") or {})
    decoder = {key: value for key, value in state.items() if key.startswith("imnet.")}
    block: dict = {
        "type": "LIIF" if name == "liif" else "MetaSR",
        "encoder": encoder_block,
        "hidden_list": _hidden_list(decoder),
    }
    if name == "liif":
        for switch in ("feat_unfold", "local_ensemble", "cell_decode"):
            block[switch] = bool(args.get(switch, True))
    return block, _continuous(encoder, decoder)


def convert_file(checkpoint: str) -> tuple[dict, State]:
    """Convert a checkpoint of somebody else's, and check that the network it names takes every tensor.

    Args:
        checkpoint: its path.

    Returns:
        The network_g block and the state dict.

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
    return block, state


def write_converted(block: dict, state: State, path: str, about: dict | None = None) -> str:
    """Write a converted checkpoint to ``path`` and the option file of its network beside it.

    Args:
        block: the network_g block.
        state: the state dict.
        path: NAME.pth.
        about: facts for the option file's block ``about``.

    Returns:
        The text of the option file, NAME.yml.
    """
    options = {"network_g": block, **({} if about is None else {"about": about})}
    text = yaml.safe_dump(options, sort_keys=False, default_flow_style=None)
    save_whole({"params": state}, path)
    with atomic_write(path.removesuffix(".pth") + ".yml", text=True) as file:
        file.write(text)
    return text
