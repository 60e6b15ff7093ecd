"""Importing this module puts every name of ours into BasicSR's registries.

Plain imports, one line per module that registers something, so that a half-imported module of ours is no problem.
"""

from .errors import NO_BASICSR

from . import basicsr_patches  # isort: skip  its stand-ins must be there before basicsr's first line

try:
    import basicsr  # noqa: F401
except ModuleNotFoundError as error:
    if error.name != "basicsr":
        raise
    raise ModuleNotFoundError(NO_BASICSR, name="basicsr") from None

basicsr_patches.apply()

import liif_plugin.archs.bicubic_arch  # noqa: E402
import liif_plugin.archs.liif_arch  # noqa: E402
import liif_plugin.archs.lm_arch  # noqa: E402
import liif_plugin.archs.lte_arch  # noqa: E402
import liif_plugin.archs.metasr_arch  # noqa: E402
import liif_plugin.archs.rdn_arch  # noqa: E402
import liif_plugin.archs.siren_arch  # noqa: E402
import liif_plugin.archs.srno_arch  # noqa: E402
import liif_plugin.archs.thera_arch  # noqa: E402
import liif_plugin.data.arbitrary_scale_dataset  # noqa: E402
import liif_plugin.data.paired_scale_dataset  # noqa: E402
import liif_plugin.data.size_varied_dataset  # noqa: E402
import liif_plugin.metrics.continuous_metric  # noqa: E402
import liif_plugin.models.continuous_sr_model  # noqa: E402, F401

from .config.parser import AFTER_PARSE  # noqa: E402
from .models.checks import check_options  # noqa: E402

if check_options not in AFTER_PARSE:
    AFTER_PARSE.append(check_options)
