"""Stand-ins for modules that BasicSR 1.4.2 imports and newer libraries no longer have.

* torchvision.transforms.functional_tensor: missing since torchvision 0.17. data/degradations.py of BasicSR's
  PyPI release imports it.
* distutils, distutils.version: missing since Python 3.12 without setuptools. archs/arch_util.py imports it.
* scipy.ndimage.filters: missing since SciPy 2.0. metrics/niqe.py of BasicSR's PyPI release imports it.

All of them can go when a BasicSR newer than 1.4.2 is on PyPI. The finder is the last one in sys.meta_path, so
it is asked only for a module that no other finder has.
"""

from __future__ import annotations

import importlib.abc
import importlib.util
import sys
from types import ModuleType
from typing import Any


def _functional_tensor(module: Any) -> None:
    from torchvision.transforms.functional import rgb_to_grayscale  # type: ignore[import-untyped]

    module.rgb_to_grayscale = rgb_to_grayscale


def _distutils_version(module: Any) -> None:
    from packaging.version import Version

    module.LooseVersion = Version  # BasicSR only compares two release numbers with it


def _ndimage_filters(module: Any) -> None:
    from scipy.ndimage import convolve

    module.convolve = convolve


_STAND_INS = {
    "torchvision.transforms.functional_tensor": _functional_tensor,
    "distutils": lambda module: None,
    "distutils.version": _distutils_version,
    "scipy.ndimage.filters": _ndimage_filters,
}


class StandInFinder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds and fills the modules of the list above."""

    def find_spec(self, fullname, path=None, target=None):
        if fullname not in _STAND_INS:
            return None
        return importlib.util.spec_from_loader(fullname, self, is_package=fullname == "distutils")

    def exec_module(self, module: ModuleType) -> None:
        _STAND_INS[module.__name__](module)


def install() -> None:
    """Append the finder once."""
    if not any(isinstance(finder, StandInFinder) for finder in sys.meta_path):
        sys.meta_path.append(StandInFinder())
