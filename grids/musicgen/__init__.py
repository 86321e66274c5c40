"""Experiment sweeps of music language models."""
