"""HR images alone; the LR image is made on the fly at any scale."""

from __future__ import annotations

import numpy as np
from basicsr.utils.registry import DATASET_REGISTRY

from ..config.option_types import ANY, Option, number
from ..errors import UserError
from ..resize import pillow_bicubic
from .crops import draw_flips
from .dataset_options import (
    SOURCE_OPTIONS,
    TRAIN_OPTIONS,
    VAL_OPTIONS,
    check_phase_options,
    open_source,
    parse_scale,
    require_full_epochs,
)
from .degrade import DEGRADE, Degradation
from .image_source import require_size
from .query_dataset import QueryDataset

ARBITRARY_OPTIONS = {
    "scale_range": Option(
        ANY, default=[1, 4], help="[smallest, largest] scale of training crops; they may be equal."
    ),
    "shrink_range": Option(
        ANY,
        default=None,
        help="Shrink some HR crops first, by a factor drawn from [low, high]: sharper targets (Thera).",
    ),
    "shrink_probability": Option(
        number(0, 1), default=0.5, help="With shrink_range: the part of the crops that is shrunk."
    ),
    "degrade": DEGRADE,
}


@DATASET_REGISTRY.register()
class ArbitraryScaleDataset(QueryDataset):
    """HR images -> training items at random scales, or validation pairs at one scale.

    Training item: each has its own scale s ~ U(scale_range). A crop of round(lq_size * s) pixels of the HR
    image is shrunk to lq_size by Pillow's bicubic on 8 bits; ``num_queries`` of its pixels are asked for.
    With ``shrink_range`` a part of the crops is taken larger by a ~ U(shrink_range), or by what the image
    allows, and shrunk by a first: Thera's augmentation. With ``degrade`` the LR crop is blurred, made noisy
    and compressed as a JPEG, by random amounts.

    Validation item: h = floor(H / s), the HR image is cropped to round(h * s) and shrunk to h; the same for
    w. ``QueryDataset`` has the shapes and units of both items.

    Args:
        opt: dataroot_gt (folder or LMDB) and the options of SOURCE_OPTIONS, TRAIN_OPTIONS, VAL_OPTIONS and
            ARBITRARY_OPTIONS. Defaults are the paper's values: lq_size 48, scale_range [1, 4], num_queries
            2304.

    Raises:
        UserError: for an unknown option, missing or empty data, or images smaller than the largest crop.

    Example:
        >>> import tempfile
        >>> from PIL import Image
        >>> folder = tempfile.mkdtemp()
        >>> Image.new("RGB", (240, 220)).save(f"{folder}/a.png")
        >>> dataset = ArbitraryScaleDataset({"name": "mine", "dataroot_gt": folder, "num_queries": 100})
        >>> {name: tuple(value.shape) for name, value in dataset[0].items()}
        {'lq': (3, 48, 48), 'coord': (100, 2), 'cell': (100, 2), 'gt': (100, 3)}
        >>> opt = {"name": "mine", "phase": "val", "dataroot_gt": folder, "scale": [2, 3]}
        >>> pairs = ArbitraryScaleDataset(opt)
        >>> tuple(pairs[0]["lq"].shape), tuple(pairs[0]["gt"].shape)
        ((3, 110, 80), (3, 220, 240))
    """

    @staticmethod
    def check_options(where: str, opt: dict) -> None:
        """Raise UserError for an option that this phase of the dataset does not read."""
        check_phase_options(where, opt, SOURCE_OPTIONS, {**TRAIN_OPTIONS, **ARBITRARY_OPTIONS}, VAL_OPTIONS)

    def __init__(self, opt: dict):
        super().__init__(opt)
        self.source = open_source(opt)
        too_small = opt.get("too_small", "fail")
        if self.train:
            self.lq_size = opt.get("lq_size", 48)
            self.scale_range = self._parse_range("scale_range", opt.get("scale_range", [1, 4]))
            shrink = opt.get("shrink_range")
            self.shrink_range = None if shrink is None else self._parse_range("shrink_range", shrink)
            degrade = opt.get("degrade")
            self.degrade = None if degrade is None else Degradation(f"{self.where}: degrade", degrade)
            self.num_queries = opt.get("num_queries", self.lq_size**2)
            low, high = self.scale_range
            if self.num_queries is None and low != high:
                raise UserError(
                    f"{self.where}: num_queries: ~ (whole crops) needs one scale, not {self.scale_range}."
                )
            self.check_num_queries(round(self.lq_size * low) ** 2, "crop")
            self.kept = require_size(self.source, round(self.lq_size * high), too_small)
            require_full_epochs(opt, len(self))
        else:
            self.scale = parse_scale(self.where, opt.get("scale"))
            self.kept = require_size(self.source, int(np.ceil(max(self.scale))), too_small)

    def _parse_range(self, name: str, value: object) -> tuple[float, float]:
        low, high = parse_scale(f"{self.where}: {name}", value)
        if low < 1 or high < low:
            raise UserError(f"{self.where}: {name}: expected [low, high] with 1 <= low <= high, got {value}.")
        return low, high

    def image_names(self) -> list[str]:
        """Return the names of the HR images."""
        return self.source.names

    def __len__(self) -> int:
        return len(self.kept)

    def __getitem__(self, index: int) -> dict:
        return self._train_item(index) if self.train else self._val_item(index)

    def _train_item(self, index: int) -> dict:
        rng = self.rng(index)
        hr = self.source.read(self.kept[index])
        # a crop of random scale and place
        side = round(self.lq_size * rng.uniform(*self.scale_range))
        larger = self._side_before_shrinking(side, min(hr.shape[:2]), rng)
        y, x = rng.integers(0, hr.shape[0] - larger + 1), rng.integers(0, hr.shape[1] - larger + 1)
        hr = np.ascontiguousarray(hr[y : y + larger, x : x + larger])
        if larger != side:
            hr = pillow_bicubic(hr, (side, side))
        lq = pillow_bicubic(hr, (self.lq_size, self.lq_size))
        if self.degrade is not None:
            lq = self.degrade(lq, rng)
        flips = draw_flips(rng, self.opt.get("use_hflip", True), self.opt.get("use_rot", True))
        return self.training_item(lq, hr, rng, flips)

    def _side_before_shrinking(self, side: int, largest: int, rng: np.random.Generator) -> int:
        """Return the side of the crop that becomes ``side`` pixels, at most ``largest``."""
        if self.shrink_range is None or rng.random() >= self.opt.get("shrink_probability", 0.5):
            return side
        low, high = (min(factor, largest / side) for factor in self.shrink_range)
        return min(round(side * rng.uniform(low, high)), largest)

    def _val_item(self, index: int) -> dict:
        hr = self.source.read(self.kept[index])
        # + 1e-9 as published: a side that is a multiple of the scale must not lose a pixel to rounding
        h, w = (int(np.floor(n / s + 1e-9)) for n, s in zip(hr.shape, self.scale))
        hr = hr[: round(h * self.scale[0]), : round(w * self.scale[1])]
        lq = pillow_bicubic(np.ascontiguousarray(hr), (h, w))
        path = self.source.path(self.kept[index])
        return self.validation_item(lq, hr, self.scale, path, path)
