"""Load a network by the name of its weights, by path, or from an experiment."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import nn

from ..archs.building import build as build_network
from ..config.option_files import read_options
from ..errors import UserError, nearest
from . import DEFAULT_MODEL
from .cache import find_cached
from .downloadable import KNOWN
from .files import newest_weights
from .reading import check_fits, load_params

SHIPPED = {path.stem: path for path in sorted((Path(__file__).parent / "bundled").glob("*.pth"))}


def load(model: str | os.PathLike = DEFAULT_MODEL, device: torch.device | str | None = None) -> nn.Module:
    """Load a network with its weights, in eval mode, without gradients.

    Args:
        model: one of
            * the name of weights that come with the package, or that `liif models --download NAME` has put
              into the cache folder (`liif models` lists both);
            * a .pth file whose option file (.yml) has the same name and lies beside it, as `liif convert`
              writes it, or lies in the folder of the experiment;
            * the folder of an experiment, whose newest weights are taken.
        device: where to put the network; None is the GPU if there is one, else the CPU.

    Returns:
        The network in float32. One for any scale has the methods of ``archs.base.ContinuousNetwork``; one of
        a fixed scale is called with lq (B, 3, h, w) in [0, 1].

    Raises:
        UserError: if ``model`` is none of these, the weights are damaged or those of another network, or
            they hold numbers that are not finite.

    Example:
        >>> import torch
        >>> net = load(device="cpu")
        >>> feat = net.encode(torch.rand(1, 3, 24, 32))
        >>> feat.shape[-2:]
        torch.Size([24, 32])
    """
    network_g, weights = find(model)
    net = build(network_g, weights, "params_ema", f"model {os.fspath(model)}")
    for name, value in net.state_dict().items():
        if not value.isfinite().all():
            raise UserError(
                f"{weights}: '{name}' holds numbers that are not finite: its training diverged; take another "
                "checkpoint."
            )
    return net.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))


def find(model: str | os.PathLike) -> tuple[dict, str]:
    """Return (network_g, path of the weights) of a ``model`` as ``load`` takes it."""
    if not isinstance(model, (str, os.PathLike)):
        raise UserError(
            "model: expected the name of weights, a .pth file or the folder of an experiment, got "
            f"{type(model).__name__}."
        )
    name = os.fspath(model)
    path = str(SHIPPED[name]) if name in SHIPPED else name
    if name in KNOWN:
        path = find_cached(name)
    if os.path.isdir(path):
        newest = newest_weights(os.path.join(path, "models"))
        if newest is None:
            raise UserError(
                f"model {name}: expected the folder of an experiment, found no models/net_g_latest.pth in it."
            )
        return _network_of(Path(path).glob("*.yml"), name), newest
    if not os.path.isfile(path):
        raise _no_such_model(name)
    beside = Path(path).with_suffix(".yml")
    return _network_of([beside] if beside.is_file() else _option_files_above(path), name), path


def _no_such_model(name: str) -> UserError:
    names = [*SHIPPED, *KNOWN]
    return UserError(
        f"model {name}: expected a .pth file, the folder of an experiment or the name "
        f"{' or '.join(SHIPPED)}, found none of them{nearest(name, names)} (looked from {os.getcwd()})."
    )


def _option_files_above(weights: str) -> list[Path]:
    """Return the option files of the experiment FOLDER for FOLDER/models/NAME.pth."""
    return list(Path(weights).resolve().parent.parent.glob("*.yml"))


def _network_of(option_files: Iterable[Path], model: str) -> dict:
    """Return the first ``network_g`` block of the option files."""
    for path in sorted(option_files):
        block = read_options(str(path)).get("network_g")
        if isinstance(block, dict):
            return block
    raise UserError(
        f"model {model}: a .pth file does not say which network it is for. Expected an option file (.yml) of "
        "the same name beside it, or in the experiment's folder above it."
    )


def build(network_g: dict, weights: str | None, key: str, where: str) -> nn.Module:
    """Build a network in eval mode on the CPU, and load its weights.

    Args:
        network_g: the block of an option file.
        weights: the file, or None for a network without parameters.
        key: of the state dict in the file, 'params' or 'params_ema'.
        where: what to call the network in messages.

    Raises:
        UserError: if it cannot be built, has no weights, or they are those of another network.
    """
    # float32 whatever torch.set_default_dtype says: pictures and coordinates come in float32
    net = build_network(network_g, f"{where}: network_g").eval().float()
    if weights is not None:
        state = load_params(weights, key)
        check_fits(state, net, weights)
        net.load_state_dict(state)
    elif any(True for _ in net.parameters()):
        raise UserError(f"{where}: has no weights; name a .pth file with `weights:`.")
    return net.requires_grad_(False)
