"""Sources of images: an LMDB in BasicSR's layout or a folder, read on demand or decoded once into memory."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import torch
from basicsr.utils import get_root_logger
from PIL import Image
from tqdm import tqdm

from ..errors import UserError, check_choice
from .lmdb_env import read_value

EXTENSIONS = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".ppm")
# pictures that are named when they are left out
OTHER_EXTENSIONS = (
    *(".avif", ".heic", ".heif", ".jfif", ".jpe", ".jp2", ".jxl", ".gif", ".tga", ".psd", ".exr", ".hdr"),
    *(".pgm", ".pnm", ".dng", ".cr2", ".nef", ".arw"),
)
# Images are decoded in our own threads and in forked workers. OpenCV's thread pool gains nothing there, and
# a fork that meets one of its locks hangs forever.
cv2.setNumThreads(0)
_META_LINE = re.compile(r"^(?P<name>\S+) \((?P<h>\d{1,6}),(?P<w>\d{1,6}),(?P<c>\d)\)( \d+)?$")


def decode_rgb(data: bytes, name: str) -> np.ndarray:
    """Decode an image file to 8-bit RGB.

    Gray becomes three equal channels, palettes become their colours, 16 bits are rounded to 8, and an
    opaque alpha channel is dropped.

    Args:
        data: the bytes of the file.
        name: what to call it in messages.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        UserError: for bytes that are no whole image, and for transparent images, whose colours depend on a
            background.
    """
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED) if data else None
    except (cv2.error, MemoryError):  # a header that promises more than can be held
        image = None
    if image is None:
        raise UserError(f"{name}: not a whole image file ({len(data)} bytes); replace or remove it.")
    if image.dtype == np.uint16:
        image = ((image.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8)
    if image.dtype != np.uint8:
        raise UserError(f"{name}: expected 8 or 16 bits per channel, got {image.dtype}; convert it to PNG.")
    if image.ndim == 2:
        return np.repeat(image[:, :, None], 3, axis=2)
    if image.shape[2] not in (3, 4):
        raise UserError(f"{name}: has {image.shape[2]} channels; expected gray or RGB, so convert it first.")
    if image.shape[2] == 4:
        if image[:, :, 3].min() < 255:
            raise UserError(f"{name}: has transparent pixels; flatten it onto a background first.")
        return cv2.cvtColor(image, cv2.COLOR_BGRA2RGB)
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def read_rgb(path: str | os.PathLike) -> np.ndarray:
    """Return the image file ``path`` as (H, W, 3) uint8 RGB; see ``decode_rgb``.

    Raises:
        UserError: if the file cannot be read or is no whole image.
    """
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}).") from error
    return decode_rgb(data, os.fspath(path))


def header_size(path: str | os.PathLike) -> tuple[int, int]:
    """Return (H, W) of an image file from its header. Raises UserError where there is no such header."""
    try:
        with Image.open(path) as image:
            return image.height, image.width
    except Exception as error:  # Pillow has many ways to say no
        raise UserError(
            f"{path}: not an image file ({type(error).__name__}); replace or remove it."
        ) from error


def find_images(folder: str | os.PathLike) -> tuple[list[str], list[str]]:
    """Search ``folder`` and its subfolders for images. Names that begin with a dot are left out.

    Returns:
        (images, others): names relative to ``folder``, sorted. ``others`` are pictures of formats that are
        not read here, such as HEIC.

    Raises:
        UserError: if a folder cannot be read.
    """

    def refuse(error: OSError) -> None:
        raise UserError(
            f"{error.filename}: this folder cannot be read ({error.strerror}); make it readable or move it "
            "away."
        )

    images: list[str] = []
    others: list[str] = []
    for parent, subfolders, files in os.walk(os.fspath(folder), onerror=refuse):
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        for name in files:
            path = os.path.join(parent, name)
            kind = os.path.splitext(name)[1].lower()
            if name.startswith(".") or kind not in (*EXTENSIONS, *OTHER_EXTENSIONS):
                continue
            if os.path.isfile(path):  # no pipe, no link to nothing
                found = images if kind in EXTENSIONS else others
                found.append(os.path.relpath(path, folder))
    return sorted(images), sorted(others)


def list_images(folder: str | os.PathLike) -> list[str]:
    """Return the names of the images under ``folder``; see ``find_images``."""
    return find_images(folder)[0]


def check_name(where: str, name: str) -> None:
    """Raise UserError for a name that would lead out of the folder that it is joined to.

    Names come from files that others wrote (meta_info.txt, split.json), and results are written under them.

    Example:
        >>> check_name("meta_info.txt", "train/0001.png")
        >>> check_name("meta_info.txt", "../../x.png")
        Traceback (most recent call last):
        ...
        liif_plugin.errors.UserError: meta_info.txt: the name '../../x.png' leads out of its folder; ...
    """
    parts = re.split(r"[/\\]", name)
    absolute = parts[0] == "" or re.match(r"[A-Za-z]:", name)
    if absolute or ".." in parts or "\0" in name:
        raise UserError(
            f"{where}: the name {name[:200]!r} leads out of its folder; expected one such as "
            "'train/0001.png'."
        )


def _read_lines(path: str, what: str) -> list[str]:
    try:
        with open(path, encoding="utf-8") as file:
            return [line.strip() for line in file if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{what}: expected a readable text file {path} ({type(error).__name__}).") from error


def _names_of_split(text: str, path: str, split: str | None) -> list[str]:
    splits = parse_splits(text, path)
    check_choice(f"{path}: split", split, splits)
    return splits[str(split)]


def parse_splits(text: str, path: str) -> dict[str, list[str]]:
    """Parse a split.json: a mapping from the names of splits to lists of file names.

    Args:
        text: what is in the file.
        path: the file, for messages.

    Raises:
        UserError: if it is something else, or a name in it leads out of the folder.
    """
    try:
        splits = {str(split): [str(name) for name in names] for split, names in json.loads(text).items()}
    except (ValueError, AttributeError, TypeError, RecursionError) as error:
        raise UserError(
            f"{path}: expected a mapping from splits to lists of file names ({type(error).__name__})."
        ) from error
    for names in splits.values():
        for name in names:
            check_name(path, name)
    return splits


class ImageSource:
    """A list of images, read by position as (H, W, 3) uint8 RGB.

    Args:
        root: a folder of images, or a folder ``*.lmdb`` in BasicSR's layout (data.mdb, meta_info.txt).
        where: what to call it in messages, such as "DIV2K: dataroot_gt".
        meta_info_file: a text file with a wanted name at the start of each line, or a .json file that maps
            splits to lists of names; None takes all images.
        split: the split to take of a .json file.
        how_to_get: a sentence for the message when ``root`` does not exist.
        cache: 'memory' decodes every image once, into one uint8 block that workers share; None reads on
            demand.
        first_k: keep the first k images only.
        shared: whether workers will read it too.

    Attributes:
        names: of the images, relative to ``root``.
        sizes: (H, W) of each.

    Raises:
        UserError: for a missing, empty or unreadable root, for a listed image that is not in it, and for
            names that lead out of it.

    Example:
        >>> import tempfile
        >>> folder = tempfile.mkdtemp()
        >>> Image.new("RGB", (30, 20)).save(f"{folder}/a.png")
        >>> source = ImageSource(folder, "my images")
        >>> source.names, source.sizes, source.read(0).shape
        (['a.png'], [(20, 30)], (20, 30, 3))
    """

    def __init__(
        self,
        root: str,
        where: str,
        meta_info_file: str | None = None,
        how_to_get: str | None = None,
        cache: str | None = None,
        first_k: int | None = None,
        split: str | None = None,
        shared: bool = True,
    ):
        check_choice(f"{where}: cache", cache, (None, "memory"))
        self.root, self.where = str(root), where
        if not os.path.isdir(self.root):
            advice = how_to_get or "Correct the path, or make it with `liif prepare`."
            raise UserError(f"{where}: there is no folder {self.root} (looked from {os.getcwd()}). {advice}")
        self.is_lmdb = self.root.rstrip("/").endswith(".lmdb")
        # name -> (H, W), or None where the header of the file has to tell it
        entries = self._lmdb_entries() if self.is_lmdb else self._folder_entries()
        wanted = self._wanted(meta_info_file, entries, split)[:first_k]
        if not wanted:
            raise UserError(
                f"{where}: {self.root} holds no images; expected {', '.join(EXTENSIONS)} or a filled LMDB."
            )
        self._check_stems_differ(wanted)
        self.names = wanted
        self.sizes = [entries[name] or header_size(os.path.join(self.root, name)) for name in wanted]
        # all images one after another, and where each of them begins
        self._block: torch.Tensor | None = None
        self._offsets: Sequence[int] = ()
        if cache is not None:
            self._block, self._offsets = self._decode_all(shared)

    def _folder_entries(self) -> Mapping[str, tuple[int, int] | None]:
        names, others = find_images(self.root)
        if others:
            get_root_logger().warning(
                f"{self.where}: {len(others)} pictures are left out, because their format is not read: "
                f"{', '.join(others[:3])}; convert them to PNG."
            )
        return dict.fromkeys(names)

    def _lmdb_entries(self) -> Mapping[str, tuple[int, int] | None]:
        entries = {}
        for line in _read_lines(os.path.join(self.root, "meta_info.txt"), self.where):
            match = _META_LINE.match(line)
            if not match:
                raise UserError(
                    f"{self.where}: {self.root}/meta_info.txt: expected lines like 'name.png (480,480,3) 1', "
                    f"got '{line}'."
                )
            check_name(f"{self.where}: {self.root}/meta_info.txt", match["name"])
            entries[match["name"]] = int(match["h"]), int(match["w"])
        return entries

    def _check_stems_differ(self, names: list[str]) -> None:
        by_stem: dict[str, str] = {}
        for name in names:
            other = by_stem.setdefault(os.path.splitext(name)[0], name)
            if other != name:
                raise UserError(
                    f"{self.where}: {self.root} has both {other} and {name}; results and LR files could not "
                    "tell them apart."
                )

    def _wanted(self, meta_info_file: str | None, entries: Mapping, split: str | None) -> list[str]:
        """Return the names that are listed, in their order; all of them without a list."""
        if meta_info_file is None:
            return list(entries)
        lines = _read_lines(meta_info_file, f"{self.where}: meta_info_file")
        if str(meta_info_file).endswith(".json"):
            wanted = _names_of_split("".join(lines), meta_info_file, split)
        else:
            wanted = [line.split(" ")[0] for line in lines]
            for name in wanted:
                check_name(f"{self.where}: {meta_info_file}", name)
        for name in wanted:
            if name not in entries:
                raise UserError(f"{self.where}: {meta_info_file} lists {name}, which is not in {self.root}.")
        return wanted

    def __len__(self) -> int:
        return len(self.names)

    def path(self, i: int) -> str:
        """Return where image ``i`` comes from, for messages and for naming results."""
        return os.path.join(self.root, self.names[i])

    def read(self, i: int) -> np.ndarray:
        """Return image ``i``: (H, W, 3) uint8 RGB."""
        if self._block is None:
            return self._read_and_decode(i)
        h, w = self.sizes[i]
        return self._block[self._offsets[i] : self._offsets[i] + h * w * 3].view(h, w, 3).numpy()

    def _read_and_decode(self, i: int) -> np.ndarray:
        if self.is_lmdb:
            data = read_value(self.root, os.path.splitext(self.names[i])[0])
        else:
            try:
                data = Path(self.path(i)).read_bytes()
            except OSError as error:
                raise UserError(f"{self.path(i)}: cannot be read ({error.strerror}).") from error
        image = decode_rgb(data, self.path(i))
        if image.shape[:2] != tuple(self.sizes[i]):
            raise UserError(
                f"{self.path(i)}: has (height, width) = {image.shape[:2]}, but its header or meta_info.txt "
                f"says {tuple(self.sizes[i])}."
            )
        return image

    def _decode_all(self, shared: bool) -> tuple[torch.Tensor, Sequence[int]]:
        """Decode every image into one block; return it and the position of each image in it."""
        ends = np.cumsum([h * w * 3 for h, w in self.sizes])
        offsets = [0, *ends[:-1].tolist()]
        get_root_logger().info(
            f"{self.where}: decoding {len(self)} images into memory, {ends[-1] / 2**20:,.0f} MiB."
        )
        if shared:
            self._check_shared_memory(int(ends[-1]))
        try:
            block = torch.empty(int(ends[-1]), dtype=torch.uint8)
        except RuntimeError as error:
            raise UserError(
                f"{self.where}: cache: memory needs {ends[-1] / 2**30:,.1f} GiB; take it out to read on "
                "demand."
            ) from error

        def fill(i: int) -> None:
            image = torch.from_numpy(self._read_and_decode(i))
            block[offsets[i] : offsets[i] + image.numel()] = image.flatten()

        with ThreadPoolExecutor(os.cpu_count()) as pool:  # decoding releases the interpreter lock
            work = pool.map(fill, range(len(self)))
            for _ in tqdm(work, total=len(self), unit="image", disable=len(self) < 200):
                pass  # raises the first error
        return block, offsets

    def _check_shared_memory(self, size: int) -> None:
        """Raise UserError if /dev/shm is too small for the block.

        Spawned workers, as in BasicSR's distributed training, get it through there, and containers keep it
        tiny.
        """
        spawns = torch.multiprocessing.get_start_method(allow_none=True) == "spawn"
        # of this machine, set by torchrun; each puts its own block there
        processes = int(os.environ.get("LOCAL_WORLD_SIZE", 1))
        if not spawns or not os.path.isdir("/dev/shm"):
            return
        free = shutil.disk_usage("/dev/shm").free
        if free < size * processes:
            raise UserError(
                f"{self.where}: cache: memory needs {size / 2**30:.1f} GiB of /dev/shm for each of "
                f"{processes} processes, but {free / 2**30:.1f} GiB are free there; give the container more "
                "(docker run --shm-size), set num_worker_per_gpu: 0 or take cache out."
            )


def require_size(source: ImageSource, side: int, policy: str) -> list[int]:
    """Return the positions of the images with both sides of at least ``side`` pixels.

    Args:
        source: the images.
        side: pixels that the largest crop needs.
        policy: 'skip' leaves the others out and names them, 'fail' refuses them.

    Raises:
        UserError: with policy 'fail' if there is a smaller image, and if no image is large enough.
    """
    check_choice(f"{source.where}: too_small", policy, ("skip", "fail"))
    small = [i for i, size in enumerate(source.sizes) if min(size) < side]
    named = ", ".join(f"{source.names[i]} {tuple(source.sizes[i])}" for i in small[:5])
    named += f" and {len(small) - 5} more" if len(small) > 5 else ""
    if small and (policy == "fail" or len(small) == len(source)):
        raise UserError(
            f"{source.where}: the largest crop needs {side} x {side} pixels, but {len(small)} of "
            f"{len(source)} images are smaller, (height, width): {named}. Set `too_small: skip` to leave "
            "them out, or a smaller lq_size or scale_range."
        )
    if small:
        get_root_logger().warning(
            f"{source.where}: left out, because their (height, width) is below {side} x {side}: {named}."
        )
    return sorted(set(range(len(source))) - set(small))
