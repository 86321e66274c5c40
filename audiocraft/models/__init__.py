"""Models: tokenizers, the language model, and what users call."""

from .encodec import CompressionModel, EncodecModel
from .lm import LMModel
from .musicgen import MusicGen

__all__ = ["CompressionModel", "EncodecModel", "LMModel", "MusicGen"]
