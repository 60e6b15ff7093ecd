"""The hook that makes BasicSR's own, unedited train.py and test.py know our names.

A .pth file beside the package imports this module at interpreter start (see README, "What the hook does"). It puts a finder at
the front of sys.meta_path that reacts to the single name ``basicsr``: once that package has been executed, our register module
is imported. It warns and never raises. LIIF_PLUGIN_AUTOLOAD=0 turns it off. ``python basicsr/train.py`` has no other plug-in
point; the hook can go when BasicSR has one.
"""

import importlib.abc
import importlib.util
import os
import sys
import warnings


class RegisterAfterBasicSR(importlib.abc.MetaPathFinder):
    """Imports ``liif_plugin.register`` right after ``basicsr`` has been executed."""

    def __init__(self):
        self._searching = False

    def find_spec(self, fullname, path=None, target=None):
        if fullname != "basicsr" or self._searching:
            return None
        self._searching = True
        try:
            spec = importlib.util.find_spec("basicsr")
        finally:
            self._searching = False
        if spec is None or not hasattr(spec.loader, "exec_module"):
            return None
        run = spec.loader.exec_module

        def exec_module(module):
            from .basicsr_patches import shims  # noqa: F401  its stand-ins must be there before basicsr's first line

            run(module)
            _register()

        spec.loader.exec_module = exec_module
        return spec


def _register():
    try:
        if importlib.util.find_spec("basicsr.utils.registry") is None:
            return  # one of the old forks that call themselves basicsr: none of our business
        import liif_plugin.register  # noqa: F401
    except Exception as error:  # a broken plug-in must not take its host down
        warnings.warn(f"liif_plugin could not register itself: {type(error).__name__}: {error}", stacklevel=2)


def install():
    """Put the finder in place, unless LIIF_PLUGIN_AUTOLOAD=0 or it is there already."""
    if os.environ.get("LIIF_PLUGIN_AUTOLOAD", "1") == "0":
        return
    if not any(isinstance(finder, RegisterAfterBasicSR) for finder in sys.meta_path):
        sys.meta_path.insert(0, RegisterAfterBasicSR())


install()
