"""Small networks, and the authors' with their weights."""

import torch
from basicsr.archs import build_network

from helpers import GOLDEN
from liif_plugin.checkpoints.conversion import convert, load_foreign

SMALL = {"type": "LIIF", "encoder": {"type": "EDSR", "num_feat": 8, "num_block": 1}, "hidden_list": [16, 16]}


ENCODERS = {
    "EDSR": {"num_feat": 8, "num_block": 2},
    "MSRResNet": {"num_feat": 8, "num_block": 2},
    "RCAN": {"num_feat": 16, "num_group": 1, "num_block": 2, "squeeze_factor": 4},
    "RRDBNet": {"num_feat": 8, "num_block": 1, "num_grow_ch": 4},
    "LIIF_RDN": {"num_feat": 8, "num_block": 2, "num_layer": 2, "growth": 4},
    "SRVGGNetCompact": {"num_feat": 8, "num_conv": 2},
    "SwinIR": {"embed_dim": 12, "depths": [2], "num_heads": [2], "window_size": 4, "mlp_ratio": 2},
}


def official(name):
    network, state = convert(load_foreign(str(GOLDEN / f"{name}.pth")))
    net = build_network(network).eval()
    net.load_state_dict(state, strict=True)
    return net


# A small network of every class that answers queries at any scale; a test checks that none is missing.
_EDSR = {"type": "EDSR", "num_feat": 8, "num_block": 1}
EVERY_NETWORK = {
    "Bicubic": {},
    "LIIF": {"encoder": _EDSR, "hidden_list": [16, 16]},
    "LMLIIF": {"encoder": _EDSR, "hidden_dim": 8, "hidden_depth": 2, "hypernet_list": [16]},
    "LMLTE": {"encoder": _EDSR, "wave_dim": 8, "hidden_dim": 4, "hidden_depth": 3, "hypernet_list": [16]},
    "LTE": {"encoder": _EDSR, "hidden_dim": 12, "hidden_list": [16, 16]},
    "MetaSR": {"encoder": _EDSR, "hidden_list": [16]},
    "SRNO": {"encoder": _EDSR, "width": 12, "heads": 3, "hidden_dim": 16},
    "Thera": {"encoder": _EDSR, "waves": 12},
    # as the networks that come with the package
    "Thera, blended": {
        "encoder": _EDSR,
        "waves": 12,
        "tail": {"hidden": 8},
        "residual": "bilinear",
        "radius": 6.0,
        "local_ensemble": True,
    },
}


def one_of_every(name):
    """A network of EVERY_NETWORK with random weights."""
    torch.manual_seed(0)
    return build_network({"type": name.split(",")[0], **EVERY_NETWORK[name]}).eval().requires_grad_(False)
