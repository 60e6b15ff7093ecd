"""HR images alone; the LR image is made on the fly at any scale."""

from __future__ import annotations

import numpy as np
import torch
from basicsr.utils.registry import DATASET_REGISTRY
from torch.utils.data import Dataset

from ..config.option_types import ANY
from ..errors import UserError
from ..resize import pillow_bicubic
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


@DATASET_REGISTRY.register()
class ArbitraryScaleDataset(Dataset):
    """HR images -> training items at random scales, or validation pairs at one scale.

    Training item: lq (3, 48, 48), coord (Q, 2), cell (Q, 2), gt (Q, 3), float32 RGB in [0, 1]. Each item has its own scale
    s ~ U(scale_range): a crop of round(48 s) pixels, shrunk to 48 by Pillow's bicubic on 8 bits; Q of its pixels are asked for.
    Validation item: lq (3, h, w), gt (3, H, W), scale (2,), lq_path, gt_path, with h = floor(H/s), gt cropped to round(h s).

    Options (paper's values as defaults): dataroot_gt, folder or LMDB; io_backend, optional, as in BasicSR; meta_info_file, a list of
    names or a .json with the names of each split, and split; cache: memory or ~; first_k; how_to_get: said when the data is missing.
    Training: lq_size: 48; scale_range: [1, 4]; num_queries: 2304, ``~`` gives the whole crop as gt (3, H, W) for fixed-scale
    networks; use_hflip, use_rot: true; too_small: fail or skip; seed: the run's manual_seed.
    Validation: scale, a number or [y, x]; protocol, metrics: see the metrics.

    Raises:
        UserError: for an unknown option, missing or empty data, images smaller than the largest crop.
    """

    deterministic = True

    @staticmethod
    def check_options(where: str, opt: dict) -> None:
        """Raise UserError for an option that this phase of the dataset does not read."""
        check_phase_options(where, opt, SOURCE_OPTIONS, {**TRAIN_OPTIONS, "scale_range": ANY}, VAL_OPTIONS)

    def __init__(self, opt: dict):
        self.opt = opt
        self.check_options(f"dataset {opt.get('name')}", opt)
        self.source = open_source(opt)
        self.train = opt.get("phase", "train") == "train"
        self.rng = WorkerGenerator()
        if self.train:
            self.lq_size = opt.get("lq_size", 48)
            self.scale_range = self._parse_range(opt.get("scale_range", [1, 4]))
            self.num_queries = opt.get("num_queries", self.lq_size**2)
            self._check_queries()
            self.kept = require_size(
                self.source, round(self.lq_size * self.scale_range[1]), opt.get("too_small", "fail")
            )
            require_full_epochs(opt, len(self))
        else:
            self.scale = parse_scale(f"dataset {opt.get('name')}", opt.get("scale"))
            self.kept = require_size(self.source, int(np.ceil(max(self.scale))), opt.get("too_small", "fail"))

    def _parse_range(self, scale_range: object) -> tuple[float, float]:
        low, high = parse_scale(f"dataset {self.opt.get('name')}: scale_range", scale_range)
        if low < 1 or high < low:
            raise UserError(
                f"dataset {self.opt.get('name')}: scale_range: expected [low, high] with 1 <= low <= high, got {scale_range}."
            )
        return low, high

    def _check_queries(self) -> None:
        if self.num_queries is None:
            if self.scale_range[0] != self.scale_range[1]:
                raise UserError(
                    f"dataset {self.opt.get('name')}: num_queries: ~ (whole crops) needs one scale, not {self.scale_range}."
                )
            return
        smallest = round(self.lq_size * self.scale_range[0]) ** 2
        if not isinstance(self.num_queries, int) or not 0 < self.num_queries <= smallest:
            raise UserError(
                f"dataset {self.opt.get('name')}: num_queries: expected 1 to {smallest} (the smallest crop), "
                f"got {self.num_queries}."
            )

    def __len__(self) -> int:
        return len(self.kept)

    def __getitem__(self, index: int) -> dict:
        return self._train_item(index) if self.train else self._val_item(index)

    def _train_item(self, index: int) -> dict:
        rng = generator(self.opt.get("seed", 0), index) or self.rng.get()
        hr = self.source.read(self.kept[index])
        s = rng.uniform(*self.scale_range)
        side = round(self.lq_size * s)
        y, x = rng.integers(0, hr.shape[0] - side + 1), rng.integers(0, hr.shape[1] - side + 1)
        hr = np.ascontiguousarray(hr[y : y + side, x : x + side])
        lq = pillow_bicubic(hr, (self.lq_size, self.lq_size))
        flips = draw_flips(rng, self.opt.get("use_hflip", True), self.opt.get("use_rot", True))
        lq_tensor = to_tensor(augment([lq], flips)[0])
        if self.num_queries is None:
            return {"lq": lq_tensor, "gt": to_tensor(augment([hr], flips)[0])}
        coord, cell, gt = draw_queries(hr, self.num_queries, rng, flips)
        return {"lq": lq_tensor, "coord": coord, "cell": cell, "gt": gt}

    def _val_item(self, index: int) -> dict:
        hr = self.source.read(self.kept[index])
        # + 1e-9 as published: a side that is a multiple of the scale must not lose a pixel to rounding
        h, w = (int(np.floor(n / s + 1e-9)) for n, s in zip(hr.shape, self.scale))
        hr = hr[: round(h * self.scale[0]), : round(w * self.scale[1])]
        lq = pillow_bicubic(np.ascontiguousarray(hr), (h, w))
        path = self.source.path(self.kept[index])
        scale = torch.tensor(self.scale, dtype=torch.float64)
        return {"lq": to_tensor(lq), "gt": to_tensor(hr), "scale": scale, "lq_path": path, "gt_path": path}
