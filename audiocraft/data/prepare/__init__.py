"""Data set preparation: a folder or table becomes audio, metadata and splits."""
