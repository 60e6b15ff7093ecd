"""Draw the course of a training: loss and PSNR of every validation set, read from BasicSR's log.

python scripts/draw_curves.py experiments/LIIF_light/train_LIIF_light_*.log -o docs/liif-light.png
"""

from __future__ import annotations

import argparse
import re
import sys

import matplotlib

matplotlib.use("Agg")  # no window

import matplotlib.pyplot as plt
import numpy as np

STEP = re.compile(r"iter:\s*([\d,]+).*?l_(?:pix|teacher): ([\d.e+-]+)")
SET = re.compile(r"Validation (\S+)$")
SCORE = re.compile(r"# (\S+): ([\d.]+)\tBest: [\d.]+ @ (\d+) iter")


def read_log(
    paths: list[str], metric: str = "psnr"
) -> tuple[list[tuple[int, float]], dict[str, list[tuple[int, float]]]]:
    """Return [(iteration, loss)] and, for every validation set, [(iteration, score)].

    Give the logs of a resumed run in their order.
    """
    losses: dict[int, float] = {}
    scores: dict[str, dict[int, float]] = {}
    name, iteration = None, 0
    for path in paths:
        with open(path, encoding="utf-8") as file:
            for line in file:
                if step := STEP.search(line):
                    iteration = int(step[1].replace(",", ""))
                    losses[iteration] = float(step[2])
                elif found := SET.search(line.rstrip()):
                    name = found[1]
                elif (score := SCORE.search(line)) and name and score[1] == metric:
                    scores.setdefault(name, {})[iteration] = float(score[2])
    return sorted(losses.items()), {name: sorted(values.items()) for name, values in scores.items()}


def draw(losses: list[tuple[int, float]], scores: dict[str, list[tuple[int, float]]], path: str) -> None:
    """Loss (log scale, with its running median) on the left, one line for every set on the right."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
    steps, values = np.array(losses).T
    left.plot(steps, values, color="0.8", linewidth=0.6)
    width = max(1, len(values) // 25)
    middle = [np.median(values[max(0, i - width) : i + width + 1]) for i in range(len(values))]
    left.plot(steps, middle, color="C3", label=f"median of {2 * width + 1} log lines")
    left.set(yscale="log", xlabel="iteration", ylabel="loss")
    left.legend(frameon=False)
    for name, line in scores.items():
        iterations, psnr = np.array(line).T
        right.plot(
            iterations, psnr - psnr[0], label=f"{name.replace('_', ' ')}: {psnr[0]:.2f} to {psnr[-1]:.2f} dB"
        )
    right.set(xlabel="iteration", ylabel="PSNR over the first validation, dB")
    right.legend(frameon=False)
    for axes in (left, right):
        axes.grid(color="0.92")
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)


def draw_rows(rows: dict[str, dict[str, list[tuple[int, float]]]], path: str) -> None:
    """Draw several trainings: one panel for each validation set, one line for each row.

    Args:
        rows: row -> validation set -> [(iteration, score)], as ``read_log`` returns them.
        path: the picture.
    """
    sets = sorted({name for scores in rows.values() for name in scores})
    figure, panels = plt.subplots(
        1, len(sets), figsize=(4 * len(sets), 4), layout="constrained", squeeze=False
    )
    for axes, name in zip(panels[0], sets):
        for row, scores in rows.items():
            if name in scores:
                iterations, psnr = np.array(scores[name]).T
                axes.plot(iterations, psnr, marker=".", label=row)
        axes.set(title=name.replace("_", " "), xlabel="iteration", ylabel="PSNR, dB")
        axes.grid(color="0.92")
        axes.spines[["top", "right"]].set_visible(False)
    panels[0][0].legend(frameon=False, fontsize="small")
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "logs", nargs="+", metavar="LOG", help="train_NAME_DATE.log; several of one run in their order"
    )
    parser.add_argument("-o", "--output", required=True, metavar="PNG", help="the picture")
    args = parser.parse_args()
    losses, scores = read_log(args.logs)
    if len(losses) < 2 or not scores:
        sys.exit(
            f"{args.logs[0]}: expected a log of BasicSR with losses and validations, "
            f"found {len(losses)} losses."
        )
    draw(losses, scores, args.output)


if __name__ == "__main__":
    main()
