"""Checkpoints of the authors' code -> a BasicSR state dict plus the network_g block that builds its network."""

from __future__ import annotations

import re

from .errors import UserError
from .models.checkpoint import load_safely

# names inside the published EDSR -> names inside BasicSR's; the last conv of its body is conv_after_body here
_EDSR = (
    (r"^head\.0\.(.*)$", r"conv_first.\1"),
    (r"^body\.(\d+)\.body\.0\.(.*)$", r"body.\1.conv1.\2"),
    (r"^body\.(\d+)\.body\.2\.(.*)$", r"body.\1.conv2.\2"),
    (r"^body\.(\d+)\.(weight|bias)$", r"conv_after_body.\2"),
)
_DEAD = re.compile(r"^encoder\.(sub_mean|add_mean)\.")  # tensors that the published EDSR carries and never uses


def load_official(path: str) -> dict:
    """The ``model`` entry {'name', 'args', 'sd'} of an official checkpoint file, loaded without running code in it.

    Raises:
        UserError: for a file that is no such checkpoint.
    """
    content = load_safely(path)
    model = content.get("model") if isinstance(content, dict) else None
    if not isinstance(model, dict) or not {"name", "args", "sd"} <= set(model):
        raise UserError(f"{path}: expected the authors' format {{'model': {{'name', 'args', 'sd'}}}}, found something else.")
    return model


def _rename(name: str) -> str:
    if not name.startswith("encoder."):
        return name  # imnet.layers.N is ours too
    inner = name[len("encoder.") :]
    for pattern, replacement in _EDSR:
        if re.match(pattern, inner):
            return "encoder.net." + re.sub(pattern, replacement, inner)
    raise UserError(f"tensor '{name}' belongs to no encoder that can be converted.")


def convert_liif(model: dict) -> tuple[dict, dict]:
    """An official LIIF with an EDSR encoder -> (network_g options, state dict of our LIIF).

    Args:
        model: as ``load_official`` returns it.

    Raises:
        UserError: for a network that is not a LIIF with an EDSR encoder.
    """
    args = model["args"]
    encoder = args.get("encoder_spec", {})
    if model["name"] != "liif" or not encoder.get("name", "").startswith("edsr"):
        raise UserError(f"expected a liif with an edsr encoder, got '{model['name']}' with '{encoder.get('name')}'.")
    network = {
        "type": "LIIF",
        "encoder": {"type": "EDSR", "num_feat": encoder["args"].get("n_feats", 64), "num_block": encoder["args"].get("n_resblocks", 16)},
        "hidden_list": list(args["imnet_spec"]["args"]["hidden_list"]),
        **{key: args.get(key, True) for key in ("feat_unfold", "local_ensemble", "cell_decode")},
    }
    state = {_rename(name): value for name, value in model["sd"].items() if not _DEAD.match(name)}
    return network, state
