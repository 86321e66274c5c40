"""Audio decoders and encoders, files, zip members and tables."""
