"""The hook that lets BasicSR's own, unedited train.py and test.py know our names.

The file liif_plugin.pth beside the package runs at every interpreter start and puts a finder in front of
``sys.meta_path``. That finder imports nothing until ``basicsr`` is imported. Then it calls ``find_spec`` of
this module: ``basicsr`` is executed as usual, and right after it ``liif_plugin.register``. The command
``python basicsr/train.py`` has no other place for a plug-in; the hook can go when BasicSR has one.

A problem here gives a warning and never an exception. The environment variable ``LIIF_PLUGIN_AUTOLOAD=0``
turns the hook off.
"""

import os
import sys

FINDER = "RegisterAfterBasicSR"  # in the text of the finder, that of liif_plugin.pth and the one below


def find_spec(name, path=None, target=None):
    """Return the spec of ``basicsr`` with a loader that imports ``liif_plugin.register`` afterwards.

    Args:
        name: the module that is imported.
        path: as for a finder of ``sys.meta_path``.
        target: as for a finder of ``sys.meta_path``.

    Returns:
        None for any other name and for a package that is not BasicSR: the finders that follow are asked as if
        there were no hook.
    """
    if name != "basicsr":
        return None
    spec = _spec_without_hook(name, path, target)
    if not _is_basicsr(spec):
        return None
    run = spec.loader.exec_module

    def exec_module(module):
        # The stand-ins for modules that newer libraries lack must be there before the first line of basicsr.
        _import("liif_plugin.basicsr_patches")
        run(module)
        _register()

    spec.loader.exec_module = exec_module
    return spec


def _spec_without_hook(name, path, target):
    """Return what the finders behind the hook find, or None."""
    is_hook = [FINDER in str(finder) for finder in sys.meta_path]
    behind = is_hook.index(True) + 1 if True in is_hook else 0
    for finder in sys.meta_path[behind:]:
        spec = finder.find_spec(name, path, target) if hasattr(finder, "find_spec") else None
        if spec is not None:
            return spec
    return None


def _is_basicsr(spec):
    """Return whether ``spec`` is of a package with ``utils/registry``. Nothing of the package is executed.

    Old forks of BasicSR, and unrelated packages of the same name, do not have it.
    """
    from importlib.machinery import PathFinder

    if spec is None or not hasattr(spec.loader, "exec_module"):
        return False
    for name in ("basicsr.utils", "basicsr.utils.registry"):
        if spec is None or spec.submodule_search_locations is None:
            return False
        spec = PathFinder.find_spec(name, spec.submodule_search_locations)
    return spec is not None


def _register():
    """Import ``liif_plugin.register``, which puts every name of ours into the registries of BasicSR."""
    _import("liif_plugin.register")


def _import(name):
    """Import a module of ours. Warn if that fails: a broken plug-in must not take its host down."""
    import importlib

    try:
        importlib.import_module(name)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # SystemExit too: an imported module may try to end the program
        _warn(f"liif_plugin could not register itself: {type(error).__name__}: {error}")


def _warn(message):
    """Warn, also where ``python -W error`` makes an exception of each warning."""
    import warnings

    try:
        warnings.warn(message, stacklevel=2)
    except Warning:
        if sys.stderr is not None:  # None without a console
            sys.stderr.write(f"{message}\n")


class RegisterAfterBasicSR:
    """The finder that ``install`` puts in place; that of liif_plugin.pth has the same name and effect."""

    find_spec = staticmethod(find_spec)


def install():
    """Put the finder in front of ``sys.meta_path``, unless it is there or LIIF_PLUGIN_AUTOLOAD is 0."""
    if os.environ.get("LIIF_PLUGIN_AUTOLOAD") != "0" and FINDER not in str(sys.meta_path):
        sys.meta_path.insert(0, RegisterAfterBasicSR())


install()  # the liif_plugin.pth of an older installation imports this module and calls nothing
