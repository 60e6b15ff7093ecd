"""Crops, flips and queries of one training item. Images here are (H, W, 3) uint8 arrays until the very end."""

from __future__ import annotations

import os

import numpy as np
import torch
from torch import Tensor

from ..coords import cell_of, centre


def to_tensor(image: np.ndarray) -> Tensor:
    """(H, W, 3) uint8 -> (3, H, W) float32 in [0, 1]."""
    return torch.from_numpy(np.array(image.transpose(2, 0, 1))).float().div_(255)


def augment(images: list[np.ndarray], flips: tuple[bool, bool, bool]) -> list[np.ndarray]:
    """Flip every image vertically, flip horizontally, transpose, each where its flag is set: the same for LR and HR."""
    vertical, horizontal, transpose = flips
    if vertical:
        images = [image[::-1] for image in images]
    if horizontal:
        images = [image[:, ::-1] for image in images]
    return [image.transpose(1, 0, 2) for image in images] if transpose else images


def draw_flips(rng: np.random.Generator, use_hflip: bool, use_rot: bool) -> tuple[bool, bool, bool]:
    """Random flags for ``augment``; as in BasicSR, use_rot stands for the vertical flip and the transpose."""
    vertical, horizontal, transpose = rng.random(3) < 0.5
    return bool(vertical and use_rot), bool(horizontal and use_hflip), bool(transpose and use_rot)


def draw_queries(hr: np.ndarray, count: int, rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """``count`` pixels of ``hr`` (H, W, 3) uint8 without replacement -> coord (Q, 2), cell (Q, 2), gt (Q, 3) in [0, 1]."""
    H, W = hr.shape[:2]
    chosen = rng.choice(H * W, count, replace=False, shuffle=False)  # as a set equally distributed, without a permutation of H*W
    row, column = np.divmod(chosen, W)
    coord = np.stack([centre(row, H), centre(column, W)], axis=-1).astype(np.float32)
    cell = cell_of((H, W)).expand(count, 2).contiguous()
    gt = torch.from_numpy(hr[row, column]).float().div_(255)
    return torch.from_numpy(coord), cell, gt


class WorkerGenerator:
    """The generator for items that carry no key of their own (a loader that is not BasicSR's).

    One stream per worker, seeded anew from torch's seed, which differs per worker, rank and epoch. BasicSR seeds ``random`` and
    ``numpy`` the same in every epoch, so neither is used.
    """

    def __init__(self):
        self._owner = None
        self._rng = None

    def get(self) -> np.random.Generator:
        worker = torch.utils.data.get_worker_info()
        owner = (os.getpid(), None if worker is None else worker.seed)
        if owner != self._owner:
            self._owner = owner
            self._rng = np.random.default_rng(torch.initial_seed() % 2**63)
        return self._rng

    def __getstate__(self) -> dict:
        return {"_owner": None, "_rng": None}
