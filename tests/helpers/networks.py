"""Small networks, and the authors' with their weights."""

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
    "SwinIR": {"embed_dim": 12, "depths": [2], "num_heads": [2], "window_size": 4, "mlp_ratio": 2},
}


def official(name):
    network, state = convert(load_foreign(str(GOLDEN / f"{name}.pth")))
    net = build_network(network).eval()
    net.load_state_dict(state, strict=True)
    return net
