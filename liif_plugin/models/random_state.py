"""The random generators of every rank: taken with a training state, put back before the first step of a
resumed run.
"""

from __future__ import annotations

import torch


def gather_random_states(device: torch.device, world_size: int) -> list[dict]:
    """{cpu, cuda} of every rank, on every rank; all of them must call it."""
    own = {
        "cpu": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if device.type == "cuda" else None,
    }
    states = [own]
    if world_size > 1:
        states = [{} for _ in range(world_size)]
        torch.distributed.all_gather_object(states, own)
    return states


def set_random_state(state: dict, device: torch.device) -> None:
    """Put one rank's entry of ``gather_random_states`` back."""
    torch.set_rng_state(state["cpu"])
    if state["cuda"] is not None and device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda"])


def draws_at_random(net: torch.nn.Module) -> bool:
    """Whether a step of ``net`` in training mode depends on random numbers (dropout, dropped paths)."""
    chances = [getattr(module, name, 0) for module in net.modules() for name in ("p", "drop_prob")]
    return any(isinstance(chance, (int, float)) and 0 < chance < 1 for chance in chances)
