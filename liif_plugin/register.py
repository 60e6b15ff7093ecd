"""Importing this module puts every name of ours into BasicSR's registries.

Every ``archs/*_arch.py`` is imported, as BasicSR does with its own: a new network is one file. The others are
plain imports, one line per module, so that a half-imported module of ours is no problem.
"""

import importlib
import pkgutil

from .errors import NO_BASICSR

from . import basicsr_patches  # isort: skip  its stand-ins must be there before basicsr's first line

try:
    import basicsr  # noqa: F401
except ModuleNotFoundError as error:
    if error.name != "basicsr":
        raise
    raise ModuleNotFoundError(NO_BASICSR, name="basicsr") from None

import liif_plugin.data.arbitrary_scale_dataset
import liif_plugin.data.paired_scale_dataset
import liif_plugin.data.size_varied_dataset
import liif_plugin.metrics.continuous_metric
import liif_plugin.models.continuous_sr_model  # noqa: F401

from . import archs

for module in pkgutil.iter_modules(archs.__path__):
    if module.name.endswith("_arch"):
        importlib.import_module(f"{archs.__name__}.{module.name}")

basicsr_patches.apply()
