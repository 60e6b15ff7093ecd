"""The base class of the datasets that yield queries."""

from __future__ import annotations

import os
from collections.abc import Callable

import numpy as np
import torch
from torch.utils.data import Dataset

from ..errors import UserError
from .crops import NO_FLIPS, Flips, augment, draw_queries, to_tensor
from .deterministic import WorkerGenerator, generator
from .image_source import ImageSource


class QueryDataset(Dataset):
    """LR images together with queries: coordinates, cells, and the colours that a network should give there.

    Training item: lq (3, n, m), coord (Q, 2), cell (Q, 2), gt (Q, 3), float32; coord in (y, x), colours RGB
    in [0, 1]. With ``num_queries: ~`` gt is the whole crop (3, H, W), and there is neither coord nor cell.
    Validation item: lq (3, h, w), gt (3, H, W), scale (2,) float64, lq_path, gt_path.

    A subclass has ``check_options``, ``__len__`` and ``__getitem__``, and ``image_names`` if it is to be used
    on several machines. In ``__init__`` it calls ``super().__init__(opt)`` first. Its training items come
    from ``training_item``, with a generator from ``rng``: they depend on (seed, epoch, position in the epoch)
    alone.

    Args:
        opt: the block of the option file.

    Attributes:
        where: what messages call the dataset.
        train: whether items are training items.
        num_queries: Q, or None for whole crops.
    """

    deterministic = True  # BasicSR's sampler hands out indices that know their epoch and position

    def __init__(self, opt: dict):
        self.opt = opt
        self.where = f"dataset {opt.get('name')}"
        self.check_options(self.where, opt)
        self.train = opt.get("phase", "train") == "train"
        self.num_queries: int | None = None
        self._worker_generator = WorkerGenerator()

    @staticmethod
    def check_options(where: str, opt: dict) -> None:
        """Raise UserError for an option that the dataset does not read in its phase, or a wrong value."""
        raise NotImplementedError

    def image_names(self) -> list[str]:
        """Return the names of the ground truths; all ranks of a training must have the same."""
        return []

    def check_num_queries(self, smallest: int, what: str) -> None:
        """Raise UserError unless ``num_queries`` pixels can be drawn from every training item.

        Args:
            smallest: pixels of the smallest ground truth.
            what: its name in the message, 'crop' or 'ground truth'.
        """
        if self.num_queries is not None and not 0 < self.num_queries <= smallest:
            raise UserError(
                f"{self.where}: num_queries: expected 1 to {smallest} (the smallest {what}), got "
                f"{self.num_queries}."
            )

    def rng(self, index: int) -> np.random.Generator:
        """Return the random generator of item ``index``; of the worker where a loader is not BasicSR's."""
        return generator(self.opt.get("seed", 0), index) or self._worker_generator.get()

    def training_item(
        self, lq: np.ndarray, gt: np.ndarray, rng: np.random.Generator, flips: Flips = NO_FLIPS
    ) -> dict:
        """Flip a pair of images and draw the queries.

        Args:
            lq: (n, m, 3) uint8.
            gt: (H, W, 3) uint8, the same part of the picture.
            rng: draws the pixels of ``gt`` that are asked for.
            flips: what ``augment`` does to both.
        """
        item = {"lq": to_tensor(augment([lq], flips)[0])}
        if self.num_queries is None:
            return {**item, "gt": to_tensor(augment([gt], flips)[0])}
        coord, cell, colours = draw_queries(gt, self.num_queries, rng, flips)
        return {**item, "coord": coord, "cell": cell, "gt": colours}

    def validation_item(
        self, lq: np.ndarray, gt: np.ndarray, scale: tuple[float, float], lq_path: str, gt_path: str
    ) -> dict:
        """Return a pair of whole images with its scale (sy, sx) and where it comes from."""
        return {
            "lq": to_tensor(lq),
            "gt": to_tensor(gt),
            "scale": torch.tensor(scale, dtype=torch.float64),
            "lq_path": lq_path,
            "gt_path": gt_path,
        }

    def match(self, gt: ImageSource, lq: ImageSource, lq_name: Callable[[str], str] = str) -> list[int]:
        """Return the position in ``lq`` of the LR image of every image of ``gt``; extensions do not count.

        Args:
            gt: the HR images.
            lq: the LR images.
            lq_name: the name of an HR image without extension -> that of its LR image.

        Raises:
            UserError: for an HR image without an LR image.
        """
        position = {os.path.splitext(name)[0]: i for i, name in enumerate(lq.names)}
        positions = []
        for name in gt.names:
            wanted = lq_name(os.path.splitext(name)[0])
            if wanted not in position:
                raise UserError(
                    f"{self.where}: {gt.root} has {name}, but {lq.root} has no '{wanted}' ({len(gt)} HR, "
                    f"{len(lq)} LR images)."
                )
            positions.append(position[wanted])
        return positions
