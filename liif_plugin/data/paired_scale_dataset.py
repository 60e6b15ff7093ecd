"""Given LR and HR images, as DIV2K and the benchmarks bring them for x2, x3 and x4."""

from __future__ import annotations

import os

import torch
from basicsr.utils.registry import DATASET_REGISTRY
from torch.utils.data import Dataset

from ..config.option_types import ANY, TEXT, optional
from ..errors import UserError
from .crops import WorkerGenerator, augment, draw_flips, draw_queries, to_tensor
from .dataset_options import (
    SOURCE_OPTIONS,
    TRAIN_OPTIONS,
    VAL_OPTIONS,
    check_phase_options,
    open_source,
    parse_scale,
    require_full_epochs,
)
from .deterministic import generator
from .image_source import require_size


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
            f"{where}: filename_tmpl: expected a name in which {{}} stands for the name of the HR image, such as "
            f"'{{}}x2', got '{template}'."
        )


@DATASET_REGISTRY.register()
class PairedScaleDataset(Dataset):
    """LR and HR images of the same names -> training items at their scale, or validation pairs.

    Items are those of ArbitraryScaleDataset. The scale comes from the sizes, HR side // LR side, or from ``scale`` where given;
    HR is cropped to (h s, w s) from the top left.

    Options beyond those of ArbitraryScaleDataset: dataroot_lq, folder or LMDB; filename_tmpl: LR name for an HR name, as in
    BasicSR, e.g. '{}x2'. There is no scale_range.

    Raises:
        UserError: for an unknown option, an HR image without its LR image, sizes that do not fit.
    """

    keyed_draws = True

    @staticmethod
    def check_options(where: str, opt: dict) -> None:
        """Raise UserError for an option that this phase of the dataset does not read."""
        source = {**SOURCE_OPTIONS, "dataroot_lq": optional(TEXT), "filename_tmpl": TEXT, "scale": ANY}
        check_phase_options(where, opt, source, TRAIN_OPTIONS, VAL_OPTIONS)
        check_template(where, opt.get("filename_tmpl", "{}"))

    def __init__(self, opt: dict):
        self.opt = opt
        self.check_options(f"dataset {opt.get('name')}", opt)
        self.gt = open_source({**opt, "first_k": None})
        self.lq = open_source({**opt, "first_k": None}, "dataroot_lq")
        self.train = opt.get("phase", "train") == "train"
        self.rng = WorkerGenerator()
        self.pairs = self._match()[: opt.get("first_k")]
        self.scales = [self._scale_of(i, j) for i, j in self.pairs]
        if self.train:
            self.lq_size = opt.get("lq_size", 48)
            self.num_queries = opt.get("num_queries", self.lq_size**2)
            self._keep_for_training()

    def _match(self) -> list[tuple[int, int]]:
        """(position of the LR image, position of the HR image) of every HR image."""
        template = self.opt.get("filename_tmpl", "{}")
        by_name = {os.path.splitext(name)[0]: i for i, name in enumerate(self.lq.names)}
        pairs = []
        for j, name in enumerate(self.gt.names):
            wanted = template.format(os.path.splitext(name)[0])
            if wanted not in by_name:
                raise UserError(
                    f"dataset {self.opt.get('name')}: {self.gt.root} has {name}, but {self.lq.root} has no '{wanted}' "
                    f"({len(self.gt)} HR, {len(self.lq)} LR images); see filename_tmpl."
                )
            pairs.append((by_name[wanted], j))
        return pairs

    def _scale_of(self, i: int, j: int) -> tuple[float, float]:
        where = f"dataset {self.opt.get('name')}"
        (h, w), (H, W) = self.lq.sizes[i], self.gt.sizes[j]
        if self.opt.get("scale") is not None:
            sy, sx = parse_scale(where, self.opt["scale"])
        else:
            sy, sx = float(H // h), float(W // w)
        unequal = sy != sx and self.opt.get("scale") is None
        if (
            unequal
            or min(sy, sx) <= 0
            or round(h * sy) > H
            or round(w * sx) > W
            or H - h * sy >= 2 * sy
            or W - w * sx >= 2 * sx
        ):
            raise UserError(
                f"{where}: {self.lq.path(i)} is {h}x{w} and {self.gt.path(j)} is {H}x{W}: no LR image of it at scale "
                f"{sy:g} x {sx:g}; give `scale` or mend the files."
            )
        return sy, sx

    def _keep_for_training(self) -> None:
        where = f"dataset {self.opt.get('name')}"
        if any(sy != sx or sy != int(sy) for sy, sx in self.scales):
            raise UserError(
                f"{where}: training crops need one integer scale, got {sorted(set(self.scales))[:3]}."
            )
        if self.num_queries is None and len(set(self.scales)) > 1:
            raise UserError(
                f"{where}: num_queries: ~ (whole crops) needs one scale, got {sorted(set(self.scales))[:3]}."
            )
        smallest = round(self.lq_size * min(self.scales)[0]) ** 2
        if self.num_queries is not None and not 0 < self.num_queries <= smallest:
            raise UserError(
                f"{where}: num_queries: expected 1 to {smallest} (the smallest crop), got {self.num_queries}."
            )
        kept = set(require_size(self.lq, self.lq_size, self.opt.get("too_small", "fail")))
        chosen = [k for k, (i, _) in enumerate(self.pairs) if i in kept]
        self.pairs, self.scales = [self.pairs[k] for k in chosen], [self.scales[k] for k in chosen]
        require_full_epochs(self.opt, len(self))

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> dict:
        i, j = self.pairs[index]
        lq, gt = self.lq.read(i), self.gt.read(j)
        scale = self.scales[index]
        h, w = lq.shape[:2]
        gt = gt[: round(h * scale[0]), : round(w * scale[1])]
        if self.train:
            return self._train_item(index, lq, gt, int(scale[0]))
        return {
            "lq": to_tensor(lq),
            "gt": to_tensor(gt),
            "scale": torch.tensor(scale, dtype=torch.float64),
            "lq_path": self.lq.path(i),
            "gt_path": self.gt.path(j),
        }

    def _train_item(self, index: int, lq, gt, s: int) -> dict:
        rng = generator(self.opt.get("seed", 0), index) or self.rng.get()
        n = self.lq_size
        y, x = rng.integers(0, lq.shape[0] - n + 1), rng.integers(0, lq.shape[1] - n + 1)
        lq, gt = lq[y : y + n, x : x + n], gt[y * s : (y + n) * s, x * s : (x + n) * s]
        flips = draw_flips(rng, self.opt.get("use_hflip", True), self.opt.get("use_rot", True))
        lq_tensor = to_tensor(augment([lq], flips)[0])
        if self.num_queries is None:
            return {"lq": lq_tensor, "gt": to_tensor(augment([gt], flips)[0])}
        coord, cell, queried = draw_queries(gt, self.num_queries, rng, flips)
        return {"lq": lq_tensor, "coord": coord, "cell": cell, "gt": queried}
