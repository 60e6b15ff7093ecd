"""The CelebA-HQ task: every input has the same size, every ground truth its own."""

from __future__ import annotations

import numpy as np
import torch
from basicsr.utils.registry import DATASET_REGISTRY
from torch.utils.data import Dataset

from ..config.option_types import TEXT, optional, whole
from ..errors import UserError
from ..resize import pillow_bicubic
from .crops import WorkerGenerator, augment, draw_queries, to_tensor
from .dataset_options import (
    SOURCE_OPTIONS,
    TRAIN_OPTIONS,
    VAL_OPTIONS,
    check_phase_options,
    open_source,
    require_full_epochs,
    without,
)
from .deterministic import generator
from .image_source import ImageSource


@DATASET_REGISTRY.register()
class SizeVariedDataset(Dataset):
    """LR and HR images of the same names, L x L and H x H -> items whose ground truth has a size of its own.

    Item i of n is supervised at round(L + (H - L) i / (n - 1)) pixels, shrunk from H by Pillow's bicubic: the paper's CelebA-HQ task
    (section 4.4). ``gt_resize: H`` resizes every ground truth back to H x H, which is the baseline of Table 4. A validation item
    has its ground truth at H x H.

    Options: dataroot_gt, dataroot_lq; meta_info_file with split, e.g. the official split.json; gt_resize; num_queries: 1024, ``~``
    gives the whole ground truth, which needs gt_resize; use_hflip: true (there is no other augmentation); cache, first_k, seed,
    protocol, metrics: as in ArbitraryScaleDataset.

    Raises:
        UserError: for an unknown option, images that are not square or not of one size, an HR image without its LR image.
    """

    deterministic = True

    @staticmethod
    def check_options(where: str, opt: dict) -> None:
        """Raise UserError for an option that this phase of the dataset does not read."""
        source = {**without(SOURCE_OPTIONS, "too_small"), "dataroot_lq": optional(TEXT)}
        train = {**without(TRAIN_OPTIONS, "lq_size", "use_rot"), "gt_resize": optional(whole(1, 1 << 16))}
        check_phase_options(where, opt, source, train, without(VAL_OPTIONS, "scale"))

    def __init__(self, opt: dict):
        self.opt = opt
        self.where = f"dataset {opt.get('name')}"
        self.check_options(self.where, opt)
        self.gt, self.lq = open_source(opt), open_source({**opt, "first_k": None}, "dataroot_lq")
        self.positions = self._match()
        self.size_min, self.size_max = self._side(self.lq), self._side(self.gt)
        self.train = opt.get("phase", "train") == "train"
        self.rng = WorkerGenerator()
        self.num_queries, self.gt_resize = opt.get("num_queries", 1024), opt.get("gt_resize")
        if self.train:
            self._check_queries()
            require_full_epochs(opt, len(self))

    def _match(self) -> list[int]:
        by_name = {name: i for i, name in enumerate(self.lq.names)}
        for name in self.gt.names:
            if name not in by_name:
                raise UserError(
                    f"{self.where}: {self.gt.root} has {name}, but {self.lq.root} has not ({len(self.lq)} images there)."
                )
        return [by_name[name] for name in self.gt.names]

    def _side(self, source: ImageSource) -> int:
        sizes = set(source.sizes)
        if len(sizes) != 1 or len(set(next(iter(sizes)))) != 1:
            raise UserError(
                f"{self.where}: expected square images of one size in {source.root}, got {sorted(sizes)[:3]}."
            )
        return next(iter(sizes))[0]

    def _check_queries(self) -> None:
        if self.num_queries is None and self.gt_resize is None:
            raise UserError(
                f"{self.where}: num_queries: ~ (whole ground truths) needs gt_resize, because their sizes differ."
            )
        smallest = min(self.size_min, self.gt_resize or self.size_min) ** 2
        if self.num_queries is not None and not 0 < self.num_queries <= smallest:
            raise UserError(
                f"{self.where}: num_queries: expected 1 to {smallest} (the smallest ground truth), got {self.num_queries}."
            )

    def side_of(self, index: int) -> int:
        """Side of the ground truth of item ``index`` in pixels."""
        part = index / max(len(self) - 1, 1)
        return round(self.size_min + (self.size_max - self.size_min) * part)

    def __len__(self) -> int:
        return len(self.positions)

    def __getitem__(self, index: int) -> dict:
        lq, gt = self.lq.read(self.positions[index]), self.gt.read(index)
        if not self.train:
            scale = torch.full((2,), self.size_max / self.size_min, dtype=torch.float64)
            paths = {"lq_path": self.lq.path(self.positions[index]), "gt_path": self.gt.path(index)}
            return {"lq": to_tensor(lq), "gt": to_tensor(gt), "scale": scale, **paths}
        rng = generator(self.opt.get("seed", 0), index) or self.rng.get()
        side = self.side_of(index)
        gt = pillow_bicubic(gt, (side, side))
        if rng.random() < 0.5 and self.opt.get("use_hflip", True):
            lq, gt = augment([lq, gt], (False, True, False))
        if self.gt_resize is not None:
            gt = pillow_bicubic(np.ascontiguousarray(gt), (self.gt_resize, self.gt_resize))
        if self.num_queries is None:
            return {"lq": to_tensor(lq), "gt": to_tensor(gt)}
        coord, cell, queried = draw_queries(gt, self.num_queries, rng)
        return {"lq": to_tensor(lq), "coord": coord, "cell": cell, "gt": queried}
