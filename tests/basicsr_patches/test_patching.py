"""Every replaced name of BasicSR is registered, in place, keeps the original, and says why it is there."""

import importlib

import pytest

import liif_plugin.basicsr_patches as basicsr_patches
from liif_plugin.basicsr_patches.patching import PATCHES, _find, _get, patches_table


@pytest.mark.parametrize("entry", PATCHES, ids=lambda entry: f"{entry.owners[0]}.{entry.name}")
def test_each_patch(entry):
    for owner in map(_find, entry.owners):
        assert _get(owner, entry.name) is entry.replacement
    original = entry.replacement.original
    assert original is not entry.replacement and original.__module__.startswith("basicsr.")
    assert entry.cures and entry.until


def test_a_second_application_changes_nothing():
    originals = [entry.replacement.original for entry in PATCHES]
    basicsr_patches.apply()
    importlib.import_module("liif_plugin.register")
    assert [entry.replacement.original for entry in PATCHES] == originals


def test_the_table_has_a_row_for_each_patch():
    rows = patches_table().splitlines()
    assert len(rows) == 2 + len(PATCHES) and all(row.count("|") == 4 for row in rows)
