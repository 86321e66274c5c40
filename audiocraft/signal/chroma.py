"""How strongly each of the twelve pitch classes sounds, frame by frame.

The melody models of the original listen to this; here it also serves as a measure of whether
two recordings play the same notes.
"""

import math

import librosa
import torch
import torchaudio
from torch import Tensor, nn
from torch.nn import functional as F


class ChromaExtractor(nn.Module):
    """Waveform to chroma.

    Args:
        sample_rate: Samples per second of the waveform.
        n_chroma: Pitch classes.
        radix2_exp: The window has `2**radix2_exp` samples; a quarter of it is the hop.
        argmax: Keep only the strongest pitch class of a frame, as one-hot.
        norm: Order of the norm that a frame is divided by.
    """

    def __init__(
        self,
        sample_rate: int,
        n_chroma: int = 12,
        radix2_exp: int = 12,
        argmax: bool = False,
        norm: float = math.inf,
    ):
        super().__init__()
        self.n_chroma = n_chroma
        self.argmax = argmax
        self.norm = norm
        self.win_length = 2**radix2_exp
        self.hop_length = self.win_length // 4
        # Released checkpoints hold `spec.window` and nothing else of this module.
        self.spec = torchaudio.transforms.Spectrogram(
            n_fft=self.win_length, hop_length=self.hop_length, power=2, normalized=True
        )
        filters = librosa.filters.chroma(
            sr=sample_rate, n_fft=self.win_length, tuning=0, n_chroma=n_chroma
        )
        self.register_buffer("filters", torch.from_numpy(filters).float(), persistent=False)

    def forward(self, wav: Tensor) -> Tensor:
        """Chroma of a mono waveform.

        Args:
            wav: Waveform, `[B, 1, T]`; shorter than a window, it is padded on both sides.

        Returns:
            Chroma, `[B, 1 + T // hop_length, n_chroma]`, T at least a window.
        """
        missing = max(0, self.win_length - wav.shape[-1])
        wav = F.pad(wav, (missing // 2, missing - missing // 2))
        power = self.spec(wav).squeeze(1)  # [B, bins, F]
        chroma = torch.einsum("cb,nbf->nfc", self.filters, power)
        chroma = F.normalize(chroma, p=self.norm, dim=-1, eps=1e-6)
        if self.argmax:
            chroma = F.one_hot(chroma.argmax(dim=-1), self.n_chroma).to(chroma)
        return chroma
