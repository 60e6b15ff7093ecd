"""Networks: the contract (base.py), the paper's equations (reference.py), every decoder, the encoders."""

from ..basicsr_patches import shims  # noqa: F401, I001  must be installed before basicsr's first line
import basicsr  # noqa: F401  imported whole first, so that no module of ours is half-imported
