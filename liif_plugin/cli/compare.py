"""Measure several networks on several sets and scales; write a table and a figure.

  liif compare -opt compare_set5.yml

A model is a network of liif_plugin or BasicSR, bicubic, or a folder of pictures that another program made.
The figure shows the same crop of each model. The command writes table.md, table.csv, table.tex, table.json
and figure.png to ./comparisons/NAME. Finished results are kept: the same command continues after an
interruption, and measures only what has changed.
"""

from __future__ import annotations

import argparse
import os

AFTER_INTERRUPT = "Finished results are kept; the same command continues."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-opt", required=True, metavar="FILE", help="compare_*.yml, a path or the name of a packaged one"
    )
    parser.add_argument(
        "-o", "--output", metavar="FOLDER", help="where tables and figure go (default ./comparisons/NAME)"
    )


def run(args: argparse.Namespace) -> None:
    from ..config.option_files import find_option_file
    from ..errors import printable
    from ..evaluation import report
    from ..evaluation.comparison_figure import draw
    from ..evaluation.plan import read_plan
    from ..evaluation.results import all_results
    from ..files import atomic_write

    plan = read_plan(find_option_file(args.opt))
    folder = args.output or os.path.join("comparisons", plan.name)
    results = all_results(plan, folder)
    texts = {
        "table.md": report.markdown(plan, results),
        "table.csv": report.as_csv(plan, results),
        "table.tex": report.latex(plan, results),
        "table.json": report.as_json(plan, results),
    }
    for name, text in texts.items():
        with atomic_write(os.path.join(folder, name), text=True) as file:
            file.write(text)
    written = list(texts)
    print(texts["table.md"])
    if plan.figure is not None:
        draw(plan, os.path.join(folder, "figure.png"))
        written.append("figure.png")
    print(f"{printable(folder)}: {', '.join(written)}.")
