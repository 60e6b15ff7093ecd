"""Write the encoder of a trained LIIF as the start of a Thera, see options/user/train_standard.yml.

  python scripts/start_weights.py edsr-baseline-liif -o standard_start.pth
  python scripts/start_weights.py liif-light --blocks 8 -o light_start.pth

LIIF's encoder takes 2 x - 1, Thera's (x - mean) / std. The first convolution absorbs the difference, except
at the border, where it pads with zeros.
"""

from __future__ import annotations

import argparse
import math
import re

import torch
from torch import Tensor

import liif_plugin.register  # noqa: F401  (BasicSR needs its stand-ins)
from liif_plugin.archs.thera_arch import MEAN, VARIANCE
from liif_plugin.checkpoints.loading import load
from liif_plugin.files import atomic_write

FIRST = "encoder.net.conv_first"


def start_weights(model: str, blocks: int | None) -> dict[str, Tensor]:
    """Return the weights of the encoder of ``model``, or of its first blocks, for Thera's input."""
    state = {
        name: value for name, value in load(model, "cpu").state_dict().items() if name.startswith("encoder.")
    }
    # 2 x - 1 = 2 std u + (2 mean - 1) for u = (x - mean) / std
    weight = state[f"{FIRST}.weight"]
    state[f"{FIRST}.bias"] = state[f"{FIRST}.bias"] + weight.sum(dim=(2, 3)) @ (2 * torch.tensor(MEAN) - 1)
    state[f"{FIRST}.weight"] = weight * (2 * math.sqrt(VARIANCE))

    def kept(name: str) -> bool:
        block = re.match(r"encoder\.net\.body\.(\d+)\.", name)
        return block is None or blocks is None or int(block[1]) < blocks

    return {name: value for name, value in state.items() if kept(name)}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", help="a LIIF with an EDSR, as --model takes it")
    parser.add_argument("--blocks", type=int, metavar="N", help="keep the first N residual blocks")
    parser.add_argument("-o", "--output", required=True, metavar="FILE")
    args = parser.parse_args()
    with atomic_write(args.output) as file:
        torch.save({"params": start_weights(args.model, args.blocks)}, file)


if __name__ == "__main__":
    main()
