"""``python -m liif_plugin VERB``; what ``torchrun -m liif_plugin train`` starts. Spawned workers import it: keep the guard."""

from .cli import main

if __name__ == "__main__":
    main()
