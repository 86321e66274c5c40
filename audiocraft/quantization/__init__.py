"""Vector quantization: from latents to codes and back."""

from .codebook import EuclideanCodebook
from .vq import QuantizedResult, ResidualVectorQuantizer, draw_num_codebooks

__all__ = ["EuclideanCodebook", "QuantizedResult", "ResidualVectorQuantizer", "draw_num_codebooks"]
