"""docs/mistakes.md is what the command says."""

import os
import runpy

import pytest

from helpers import ROOT
from helpers.processes import python
from liif_plugin.cli import COMMANDS

SCRIPT = ROOT / "scripts" / "mistakes.py"


def test_the_table_has_every_mistake_and_every_verb():
    mistakes = runpy.run_path(str(SCRIPT))["MISTAKES"]
    rows = [
        line for line in (ROOT / "docs" / "mistakes.md").read_text().splitlines() if line.startswith("| ")
    ][1:]
    assert len(rows) == len(mistakes) >= 30
    for mistake, row in zip(mistakes, rows):
        assert row.startswith(f"| {mistake.what} | `{mistake.command}`"), row
    assert set(COMMANDS) <= {mistake.command.split()[1] for mistake in mistakes}


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="the script forks")
def test_every_mistake_gets_the_line_in_the_table(tmp_path):
    done = python(SCRIPT, cwd=tmp_path, timeout=1800)
    assert done.returncode == 0, done.stderr
