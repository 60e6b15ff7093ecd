"""Given LR and HR images, as DIV2K and the benchmarks bring them for x2, x3 and x4."""

from __future__ import annotations

import numpy as np
from basicsr.utils.registry import DATASET_REGISTRY

from ..config.option_types import TEXT, Option, optional
from ..errors import UserError
from .crops import draw_flips
from .dataset_options import (
    SCALE,
    SOURCE_OPTIONS,
    TRAIN_OPTIONS,
    VAL_OPTIONS,
    check_phase_options,
    open_source,
    parse_scale,
    require_full_epochs,
)
from .image_source import require_size
from .query_dataset import QueryDataset

PAIRED_OPTIONS = {
    "dataroot_lq": Option(optional(TEXT), help="Folder or LMDB of the LR images."),
    "filename_tmpl": Option(
        TEXT, default="{}", help="Name of the LR image; {} stands for that of the HR image, as in BasicSR."
    ),
    "scale": Option(
        optional(SCALE),
        default=None,
        help="Scale of the LR images; by default from the image sizes.",
    ),
}


def check_template(where: str, template: str) -> None:
    """Raise UserError unless ``template`` makes a name of its own for every name.

    Example:
        >>> check_template("dataset Set5", "{}x2")
    """
    try:
        works = template.format("a") != template.format("b")
    except (ValueError, LookupError, AttributeError, TypeError, MemoryError):
        works = False
    if not works:
        raise UserError(
            f"{where}: filename_tmpl: expected a name in which {{}} stands for the name of the HR image, "
            f"such as '{{}}x2', got '{template}'."
        )


@DATASET_REGISTRY.register()
class PairedScaleDataset(QueryDataset):
    """LR and HR images of the same names -> training items at their scale, or validation pairs.

    ``QueryDataset`` has the shapes and units of the items. The scale comes from the sizes, HR side // LR
    side, or from ``scale`` where it is given. The HR image is cropped to (h s, w s) from the top left.

    Args:
        opt: dataroot_gt and dataroot_lq (folder or LMDB), filename_tmpl ('{}x2'), scale, and the options of
            ArbitraryScaleDataset other than scale_range.

    Raises:
        UserError: for an unknown option, an HR image without its LR image, or sizes that do not fit.

    Example:
        >>> import os, tempfile
        >>> from PIL import Image
        >>> folder = tempfile.mkdtemp()
        >>> for name, size in (("HR", (144, 120)), ("LR", (72, 60))):
        ...     os.mkdir(f"{folder}/{name}")
        ...     Image.new("RGB", size).save(f"{folder}/{name}/a.png")
        >>> roots = {"dataroot_gt": f"{folder}/HR", "dataroot_lq": f"{folder}/LR"}
        >>> item = PairedScaleDataset({"name": "mine", "phase": "val", **roots})[0]
        >>> tuple(item["lq"].shape), tuple(item["gt"].shape), item["scale"].tolist()
        ((3, 60, 72), (3, 120, 144), [2.0, 2.0])
    """

    @staticmethod
    def check_options(where: str, opt: dict) -> None:
        """Raise UserError for an option that this phase of the dataset does not read."""
        check_phase_options(where, opt, {**SOURCE_OPTIONS, **PAIRED_OPTIONS}, TRAIN_OPTIONS, VAL_OPTIONS)
        check_template(where, opt.get("filename_tmpl", "{}"))

    def __init__(self, opt: dict):
        super().__init__(opt)
        # all images of both: first_k counts pairs
        self.gt = open_source({**opt, "first_k": None})
        self.lq = open_source({**opt, "first_k": None}, "dataroot_lq")
        lq_positions = self.match(self.gt, self.lq, opt.get("filename_tmpl", "{}").format)
        self.pairs = [(i, j) for j, i in enumerate(lq_positions)][: opt.get("first_k")]
        self.scales = [self._scale_of(i, j) for i, j in self.pairs]
        if self.train:
            self.lq_size = opt.get("lq_size", 48)
            self.num_queries = opt.get("num_queries", self.lq_size**2)
            self._check_training()
            self._keep_large_images()
            require_full_epochs(self.opt, len(self))

    def _scale_of(self, i: int, j: int) -> tuple[float, float]:
        """Return the scale (sy, sx) between the LR image ``i`` and the HR image ``j``."""
        (h, w), (H, W) = self.lq.sizes[i], self.gt.sizes[j]
        if self.opt.get("scale") is not None:
            sy, sx = parse_scale(self.where, self.opt["scale"])
            equal = True  # as it was asked for
        else:
            sy, sx = float(H // h), float(W // w)
            equal = sy == sx
        # the LR image must cover the HR image but for less than two of its pixels
        fits = min(sy, sx) > 0 and all(
            round(n * s) <= N and N - n * s < 2 * s for n, N, s in ((h, H, sy), (w, W, sx))
        )
        if not equal or not fits:
            scale = f"{sy:g}" if sy == sx else f"(y, x) = ({sy:g}, {sx:g})"
            raise UserError(
                f"{self.where}: {self.lq.path(i)} has (height, width) = {(h, w)} and {self.gt.path(j)} has "
                f"{(H, W)}: no LR image of it at scale {scale}; give `scale` or mend the files."
            )
        return sy, sx

    def _check_training(self) -> None:
        """Raise UserError for scales that training crops cannot have."""
        found = sorted(set(self.scales))[:3]
        if any(sy != sx or sy != int(sy) for sy, sx in self.scales):
            raise UserError(f"{self.where}: training crops need one integer scale, got {found}.")
        if self.num_queries is None and len(set(self.scales)) > 1:
            raise UserError(f"{self.where}: num_queries: ~ (whole crops) needs one scale, got {found}.")
        self.check_num_queries(round(self.lq_size * min(self.scales)[0]) ** 2, "crop")

    def _keep_large_images(self) -> None:
        """Leave out pairs whose LR image is smaller than a crop."""
        large = set(require_size(self.lq, self.lq_size, self.opt.get("too_small", "fail")))
        kept = [k for k, (i, _) in enumerate(self.pairs) if i in large]
        self.pairs, self.scales = [self.pairs[k] for k in kept], [self.scales[k] for k in kept]

    def image_names(self) -> list[str]:
        """Return the names of the HR images."""
        return self.gt.names

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> dict:
        i, j = self.pairs[index]
        lq, gt = self.lq.read(i), self.gt.read(j)
        sy, sx = self.scales[index]
        gt = gt[: round(lq.shape[0] * sy), : round(lq.shape[1] * sx)]
        if self.train:
            return self._train_item(index, lq, gt, int(sy))
        return self.validation_item(lq, gt, (sy, sx), self.lq.path(i), self.gt.path(j))

    def _train_item(self, index: int, lq: np.ndarray, gt: np.ndarray, scale: int) -> dict:
        rng = self.rng(index)
        n = self.lq_size
        # the same random place in both
        y, x = rng.integers(0, lq.shape[0] - n + 1), rng.integers(0, lq.shape[1] - n + 1)
        lq = lq[y : y + n, x : x + n]
        gt = gt[y * scale : (y + n) * scale, x * scale : (x + n) * scale]
        flips = draw_flips(rng, self.opt.get("use_hflip", True), self.opt.get("use_rot", True))
        return self.training_item(lq, gt, rng, flips)
