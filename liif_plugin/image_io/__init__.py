"""Image files: reading.py makes arrays of a file, writing.py writes rows as they come, paths.py finds files."""
