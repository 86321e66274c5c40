"""Vector quantization of latents."""

from .base import BaseQuantizer as BaseQuantizer
from .base import DummyQuantizer as DummyQuantizer
from .base import QuantizedResult as QuantizedResult
from .codebook import EuclideanCodebook as EuclideanCodebook
from .vq import ResidualVectorQuantizer as ResidualVectorQuantizer
from .vq import draw_num_codebooks as draw_num_codebooks
