"""Multi-scale discriminator: strided one-dimensional convolutions over the waveform.

Method: Kumar et al., 2019, https://arxiv.org/abs/1910.06711; Kong et al., 2020,
https://arxiv.org/abs/2010.05646 (HiFi-GAN).
"""

import math
import typing as tp

from torch import Tensor, nn

from ...modules.conv import NormConv1d
from ...modules.seanet import get_activation
from .base import FeatureMaps, Logits, MultiDiscriminator, apply_layers


class ScaleDiscriminator(nn.Module):
    """Sub-discriminator of the waveform.

    Args:
        in_channels: Audio channels.
        out_channels: Channels of the logits.
        kernel_sizes: Two kernel sizes: the first layer has their product, the last two have one
            each.
        filters: Channels of the first layer.
        max_filters: Largest number of channels.
        downsample_scales: Factor of each strided layer, by which channels grow as well.
        inner_kernel_sizes: Kernel of each strided layer; `None` is ten times its factor, plus 1.
        groups: Groups of each strided layer; `None` is a quarter of its input channels.
        strides: Stride of each strided layer; `None` is its factor.
        paddings: Padding of each strided layer; `None` is half its kernel.
        norm: One of `audiocraft.modules.conv.NORMS`.
        activation: Class in `torch.nn`.
        activation_params: Its arguments.

    Raises:
        ValueError: There are not exactly two kernel sizes, or a list has another length than
            `downsample_scales`.
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 1,
        kernel_sizes: tp.Sequence[int] = (5, 3),
        filters: int = 16,
        max_filters: int = 1024,
        downsample_scales: tp.Sequence[int] = (4, 4, 4, 4),
        inner_kernel_sizes: tp.Sequence[int] | None = None,
        groups: tp.Sequence[int] | None = None,
        strides: tp.Sequence[int] | None = None,
        paddings: tp.Sequence[int] | None = None,
        norm: str = "weight_norm",
        activation: str = "LeakyReLU",
        activation_params: tp.Mapping[str, tp.Any] | None = None,
    ):
        super().__init__()
        if len(kernel_sizes) != 2 or not all(size % 2 for size in kernel_sizes):
            raise ValueError(f"kernel_sizes are {list(kernel_sizes)}; give two odd numbers.")
        _check_lengths(len(downsample_scales), inner_kernel_sizes, groups, strides, paddings)
        self.activation = get_activation(activation, activation_params)
        size = math.prod(kernel_sizes)
        first = NormConv1d(in_channels, filters, size, stride=1, norm=norm)
        self.convs = nn.ModuleList([nn.Sequential(nn.ReflectionPad1d((size - 1) // 2), first)])
        width = filters
        for layer, scale in enumerate(downsample_scales):
            wider = min(width * scale, max_filters)
            kernel = inner_kernel_sizes[layer] if inner_kernel_sizes else 10 * scale + 1
            self.convs.append(
                NormConv1d(
                    width,
                    wider,
                    kernel,
                    stride=strides[layer] if strides else scale,
                    groups=groups[layer] if groups else max(1, width // 4),
                    padding=paddings[layer] if paddings else (kernel - 1) // 2,
                    norm=norm,
                )
            )
            width = wider
        wider = min(width * 2, max_filters)
        inner, last = kernel_sizes
        self.convs.append(
            NormConv1d(width, wider, inner, stride=1, padding=(inner - 1) // 2, norm=norm)
        )
        self.conv_post = NormConv1d(
            wider, out_channels, last, stride=1, padding=(last - 1) // 2, norm=norm
        )

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Waveforms `[B, C, T]` to logits and feature maps, of which they are the last."""
        x, maps = apply_layers(x, self.convs, self.activation)
        logits = self.conv_post(x)
        return logits, [*maps, logits]


class MultiScaleDiscriminator(MultiDiscriminator):
    """Multi-scale discriminator (MSD).

    Args:
        in_channels: Audio channels.
        out_channels: Channels of the logits.
        downsample_factor: Factor by which the waveform is averaged before each further
            sub-discriminator (2 in both papers); 1 gives all of them the full rate, as the
            training of released codecs does.
        scale_norms: Norm of each sub-discriminator.
        kernel_sizes, filters, max_filters, downsample_scales, inner_kernel_sizes, groups, strides,
            paddings, activation, activation_params: See `ScaleDiscriminator`.

    Raises:
        ValueError: As `ScaleDiscriminator`.
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 1,
        downsample_factor: int = 1,
        scale_norms: tp.Sequence[str] = ("spectral_norm", "weight_norm", "weight_norm"),
        kernel_sizes: tp.Sequence[int] = (5, 3),
        filters: int = 16,
        max_filters: int = 1024,
        downsample_scales: tp.Sequence[int] = (4, 4, 4, 4),
        inner_kernel_sizes: tp.Sequence[int] | None = None,
        groups: tp.Sequence[int] | None = None,
        strides: tp.Sequence[int] | None = None,
        paddings: tp.Sequence[int] | None = None,
        activation: str = "LeakyReLU",
        activation_params: tp.Mapping[str, tp.Any] | None = None,
    ):
        super().__init__()
        self.discriminators = nn.ModuleList(
            ScaleDiscriminator(
                in_channels,
                out_channels,
                kernel_sizes,
                filters,
                max_filters,
                downsample_scales,
                inner_kernel_sizes,
                groups,
                strides,
                paddings,
                norm,
                activation,
                activation_params,
            )
            for norm in scale_norms
        )
        self.downsample: nn.Module = nn.Identity()
        if downsample_factor > 1:
            size, padding = 2 * downsample_factor, downsample_factor
            self.downsample = nn.AvgPool1d(size, stride=downsample_factor, padding=padding)

    def forward(self, x: Tensor) -> tuple[Logits, FeatureMaps]:
        logits, maps = [], []
        for number, discriminator in enumerate(self.discriminators):
            x = self.downsample(x) if number else x
            output = discriminator(x)
            logits.append(output[0])
            maps.append(output[1])
        return logits, maps


def _check_lengths(number: int, *lists: tp.Sequence[int] | None) -> None:
    wrong = [len(entries) for entries in lists if entries is not None and len(entries) != number]
    if wrong:
        raise ValueError(
            f"downsample_scales has {number} entries; inner_kernel_sizes, groups, strides and "
            f"paddings need as many, or null, but one has {wrong[0]}."
        )
