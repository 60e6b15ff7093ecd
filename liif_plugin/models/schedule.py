"""Resume with the option file's settings of the optimiser and of the schedule, and the state's moments.

BasicSR restores the settings from the state. It would silently ignore the option file's learning rate,
milestones and periods, and a longer cosine would fail at the first iteration beyond the old one.
"""

from __future__ import annotations

from collections.abc import Callable

from ..errors import UserError

SCHEDULE = (
    "base_lrs",
    "milestones",
    "gamma",
    "restarts",
    "restart_weights",
    "periods",
    "cumulative_period",
    "eta_min",
)
PASSING = ("params", "lr")  # of a group of the optimiser; the file's learning rate is its initial_lr


def _settings(groups: list[dict]) -> list[dict]:
    return [{key: value for key, value in group.items() if key not in PASSING} for group in groups]


def _schedule(scheduler) -> dict:
    return {key: vars(scheduler)[key] for key in SCHEDULE if key in vars(scheduler)}


def _plain(value: object) -> object:
    """Return a value as it is compared: tuples as lists, a Counter of milestones as a sorted list."""
    if isinstance(value, dict):
        return sorted(key for key, count in value.items() for _ in range(count))
    return [_plain(one) for one in value] if isinstance(value, (list, tuple)) else value


def _changes(old: dict, new: dict, hidden: tuple[str, ...]) -> list[str]:
    pairs = [
        (key, _plain(old[key]), _plain(value))
        for key, value in new.items()
        if key in old and key not in hidden
    ]
    return [
        f"{'lr' if key == 'initial_lr' else key} {before} -> {now}"
        for key, before, now in pairs
        if before != now
    ]


def require_same_optimiser(saved: list[str] | None, optimizers: list) -> None:
    """Raise UserError if the state was saved by an optimiser of another type.

    Args:
        saved: the types in the state; None for a state of an older version, which does not have them.
        optimizers: those of this run.
    """
    own = [type(optimizer).__name__ for optimizer in optimizers]
    if saved is not None and saved != own:
        raise UserError(
            f"train.optim_g.type: the state was saved by {', '.join(saved)}, and {', '.join(own)} cannot go "
            "on from it; begin a new run from its weights with path.pretrain_network_g."
        )


def resume_settings(optimizers: list, schedulers: list, load: Callable[[], None]) -> list[str]:
    """Load the states of optimisers and schedulers, but keep the settings of this run.

    With the same settings the learning rate is the state's, to the last bit. With others it is what the new
    schedule has at this iteration, as if the run had used it from the beginning.

    Args:
        optimizers: those of this run.
        schedulers: those of this run.
        load: loads the states into both, with all settings in them.

    Returns:
        What differs, such as ``lr 0.001 -> 0.0005``.
    """
    groups = [_settings(optimizer.param_groups) for optimizer in optimizers]
    schedules = [_schedule(scheduler) for scheduler in schedulers]
    load()
    changed = []
    for optimizer, wanted in zip(optimizers, groups):
        for group, settings in zip(optimizer.param_groups, wanted):
            changed += _changes(group, settings, ())
            group.update(settings)
    for scheduler, schedule in zip(schedulers, schedules):
        found = _changes(_schedule(scheduler), schedule, ("base_lrs", "cumulative_period"))
        if found or any(change.startswith("lr ") for change in changed):
            vars(scheduler).update(schedule)
            _replay(scheduler)
        changed += found
    return list(dict.fromkeys(changed))


def _replay(scheduler) -> None:
    """Give ``scheduler``'s optimiser the learning rate that its own settings have at ``last_epoch``."""
    groups, here = scheduler.optimizer.param_groups, scheduler.last_epoch
    for group, lr in zip(groups, scheduler.base_lrs):
        group["lr"] = lr
    marks = {*getattr(scheduler, "milestones", ()), *getattr(scheduler, "restarts", ())}
    for step in sorted({here, *(mark for mark in marks if mark < here)}):
        scheduler.last_epoch = step  # between them nothing happens
        for group, lr in zip(groups, scheduler.get_lr()):
            group["lr"] = lr
    scheduler._last_lr = [group["lr"] for group in groups]
