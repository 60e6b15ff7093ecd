"""A resumed run has the learning rate of its state, to the last bit, or, with other settings, that of the
new schedule.
"""

from __future__ import annotations

import pytest
import torch
from basicsr.models.lr_scheduler import CosineAnnealingRestartLR, MultiStepRestartLR

from liif_plugin.errors import UserError
from liif_plugin.models.schedule import require_same_optimiser, resume_settings

STEPS = MultiStepRestartLR, {"milestones": [4, 4, 9, 30], "gamma": 0.3}
OTHER_STEPS = (
    MultiStepRestartLR,
    {"milestones": [2, 7, 12], "gamma": 0.7, "restarts": [0, 6], "restart_weights": [1, 0.5]},
)
COSINE = CosineAnnealingRestartLR, {"periods": [10, 5], "restart_weights": [1, 0.5], "eta_min": 1e-6}
LONGER = CosineAnnealingRestartLR, {"periods": [40], "restart_weights": [1], "eta_min": 0}


def build(lr, schedule, **options):
    optimiser = torch.optim.Adam([torch.nn.Parameter(torch.ones(2))], lr=lr, **options)
    return optimiser, schedule[0](optimiser, **schedule[1])


def advance(optimiser, scheduler, steps):
    rates = []
    for _ in range(steps):
        optimiser.step()
        scheduler.step()
        rates.append(optimiser.param_groups[0]["lr"])
    return rates


def resumed(old, new):
    def load():
        new[0].load_state_dict(old[0].state_dict())
        new[1].load_state_dict(old[1].state_dict())

    return new, resume_settings([new[0]], [new[1]], load)


@pytest.mark.parametrize("schedule", [STEPS, OTHER_STEPS, COSINE, LONGER])
def test_the_same_settings_go_on_to_the_last_bit(schedule):
    whole = advance(*build(1e-3, schedule), 15)
    old = build(1e-3, schedule)
    advance(*old, 11)
    new, changed = resumed(old, build(1e-3, schedule))
    assert [old[0].param_groups[0]["lr"], *advance(*new, 4)] == whole[10:] and changed == []


@pytest.mark.parametrize(
    ("before", "after"), [(STEPS, OTHER_STEPS), (COSINE, LONGER), (STEPS, STEPS), (LONGER, LONGER)]
)
def test_other_settings_are_those_of_the_new_file(before, after):
    """Equal to a run that had them from the beginning; what is not a setting (the moments) stays."""
    whole = advance(*build(2e-4, after, weight_decay=0.1, betas=(0.8, 0.9)), 19)
    old = build(1e-3, before)
    old[0].param_groups[0]["params"][0].grad = torch.ones(2)
    advance(*old, 11)
    new, changed = resumed(old, build(2e-4, after, weight_decay=0.1, betas=(0.8, 0.9)))
    group = new[0].param_groups[0]
    assert [group["lr"], *advance(*new, 8)] == pytest.approx(whole[10:], rel=1e-12)
    assert group["weight_decay"] == 0.1 and group["betas"] == (0.8, 0.9)
    assert int(next(iter(new[0].state.values()))["step"]) == 11
    assert "lr 0.001 -> 0.0002" in changed and "weight_decay 0 -> 0.1" in changed
    assert ("gamma 0.3 -> 0.7" in changed) == (after is OTHER_STEPS) and (
        "periods [10, 5] -> [40]" in changed
    ) == (before is COSINE)


def test_another_optimiser_is_refused():
    optimiser, _ = build(1e-3, STEPS)
    require_same_optimiser(None, [optimiser])
    require_same_optimiser(["Adam"], [optimiser])
    with pytest.raises(UserError, match="saved by SGD, and Adam cannot go on from it"):
        require_same_optimiser(["SGD"], [optimiser])
