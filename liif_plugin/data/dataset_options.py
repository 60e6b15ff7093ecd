"""What the datasets share: the options of each phase, opening a source, and epochs that are long enough."""

from __future__ import annotations

import math
from typing import Any

from basicsr.utils.dist_util import get_dist_info

from ..config.option_types import (
    BLOCK,
    FLAG,
    FOLDER_NAME,
    NO_DEFAULT,
    TEXT,
    Option,
    Options,
    OptionType,
    check_block,
    check_value,
    choice,
    each,
    either,
    number,
    optional,
    whole,
)
from ..errors import UserError
from .image_source import ImageSource

_ONE_SCALE = number(0.01, 10**6)
SCALE = OptionType("a positive number or a pair [y, x]", either(_ONE_SCALE, each(_ONE_SCALE, 2)).fits)
SOURCE_OPTIONS = {
    "name": Option(FOLDER_NAME, help="Name of the set in results."),
    "type": Option(TEXT, help="Class of the dataset."),
    "phase": Option(
        choice("train", "val", "test"), default="train", help="Set by BasicSR from the block's name."
    ),
    "dataroot_gt": Option(optional(TEXT), help="Folder or LMDB of the HR images."),
    "io_backend": Option(
        optional(BLOCK),
        default=None,
        help="As in BasicSR: `type: disk` or `type: lmdb`; by default chosen from the path.",
    ),
    "meta_info_file": Option(
        optional(TEXT),
        default=None,
        help="Text file with a name in each line, or a .json that maps splits to names.",
    ),
    "split": Option(optional(TEXT), default=None, help="The split to take from a .json."),
    "cache": Option(
        optional(choice("memory")),
        default=None,
        help="`memory`: decode each image once; all workers share the result.",
    ),
    "first_k": Option(optional(whole(1)), default=None, help="Use the first k images only."),
    "how_to_get": Option(
        optional(TEXT),
        default=None,
        help="Sentence that is added to the error message if the data are missing.",
    ),
    "too_small": Option(
        choice("fail", "skip"),
        default="fail",
        help="Images smaller than the largest crop: end with an error, or leave them out.",
    ),
    "num_worker_per_gpu": Option(whole(0, 4096), help="Processes that load data, for each GPU."),
}
TRAIN_OPTIONS = {
    "lq_size": Option(whole(1), default=48, help="Side of the LR crops in pixels."),
    "num_queries": Option(
        optional(whole(1)),
        help="Target pixels predicted for each crop; ~: all, as fixed-scale networks need.",
    ),
    "use_hflip": Option(FLAG, default=True, help="Flip at random, left to right."),
    "use_rot": Option(FLAG, default=True, help="Flip at random top to bottom, and transpose."),
    "seed": Option(whole(0, 2**31), help="Seed of the crops; by default the run's manual_seed."),
    "total_iter": Option(
        optional(whole(1)), default=NO_DEFAULT, help="Set by the trainer: the length of the run."
    ),
    "batch_size_per_gpu": Option(whole(1), help="Items in a batch, for each GPU."),
    "dataset_enlarge_ratio": Option(
        whole(1), default=1, help="Number of times that an epoch uses each image."
    ),
    "prefetch_mode": Option(optional(choice("cuda", "cpu")), default=None, help="As in BasicSR."),
    "num_prefetch_queue": Option(whole(1, 4096), default=1, help="As in BasicSR, for prefetch_mode: cpu."),
    "pin_memory": Option(optional(FLAG), help="As in BasicSR."),
    "persistent_workers": Option(optional(FLAG), help="As in BasicSR: keep the workers from epoch to epoch."),
}
VAL_OPTIONS = {
    "scale": Option(SCALE, help="Ratio of the sizes of HR and LR images."),
    "protocol": Option(optional(TEXT), help="div2k, benchmark or plain."),
    "metrics": Option(optional(BLOCK), help="Metrics of this set; by default those of `val`."),
}
LARGEST_EPOCH = 10**8  # BasicSR draws the order of an epoch's samples at once, in a list


def without(options: Options, *names: str) -> dict:
    """Return a table of options without ``names``."""
    return {name: option for name, option in options.items() if name not in names}


def check_phase_options(where: str, opt: dict, source: Options, train: Options, val: Options) -> None:
    """Raise UserError for an option that the phase of a dataset does not read.

    A ``scale`` in a training set would be ignored for days.

    Args:
        where: what to call the dataset.
        opt: its block.
        source: options that are read in both phases.
        train: options of training alone.
        val: options of validation alone.
    """
    in_training = opt.get("phase", "train") == "train"
    valid, other = ({**source, **train}, val) if in_training else ({**source, **val}, train)
    for key in opt:
        if key in other and key not in valid:
            phase = "validation" if in_training else "training"
            raise UserError(f"{where}: '{key}' is for {phase} sets; this one does not read it.")
    check_block(f"{where} ({opt.get('type')})", opt, valid)
    check_block(f"{where}: io_backend", opt.get("io_backend") or {}, {"type": TEXT})


def parse_scale(where: str, scale: object) -> tuple[float, float]:
    """Return (sy, sx) of an option that is a number or a pair [y, x]."""
    check_value(where, "scale", scale, SCALE)
    pair: Any = scale if isinstance(scale, (list, tuple)) else [scale, scale]
    return float(pair[0]), float(pair[1])


def open_source(opt: dict, root_key: str = "dataroot_gt") -> ImageSource:
    """Return the ImageSource that the options of a dataset name."""
    where = f"dataset {opt.get('name')}: {root_key}"
    if not opt.get(root_key):
        raise UserError(f"{where}: expected a folder or an LMDB, got nothing.")
    backend = (opt.get("io_backend") or {}).get("type")
    is_lmdb = str(opt[root_key]).rstrip("/").endswith(".lmdb")
    if backend not in (None, "lmdb" if is_lmdb else "disk"):
        raise UserError(
            f"{where}: io_backend.type is '{backend}', but {opt[root_key]} is "
            f"{'an LMDB' if is_lmdb else 'a folder'}."
        )
    return ImageSource(
        opt[root_key],
        where,
        meta_info_file=opt.get("meta_info_file") if root_key == "dataroot_gt" else None,
        how_to_get=opt.get("how_to_get"),
        cache=opt.get("cache"),
        first_k=opt.get("first_k"),
        split=opt.get("split"),
        shared=bool(opt.get("num_worker_per_gpu")),
    )


def _ends_early(samples: int, batch: int, world: int, total: int) -> bool:
    """Return whether BasicSR would end before iteration ``total``.

    It rounds the iterations of an epoch up when it counts them, but its loader drops the last incomplete
    batch.
    """
    counted = math.ceil(samples / (batch * world))
    real = math.ceil(samples / world) // batch
    return (math.ceil(total / counted) + 1) * real < total


def require_full_epochs(opt: dict, images: int) -> None:
    """Raise UserError for data with which BasicSR would end early with exit code 0, and without a message."""
    _, world = get_dist_info()
    batch, ratio = opt.get("batch_size_per_gpu", 1), opt.get("dataset_enlarge_ratio", 1)
    total = opt.get("total_iter") or 1
    where = f"dataset {opt.get('name')}"
    if images * ratio > LARGEST_EPOCH:
        raise UserError(
            f"{where}: {images} images x dataset_enlarge_ratio {ratio} are more than {LARGEST_EPOCH} samples "
            "an epoch; lower dataset_enlarge_ratio."
        )
    if _ends_early(images * ratio, batch, world, total):
        enough = ratio
        while _ends_early(images * enough, batch, world, total):
            enough *= 2
        raise UserError(
            f"{where}: with {images} images x dataset_enlarge_ratio {ratio}, batches of {batch} and {world} "
            f"processes BasicSR would end before iteration {total}; set dataset_enlarge_ratio to {enough}."
        )
