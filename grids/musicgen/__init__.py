"""Sweeps over language models of music."""
