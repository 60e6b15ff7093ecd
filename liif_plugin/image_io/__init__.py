"""Image files: reading.py makes arrays of a file, writing.py writes rows, paths.py finds files."""
