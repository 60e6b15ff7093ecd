"""Any optimiser of torch.optim."""

from __future__ import annotations

from collections.abc import Callable

import torch

from ..errors import UserError, nearest
from .patching import patch


@patch(
    "basicsr.models.base_model.BaseModel",
    name="get_optimizer",
    cures="NotImplementedError for every optimiser except Adam (PyPI release)",
)
def get_optimizer(self, optim_type: str, params, lr: float, **kwargs) -> torch.optim.Optimizer:
    """Build the optimiser that torch.optim has under this name."""
    try:
        return get_optimizer.original(self, optim_type, params, lr, **kwargs)
    except NotImplementedError:
        kind = getattr(torch.optim, optim_type, None)
        if not (isinstance(kind, type) and issubclass(kind, torch.optim.Optimizer)):
            names = [name for name, value in vars(torch.optim).items() if isinstance(value, type)]
            raise UserError(
                f"train.optim_g.type: torch.optim has no optimiser "
                f"'{optim_type}'{nearest(optim_type, names)}."
            ) from None
        build: Callable[..., torch.optim.Optimizer] = kind
        return build(params, lr=lr, **kwargs)
