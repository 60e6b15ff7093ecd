"""A network and a low-resolution image -> an image of any size: rendering, tiles and memory, files, the
Python API.
"""
