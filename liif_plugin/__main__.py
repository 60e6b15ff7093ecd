"""``python -m liif_plugin COMMAND``, also under torchrun.

Spawned data workers import this module, so the guard is necessary.
"""

from .cli import main

if __name__ == "__main__":
    main()
