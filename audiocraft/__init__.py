"""Style-conditioned music generation: training, fine-tuning, inference."""

__version__ = "2.0.0a1"
