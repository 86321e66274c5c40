"""Weights: hub names, pretrained networks, checkpoint configuration, mismatch diagnosis."""
