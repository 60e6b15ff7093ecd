"""Parts of the network with a learning rate of their own (``train.part_lr``) or none (``train.freeze``)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import nn

from ..config.option_types import Option, OptionType, check_values, positive
from ..errors import UserError, nearest


def _is_in(name: str, part: str) -> bool:
    """Return whether the parameter ``name`` belongs to ``part``, the name of a module or of a parameter."""
    return name == part or name.startswith(part + ".")


def check_parts(net: nn.Module, part_lr: Mapping[str, float], freeze: Iterable[str]) -> None:
    """Raise UserError unless every part exists, every rate is above 0 and something is left to train.

    Args:
        net: the network.
        part_lr: part -> learning rate, such as ``{"encoder": 1e-4}``.
        freeze: parts that are not trained.
    """
    rates: dict[str, Option | OptionType] = dict.fromkeys(part_lr, positive())
    check_values("train.part_lr", dict(part_lr), rates)
    names = [name for name, _ in net.named_parameters()]
    for option, part in [*(("part_lr", part) for part in part_lr), *(("freeze", part) for part in freeze)]:
        if not any(_is_in(name, part) for name in names):
            parts = sorted({name.split(".")[0] for name in names})
            raise UserError(
                f"train.{option}: expected parts of the network ({', '.join(parts)}, or one of their parts), "
                f"got '{part}'{nearest(part, parts)}."
            )
    if all(any(_is_in(name, part) for part in freeze) for name in names):
        raise UserError(
            f"train.freeze: {', '.join(freeze)} is the whole network; leave out what is to be trained."
        )


def freeze_parts(net: nn.Module, freeze: Iterable[str]) -> None:
    """Take the parameters of the parts ``freeze`` out of the training."""
    for name, parameter in net.named_parameters():
        if any(_is_in(name, part) for part in freeze):
            parameter.requires_grad_(False)


def parameter_groups(net: nn.Module, part_lr: Mapping[str, float]) -> list[dict]:
    """Return the groups of parameters for an optimiser of torch.optim.

    A parameter that belongs to several parts gets the rate of the innermost one.

    Args:
        net: the network; parameters without a gradient are left out.
        part_lr: part -> learning rate, such as ``{"encoder": 1e-4}``.

    Returns:
        One group ``{"params": [...], "lr": ...}`` for each part that has parameters of its own, and first
        the group of all other parameters, without ``"lr"``: they take that of the optimiser.
    """
    groups: dict[str, dict] = {"": {"params": []}}
    groups.update({part: {"params": [], "lr": lr} for part, lr in part_lr.items()})
    for name, parameter in net.named_parameters():
        if parameter.requires_grad:
            inside = [part for part in part_lr if _is_in(name, part)]
            groups[max(inside, key=len, default="")]["params"].append(parameter)
    return [group for group in groups.values() if group["params"]]


def require_same_groups(saved: list[dict], optimizers: list[torch.optim.Optimizer]) -> None:
    """Raise UserError if a training state was saved with other parts in ``train.part_lr``.

    Args:
        saved: the state dicts of the optimisers in the training state.
        optimizers: those of this run.
    """
    before = [[len(group["params"]) for group in state["param_groups"]] for state in saved]
    now = [[len(group["params"]) for group in optimizer.param_groups] for optimizer in optimizers]
    # With another number of parameters it is another network, or other parts are frozen: torch says so.
    same_parameters = sum(map(sum, before)) == sum(map(sum, now))
    if same_parameters and before != now:
        raise UserError(
            "train.part_lr: the training state was saved with other parts; restore the old parts (their "
            "rates may change), or begin a new run from its weights with path.pretrain_network_g."
        )
