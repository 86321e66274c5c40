"""MusiCNN: small convolutional network for music tagging.

Two sets of weights come with this project (`assets/musicnn_mtt`, `assets/musicnn_msd`). One can
be the style conditioner's feature extractor, the other then embeds samples for evaluation.

Method: Pons and Serra, 2019, https://arxiv.org/abs/1909.06654; the weights are those of the
authors' package of 2019, under the ISC licence.
"""

import typing as tp
from pathlib import Path

import torch
import torchaudio
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from ...errors import CheckpointError

SAMPLE_RATE = 16_000
N_FFT = 512
HOP_LENGTH = 256
NUM_MELS = 96
PATCH_FRAMES = 187  # 3 seconds, the length of the training patches
BATCH_NORM_EPS = 1e-3
FRONT_END = ((7, 38, 204), (7, 67, 204), (128, 1, 51), (64, 1, 51), (32, 1, 51))  # time, mels, out
FRONT_CHANNELS = sum(channels for _, _, channels in FRONT_END)
MID_CHANNELS = 64
NUM_FEATURES = FRONT_CHANNELS + 3 * MID_CHANNELS
EMBED_DIM = 200


class MusicnnOutput(tp.NamedTuple):
    """Outputs for N patches."""

    tags: Tensor  # [N, num_tags], probabilities
    embedding: Tensor  # [N, 200]
    features: Tensor  # [N, frames, 753]


class Convolution(nn.Module):
    """Convolution over time and mels, ReLU, batch norm, maximum over the remaining mels."""

    def __init__(self, in_channels: int, out_channels: int, kernel: tuple[int, int]):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel)
        self.norm = nn.BatchNorm1d(out_channels, eps=BATCH_NORM_EPS)

    def forward(self, x: Tensor) -> Tensor:
        """`[N, in, frames, mels]` to `[N, out, frames]`."""
        spare = self.conv.kernel_size[0] - 1
        x = self.conv(F.pad(x, (0, 0, spare // 2, spare - spare // 2)))
        # ReLU and norm are monotone, so the maximum is taken before them: three times as fast.
        low, high = x.aminmax(dim=-1)
        extreme = torch.where(self.norm.weight[:, None] < 0, low, high)
        return self.norm(F.relu(extreme))


class Musicnn(nn.Module):
    """Tags, an embedding and frame features of 16 kHz mono audio.

    Args:
        labels: Names of the tags.
    """

    filters: Tensor  # [257, 96]
    window: Tensor  # [512]

    def __init__(self, labels: tp.Sequence[str]):
        super().__init__()
        self.labels = list(labels)
        self.input_norm = nn.BatchNorm2d(1, eps=BATCH_NORM_EPS)
        self.front = nn.ModuleList(
            Convolution(1, channels, (time, mels)) for time, mels, channels in FRONT_END
        )
        # 1-D layers, as 2-D convolutions that span all features of a frame.
        self.mid = nn.ModuleList(
            Convolution(1, MID_CHANNELS, (7, width))
            for width in (FRONT_CHANNELS, MID_CHANNELS, MID_CHANNELS)
        )
        self.pool_norm = nn.BatchNorm1d(2 * NUM_FEATURES, eps=BATCH_NORM_EPS)
        self.dense = nn.Linear(2 * NUM_FEATURES, EMBED_DIM)
        self.dense_norm = nn.BatchNorm1d(EMBED_DIM, eps=BATCH_NORM_EPS)
        self.head = nn.Linear(EMBED_DIM, len(self.labels))
        filters = torchaudio.functional.melscale_fbanks(
            N_FFT // 2 + 1, 0.0, SAMPLE_RATE / 2, NUM_MELS, SAMPLE_RATE, "slaney", "slaney"
        )
        self.register_buffer("filters", filters, persistent=False)
        self.register_buffer("window", torch.hann_window(N_FFT), persistent=False)

    @classmethod
    def from_file(cls, path: Path | str, labels: tp.Sequence[str]) -> "Musicnn":
        """Load weights under the names of the published checkpoint.

        Raises:
            CheckpointError: The file has other weights.
        """
        weights = load_file(path)
        network = cls(labels)
        try:
            network.load_state_dict(dict(_renamed(network, weights)))
        except (KeyError, RuntimeError) as error:
            raise CheckpointError(
                f"{path} does not hold MusiCNN for {len(labels)} tags: {error}"
            ) from error
        return network.eval()

    def mel(self, wav: Tensor) -> Tensor:
        """Waveform `[B, T]` to log-mel `[B, frames, 96]`, 62.5 frames per second."""
        spectrum = torch.stft(
            wav, N_FFT, HOP_LENGTH, window=self.window, pad_mode="constant", return_complex=True
        )
        power = spectrum.abs().square().transpose(1, 2)
        return (10_000 * power @ self.filters + 1).log10()

    def frame_features(self, wav: Tensor) -> Tensor:
        """Waveform `[B, T]` to frame features `[B, frames, 753]`, without patches."""
        return self._features(self.mel(wav))

    def forward(self, wav: Tensor) -> MusicnnOutput:
        """Compute tags, embedding and features of patches of three seconds.

        An incomplete last patch is dropped, unless it is the only one.

        Args:
            wav: Waveform, `[B, T]`.

        Returns:
            Results of `N = B * patches` patches, those of one item next to each other.
        """
        mel = self.mel(wav)
        length = min(PATCH_FRAMES, mel.shape[1])
        patches = mel.unfold(1, length, length).transpose(2, 3).flatten(0, 1)
        features = self._features(patches)
        pooled = torch.stack([features.amax(dim=1), features.mean(dim=1)], dim=-1).flatten(1)
        embedding = self.dense_norm(F.relu(self.dense(self.pool_norm(pooled))))
        return MusicnnOutput(self.head(embedding).sigmoid(), embedding, features)

    def embed(self, wav: Tensor) -> Tensor:
        """One embedding per item, `[B, 200]`: the mean over its patches."""
        return self(wav).embedding.unflatten(0, (len(wav), -1)).mean(dim=1)

    def _features(self, mel: Tensor) -> Tensor:
        """Log-mel `[N, frames, 96]` to features `[N, frames, 753]`."""
        x = self.input_norm(mel[:, None])
        parts = [torch.cat([convolution(x) for convolution in self.front], dim=1)]
        for i, convolution in enumerate(self.mid):
            hidden = convolution(parts[-1].transpose(1, 2)[:, None])
            parts.append(hidden if i == 0 else hidden + parts[-1])
        return torch.cat(parts, dim=1).transpose(1, 2)


def _renamed(network: Musicnn, weights: dict[str, Tensor]) -> tp.Iterator[tuple[str, Tensor]]:
    """Weights of the published checkpoint under PyTorch names, with PyTorch's order of axes."""

    def rename(ours: str, theirs: str, names: dict[str, str]):
        for our_name, their_name in names.items():
            weight = weights[f"{theirs}/{their_name}"]
            if their_name == "kernel":  # [H, W, in, out] or [in, out]
                weight = weight.permute(3, 2, 0, 1) if weight.dim() == 4 else weight.t()
            yield f"{ours}.{our_name}", weight.contiguous()

    norm = {"weight": "gamma", "bias": "beta"}
    norm |= {"running_mean": "moving_mean", "running_var": "moving_variance"}
    layer = {"weight": "kernel", "bias": "bias"}
    convolutions = [f"front.{i}" for i in range(5)] + [f"mid.{i}" for i in range(3)]
    norms = ["input_norm", *(f"{name}.norm" for name in convolutions), "pool_norm", "dense_norm"]
    for i, ours in enumerate(convolutions):
        yield from rename(f"{ours}.conv", numbered("conv2d", i), layer)
    for i, ours in enumerate(norms):
        yield from rename(ours, numbered("batch_normalization", i), norm)
        yield f"{ours}.num_batches_tracked", torch.tensor(0)
    for i, ours in enumerate(("dense", "head")):
        yield from rename(ours, numbered("dense", i), layer)


def numbered(name: str, index: int) -> str:
    """Name of a layer in the published checkpoint."""
    return f"{name}_{index}" if index else name
