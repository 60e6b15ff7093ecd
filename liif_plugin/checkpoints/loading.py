"""What ``--model`` may be -> a network with its weights, ready to be asked."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from torch import nn

from ..archs.building import build as build_network
from ..config.option_files import read_options
from ..errors import UserError, nearest
from .download import KNOWN
from .files import newest_weights
from .reading import check_fits, load_params

SHIPPED = {path.stem: path for path in sorted((Path(__file__).parent / "bundled").glob("*.pth"))}


def load(model: str | os.PathLike = "liif-light", device: torch.device | str | None = None) -> nn.Module:
    """A network with its weights, in eval mode, without gradients.

    Args:
        model: the name of weights that come with the package; a .pth file whose option file lies beside it (as `liif convert` leaves
            it) or in the experiment above it; or the folder of an experiment, of which the newest weights are taken.
        device: where to put it; None is the GPU if there is one.

    Raises:
        UserError: where there is no such model, its network is not known, or the weights are another network's.
    """
    network_g, weights = find(model)
    net = build(network_g, weights, "params_ema", f"--model {model}")
    odd = next((name for name, value in net.state_dict().items() if not value.isfinite().all()), None)
    if odd is not None:
        raise UserError(
            f"{weights}: '{odd}' holds numbers that are not finite: its training diverged; take another checkpoint."
        )
    return net.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))


def find(model: str | os.PathLike) -> tuple[dict, str]:
    """(network_g, path of the weights) of what ``load`` takes."""
    model = os.fspath(model)
    if model in SHIPPED:
        model = str(SHIPPED[model])
    if os.path.isdir(model):
        newest = newest_weights(os.path.join(model, "models"))
        if newest is None:
            raise UserError(
                f"--model {model}: is no experiment's folder: there is no models/net_g_latest.pth in it."
            )
        return _network_of(Path(model).glob("*.yml"), model), newest
    if not os.path.isfile(model):
        if model in KNOWN:
            raise UserError(
                f"--model {model}: download it first: `liif convert --fetch {model} -o {model}.pth`, then --model {model}.pth."
            )
        raise UserError(
            f"--model {model}: neither a file, nor an experiment's folder, nor one of {', '.join(SHIPPED) or 'none shipped'}"
            f"{nearest(model, [*SHIPPED, *KNOWN])} (looked from {os.getcwd()})."
        )
    beside = Path(model).with_suffix(".yml")
    return _network_of([beside] if beside.is_file() else _above(model), model), model


def _above(weights: str) -> list[Path]:
    """The option files in the experiment's folder, FOLDER/models/NAME.pth."""
    return list(Path(weights).resolve().parent.parent.glob("*.yml"))


def _network_of(candidates, model: str) -> dict:
    for path in sorted(candidates):
        block = read_options(str(path)).get("network_g")
        if isinstance(block, dict):
            return block
    raise UserError(
        f"--model {model}: its network is not known: expected an option file with network_g beside the .pth, of the same "
        "name, or in the experiment's folder above it."
    )


def build(network_g: dict, weights: str | None, key: str, where: str) -> nn.Module:
    """The network of a ``network_g`` block in eval mode on the CPU, with the weights under ``key`` of a file.

    Raises:
        UserError: where it cannot be built, has no weights, or they are another network's.
    """
    net = build_network(network_g, f"{where}: network_g").eval()
    if weights is not None:
        state = load_params(weights, key)
        check_fits(state, net, weights)
        net.load_state_dict(state)
    elif any(True for _ in net.parameters()):
        raise UserError(f"{where}: has no weights; name a .pth file with `weights:`.")
    return net.requires_grad_(False)
