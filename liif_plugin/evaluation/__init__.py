"""Any number of models on any number of sets and scales under one protocol: ``liif compare``.

plan (what the option file asks for) -> measure (one cell, kept on disk) -> report (tables and the figure); published: the paper's values.
"""

from ..basicsr_patches import shims  # noqa: F401, I001  its stand-ins must be there before basicsr's first line
import basicsr  # noqa: F401  first and whole: the hook then registers our modules, none of which may be half-imported
