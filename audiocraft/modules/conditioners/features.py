"""Feature extractors of the style conditioner: MERT, MusiCNN, EnCodec tokens.

The released model uses MERT, the paper's alternative are the codec's tokens, and MusiCNN is this
project's: it is small enough to come with the package.

Method: MERT: Li et al., 2023, https://arxiv.org/abs/2306.00107; EnCodec: Défossez et al., 2022,
https://arxiv.org/abs/2210.13438; MusiCNN: Pons and Serra, 2019, https://arxiv.org/abs/1909.06654.
"""

import typing as tp
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from ..frozen import Frozen
from . import musicnn
from .musicnn import Musicnn

MERT_DIM = 768


class Codec(tp.Protocol):
    """Interface of the codec; `CompressionModel` implements it."""

    sample_rate: int
    frame_rate: float
    cardinality: int
    total_codebooks: int

    def encode(self, x: Tensor) -> tuple[Tensor, tp.Any]: ...


class FeatureExtractor(ABC):
    """Base of all feature extractors: audio to frames, without trainable or saved weights."""

    sample_rate: int  # of the input
    frame_rate: float  # frames per second, approximately
    dim: int  # width of a frame

    @abstractmethod
    def features(self, wav: Tensor) -> Tensor:
        """Waveform `[B, T]` at `sample_rate` to frames `[B, frames, dim]`, without gradient."""

    @abstractmethod
    def num_frames(self, num_samples: int) -> int:
        """Number of frames of `num_samples` samples."""

    def silence(self, device: torch.device) -> Tensor:
        """One frame of zeros, `[1, 1, dim]`; does not load the network."""
        return torch.zeros(1, 1, self.dim, device=device)

    def new_embed(self, width: int) -> nn.Module:
        """Trainable layer that projects frames to `width`."""
        return nn.Linear(self.dim, width)


class MertFeatures(FeatureExtractor):
    """Last hidden state of MERT, 74.67 frames per second: 3 seconds give 224.

    Args:
        load: Network, or a function that loads it at the first use.
        dim: Width of its hidden state.
    """

    sample_rate = 24_000
    frame_rate = 75.0
    hop_length = 320
    receptive_field = 400  # samples

    def __init__(self, load: tp.Callable[[], nn.Module] | nn.Module, dim: int = MERT_DIM):
        self.network = Frozen(load)
        self.dim = dim

    def features(self, wav: Tensor) -> Tensor:
        return self.network(wav).last_hidden_state

    def num_frames(self, num_samples: int) -> int:
        return max(0, (num_samples - self.receptive_field) // self.hop_length + 1)


class MusicnnFeatures(FeatureExtractor):
    """Frame features of MusiCNN, 62.5 frames per second.

    Args:
        load: Network, or a function that loads it at the first use.
    """

    sample_rate = musicnn.SAMPLE_RATE
    frame_rate = musicnn.SAMPLE_RATE / musicnn.HOP_LENGTH
    dim = musicnn.NUM_FEATURES

    def __init__(self, load: tp.Callable[[], Musicnn] | Musicnn):
        self.network = Frozen(load)

    def features(self, wav: Tensor) -> Tensor:
        with self.network.on(wav.device) as network:
            return network.frame_features(wav)

    def num_frames(self, num_samples: int) -> int:
        return 1 + num_samples // musicnn.HOP_LENGTH


class EncodecFeatures(FeatureExtractor):
    """Tokens of a frozen codec; a frame holds one token of each of the first codebooks.

    Args:
        codec: The codec; mono.
        n_q: Number of codebooks used.

    Raises:
        ValueError: The codec has fewer codebooks.
    """

    def __init__(self, codec: nn.Module, n_q: int = 3):
        self.codec = Frozen(codec)
        facts = tp.cast(Codec, codec)
        self.sample_rate = facts.sample_rate
        self.frame_rate = float(facts.frame_rate)
        self.cardinality = facts.cardinality
        if not 1 <= n_q <= facts.total_codebooks:
            raise ValueError(
                f"encodec_n_q is {n_q} but the codec has {facts.total_codebooks} codebooks. "
                f"Choose 1 to {facts.total_codebooks}."
            )
        self.max_n_q = self.dim = n_q

    def set_num_codebooks(self, n_q: int) -> None:
        """Use the first `n_q` codebooks from now on, at most as many as in training.

        Raises:
            ValueError: `n_q` is out of its range.
        """
        if not 1 <= n_q <= self.max_n_q:
            raise ValueError(
                f"encodec_n_q is {n_q} but the conditioner was built for {self.max_n_q}. "
                f"Choose 1 to {self.max_n_q}."
            )
        self.dim = n_q

    def features(self, wav: Tensor) -> Tensor:
        with self.codec.on(wav.device) as codec:
            codes, _ = tp.cast(Codec, codec).encode(wav[:, None])  # [B, K, F]
        return codes[:, : self.dim].transpose(1, 2)

    def num_frames(self, num_samples: int) -> int:
        return round(num_samples * self.frame_rate / self.sample_rate)

    def silence(self, device: torch.device) -> Tensor:
        return torch.zeros(1, 1, self.dim, dtype=torch.long, device=device)

    def new_embed(self, width: int) -> nn.Module:
        return TokenEmbedding(self.max_n_q, self.cardinality, width)


class TokenEmbedding(nn.ModuleList):
    """Sum of one embedding table per codebook.

    Args:
        num_codebooks: Number of tables, K.
        cardinality: Rows of each table.
        width: Width of a row.
    """

    def __init__(self, num_codebooks: int, cardinality: int, width: int):
        super().__init__(nn.Embedding(cardinality, width) for _ in range(num_codebooks))

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens `[B, frames, K]` of the first K codebooks to `[B, frames, width]`."""
        rows = [table(column) for table, column in zip(self, tokens.unbind(dim=-1))]
        return torch.stack(rows).sum(dim=0)
