"""Chroma: energy of each pitch class, frame by frame.

Melody models are conditioned on it, and metrics compare the notes of two recordings with it.

Method: Ellis, 2007, "Chroma feature analysis and synthesis"; the filters have the values of
`librosa.filters.chroma`.
"""

import math

import torch
import torchaudio
from torch import Tensor, nn
from torch.nn import functional as F

TUNING = 440.0  # Hz of A4
CENTRE_OCTAVE = 5.0  # the weight of a bin falls with its distance from this octave, …
OCTAVE_WIDTH = 2.0  # … as a Gaussian of this standard deviation, in octaves


def chroma_filters(sample_rate: int, n_fft: int, n_chroma: int = 12) -> Tensor:
    """Filters from the bins of a spectrum to pitch classes, the first of which is C.

    A bin belongs to its nearest pitch classes by a Gaussian as wide as the distance of the bins.

    Returns:
        `[n_chroma, n_fft // 2 + 1]`.
    """
    bins = torch.arange(1, n_fft, dtype=torch.float64)
    octaves = (bins * sample_rate / n_fft / (TUNING / 16)).log2()
    pitches = n_chroma * octaves  # in pitch classes above A0
    pitches = torch.cat([pitches[:1] - 1.5 * n_chroma, pitches])  # bin 0, 1.5 octaves below bin 1
    widths = torch.cat([pitches.diff().clamp(min=1), torch.ones(1, dtype=torch.float64)])
    half = round(n_chroma / 2)
    distances = pitches - torch.arange(n_chroma)[:, None] + half + 10 * n_chroma
    distances = distances.remainder(n_chroma) - half
    filters = F.normalize((-0.5 * (2 * distances / widths).square()).exp(), dim=0)
    height = (pitches / n_chroma - CENTRE_OCTAVE) / OCTAVE_WIDTH
    filters = filters * (-0.5 * height.square()).exp()
    first_is_c = filters.roll(-3 * (n_chroma // 12), dims=0)
    return first_is_c[:, : n_fft // 2 + 1].float()


class ChromaExtractor(nn.Module):
    """Waveform to chroma.

    Args:
        sample_rate: Sample rate of the waveform.
        n_chroma: Number of pitch classes.
        radix2_exp: The window has `2**radix2_exp` samples; a quarter of it is the hop.
        argmax: Keep only the strongest pitch class of a frame, as one-hot.
        norm: Order of the norm by which a frame is divided.
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
        filters = chroma_filters(sample_rate, self.win_length, n_chroma)
        self.register_buffer("filters", filters, persistent=False)

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
