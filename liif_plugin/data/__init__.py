"""Datasets: items of low-resolution images and queries, from LMDB, folders or memory."""

from .. import compat  # noqa: F401  its stand-ins must be there before basicsr's first line
