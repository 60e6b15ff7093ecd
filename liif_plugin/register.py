"""Importing this module puts every name of ours into BasicSR's registries.

Plain imports, one line per module that registers something, so that a half-imported module of ours is no
problem.
"""

from .errors import NO_BASICSR

from . import basicsr_patches  # isort: skip  its stand-ins must be there before basicsr's first line

try:
    import basicsr  # noqa: F401
except ModuleNotFoundError as error:
    if error.name != "basicsr":
        raise
    raise ModuleNotFoundError(NO_BASICSR, name="basicsr") from None

import liif_plugin.archs.bicubic_arch
import liif_plugin.archs.liif_arch
import liif_plugin.archs.lm_arch
import liif_plugin.archs.lte_arch
import liif_plugin.archs.metasr_arch
import liif_plugin.archs.rdn_arch
import liif_plugin.archs.siren_arch
import liif_plugin.archs.srno_arch
import liif_plugin.archs.thera_arch
import liif_plugin.data.arbitrary_scale_dataset
import liif_plugin.data.paired_scale_dataset
import liif_plugin.data.size_varied_dataset
import liif_plugin.metrics.continuous_metric
import liif_plugin.models.continuous_sr_model  # noqa: F401

basicsr_patches.apply()
