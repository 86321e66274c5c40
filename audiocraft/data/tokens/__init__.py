"""Pre-encoded data sets: file format, writer and dataset."""
