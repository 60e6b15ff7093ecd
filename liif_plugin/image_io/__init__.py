"""Picture files of any kind, in and out: reading.py turns a file into arrays, writing.py writes rows as they come."""
