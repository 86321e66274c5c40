"""Models: codecs, the language model, and the generation API."""

from ..utils.lazy_exports import lazy_exports
from . import builders as builders
from . import loaders as loaders
from .encodec import DAC as DAC
from .encodec import CompressionModel as CompressionModel
from .encodec import EncodecModel as EncodecModel
from .encodec import HFEncodecCompressionModel as HFEncodecCompressionModel
from .lm import LMModel as LMModel
from .musicgen import MusicGen as MusicGen

# transformers' own class, imported when it is first used: it takes seconds.
__getattr__ = lazy_exports(__name__, {"HFEncodecModel": "transformers:EncodecModel"})
