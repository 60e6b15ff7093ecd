"""docs/options.md and the table of patches are what the code says."""

import runpy

import pytest

from helpers import ROOT
from liif_plugin.config.option_files import packaged_files, read_options


@pytest.fixture(scope="module")
def script():
    return runpy.run_path(str(ROOT / "scripts" / "generate_docs.py"))


def test_the_page_is_generated(script):
    page = (ROOT / "docs" / "options.md").read_text(encoding="utf-8")
    assert page == script["page"](), "run `python scripts/generate_docs.py --write`"


def test_the_table_of_patches_is_generated(script):
    page = (ROOT / "docs" / "plugin.md").read_text(encoding="utf-8")
    assert page == script["with_patches"](page), "run `python scripts/generate_docs.py --write`"
    assert "basicsr.train.load_resume_state" in page


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
