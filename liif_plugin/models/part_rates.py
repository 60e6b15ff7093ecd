"""A learning rate of its own for a part of the network: ``train.part_lr``."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from ..config.option_types import Option, OptionType, check_values, positive
from ..errors import UserError, nearest


def _is_in(name: str, part: str) -> bool:
    """Return whether the parameter ``name`` belongs to ``part``, the name of a module or of a parameter."""
    return name == part or name.startswith(part + ".")


def check_part_lr(net: nn.Module, part_lr: Mapping[str, float]) -> None:
    """Raise UserError unless every part of ``train.part_lr`` exists and has a rate above 0.

    Args:
        net: the network.
        part_lr: part -> learning rate, such as ``{"encoder": 1e-4}``.
    """
    rates: dict[str, Option | OptionType] = dict.fromkeys(part_lr, positive())
    check_values("train.part_lr", dict(part_lr), rates)
    names = [name for name, _ in net.named_parameters()]
    for part in part_lr:
        if not any(_is_in(name, part) for name in names):
            parts = sorted({name.split(".")[0] for name in names})
            raise UserError(
                f"train.part_lr: expected parts of the network ({', '.join(parts)}, or one of their parts), "
                f"got '{part}'{nearest(part, parts)}."
            )


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
    same_network = sum(map(sum, before)) == sum(map(sum, now))
    if same_network and before != now:
        raise UserError(
            "train.part_lr: the training state was saved with other parts; restore the old parts (their "
            "rates may change), or begin a new run from its weights with path.pretrain_network_g."
        )
