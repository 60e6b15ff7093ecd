"""Downloaded networks in the cache folder of the user, converted and ready to load by name.

Of each network the folder has NAME.pth (its weights), NAME.yml (its network_g block and where it comes from)
and NAME.licence.txt (the notice of its authors).
"""

from __future__ import annotations

import os
from collections.abc import Callable

from ..errors import UserError
from ..files import atomic_write, remove_leftovers
from .conversion import convert_file, write_converted
from .download import cache_folder, fetch
from .downloadable import KNOWN, known


def path_of(name: str) -> str:
    """Return where the weights of ``name`` are, or would be, in the cache folder."""
    return os.path.join(cache_folder(), f"{name}.pth")


def cached() -> list[str]:
    """Return the names of the networks in the cache folder."""
    return [name for name in KNOWN if _is_whole(name)]


def _is_whole(name: str) -> bool:
    """Return whether the network ``name`` is there; its option file is written last."""
    path = path_of(name)
    return os.path.isfile(path) and os.path.isfile(path.removesuffix(".pth") + ".yml")


def find_cached(name: str) -> str:
    """Return the path of the weights of ``name``; a network_g block lies beside them.

    Raises:
        UserError: if it was not downloaded; the message says how.
    """
    if not _is_whole(name):
        raise UserError(
            f"model {name}: is not in {cache_folder()}; `liif models --download {name}` downloads it."
        )
    return path_of(name)


def install(
    name: str, unverified: bool = False, tell: Callable[[str], object] = lambda sentence: None
) -> str:
    """Download the network ``name``, verify and convert it, and keep it in the cache folder.

    Args:
        name: a key of ``KNOWN``.
        unverified: see ``fetch``.
        tell: is called with a sentence before each step that takes long.

    Returns:
        The path of the weights.

    Raises:
        UserError: see ``fetch``; or if the file is no checkpoint that this package can convert. Nothing is
            kept then.
    """
    weights, path = known(name), path_of(name)
    # The published file is several times larger, because it holds the state of the optimizer: it is not kept.
    original = fetch(name, os.path.join(cache_folder(), "downloads"), unverified, tell)
    try:
        converted = convert_file(original)
        remove_leftovers(cache_folder())
        with atomic_write(path.removesuffix(".pth") + ".licence.txt", text=True) as file:
            file.write(weights.notice)
        about = {"what": weights.what, "source": weights.url, "sha256": weights.sha256 or "not published"}
        write_converted(converted, path, about)
    finally:
        os.remove(original)
    return path
