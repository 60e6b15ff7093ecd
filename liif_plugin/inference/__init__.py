"""Render a low-resolution image at any size: tiles and memory, files, the Python API."""
