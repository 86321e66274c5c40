"""Multi-period discriminator: convolutions over the waveform folded at several periods.

Method: Kong et al., 2020, https://arxiv.org/abs/2010.05646 (HiFi-GAN).
"""

import typing as tp

from torch import Tensor, nn

from ...modules.conv import NormConv2d, pad1d
from ...modules.seanet import get_activation
from .base import FeatureMaps, Logits, MultiDiscriminator, apply_layers


class PeriodDiscriminator(nn.Module):
    """Sub-discriminator of the waveform folded into rows of `period` samples.

    Args:
        period: Samples of a row.
        in_channels: Audio channels.
        out_channels: Channels of the logits.
        n_layers: Convolutions before the last one.
        kernel_sizes: Rows that a convolution covers, and those that the last one covers.
        stride: Stride in rows of all but the last two convolutions.
        filters: The first layer has `filters_scale` times as many channels.
        filters_scale: Growth of the channels from layer to layer.
        max_filters: Largest number of channels.
        norm: One of `audiocraft.modules.conv.NORMS`.
        activation: Class in `torch.nn`.
        activation_params: Its arguments.

    Raises:
        ValueError: There are not exactly two odd kernel sizes.
    """

    def __init__(
        self,
        period: int,
        in_channels: int = 1,
        out_channels: int = 1,
        n_layers: int = 5,
        kernel_sizes: tp.Sequence[int] = (5, 3),
        stride: int = 3,
        filters: int = 8,
        filters_scale: int = 4,
        max_filters: int = 1024,
        norm: str = "weight_norm",
        activation: str = "LeakyReLU",
        activation_params: tp.Mapping[str, tp.Any] | None = None,
    ):
        super().__init__()
        if len(kernel_sizes) != 2 or not all(size % 2 for size in kernel_sizes):
            raise ValueError(f"kernel_sizes are {list(kernel_sizes)}; give two odd numbers.")
        self.period = period
        self.activation = get_activation(activation, activation_params)
        inner, last = kernel_sizes
        self.convs = nn.ModuleList()
        width = in_channels
        for layer in range(1, n_layers + 1):
            wider = min(filters * filters_scale**layer, max_filters)
            self.convs.append(
                NormConv2d(
                    width,
                    wider,
                    (inner, 1),
                    stride=(stride if layer < n_layers else 1, 1),
                    padding=((inner - 1) // 2, 0),
                    norm=norm,
                )
            )
            width = wider
        self.conv_post = NormConv2d(
            width, out_channels, (last, 1), padding=((last - 1) // 2, 0), norm=norm
        )

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Waveforms `[B, C, T]` to logits and feature maps, of which they are the last."""
        x = pad1d(x, (0, -x.shape[-1] % self.period), "reflect")
        folded = x.unflatten(-1, (-1, self.period))  # [B, C, rows, period]
        x, maps = apply_layers(folded, self.convs, self.activation)
        logits = self.conv_post(x)
        return logits, [*maps, logits]


class MultiPeriodDiscriminator(MultiDiscriminator):
    """Multi-period discriminator (MPD).

    Args:
        in_channels: Audio channels.
        out_channels: Channels of the logits.
        periods: Samples of a row, for each sub-discriminator.
        n_layers, kernel_sizes, stride, filters, filters_scale, max_filters, norm, activation,
            activation_params: See `PeriodDiscriminator`.

    Raises:
        ValueError: As `PeriodDiscriminator`.
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 1,
        periods: tp.Sequence[int] = (2, 3, 5, 7, 11),
        n_layers: int = 5,
        kernel_sizes: tp.Sequence[int] = (5, 3),
        stride: int = 3,
        filters: int = 8,
        filters_scale: int = 4,
        max_filters: int = 1024,
        norm: str = "weight_norm",
        activation: str = "LeakyReLU",
        activation_params: tp.Mapping[str, tp.Any] | None = None,
    ):
        super().__init__()
        self.discriminators = nn.ModuleList(
            PeriodDiscriminator(
                period,
                in_channels,
                out_channels,
                n_layers,
                kernel_sizes,
                stride,
                filters,
                filters_scale,
                max_filters,
                norm,
                activation,
                activation_params,
            )
            for period in periods
        )

    def forward(self, x: Tensor) -> tuple[Logits, FeatureMaps]:
        outputs = [discriminator(x) for discriminator in self.discriminators]
        return [logits for logits, _ in outputs], [maps for _, maps in outputs]
