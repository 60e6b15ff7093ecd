"""The examples in the docstrings of checkpoints/ run."""

import doctest

from liif_plugin.checkpoints import loading


def test_examples():
    result = doctest.testmod(loading)
    assert result.failed == 0
    assert result.attempted > 0
