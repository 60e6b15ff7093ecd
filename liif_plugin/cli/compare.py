"""Measure any models on any sets and scales under one protocol: one table, and a figure with the same crop of every model.

  liif compare -opt compare_set5.yml

Models: networks of liif_plugin or BasicSR, bicubic, folders of finished pictures. Writes table.md, table.csv, table.tex, table.json
and figure.png to ./comparisons/NAME. Finished cells are kept: the same command goes on after an interruption, and measures only what
has changed.
"""

from __future__ import annotations

import argparse
import os

AFTER_INTERRUPT = "Finished cells are kept; the same command goes on."


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
    from ..evaluation.results import cells

    plan = read_plan(find_option_file(args.opt))
    folder = args.output or os.path.join("comparisons", plan.name)
    done = cells(plan, folder)
    table = report.markdown(plan, done)
    written = {
        "md": table,
        "csv": report.as_csv(plan, done),
        "tex": report.latex(plan, done),
        "json": report.as_json(plan, done),
    }
    for ending, text in written.items():
        with open(os.path.join(folder, f"table.{ending}"), "w", encoding="utf-8") as file:
            file.write(text)
    print(table)
    print(f"{printable(folder)}: table.{', table.'.join(written)}", end="")
    if plan.figure is not None:
        draw(plan, os.path.join(folder, "figure.png"))
        print(", figure.png", end="")
    print(".")
