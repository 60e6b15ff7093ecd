"""1-SIREN: one sine network fitted to one image (Sitzmann et al., NeurIPS 2020).

Figure 5 of the LIIF paper compares LIIF with it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from basicsr.utils.registry import ARCH_REGISTRY
from torch import Tensor, nn
from torch.func import functional_call

from ..coords import image_to_queries
from ..errors import UserError
from .base import ContinuousNetwork


class Sine(nn.Module):
    """sin(omega (W x + b)): (..., in_features) -> (..., out_features).

    It is initialised as in section 3.2 of the paper, so that activations keep their distribution in all
    layers.
    """

    def __init__(self, in_features: int, out_features: int, omega: float, first: bool):
        super().__init__()
        self.omega = omega
        self.linear = nn.Linear(in_features, out_features)
        bound = 1 / in_features if first else math.sqrt(6 / in_features) / omega
        nn.init.uniform_(self.linear.weight, -bound, bound)

    def forward(self, x: Tensor) -> Tensor:
        return torch.sin(self.omega * self.linear(x))


class SineNetwork(nn.Module):
    """coord (..., 2) in [-1, 1] -> rgb (..., 3) in [-1, 1], not clamped.

    Args:
        hidden_list: widths of the sine layers; the paper's picture experiments have four of 256.
        omega: 30 in the paper.
    """

    def __init__(self, hidden_list: Sequence[int], omega: float):
        super().__init__()
        widths = [2, *hidden_list]
        self.layers = nn.Sequential(
            *[Sine(a, b, omega, first=i == 0) for i, (a, b) in enumerate(zip(widths, widths[1:]))]
        )
        self.last = nn.Linear(widths[-1], 3)
        bound = math.sqrt(6 / widths[-1]) / omega
        nn.init.uniform_(self.last.weight, -bound, bound)

    def forward(self, coord: Tensor) -> Tensor:
        return self.last(self.layers(coord))


@ARCH_REGISTRY.register()
class SIREN(ContinuousNetwork):
    """A sine network that is fitted to each image and then predicts the colour at any coordinate.

    lq (B, 3, h, w) in [0, 1], coord (B, Q, 2) -> rgb (B, Q, 3), not clamped. The cell is ignored. Nothing is
    trained beforehand: ``encode`` fits a network to each image and returns its parameters.

    Args:
        hidden_list: see SineNetwork.
        omega: see SineNetwork.
        iterations: steps of Adam on the squared error of all pixels.
        lr: Adam's learning rate.
        pixels: an image with more pixels is fitted to this many random ones in each step.
        seed: of the initial parameters and of the random pixels.

    Raises:
        UserError: if a number is out of range.

    Example:
        >>> import torch
        >>> net = SIREN(hidden_list=[16], iterations=5)
        >>> net(torch.rand(1, 3, 10, 12), torch.zeros(1, 5, 2), torch.full((1, 5, 2), 0.1)).shape
        torch.Size([1, 5, 3])
    """

    uses_cell = False
    not_exportable = "it is fitted to each picture anew: there is nothing to export before a picture is known"

    def __init__(
        self,
        hidden_list: Sequence[int] = (256, 256, 256, 256),
        omega: float = 30.0,
        iterations: int = 1000,
        lr: float = 1e-4,
        pixels: int = 65536,
        seed: int = 0,
    ):
        super().__init__()
        for name, value in (("iterations", iterations), ("pixels", pixels)):
            if not isinstance(value, int) or value < 1:
                raise UserError(f"SIREN: {name}: expected a whole number of 1 or more, got {value!r}.")
        for name, factor in (("omega", omega), ("lr", lr)):
            if not 0 < factor < math.inf:
                raise UserError(f"SIREN: {name}: expected a finite number above 0, got {factor!r}.")
        if not hidden_list:
            raise UserError("SIREN: hidden_list: expected at least one width, got none.")
        self.hidden_list, self.omega = list(hidden_list), omega
        self.iterations, self.lr, self.pixels, self.seed = iterations, lr, pixels, seed

    def template(self) -> SineNetwork:
        """Return a network before it is fitted."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            return SineNetwork(self.hidden_list, self.omega)

    def fit(self, image: Tensor, on_step: Callable[[int, float], None] | None = None) -> SineNetwork:
        """Fit a network to an image.

        Args:
            image: (3, h, w) in [0, 1].
            on_step: called with (step, mean squared error on [0, 1]) after each step.

        Returns:
            The fitted network.

        Raises:
            UserError: if the error becomes infinite or nan.
        """
        net = self.template().to(image.device)
        coord, _, rgb = (part[0] for part in image_to_queries(image.unsqueeze(0).float()))
        target = rgb * 2 - 1
        generator = torch.Generator().manual_seed(self.seed)
        loss = torch.zeros(())
        # Without autocast, because sin(30 x) in bf16 is noise.
        with torch.enable_grad(), torch.autocast(image.device.type, enabled=False):
            optimizer = torch.optim.Adam(net.parameters(), lr=self.lr)
            for step in range(1, self.iterations + 1):
                chosen: slice | Tensor = slice(None)
                if len(coord) > self.pixels:
                    chosen = torch.randint(len(coord), (self.pixels,), generator=generator).to(coord.device)
                loss = (net(coord[chosen]) - target[chosen]).square().mean()
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
                if on_step is not None:
                    on_step(step, loss.item() / 4)  # [-1, 1] is twice as wide as [0, 1]
        if not all(bool(p.isfinite().all()) for p in net.parameters()):
            raise UserError(
                f"SIREN: the fit diverged, its error ended at {loss.item():g}; use an lr below {self.lr:g}."
            )
        return net.requires_grad_(False)

    def encode(self, lq: Tensor) -> Tensor:
        """(B, 3, h, w) in [0, 1] -> (B, P): the P parameters of a network fitted to each image."""
        return torch.stack([nn.utils.parameters_to_vector(self.fit(image).parameters()) for image in lq])

    def query(self, feat: Tensor, coord: Tensor, cell: Tensor | None = None) -> Tensor:
        """Return the colours (B, Q, 3) at coord (B, Q, 2), from the parameters feat (B, P)."""
        net = SineNetwork(self.hidden_list, self.omega)
        names, shapes = zip(*((name, p.shape) for name, p in net.named_parameters()))
        rgb = []
        for vector, position in zip(feat.float(), coord):
            parts = vector.split([shape.numel() for shape in shapes])
            values = {name: part.view(shape) for name, part, shape in zip(names, parts, shapes)}
            with torch.autocast(position.device.type, enabled=False):
                rgb.append(functional_call(net, values, (position.float(),)))
        return torch.stack(rgb) / 2 + 0.5
