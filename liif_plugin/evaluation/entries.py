"""The parts of a comparison: models, where their images come from, columns, and the plan of all of them."""

from __future__ import annotations

from dataclasses import dataclass, field

from .published import GRAY_IMAGES
from .tables import scale_text


@dataclass(frozen=True)
class Source:
    """Where the images of a model come from: a network with its weights, or a folder of finished images.

    Attributes:
        network_g: options of the network; None for finished images.
        weights: a .pth file; None for a network without parameters.
        param_key: the key of the weights in that file.
        images: folder of finished images, with the placeholders {dataset} and {scale}.
    """

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
        by_scale: scale -> source of a fixed-scale model, or {None: source} for one that serves every scale;
            empty if its weights are not there and the option file says `if_missing: skip`.
        cell: side of the cells in input pixels instead of the true one (Figure 6 of the paper).
        cell_clamp: smallest cell, as a scale; see ``predict``.
    """

    name: str
    published: str | None
    by_scale: dict[float | None, Source]
    cell: float | None = None
    cell_clamp: float | None = None

    def source(self, scale: tuple[float, float]) -> Source | None:
        """Return the source for ``scale`` = (sy, sx), or None if the model has none."""
        if None in self.by_scale:
            return self.by_scale[None]
        return self.by_scale.get(scale[0]) if scale[0] == scale[1] else None


@dataclass(frozen=True)
class Column:
    """One set at one scale.

    Attributes:
        dataset: the label of the set.
        scale: (sy, sx).
        protocol: the name of a row of PROTOCOLS in metrics/continuous_metric.py.
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
        """The scale as it is printed, such as x2 or x3.1x2 (width x height)."""
        return scale_text(self.scale)


def gray_rule(metric: dict) -> str:
    """Return how a metric takes a gray image: 'luma' (its gray value is its luma) or 'RGB'."""
    return "luma" if metric.get("gray_as_luma") else "RGB"


@dataclass(frozen=True)
class Plan:
    """A whole comparison.

    Attributes:
        name: of the comparison, and of its folder.
        device: auto, cpu or cuda.
        precision: a key of precision.DTYPES.
        models: the rows.
        columns: the columns, those of one set together.
        metrics: name -> options with ``type``.
        figure: options of the figure, or None.
        left_out: sets with `if_missing: skip` whose folders are not there.
    """

    name: str
    device: str
    precision: str
    models: list[Model]
    columns: list[Column]
    metrics: dict[str, dict]
    figure: dict | None
    left_out: list[str] = field(default_factory=list)

    def metrics_of(self, column: Column) -> dict[str, dict]:
        """Return the metrics of a column: name -> options.

        On a published set with a gray image, PSNR is measured by both rules for such an image, because some
        published rows were made with the one and some with the other.
        """
        metrics = dict(self.metrics)
        gray = GRAY_IMAGES.get(column.published or "")
        for name, options in self.metrics.items():
            if gray and options["type"] == "continuous_psnr":
                by_luma = {**options, "gray_as_luma": list(gray)}
                by_rgb = {**options, "gray_as_luma": False}
                other = by_luma if gray_rule(options) == "RGB" else by_rgb
                metrics[f"{name} (gray as {gray_rule(other)})"] = other
        return metrics
