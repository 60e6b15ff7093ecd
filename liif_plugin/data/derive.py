"""Folders of smaller images made from a folder of images: the LR files of a benchmark, the sizes of the CelebA-HQ task."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from ..errors import UserError
from ..resize import matlab_imresize, pillow_bicubic
from .image_source import decode_rgb, list_images
from .prepare import begin_partial, threads

WHOLE = "whole.json"  # in the partial folder once everything is made: the list of what was left out
SPLITS = ("train", "val", "test")
CELEBAHQ_SIZES = (256, 128, 64, 32)


def lr_images(image: np.ndarray, scales: list[int], border: str) -> dict[str, np.ndarray]:
    """(H, W, 3) uint8 -> {'X2': (H // 2, W // 2, 3), ...} by MATLAB's imresize of the part that the scale divides."""
    lr = {}
    for scale in scales:
        h, w = image.shape[0] // scale, image.shape[1] // scale
        if not h or not w:
            raise UserError(f"{image.shape[0]} x {image.shape[1]} is below one pixel at x{scale}")
        lr[f"X{scale}"] = matlab_imresize(image[: h * scale, : w * scale], (h, w), border)
    return lr


def celebahq_images(image: np.ndarray) -> dict[str, np.ndarray]:
    """Square (N, N, 3) uint8 -> {'256': ..., '128': ..., '64': ..., '32': ...} by Pillow; the smaller three from 256, as published."""
    if image.shape[0] != image.shape[1] or image.shape[0] < CELEBAHQ_SIZES[0]:
        raise UserError(
            f"expected a square image of 256 pixels or more, got {image.shape[0]} x {image.shape[1]}"
        )
    images = {"256": pillow_bicubic(image, (256, 256))}
    return {
        **images,
        **{str(size): pillow_bicubic(images["256"], (size, size)) for size in CELEBAHQ_SIZES[1:]},
    }


def _save(image: np.ndarray, gray: bool, path: str) -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    temporary = f"{path}.partial"  # a PNG of its final name is whole
    Image.fromarray(image[:, :, 0] if gray else image).save(temporary, format="PNG")
    os.replace(temporary, path)


def derive_folders(
    source: str,
    output: str,
    folders: list[str],
    make: Callable[[np.ndarray], dict[str, np.ndarray]],
    settings: dict,
) -> list[tuple[str, str]]:
    """Write ``make(image)`` of every image under ``source`` to ``output``/FOLDER/NAME.png, gray images as gray ones.

    Written under ``output``/.partial and moved when whole; called again after an interruption it goes on.

    Args:
        folders: the keys of what ``make`` returns.
        settings: what ``make`` depends on; a partial folder of other settings is refused.

    Returns:
        (file, reason) of every image that was left out.

    Raises:
        UserError: for a missing or empty source, an output that exists, a full disk, or where nothing could be made.
    """
    if not os.path.isdir(source):
        raise UserError(f"{source}: expected a folder of images, there is none.")
    names = list_images(source)
    if not names:
        raise UserError(f"{source}: holds no images (png, jpg, bmp, tif, webp, ppm).")
    stems = [os.path.splitext(name)[0] for name in names]
    twin = (
        next((stem for stem in stems if stems.count(stem) > 1), None)
        if len(set(stems)) < len(stems)
        else None
    )
    if twin is not None:
        raise UserError(f"{source}: two images are called {twin}; rename one.")
    partial = os.path.join(output, ".partial")
    whole = os.path.join(partial, WHOLE)
    for folder in folders:
        if os.path.exists(os.path.join(output, folder)) and not os.path.exists(whole):
            raise UserError(
                f"{os.path.join(output, folder)}: exists already; delete it or choose another -o."
            )
    begin_partial(partial, {"source": os.path.abspath(source), **settings})
    if os.path.exists(whole):
        return _move(partial, output, folders)
    for leftover in Path(partial).rglob("*.png.partial"):  # of a run that was killed
        leftover.unlink()

    def work(name: str) -> str | None:
        stem = os.path.splitext(name)[0]
        targets = {folder: os.path.join(partial, folder, f"{stem}.png") for folder in folders}
        if all(map(os.path.isfile, targets.values())):
            return None
        path = os.path.join(source, name)
        try:
            with open(path, "rb") as file:
                image = decode_rgb(file.read(), path)
            made = make(image)
        except UserError as error:
            return str(error).split(": ", 1)[-1]
        with Image.open(path) as header:
            gray = header.mode in ("1", "L", "I", "I;16", "I;16B")
        for folder, target in targets.items():
            _save(made[folder], gray, target)
        return None

    try:
        with threads() as pool:
            bar = tqdm(
                pool.map(work, names),
                total=len(names),
                unit="image",
                desc=os.path.basename(source.rstrip("/")),
                disable=None,
            )
            left_out = [(name, reason) for name, reason in zip(names, bar) if reason]
        if len(left_out) == len(names):
            shutil.rmtree(partial)
            raise UserError(
                f"{source}: nothing could be made of {len(names)} images: {left_out[0][0]}: {left_out[0][1]}"
            )
        with open(f"{whole}.partial", "w", encoding="utf-8") as file:
            json.dump(left_out, file)
        os.replace(f"{whole}.partial", whole)
    except OSError as error:
        raise UserError(
            f"{partial}: cannot be written ({error}); make room and give the same command again."
        ) from error
    return _move(partial, output, folders)


def _move(partial: str, output: str, folders: list[str]) -> list[tuple[str, str]]:
    """Give the finished folders their names, those that have not theirs yet; what was left out, as noted in the partial folder."""
    try:
        with open(os.path.join(partial, WHOLE), encoding="utf-8") as file:
            left_out = [(name, reason) for name, reason in json.load(file)]
        for folder in folders:
            if os.path.isdir(os.path.join(partial, folder)):
                os.rename(os.path.join(partial, folder), os.path.join(output, folder))
        shutil.rmtree(partial)
    except (OSError, ValueError) as error:
        raise UserError(
            f"{partial}: cannot be moved to {output} ({error}); make room and give the same command again."
        ) from error
    return left_out


def read_splits(path: str | None, folder: str) -> dict[str, list[str]]:
    """{'train': [names], ...} from a split.json, or from the sub-folders train, val and test of ``folder``; names end in .png.

    Raises:
        UserError: for a file that holds no splits, and for names that are not in ``folder``.
    """
    there = [f"{os.path.splitext(name)[0]}.png" for name in list_images(folder)]
    if path is None:
        splits = {split: [name for name in there if name.split(os.sep)[0] == split] for split in SPLITS}
        return {split: names for split, names in splits.items() if names}
    try:
        with open(path, encoding="utf-8") as file:
            splits = {
                str(split): [f"{os.path.splitext(name)[0]}.png" for name in names]
                for split, names in json.load(file).items()
            }
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise UserError(
            f"{path}: expected a mapping from splits to lists of file names ({type(error).__name__})."
        ) from error
    known = set(there)
    for split, names in splits.items():
        missing = [name for name in names if name not in known]
        if missing:
            raise UserError(
                f"{path}: {len(missing)} of {len(names)} names of '{split}' are not in {folder}, e.g. {missing[0]}."
            )
    return splits
