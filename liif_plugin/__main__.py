"""``python -m liif_plugin COMMAND``, also under torchrun. Spawned workers import this module: keep the
guard.
"""

from .cli import main

if __name__ == "__main__":
    main()
