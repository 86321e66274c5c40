"""Inference: generation requests to samples with recipes, for command line, page and notebook."""
