"""Replacements of BasicSR names: what stops a user of BasicSR 1.4.2 today, cured from outside.

Importing this package installs the stand-ins of ``shims``, so that ``import basicsr`` works; that costs no
heavy import. ``apply()`` patches the imported BasicSR. Each patch is declared by ``@patch`` with the error
it cures and when it can go.
"""

from . import shims

shims.install()


def apply() -> None:
    """Patch the imported BasicSR. Idempotent; called by ``liif_plugin.register``."""
    # importing these modules registers their patches
    from . import launching, lmdb_backend, options, resuming, training_loop  # noqa: F401
    from .patching import install_all

    install_all()
