"""The decoder's multi-layer perceptron, and what runs its layers fast on many queries."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class MLP(nn.Module):
    """(..., in_dim) -> (..., out_dim): Linear, ReLU, ..., Linear.

    Parameter names (layers.0, layers.2, ...) are those of the published code.
    """

    def __init__(self, in_dim: int, out_dim: int, hidden_list: Sequence[int]):
        super().__init__()
        layers: list[nn.Module] = []
        for width in hidden_list:
            layers += [nn.Linear(in_dim, width), nn.ReLU()]
            in_dim = width
        self.layers = nn.Sequential(*layers, nn.Linear(in_dim, out_dim))

    @property
    def linears(self) -> list[nn.Linear]:
        """The linear layers, first to last."""
        return [layer for layer in self.layers if isinstance(layer, nn.Linear)]

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


@functools.cache
def _can_fuse(dtype: torch.dtype) -> bool:
    """Return whether oneDNN joins a layer with its ReLU on this CPU: bf16 needs AVX-512 or AMX."""
    if not (torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")):
        return False
    supported = torch.ops.mkldnn._is_mkldnn_bf16_supported
    return dtype == torch.float32 or (dtype == torch.bfloat16 and supported())


def relu_layer(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return ReLU(x W^T + b), in one pass where the platform has it."""
    if x.device.type == "cpu" and _can_fuse(x.dtype):
        return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "relu", [], "")
    return F.relu_(F.linear(x, weight, bias))


def block_bytes(device: torch.device) -> int:
    """Return the size of a block's activations.

    On a CPU they fit into the second-level caches beside the weights; measured on two caches of 2 MiB.
    """
    return 256 << 20 if device.type == "cuda" else (3 << 19) * torch.get_num_threads()


def padded_count(count: int) -> int:
    """Return ``count`` rounded up by a sixteenth at most.

    oneDNN keeps compiled code for every number of rows that it has seen, half a megabyte each: windows of ten
    thousand sizes would cost 600 MiB, and a compilation each.
    """
    step = 1 << max(0, count.bit_length() - 5)
    return -(-count // step) * step
