"""Measuring networks: one image, a validation set, and whole tables (``liif compare``).

single_image.py predicts one image and compares it with its ground truth, validation.py is the loop of the
trainer. A comparison goes plan.py (what the option file asks for) -> results.py (one model on one set at one
scale, kept on disk) -> report.py (tables) and comparison_figure.py. published.py holds values of papers.
"""

from ..basicsr_patches import shims  # noqa: F401, I001  basicsr cannot be imported without them

# All of basicsr at once: its import makes the hook register our modules, and none may be half imported then.
import basicsr  # noqa: F401
