"""Multi-scale STFT discriminator: convolutions over complex spectrograms of several resolutions.

Method: Défossez et al., 2022, https://arxiv.org/abs/2210.13438 (section 3.3).
"""

import typing as tp

import torch
from torch import Tensor, nn

from ...losses.spectral import check_resolutions
from ...modules.conv import NormConv2d
from ...modules.seanet import get_activation
from .base import FeatureMaps, Logits, MultiDiscriminator, apply_layers


class Spectrogram(nn.Module):
    """Real and imaginary part of an STFT with a normalized Hann window, as channels.

    The window is part of the state, under the key of released discriminators.
    """

    window: Tensor

    def __init__(self, n_fft: int, hop_length: int, win_length: int, normalized: bool = True):
        super().__init__()
        self.n_fft = n_fft
        self.hop_length = hop_length
        self.normalized = normalized
        self.register_buffer("window", torch.hann_window(win_length))

    def forward(self, x: Tensor) -> Tensor:
        """Waveforms `[B, C, T]` to `[B, 2 * C, frames, bins]`; frames lie inside the waveform."""
        B, C, _ = x.shape
        spectrum = torch.stft(
            x.float().flatten(0, 1),
            self.n_fft,
            self.hop_length,
            len(self.window),
            window=self.window,
            center=False,
            return_complex=True,
        )
        if self.normalized:
            spectrum = spectrum / self.window.square().sum().sqrt()
        spectrum = spectrum.view(B, C, *spectrum.shape[1:]).transpose(2, 3)
        return torch.cat([spectrum.real, spectrum.imag], dim=1)


class STFTDiscriminator(nn.Module):
    """Sub-discriminator of one resolution.

    Args:
        filters: Channels of the first layer.
        in_channels: Audio channels.
        out_channels: Channels of the logits.
        n_fft: Samples of the transform.
        hop_length: Samples between two frames.
        win_length: Samples of the window.
        max_filters: Largest number of channels.
        filters_scale: Growth of the channels from layer to layer.
        kernel_size: Frames and bins that a convolution covers.
        dilations: Dilation in time of each strided layer.
        stride: Stride of those layers, in frames and bins.
        normalized: Divide the spectrum by the norm of the window.
        norm: One of `audiocraft.modules.conv.NORMS`.
        activation: Class in `torch.nn`.
        activation_params: Its arguments.
    """

    def __init__(
        self,
        filters: int,
        in_channels: int = 1,
        out_channels: int = 1,
        n_fft: int = 1024,
        hop_length: int = 256,
        win_length: int = 1024,
        max_filters: int = 1024,
        filters_scale: int = 1,
        kernel_size: tuple[int, int] = (3, 9),
        dilations: tp.Sequence[int] = (1, 2, 4),
        stride: tuple[int, int] = (1, 2),
        normalized: bool = True,
        norm: str = "weight_norm",
        activation: str = "LeakyReLU",
        activation_params: tp.Mapping[str, tp.Any] | None = None,
    ):
        super().__init__()
        self.activation = get_activation(activation, activation_params)
        self.spec_transform = Spectrogram(n_fft, hop_length, win_length, normalized)
        square = (kernel_size[0], kernel_size[0])
        width = min(filters, max_filters)
        self.convs = nn.ModuleList(
            [NormConv2d(2 * in_channels, width, kernel_size, padding=same_padding(kernel_size))]
        )
        for layer, dilation in enumerate([*dilations, None], start=1):
            wider = min(filters_scale**layer * filters, max_filters)
            kernel = square if dilation is None else kernel_size
            dilated = (dilation or 1, 1)
            self.convs.append(
                NormConv2d(
                    width,
                    wider,
                    kernel,
                    stride=(1, 1) if dilation is None else stride,
                    dilation=dilated,
                    padding=same_padding(kernel, dilated),
                    norm=norm,
                )
            )
            width = wider
        self.conv_post = NormConv2d(
            width, out_channels, square, padding=same_padding(square), norm=norm
        )

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Waveforms `[B, C, T]` to logits `[B, out_channels, frames, bins]` and feature maps."""
        x, maps = apply_layers(self.spec_transform(x), self.convs, self.activation)
        return self.conv_post(x), maps


class MultiScaleSTFTDiscriminator(MultiDiscriminator):
    """Multi-scale STFT (MS-STFT) discriminator.

    Args:
        filters: Channels of the first layer.
        in_channels: Audio channels.
        out_channels: Channels of the logits.
        n_ffts: Samples of the transform of each sub-discriminator.
        hop_lengths: Samples between two frames, of each.
        win_lengths: Samples of the window, of each.
        norm: One of `audiocraft.modules.conv.NORMS`.
        activation: Class in `torch.nn`.
        activation_params: Its arguments; `None` is a slope of 0.2.

    Raises:
        ValueError: The lists differ in length, or a window is longer than its transform.
    """

    def __init__(
        self,
        filters: int = 32,
        in_channels: int = 1,
        out_channels: int = 1,
        n_ffts: tp.Sequence[int] = (1024, 2048, 512),
        hop_lengths: tp.Sequence[int] = (256, 512, 128),
        win_lengths: tp.Sequence[int] = (1024, 2048, 512),
        norm: str = "weight_norm",
        activation: str = "LeakyReLU",
        activation_params: tp.Mapping[str, tp.Any] | None = None,
    ):
        super().__init__()
        check_resolutions(n_ffts, hop_lengths, win_lengths)
        if activation_params is None and activation == "LeakyReLU":
            activation_params = {"negative_slope": 0.2}
        self.longest = max(n_ffts)
        self.discriminators = nn.ModuleList(
            STFTDiscriminator(
                filters,
                in_channels,
                out_channels,
                n_fft=n_fft,
                hop_length=hop_length,
                win_length=win_length,
                norm=norm,
                activation=activation,
                activation_params=activation_params,
            )
            for n_fft, hop_length, win_length in zip(n_ffts, hop_lengths, win_lengths)
        )

    def forward(self, x: Tensor) -> tuple[Logits, FeatureMaps]:
        if x.shape[-1] < self.longest:
            raise ValueError(
                f"The MS-STFT discriminator reads at least {self.longest} samples, its longest "
                f"transform, but was given {x.shape[-1]}. Raise dataset.segment_duration, or leave "
                "out long transforms (msstftd.n_ffts, hop_lengths, win_lengths)."
            )
        outputs = [discriminator(x) for discriminator in self.discriminators]
        return [logits for logits, _ in outputs], [maps for _, maps in outputs]


def same_padding(kernel: tuple[int, int], dilation: tuple[int, int] = (1, 1)) -> tuple[int, int]:
    """Padding that keeps the size of the input where the stride is 1."""
    rows, columns = ((size - 1) * step // 2 for size, step in zip(kernel, dilation))
    return rows, columns
