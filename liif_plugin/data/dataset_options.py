"""What the three datasets share: which options each phase reads, how a source is opened, when an epoch is too short."""

from __future__ import annotations

import math

from basicsr.utils.dist_util import get_dist_info

from ..errors import UserError, check_keys
from .image_source import ImageSource

SOURCE_OPTIONS = {"name", "type", "phase", "dataroot_gt", "io_backend", "meta_info_file", "split", "cache", "first_k", "how_to_get",
                  "too_small", "num_worker_per_gpu"}  # fmt: skip
TRAIN_OPTIONS = {"lq_size", "num_queries", "use_hflip", "use_rot", "seed", "total_iter", "batch_size_per_gpu", "dataset_enlarge_ratio",
                 "prefetch_mode", "num_prefetch_queue", "pin_memory", "persistent_workers"}  # fmt: skip
VAL_OPTIONS = {"scale", "protocol", "metrics"}


def check_phase_options(where: str, opt: dict, source: set, train: set, val: set) -> None:
    """Refuse an option that the phase of a dataset does not read: a ``scale`` while training would be ignored for days."""
    in_training = opt.get("phase", "train") == "train"
    valid, other = (source | train, val) if in_training else (source | val, train)
    for key in opt:
        if key in other and key not in valid:
            raise UserError(f"{where}: '{key}' is for {'validation' if in_training else 'training'} sets; this one does not read it.")
    check_keys(f"{where} ({opt.get('type')})", opt, valid)


def parse_scale(where: str, scale: object) -> tuple[float, float]:
    """``scale`` of a validation set, a number or a pair (y, x) -> (sy, sx)."""
    pair = scale if isinstance(scale, (list, tuple)) else [scale, scale]
    good = len(pair) == 2 and all(isinstance(s, (int, float)) and not isinstance(s, bool) and 0 < s < float("inf") for s in pair)
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
        raise UserError(f"{where}: io_backend.type is '{backend}', but {opt[root_key]} is {'an LMDB' if is_lmdb else 'a folder'}.")
    meta_info = opt.get("meta_info_file") if root_key == "dataroot_gt" else None
    return ImageSource(opt[root_key], where, meta_info, opt.get("how_to_get"), opt.get("cache"), opt.get("first_k"), opt.get("split"))


def _ends_early(samples: int, batch: int, world: int, total: int) -> bool:
    """BasicSR counts the iterations of an epoch rounded up, but its loader drops the last incomplete batch."""
    counted = math.ceil(samples / (batch * world))
    real = math.ceil(samples / world) // batch
    return (math.ceil(total / counted) + 1) * real < total


def require_full_epochs(opt: dict, images: int) -> None:
    """Raise UserError for data with which BasicSR would end early or at once, without a word and with exit code 0."""
    _, world = get_dist_info()
    batch, ratio, total = opt.get("batch_size_per_gpu", 1), opt.get("dataset_enlarge_ratio", 1), opt.get("total_iter") or 1
    if _ends_early(images * ratio, batch, world, total):
        enough = next(r for r in (ratio * 2**k for k in range(64)) if not _ends_early(images * r, batch, world, total))
        raise UserError(
            f"dataset {opt.get('name')}: with {images} images x dataset_enlarge_ratio {ratio}, batches of {batch} and {world} processes "
            f"BasicSR would end before iteration {total}; set dataset_enlarge_ratio to {enough}."
        )
