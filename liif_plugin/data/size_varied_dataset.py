"""The CelebA-HQ task: every input has the same size, every ground truth its own."""

from __future__ import annotations

import numpy as np
from basicsr.utils.registry import DATASET_REGISTRY

from ..config.option_types import TEXT, Option, optional, whole
from ..errors import UserError
from ..resize import pillow_bicubic
from .crops import augment
from .dataset_options import (
    SOURCE_OPTIONS,
    TRAIN_OPTIONS,
    VAL_OPTIONS,
    check_phase_options,
    open_source,
    require_full_epochs,
    without,
)
from .image_source import ImageSource
from .query_dataset import QueryDataset

SIZE_VARIED_OPTIONS = {
    "dataroot_lq": Option(optional(TEXT), help="Folder or LMDB of the LR images, all of one size."),
    "gt_resize": Option(
        optional(whole(1, 1 << 16)), default=None, help="Training: resize every ground truth to this side."
    ),
}


@DATASET_REGISTRY.register()
class SizeVariedDataset(QueryDataset):
    """LR and HR images of the same names, L x L and H x H -> items whose ground truth has a size of its own.

    Item i of n is supervised at round(L + (H - L) i / (n - 1)) pixels, shrunk from H by Pillow's bicubic:
    the paper's CelebA-HQ task (section 4.4). ``gt_resize: H`` resizes every ground truth back to H x H,
    which is the baseline of Table 4. A validation item has its ground truth at H x H.

    Args:
        opt: dataroot_gt, dataroot_lq; meta_info_file with split, such as the official split.json; gt_resize;
            num_queries (default 1024; ``~`` gives the whole ground truth and needs gt_resize); use_hflip
            (default true; there is no other augmentation); cache, first_k, seed, protocol, metrics as in
            ArbitraryScaleDataset.

    Raises:
        UserError: for an unknown option, images that are not square or not of one size, or an HR image
            without its LR image.

    Example:
        >>> import os, tempfile
        >>> from PIL import Image
        >>> folder = tempfile.mkdtemp()
        >>> for side in (128, 32):
        ...     os.mkdir(f"{folder}/{side}")
        ...     for name in "abc":
        ...         Image.new("RGB", (side, side)).save(f"{folder}/{side}/{name}.png")
        >>> roots = {"dataroot_gt": f"{folder}/128", "dataroot_lq": f"{folder}/32"}
        >>> dataset = SizeVariedDataset({"name": "faces", **roots})
        >>> [dataset.side_of(i) for i in range(3)]
        [32, 80, 128]
    """

    @staticmethod
    def check_options(where: str, opt: dict) -> None:
        """Raise UserError for an option that this phase of the dataset does not read."""
        source = {**without(SOURCE_OPTIONS, "too_small"), **without(SIZE_VARIED_OPTIONS, "gt_resize")}
        train = {
            **without(TRAIN_OPTIONS, "lq_size", "use_rot"),
            "gt_resize": SIZE_VARIED_OPTIONS["gt_resize"],
        }
        check_phase_options(where, opt, source, train, without(VAL_OPTIONS, "scale"))

    def __init__(self, opt: dict):
        super().__init__(opt)
        self.gt, self.lq = open_source(opt), open_source({**opt, "first_k": None}, "dataroot_lq")
        self.positions = self.match(self.gt, self.lq)
        self.size_min, self.size_max = self._side(self.lq), self._side(self.gt)
        self.num_queries, self.gt_resize = opt.get("num_queries", 1024), opt.get("gt_resize")
        if self.train:
            if self.num_queries is None and self.gt_resize is None:
                raise UserError(
                    f"{self.where}: num_queries: ~ (whole ground truths) needs gt_resize, because their "
                    "sizes differ."
                )
            smallest = min(self.size_min, self.gt_resize or self.size_min)
            self.check_num_queries(smallest**2, "ground truth")
            require_full_epochs(opt, len(self))

    def _side(self, source: ImageSource) -> int:
        """Return the side of the images of ``source`` in pixels. All must be square and of one size."""
        sizes = set(source.sizes)
        h, w = next(iter(sizes))
        if len(sizes) != 1 or h != w:
            raise UserError(
                f"{self.where}: expected square images of one size in {source.root}, got (height, width) "
                f"{', '.join(map(str, sorted(sizes)[:3]))}."
            )
        return h

    def side_of(self, index: int) -> int:
        """Return the side of the ground truth of item ``index`` in pixels."""
        part = index / max(len(self) - 1, 1)
        return round(self.size_min + (self.size_max - self.size_min) * part)

    def image_names(self) -> list[str]:
        """Return the names of the HR images."""
        return self.gt.names

    def __len__(self) -> int:
        return len(self.positions)

    def __getitem__(self, index: int) -> dict:
        lq, gt = self.lq.read(self.positions[index]), self.gt.read(index)
        if not self.train:
            scale = self.size_max / self.size_min
            return self.validation_item(
                lq, gt, (scale, scale), self.lq.path(self.positions[index]), self.gt.path(index)
            )
        rng = self.rng(index)
        side = self.side_of(index)
        gt = pillow_bicubic(gt, (side, side))
        if rng.random() < 0.5 and self.opt.get("use_hflip", True):
            lq, gt = augment([lq, gt], (False, True, False))
        if self.gt_resize is not None:
            gt = pillow_bicubic(np.ascontiguousarray(gt), (self.gt_resize, self.gt_resize))
        return self.training_item(lq, gt, rng)
