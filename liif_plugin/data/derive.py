"""Make folders of smaller images: the LR files of a benchmark, the sizes of the CelebA-HQ task."""

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
from ..files import PARTIAL, atomic_write, flush_disks
from ..resize import matlab_imresize, pillow_bicubic
from .image_source import list_images, parse_splits, read_rgb
from .prepare import UNREAD_FORMAT, require_images
from .work_folder import disk_errors, work_folder, worker_threads

# In the work folder once everything is made: the list of the images that were left out.
FINISHED = "whole.json"
GRAY_MODES = ("1", "L", "I", "I;16", "I;16B")  # of Pillow
SPLITS = ("train", "val", "test")
CELEBAHQ_SIZES = (256, 128, 64, 32)


def lr_images(image: np.ndarray, scales: list[int], border: str) -> dict[str, np.ndarray]:
    """Shrink an image by MATLAB's imresize to each of several scales.

    For each scale it is first cropped at the bottom and the right to a multiple of the scale.

    Args:
        image: (H, W, 3) uint8.
        scales: whole numbers.
        border: as for ``matlab_imresize``.

    Returns:
        'X2' -> (H // 2, W // 2, 3), and so on for each scale.

    Raises:
        UserError: if a side is smaller than the scale.
    """
    lr = {}
    for scale in scales:
        h, w = image.shape[0] // scale, image.shape[1] // scale
        if not h or not w:
            raise UserError(f"(height, width) = {image.shape[:2]} is below one pixel at x{scale}")
        lr[f"X{scale}"] = matlab_imresize(image[: h * scale, : w * scale], (h, w), border)
    return lr


def celebahq_images(image: np.ndarray) -> dict[str, np.ndarray]:
    """Shrink an image to the sizes of the CelebA-HQ task by Pillow; the smaller three from 256, as published.

    Args:
        image: (N, N, 3) uint8, N of 256 or more.

    Returns:
        '256' -> (256, 256, 3), and so on for 128, 64 and 32.

    Raises:
        UserError: if the image is not square or smaller than 256.
    """
    if image.shape[0] != image.shape[1] or image.shape[0] < CELEBAHQ_SIZES[0]:
        raise UserError(
            f"expected a square image of 256 pixels or more, got (height, width) = {image.shape[:2]}"
        )
    largest = pillow_bicubic(image, (256, 256))
    images = {"256": largest}
    for size in CELEBAHQ_SIZES[1:]:
        images[str(size)] = pillow_bicubic(largest, (size, size))
    return images


def _save(image: np.ndarray, gray: bool, path: str) -> None:
    """Write a PNG, of one channel if ``gray``. It is not flushed to the disk yet."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with atomic_write(path, flush=False) as file:
        Image.fromarray(image[:, :, 0] if gray else image).save(file, format="PNG")


def _is_whole(path: str) -> bool:
    """Return whether ``path`` is a PNG without damage; a loss of power may leave one that is empty."""
    try:
        with Image.open(path) as image:
            image.verify()
    except Exception:  # Pillow has many ways to say no
        return False
    return True


def _is_gray(path: str) -> bool:
    """Return whether an image file is stored with one channel."""
    try:
        with Image.open(path) as header:
            return header.mode in GRAY_MODES
    except Exception as error:  # Pillow has many ways to say no
        raise UserError(f"{path}: not an image that Pillow reads ({type(error).__name__}).") from error


def _check_stems_differ(source: str, names: list[str]) -> None:
    by_stem: dict[str, str] = {}
    for name in names:
        stem = os.path.splitext(name)[0]
        if by_stem.setdefault(stem, name) != name:
            raise UserError(f"{source}: two images are called {stem}; rename one.")


def derive_folders(
    source: str,
    output: str,
    folders: list[str],
    make: Callable[[np.ndarray], dict[str, np.ndarray]],
    settings: dict,
) -> list[tuple[str, str]]:
    """Write ``make(image)`` of every image under ``source`` to ``output``/FOLDER/NAME.png.

    Images that are stored with one channel stay so. The files are written under ``output``/.partial and moved
    when all are there. Called again after an interruption, it continues.

    Args:
        source: a folder of images, searched with its subfolders.
        output: the folder that gets ``folders``.
        folders: the keys of what ``make`` returns.
        make: (H, W, 3) uint8 -> folder -> (h, w, 3) uint8. It raises UserError for an image to be left out.
        settings: what ``make`` depends on; unfinished work of other settings is refused.

    Returns:
        (file, reason) of every image that was left out.

    Raises:
        UserError: if ``source`` is missing, empty or unreadable, if one of ``folders`` exists, if another
            command writes there, if the disk is full, or if nothing could be made.
    """
    # Refuse whatever cannot succeed before anything is written.
    names, others = require_images(source)
    _check_stems_differ(source, names)
    partial = os.path.join(output, PARTIAL)
    finished = os.path.join(partial, FINISHED)
    for folder in folders:
        path = os.path.join(output, folder)
        if os.path.exists(path) and not os.path.exists(finished):
            raise UserError(f"{path}: exists already; delete it or choose another output folder.")

    def work(name: str) -> str | None:
        """Make the images of one file; return the reason if it is left out."""
        stem = os.path.splitext(name)[0]
        targets = {folder: os.path.join(partial, folder, f"{stem}.png") for folder in folders}
        if all(map(_is_whole, targets.values())):
            return None  # made before an interruption
        path = os.path.join(source, name)
        try:
            made = make(read_rgb(path))
            gray = _is_gray(path)
        except UserError as error:
            return str(error).split(": ", 1)[-1]
        for folder, target in targets.items():
            _save(made[folder], gray, target)
        return None

    with work_folder(partial, {"source": os.path.abspath(source), **settings}):
        if os.path.exists(finished):  # interrupted while the folders got their names
            return _move(partial, output, folders)
        with disk_errors(partial):
            for leftover in Path(partial).rglob(f"*{PARTIAL}"):  # of a command that was killed while it wrote
                leftover.unlink()
            with worker_threads() as pool:
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
                    f"{source}: nothing could be made of {len(names)} images: {left_out[0][0]}: "
                    f"{left_out[0][1]}"
                )
            left_out += [(name, UNREAD_FORMAT) for name in others]
            flush_disks()  # all images, before the file that says that they are there
            with atomic_write(finished, text=True) as file:
                json.dump(left_out, file)
        return _move(partial, output, folders)


def _move(partial: str, output: str, folders: list[str]) -> list[tuple[str, str]]:
    """Move the finished folders in ``partial`` to ``output``; return (file, reason) of what was left out."""
    try:
        with open(os.path.join(partial, FINISHED), encoding="utf-8") as file:
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
    """Return the names of each split; names end in .png and are relative to ``folder``.

    Args:
        path: a split.json, or None to take the subfolders train, val and test of ``folder``.
        folder: the folder of images.

    Raises:
        UserError: if the file holds no splits, or names that are not in ``folder``.
    """
    existing = [f"{os.path.splitext(name)[0]}.png" for name in list_images(folder)]
    if path is None:
        splits = {split: [name for name in existing if name.split(os.sep)[0] == split] for split in SPLITS}
        return {split: names for split, names in splits.items() if names}
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read()
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: expected a readable text file ({type(error).__name__}).") from error
    splits = {
        split: [f"{os.path.splitext(name)[0]}.png" for name in names]
        for split, names in parse_splits(text, path).items()
    }
    known = set(existing)
    for split, names in splits.items():
        missing = [name for name in names if name not in known]
        if missing:
            raise UserError(
                f"{path}: {len(missing)} of {len(names)} names of '{split}' are not in {folder}, "
                f"for example {missing[0]}."
            )
    return splits
