"""Host patches: what stops a user of BasicSR 1.4.2 on today's stack, cured from outside.

``shims`` makes ``import basicsr`` work and is installed on import of this package, which costs no heavy import.
``apply()`` mends the imported host. Each patch states the error it cures, the versions, and when it can go.
"""

from . import shims

shims.install()


def apply() -> None:
    """Mend the imported BasicSR. Idempotent; called by ``liif_plugin.register``."""
    from ..config import parser as options
    from ..data import deterministic as draws
    from . import distributed, lmdb_env, loop, slurm, training

    lmdb_env.apply()
    draws.apply()
    distributed.apply()
    loop.apply()  # around what distributed has put there
    training.apply()
    slurm.apply()
    options.apply()
