"""Chroma (melody) conditioner: dominant pitch class of each frame of a clip.

The original first removes drums and bass with Demucs. That network is not part of this project,
so chroma is computed from the full mix, in which a loud accompaniment may cover the melody.

Method: Copet et al., 2023, https://arxiv.org/abs/2306.05284.
"""

import logging
import typing as tp

import torch
from torch import Tensor

from ...data.conditions import WavCondition
from ...signal.chroma import ChromaExtractor
from ...utils.device import to_device
from .base import Condition, Rng, WavConditioner, length_to_mask

logger = logging.getLogger(__name__)


class ChromaInputs(tp.NamedTuple):
    """Input of `ChromaStemConditioner.forward`; nothing is random."""

    wav: Tensor  # [B, 1, T]
    lengths: Tensor  # [B] long, valid samples, 0 where there is no clip


class ChromaStemConditioner(WavConditioner):
    """Chroma of the whole clip, one vector per quarter of a window.

    Args:
        output_dim: Width of the language model.
        sample_rate: Sample rate of the clips.
        n_chroma: Number of pitch classes.
        radix2_exp: The window has `2**radix2_exp` samples.
        argmax: Keep only the strongest pitch class of a frame.
        match_len_on_eval, eval_wavs, n_eval_wavs, cache_path: Unused. They configure source
            separation and evaluation in the original; here a clip keeps its own length.
    """

    def __init__(
        self,
        output_dim: int,
        *,
        sample_rate: int,
        n_chroma: int = 12,
        radix2_exp: int = 14,
        argmax: bool = True,
        match_len_on_eval: bool = False,
        eval_wavs: str | None = None,
        n_eval_wavs: int = 100,
        cache_path: str | None = None,
    ):
        super().__init__(n_chroma, output_dim)
        self.sample_rate = sample_rate
        self.chroma = ChromaExtractor(sample_rate, n_chroma, radix2_exp, argmax)
        logger.info("chroma_stem uses the full mix: drums and bass are not removed.")

    def prepare(self, values: WavCondition, rng: Rng = None) -> ChromaInputs:
        for length, sample_rate in zip(values.length.tolist(), values.sample_rate):
            if length > 0 and sample_rate != self.sample_rate:
                raise ValueError(
                    f"A melody has a sample rate of {sample_rate} Hz but the conditioner takes "
                    f"{self.sample_rate}. Convert it with "
                    "`audiocraft.data.audio_utils.convert_audio`."
                )
        return ChromaInputs(values.wav, values.length)

    def forward(self, prepared: ChromaInputs) -> Condition:
        if not bool(prepared.lengths.any()):
            hidden = torch.zeros(len(prepared.lengths), 1, self.dim, device=self.device)
        else:
            with torch.no_grad(), torch.autocast(self.device.type, enabled=False):
                hidden = self.chroma(to_device(prepared.wav, self.device))
        hop = self.chroma.hop_length
        mask = length_to_mask((prepared.lengths + hop - 1) // hop, hidden.shape[1])
        return self.project(hidden, to_device(mask, self.device))
