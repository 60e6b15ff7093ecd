"""``@patch``: replace a name of BasicSR, keep the original, and remember why."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Protocol

SCRIPTS = ("basicsr.train", "basicsr.test")  # they may also run as __main__


class Replacement(Protocol):
    """What ``@patch`` returns: the decorated function, with the replaced one as ``original``."""

    original: Callable

    def __call__(self, *args: Any, **kwargs: Any) -> Any: ...


@dataclass(frozen=True)
class Patch:
    """One replaced name: ``name`` of each of ``owners``."""

    owners: tuple[str, ...]
    name: str
    cures: str
    until: str
    replacement: Any

    def install(self) -> None:
        """Put the replacement in place of the original, which becomes ``replacement.original``.

        Idempotent.
        """
        for owner in map(_find, self.owners):
            current = _get(owner, self.name)
            if current is self.replacement:
                continue
            # after a reload of our module the place holds the former replacement
            self.replacement.original = getattr(current, "original", current)
            _set(owner, self.name, self.replacement)


PATCHES: list[Patch] = []


def patch(
    *owners: str, name: str, cures: str, until: str = "BasicSR fixes this"
) -> Callable[[Any], Replacement]:
    """Register the decorated function or class as the replacement of a name of BasicSR.

    It takes effect with ``basicsr_patches.apply()``. The original is the attribute ``original`` of the
    result.

    Args:
        owners: dotted names of a module, a class or a table (dict) that hold the name. Give all that hold
            it: a module that ran ``from x import name`` has a copy of its own. They must be the same object.
        name: the attribute, or the key of a table.
        cures: the error that a user of BasicSR meets without the patch, for docs/plugin.md.
        until: when the patch can go.

    Example:
        >>> @patch("json", name="dumps", cures="an example")
        ... def dumps(value):
        ...     return dumps.original(value) + "!"
        >>> example = PATCHES.pop()
        >>> example.cures
        'an example'
    """

    def register(replacement: Any) -> Replacement:
        PATCHES.append(Patch(owners, name, cures, until, replacement))
        return replacement

    return register


def install_all() -> None:
    """Install every registered patch."""
    for entry in PATCHES:
        entry.install()


def patch_running_script() -> None:
    """Patch also the names in __main__: ``python basicsr/train.py`` runs there and not as basicsr.train."""
    main = sys.modules["__main__"]
    if not (hasattr(main, "train_pipeline") or hasattr(main, "test_pipeline")):
        return
    for entry in PATCHES:
        if set(SCRIPTS) & set(entry.owners) and hasattr(main, entry.name):
            setattr(main, entry.name, entry.replacement)


def patches_table() -> str:
    """Return the table of docs/plugin.md: every patch, the error it cures and when it can go."""
    rows = ["| name in BasicSR | behaviour without the patch | needed until |", "|---|---|---|"]
    for entry in sorted(PATCHES, key=lambda entry: (entry.owners[0], entry.name)):
        rows.append(f"| `{entry.owners[0]}.{entry.name}` | {entry.cures} | {entry.until} |")
    return "\n".join(rows)


def _find(dotted: str) -> Any:
    """Return the module, or the object inside a module, that ``dotted`` names."""
    parts = dotted.split(".")
    found: ModuleType | Any = importlib.import_module(parts[0])
    for depth, part in enumerate(parts[1:], start=2):
        # a package may hold a function of the same name as a submodule: the submodule is in sys.modules
        found = sys.modules.get(".".join(parts[:depth]), None) or getattr(found, part)
    return found


def _get(owner: Any, name: str) -> Any:
    return owner[name] if isinstance(owner, dict) else getattr(owner, name)


def _set(owner: Any, name: str, value: Any) -> None:
    if isinstance(owner, dict):
        owner[name] = value
    else:
        setattr(owner, name, value)
