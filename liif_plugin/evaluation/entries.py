"""The words of a comparison: a model and where its pictures come from, a column, the plan of both."""

from __future__ import annotations

from dataclasses import dataclass


def scale_text(scale: tuple[float, float]) -> str:
    """Return how a scale is printed: one number, or width x height as the command line takes it.

    Args:
        scale: (sy, sx), the order of option files.

    Example:
        >>> scale_text((2.0, 2.0)), scale_text((2.0, 3.1))
        ('x2', 'x3.1x2')
    """
    sy, sx = scale
    return f"x{sx:g}" if sy == sx else f"x{sx:g}x{sy:g}"


@dataclass(frozen=True)
class Source:
    """Where a model's pictures come from: a network and its weights, or a folder of finished pictures."""

    network_g: dict | None = None
    weights: str | None = None
    param_key: str = "params"
    images: str | None = None


@dataclass(frozen=True)
class Model:
    """One row of the table.

    Attributes:
        name: the label of the row.
        published: the row of published.py that the option file names for it, or None.
        by_scale: scale -> source of a fixed-scale model, or {None: source} for one that serves every scale.
        cell: side of the cells in input pixels instead of the true one (Figure 6 of the paper).
    """

    name: str
    published: str | None
    by_scale: dict
    cell: float | None = None

    def source(self, scale: tuple[float, float]) -> Source | None:
        """The source for ``scale``, or None where the model has none."""
        return self.by_scale.get(None) or (self.by_scale.get(scale[0]) if scale[0] == scale[1] else None)


@dataclass(frozen=True)
class Column:
    """One set at one scale.

    Attributes:
        dataset: the label of the set.
        scale: (sy, sx).
        protocol: the name of a row of metrics/protocols.py.
        options: for BasicSR's build_dataset.
        published: the set of published.py that the option file names for it, or None.
    """

    dataset: str
    scale: tuple[float, float]
    protocol: str
    options: dict
    published: str | None

    @property
    def scale_text(self) -> str:
        return scale_text(self.scale)


@dataclass(frozen=True)
class Plan:
    name: str
    device: str
    precision: str
    models: list
    columns: list
    metrics: dict
    figure: dict | None
