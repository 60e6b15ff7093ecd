"""docs/options.md is what the tables say that check option files."""

import runpy

import pytest

from helpers import ROOT
from liif_plugin.config.option_files import packaged_files, read_options


@pytest.fixture(scope="module")
def script():
    return runpy.run_path(str(ROOT / "scripts" / "options_table.py"))


def test_the_page_is_generated(script):
    page = (ROOT / "docs" / "options.md").read_text(encoding="utf-8")
    assert page == script["page"](), "run `python scripts/options_table.py --write`"


def test_every_option_of_the_packaged_files_is_on_the_page():
    """Also those of optimisers, schedulers and networks that are said in words."""
    page = (ROOT / "docs" / "options.md").read_text(encoding="utf-8")
    for name, path in packaged_files().items():
        if name.startswith(("train", "test")):
            opt = read_options(str(path))
            for block in (opt, opt["path"], opt.get("train", {}), opt["val"], opt.get("logger", {})):
                assert all(f"`{key}`" in page for key in block), name
            for dataset in opt["datasets"].values():
                assert all(f"`{key}`" in page for key in dataset), name
