"""The only place where a configuration becomes models.

Nodes keep the names that released checkpoints carry; here they are translated into keyword
arguments. An unknown key is an error that names it.
"""

import inspect
import typing as tp
from functools import partial

from omegaconf import DictConfig, OmegaConf

from ..errors import ConfigError
from ..modules import conditioners as cond
from ..modules.codebooks_patterns import (
    CodebooksPatternProvider,
    CoarseFirstPattern,
    DelayedPatternProvider,
    MusicLMPattern,
    ParallelPatternProvider,
    UnrolledPatternProvider,
)
from ..modules.seanet import SEANetDecoder, SEANetEncoder
from ..quantization import ResidualVectorQuantizer
from . import loaders
from .encodec import CompressionModel, EncodecModel
from .lm import LMModel
from .spectral import SpectralTokenizer
