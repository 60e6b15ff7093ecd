"""A network as two files that other programs run: one encodes an image, one answers queries about it."""
