"""What several test modules use: folders, pictures, networks, runs, processes."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "golden"
