"""SEANet: convolutional encoder and decoder of the codec.

The encoder reduces the resolution in steps while it doubles the channels, the decoder mirrors it.
The indices in `model` are part of the state-dict keys of released checkpoints.

Method: Tagliasacchi et al., 2020, https://arxiv.org/abs/2009.02095; with the LSTM: Défossez et
al., 2022, https://arxiv.org/abs/2210.13438.
"""

import math
import typing as tp
from dataclasses import dataclass

from torch import Tensor, nn

from .conv import StreamableConv1d, StreamableConvTranspose1d
from .lstm import StreamableLSTM


@dataclass(frozen=True, kw_only=True)
class SEANetSpec:
    """Parameters that an encoder and its decoder share."""

    channels: int = 1  # of the audio, C
    dimension: int = 128  # of the latent, D
    n_filters: int = 32  # channels at full resolution
    n_residual_layers: int = 3  # residual blocks per resolution
    ratios: tp.Sequence[int] = (8, 5, 4, 2)  # upsampling factors of the decoder, in its order
    activation: str = "ELU"  # class in torch.nn
    activation_params: tp.Mapping[str, tp.Any] | None = None  # its keyword arguments
    norm: str = "none"  # one of audiocraft.modules.conv.NORMS
    norm_params: tp.Mapping[str, tp.Any] | None = None
    kernel_size: int = 7  # of the first convolution
    last_kernel_size: int = 7  # of the last convolution
    residual_kernel_size: int = 3
    dilation_base: int = 2  # factor of the dilation from one residual block to the next
    causal: bool = False
    pad_mode: str = "reflect"  # constant | reflect | replicate
    true_skip: bool = True  # identity as skip connection, else a convolution of width 1
    compress: int = 2  # factor by which residual blocks reduce the channels
    lstm: int = 0  # layers; 0: no LSTM
    disable_norm_outer_blocks: int = 0  # number of blocks without norm, counted from the audio

    def __post_init__(self):
        if not self.ratios or min(self.ratios) < 1:
            raise ValueError(f"ratios is {list(self.ratios)}; give at least one, each at least 1.")
        if not 0 <= self.disable_norm_outer_blocks <= self.num_blocks:
            raise ValueError(
                f"disable_norm_outer_blocks is {self.disable_norm_outer_blocks}; with "
                f"{len(self.ratios)} ratios give 0 to {self.num_blocks}."
            )

    @property
    def num_blocks(self) -> int:
        """First convolution, one block per ratio, last convolution."""
        return len(self.ratios) + 2

    def norm_of(self, block: int) -> str:
        """Norm of a block, counted from the audio: 0 … `num_blocks` - 1."""
        return "none" if block < self.disable_norm_outer_blocks else self.norm

    def act(self) -> nn.Module:
        """Build the activation."""
        return get_activation(self.activation, self.activation_params)

    def conv(
        self,
        block: int,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        stride: int = 1,
        dilation: int = 1,
    ) -> StreamableConv1d:
        """Build a convolution of a block, counted from the audio."""
        return StreamableConv1d(
            in_channels,
            out_channels,
            kernel_size,
            stride,
            dilation,
            norm=self.norm_of(block),
            norm_kwargs=dict(self.norm_params or {}),
            causal=self.causal,
            pad_mode=self.pad_mode,
        )

    def residuals(self, block: int, dim: int) -> list[nn.Module]:
        """Build the residual blocks at one resolution, with growing dilation."""
        dilations = [self.dilation_base**i for i in range(self.n_residual_layers)]
        return [SEANetResnetBlock(self, block, dim, dilation) for dilation in dilations]

    def recurrent(self, dim: int) -> list[nn.Module]:
        """Build the LSTM, if there is one."""
        return [StreamableLSTM(dim, num_layers=self.lstm)] if self.lstm else []


def get_activation(name: str, params: tp.Mapping[str, tp.Any] | None = None) -> nn.Module:
    """Build an activation of `torch.nn` by the name of its class.

    Raises:
        ValueError: The name is not a module in `torch.nn`.
    """
    kind = getattr(nn, name, None)
    if not isinstance(kind, type) or not issubclass(kind, nn.Module):
        raise ValueError(f"activation is {name!r}, but must be a class in torch.nn, such as 'ELU'.")
    return kind(**(params or {}))


class SEANetResnetBlock(nn.Module):
    """Two convolutions, the wide one dilated, beside a skip connection."""

    def __init__(self, spec: SEANetSpec, block: int, dim: int, dilation: int):
        super().__init__()
        hidden = dim // spec.compress
        self.block = nn.Sequential(
            spec.act(),
            spec.conv(block, dim, hidden, spec.residual_kernel_size, dilation=dilation),
            spec.act(),
            spec.conv(block, hidden, dim, 1),
        )
        self.shortcut = nn.Identity() if spec.true_skip else spec.conv(block, dim, dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.shortcut(x) + self.block(x)


class SEANetEncoder(nn.Module):
    """Audio `[B, C, T]` to a latent `[B, D, F]` with `F = ceil(T / hop_length)`.

    The arguments are the fields of `SEANetSpec`, which documents them.
    """

    def __init__(
        self,
        *,
        channels: int = 1,
        dimension: int = 128,
        n_filters: int = 32,
        n_residual_layers: int = 3,
        ratios: tp.Sequence[int] = (8, 5, 4, 2),
        activation: str = "ELU",
        activation_params: tp.Mapping[str, tp.Any] | None = None,
        norm: str = "none",
        norm_params: tp.Mapping[str, tp.Any] | None = None,
        kernel_size: int = 7,
        last_kernel_size: int = 7,
        residual_kernel_size: int = 3,
        dilation_base: int = 2,
        causal: bool = False,
        pad_mode: str = "reflect",
        true_skip: bool = True,
        compress: int = 2,
        lstm: int = 0,
        disable_norm_outer_blocks: int = 0,
    ):
        super().__init__()
        spec = SEANetSpec(
            channels=channels,
            dimension=dimension,
            n_filters=n_filters,
            n_residual_layers=n_residual_layers,
            ratios=ratios,
            activation=activation,
            activation_params=activation_params,
            norm=norm,
            norm_params=norm_params,
            kernel_size=kernel_size,
            last_kernel_size=last_kernel_size,
            residual_kernel_size=residual_kernel_size,
            dilation_base=dilation_base,
            causal=causal,
            pad_mode=pad_mode,
            true_skip=true_skip,
            compress=compress,
            lstm=lstm,
            disable_norm_outer_blocks=disable_norm_outer_blocks,
        )
        self.dimension = dimension
        self.hop_length = math.prod(ratios)
        self.model = nn.Sequential(*_encoder_layers(spec))

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)


class SEANetDecoder(nn.Module):
    """Latent `[B, D, F]` to audio `[B, C, F * hop_length]`.

    The other arguments are the fields of `SEANetSpec`, which documents them.

    Args:
        final_activation: Class in `torch.nn`, after the last convolution; `None`: no activation.
        final_activation_params: Arguments of `final_activation`.
        trim_right_ratio: Share of the excess steps that causal transposed convolutions trim at
            the end.
    """

    def __init__(
        self,
        *,
        final_activation: str | None = None,
        final_activation_params: tp.Mapping[str, tp.Any] | None = None,
        trim_right_ratio: float = 1.0,
        channels: int = 1,
        dimension: int = 128,
        n_filters: int = 32,
        n_residual_layers: int = 3,
        ratios: tp.Sequence[int] = (8, 5, 4, 2),
        activation: str = "ELU",
        activation_params: tp.Mapping[str, tp.Any] | None = None,
        norm: str = "none",
        norm_params: tp.Mapping[str, tp.Any] | None = None,
        kernel_size: int = 7,
        last_kernel_size: int = 7,
        residual_kernel_size: int = 3,
        dilation_base: int = 2,
        causal: bool = False,
        pad_mode: str = "reflect",
        true_skip: bool = True,
        compress: int = 2,
        lstm: int = 0,
        disable_norm_outer_blocks: int = 0,
    ):
        super().__init__()
        spec = SEANetSpec(
            channels=channels,
            dimension=dimension,
            n_filters=n_filters,
            n_residual_layers=n_residual_layers,
            ratios=ratios,
            activation=activation,
            activation_params=activation_params,
            norm=norm,
            norm_params=norm_params,
            kernel_size=kernel_size,
            last_kernel_size=last_kernel_size,
            residual_kernel_size=residual_kernel_size,
            dilation_base=dilation_base,
            causal=causal,
            pad_mode=pad_mode,
            true_skip=true_skip,
            compress=compress,
            lstm=lstm,
            disable_norm_outer_blocks=disable_norm_outer_blocks,
        )
        self.dimension = dimension
        self.hop_length = math.prod(ratios)
        layers = _decoder_layers(spec, trim_right_ratio)
        if final_activation is not None:
            layers.append(get_activation(final_activation, final_activation_params))
        self.model = nn.Sequential(*layers)

    def forward(self, z: Tensor) -> Tensor:
        return self.model(z)


def _encoder_layers(spec: SEANetSpec) -> list[nn.Module]:
    dim = spec.n_filters
    layers: list[nn.Module] = [spec.conv(0, spec.channels, dim, spec.kernel_size)]
    for block, ratio in enumerate(reversed(spec.ratios), start=1):
        layers += spec.residuals(block, dim)
        layers += [spec.act(), spec.conv(block, dim, 2 * dim, 2 * ratio, stride=ratio)]
        dim *= 2
    layers += spec.recurrent(dim)
    last = spec.conv(spec.num_blocks - 1, dim, spec.dimension, spec.last_kernel_size)
    return [*layers, spec.act(), last]


def _decoder_layers(spec: SEANetSpec, trim_right_ratio: float) -> list[nn.Module]:
    dim = spec.n_filters * 2 ** len(spec.ratios)
    first = spec.conv(spec.num_blocks - 1, spec.dimension, dim, spec.kernel_size)
    layers: list[nn.Module] = [first, *spec.recurrent(dim)]
    for block, ratio in zip(range(len(spec.ratios), 0, -1), spec.ratios):
        upsample = StreamableConvTranspose1d(
            dim,
            dim // 2,
            2 * ratio,
            ratio,
            norm=spec.norm_of(block),
            norm_kwargs=dict(spec.norm_params or {}),
            causal=spec.causal,
            trim_right_ratio=trim_right_ratio,
        )
        dim //= 2
        layers += [spec.act(), upsample, *spec.residuals(block, dim)]
    return [*layers, spec.act(), spec.conv(0, dim, spec.channels, spec.last_kernel_size)]
