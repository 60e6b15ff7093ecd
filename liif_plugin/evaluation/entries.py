"""The words of a comparison: a model and where its pictures come from, a column, the plan of both."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Source:
    """Where a model's pictures come from: a network and its weights, or a folder of finished pictures."""

    network_g: dict | None = None
    weights: str | None = None
    param_key: str = "params"
    images: str | None = None


@dataclass(frozen=True)
class Model:
    """One row. by_scale: scale -> source of a fixed-scale model, or {None: source} for one that serves every scale.

    cell: side of the cells in input pixels instead of the true one (Figure 6 of the paper).
    """

    name: str
    published: str
    by_scale: dict
    cell: float | None = None

    def source(self, scale: tuple[float, float]) -> Source | None:
        """The source for ``scale``, or None where the model has none."""
        return self.by_scale.get(None) or (self.by_scale.get(scale[0]) if scale[0] == scale[1] else None)


@dataclass(frozen=True)
class Column:
    """One set at one scale. options: for BasicSR's build_dataset. published: the set's name in published.py."""

    dataset: str
    scale: tuple[float, float]
    protocol: str
    options: dict
    published: str

    @property
    def scale_text(self) -> str:
        return "x" + " x ".join(f"{s:g}" for s in dict.fromkeys(self.scale))


@dataclass(frozen=True)
class Plan:
    name: str
    device: str
    precision: str
    models: list
    columns: list
    metrics: dict
    figure: dict | None
