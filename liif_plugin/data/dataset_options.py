"""What the three datasets share: which options each phase reads, how a source is opened, when an epoch is too short."""

from __future__ import annotations

import math

from basicsr.utils.dist_util import get_dist_info

from ..config.option_types import ANY, BLOCK, FLAG, FOLDER_NAME, TEXT, check_block, choice, optional, whole
from ..errors import UserError
from .image_source import ImageSource

SOURCE_OPTIONS = {
    "name": FOLDER_NAME,
    "type": TEXT,
    "phase": choice("train", "val", "test"),
    "dataroot_gt": optional(TEXT),
    "io_backend": optional(BLOCK),
    "meta_info_file": optional(TEXT),
    "split": optional(TEXT),
    "cache": optional(choice("memory")),
    "first_k": optional(whole(1)),
    "how_to_get": optional(TEXT),
    "too_small": choice("fail", "skip"),
    "num_worker_per_gpu": whole(0, 4096),
}
TRAIN_OPTIONS = {
    "lq_size": whole(1),
    "num_queries": optional(whole(1)),
    "use_hflip": FLAG,
    "use_rot": FLAG,
    "seed": whole(0, 2**31),
    "total_iter": optional(whole(1)),
    "batch_size_per_gpu": whole(1),
    "dataset_enlarge_ratio": whole(1),
    "prefetch_mode": optional(choice("cuda", "cpu")),
    "num_prefetch_queue": whole(1, 4096),
    "pin_memory": optional(FLAG),
    "persistent_workers": optional(FLAG),
}
VAL_OPTIONS = {"scale": ANY, "protocol": optional(TEXT), "metrics": optional(BLOCK)}  # scale: see parse_scale
LARGEST_SCALE = 10**6
LARGEST_EPOCH = 10**8  # BasicSR draws the order of an epoch's samples at once, in a list


def without(options: dict, *names: str) -> dict:
    """``options`` but for ``names``."""
    return {name: kind for name, kind in options.items() if name not in names}


def check_phase_options(where: str, opt: dict, source: dict, train: dict, val: dict) -> None:
    """Refuse an option that the phase of a dataset does not read: a ``scale`` while training would be ignored for days.

    Args:
        source, train, val: option -> kind of those that are read in both phases, in training alone, in validation alone.
    """
    in_training = opt.get("phase", "train") == "train"
    valid, other = ({**source, **train}, val) if in_training else ({**source, **val}, train)
    for key in opt:
        if key in other and key not in valid:
            raise UserError(
                f"{where}: '{key}' is for {'validation' if in_training else 'training'} sets; this one does not read it."
            )
    check_block(f"{where} ({opt.get('type')})", opt, valid)
    check_block(f"{where}: io_backend", opt.get("io_backend") or {}, {"type": TEXT})


def parse_scale(where: str, scale: object) -> tuple[float, float]:
    """``scale`` of a validation set, a number or a pair (y, x) -> (sy, sx)."""
    pair = scale if isinstance(scale, (list, tuple)) else [scale, scale]
    good = len(pair) == 2 and all(
        isinstance(s, (int, float)) and not isinstance(s, bool) and 0 < s <= LARGEST_SCALE for s in pair
    )
    if not good:
        raise UserError(f"{where}: scale: expected a positive number or a pair [y, x], got {scale!r}.")
    return float(pair[0]), float(pair[1])


def open_source(opt: dict, root_key: str = "dataroot_gt") -> ImageSource:
    """The ImageSource that the options of a dataset name."""
    where = f"dataset {opt.get('name')}: {root_key}"
    if not opt.get(root_key):
        raise UserError(f"{where}: expected a folder or an LMDB, got nothing.")
    backend = (opt.get("io_backend") or {}).get("type")
    is_lmdb = str(opt[root_key]).rstrip("/").endswith(".lmdb")
    if backend not in (None, "lmdb" if is_lmdb else "disk"):
        raise UserError(
            f"{where}: io_backend.type is '{backend}', but {opt[root_key]} is {'an LMDB' if is_lmdb else 'a folder'}."
        )
    meta_info = opt.get("meta_info_file") if root_key == "dataroot_gt" else None
    return ImageSource(
        opt[root_key],
        where,
        meta_info,
        opt.get("how_to_get"),
        opt.get("cache"),
        opt.get("first_k"),
        opt.get("split"),
        shared=bool(opt.get("num_worker_per_gpu")),
    )


def _ends_early(samples: int, batch: int, world: int, total: int) -> bool:
    """BasicSR counts the iterations of an epoch rounded up, but its loader drops the last incomplete batch."""
    counted = math.ceil(samples / (batch * world))
    real = math.ceil(samples / world) // batch
    return (math.ceil(total / counted) + 1) * real < total


def require_full_epochs(opt: dict, images: int) -> None:
    """Raise UserError for data with which BasicSR would end early or at once, without a word and with exit code 0."""
    _, world = get_dist_info()
    batch, ratio, total = (
        opt.get("batch_size_per_gpu", 1),
        opt.get("dataset_enlarge_ratio", 1),
        opt.get("total_iter") or 1,
    )
    if images * ratio > LARGEST_EPOCH:
        raise UserError(
            f"dataset {opt.get('name')}: {images} images x dataset_enlarge_ratio {ratio} are more than {LARGEST_EPOCH} samples "
            "an epoch; lower dataset_enlarge_ratio."
        )
    if _ends_early(images * ratio, batch, world, total):
        enough = next(
            r for r in (ratio * 2**k for k in range(64)) if not _ends_early(images * r, batch, world, total)
        )
        raise UserError(
            f"dataset {opt.get('name')}: with {images} images x dataset_enlarge_ratio {ratio}, batches of {batch} and {world} processes "
            f"BasicSR would end before iteration {total}; set dataset_enlarge_ratio to {enough}."
        )
