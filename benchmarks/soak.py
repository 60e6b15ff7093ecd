"""Watch a long command for leaks: memory, file handles, threads and processes of its whole tree.

  python benchmarks/soak.py -o soak.csv -- liif train -opt train_liif_light.yml
  python benchmarks/soak.py --renders 10000        random windows and sizes, in this process's child

Takes a sample every half minute. Prints the medians of the run's second and last quarter (the first is
warm-up) and how much they differ. Exit code 1 where memory grew by more than --allow, where handles,
threads or processes grew at all, or where the command failed.
"""

from __future__ import annotations

import argparse
import csv
import statistics
import subprocess
import sys
import time
from contextlib import suppress

import psutil

FIGURES = ("memory_mib", "handles", "threads", "processes")


def sample(root: psutil.Process) -> dict[str, float]:
    """Return sums over the process and its descendants.

    Memory is the proportional set size: a page that n of them share counts 1/n in each.
    """
    total = dict.fromkeys(FIGURES, 0)
    for process in [root, *root.children(recursive=True)]:
        with suppress(psutil.NoSuchProcess, psutil.ZombieProcess), process.oneshot():
            counts = process.memory_full_info().pss / 2**20, process.num_fds(), process.num_threads(), 1
            total = {figure: total[figure] + count for figure, count in zip(FIGURES, counts)}
    return total


def watch(command: list[str], path: str, every: float) -> tuple[int, list[dict[str, float]]]:
    """Run ``command``; return its exit code and the samples, which are appended to ``path`` as they come."""
    process = subprocess.Popen(command)
    root, begun, samples = psutil.Process(process.pid), time.monotonic(), []
    with open(path, "w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, ["seconds", *FIGURES])
        table.writeheader()
        while True:
            with suppress(subprocess.TimeoutExpired):
                return process.wait(every), samples
            with suppress(psutil.NoSuchProcess):
                samples.append({"seconds": round(time.monotonic() - begun), **sample(root)})
                table.writerow({name: round(value, 1) for name, value in samples[-1].items()})
                file.flush()


def growth(samples: list[dict[str, float]], figure: str) -> tuple[float, float]:
    """Medians of ``figure`` in the second and in the last quarter of the run."""
    quarter = len(samples) // 4
    return tuple(
        statistics.median(s[figure] for s in part)
        for part in (samples[quarter : 2 * quarter], samples[-quarter:])
    )


def verdict(samples: list[dict[str, float]], allow: float) -> bool:
    """Print the comparison; whether nothing grew. ``allow`` is the share by which memory may differ."""
    if len(samples) < 8:
        print(
            f"soak: {len(samples)} samples are too few to compare; run it longer or with a smaller --every."
        )
        return False
    steady = True
    for figure in FIGURES:
        before, after = growth(samples, figure)
        limit = before * (1 + allow) if figure == "memory_mib" else before
        steady &= after <= limit
        print(
            f"soak: {figure:10} second quarter {before:9.1f}   last quarter {after:9.1f}   "
            f"{'steady' if after <= limit else 'GREW'}"
        )
    print(f"soak: {samples[-1]['seconds'] / 3600:.2f} hours, {len(samples)} samples")
    return steady


def render_many(count: int) -> None:
    """Render ``count`` random windows of random sizes of a picture by liif-light."""
    import numpy as np
    from skimage import data

    from liif_plugin import ContinuousImage

    rng = np.random.default_rng(0)
    pictures = [np.ascontiguousarray(data.chelsea()[:h, :w]) for h, w in ((96, 128), (150, 100), (64, 64))]
    for number in range(count):
        if number % 100 == 0:
            image = ContinuousImage(pictures[number // 100 % len(pictures)])
        scale = rng.uniform(0.5, 12, 2)
        size = tuple(max(1, round(n * s)) for n, s in zip(image.size, scale))
        height, width = (int(rng.integers(1, min(n, 96) + 1)) for n in size)
        top, left = (int(rng.integers(0, n - part + 1)) for n, part in zip(size, (height, width)))
        part = image.render(size, (top, left, height, width))
        if part.shape != (3, height, width) or not bool(part.isfinite().all()):
            raise SystemExit(
                f"render {number}: {size} window {(top, left, height, width)} gave {tuple(part.shape)} "
                "or no finite colours"
            )
    print(f"{count} renders")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "-o", "--output", default="soak.csv", metavar="FILE", help="the samples as a table (default soak.csv)"
    )
    parser.add_argument(
        "--every", type=float, default=30, metavar="S", help="seconds between samples (default 30)"
    )
    parser.add_argument(
        "--allow",
        type=float,
        default=0.05,
        metavar="SHARE",
        help="growth of memory that passes (default 0.05)",
    )
    parser.add_argument(
        "--renders", type=int, metavar="N", help="watch N renders of random windows instead of a command"
    )
    parser.add_argument("--work", type=int, help=argparse.SUPPRESS)  # the child that --renders watches
    parser.add_argument("command", nargs=argparse.REMAINDER, help="-- and the command to watch")
    args = parser.parse_args()
    if args.work:
        return render_many(args.work)
    command = [part for part in args.command if part != "--"]
    if args.renders:
        command = [sys.executable, __file__, "--work", str(args.renders)]
    if not command:
        parser.error("nothing to watch: give `-- COMMAND` or --renders N")
    code, samples = watch(command, args.output, args.every)
    print(f"soak: the command ended with exit code {code}")
    sys.exit(0 if verdict(samples, args.allow) and code == 0 else 1)


if __name__ == "__main__":
    main()
