"""SEANet: the convolutional encoder and decoder of the codec.

The encoder halves its resolution in steps while doubling its channels, the decoder mirrors it.
The positions in `model` are part of the keys of released checkpoints.

Method: Tagliasacchi et al., 2020, https://arxiv.org/abs/2009.02095; with the LSTM: Défossez et
al., 2022, https://arxiv.org/abs/2210.13438.
"""

import math
import typing as tp
from dataclasses import dataclass, field

from torch import Tensor, nn

from .conv import StreamableConv1d, StreamableConvTranspose1d
from .lstm import StreamableLSTM


@dataclass(frozen=True, kw_only=True)
class SEANetOptions:
    """What an encoder and its decoder have in common."""

    channels: int = 1  # of the audio
    dimension: int = 128  # of the latent
    n_filters: int = 32  # channels at full resolution
    n_residual_layers: int = 3  # residual blocks per resolution
    ratios: tp.Sequence[int] = (8, 5, 4, 2)  # resolution steps, the decoder's first one first
    activation: str = "ELU"  # class in torch.nn
    activation_params: tp.Mapping[str, tp.Any] = field(default_factory=lambda: {"alpha": 1.0})
    norm: str = "none"  # one of audiocraft.modules.conv.NORMS
    norm_params: tp.Mapping[str, tp.Any] = field(default_factory=dict)
    kernel_size: int = 7  # of the first convolution
    last_kernel_size: int = 7  # of the last convolution
    residual_kernel_size: int = 3
    dilation_base: int = 2  # dilation grows by this from one residual block to the next
    causal: bool = False
    pad_mode: str = "reflect"  # constant | reflect | replicate
    true_skip: bool = True  # skip by identity, else by a convolution of width 1
    compress: int = 2  # residual blocks narrow the channels by this
    lstm: int = 0  # layers; 0 is none
    disable_norm_outer_blocks: int = 0  # so many blocks next to the audio go without norm

    def __post_init__(self):
        if not self.ratios or min(self.ratios) < 1:
            raise ValueError(f"ratios are {list(self.ratios)}; give at least one, each at least 1.")
        if not 0 <= self.disable_norm_outer_blocks <= self.num_blocks:
            raise ValueError(
                f"disable_norm_outer_blocks is {self.disable_norm_outer_blocks}; with "
                f"{len(self.ratios)} ratios there are 0 to {self.num_blocks} blocks."
            )

    @property
    def num_blocks(self) -> int:
        """First convolution, one block per ratio, last convolution."""
        return len(self.ratios) + 2

    def norm_of(self, block: int) -> str:
        """Norm of a block, counted from the audio: 0 … `num_blocks` - 1."""
        return "none" if block < self.disable_norm_outer_blocks else self.norm

    def act(self) -> nn.Module:
        return activation(self.activation, self.activation_params)

    def conv(self, block: int, *args: int, **kwargs: int) -> StreamableConv1d:
        """A convolution of a block, counted from the audio."""
        return StreamableConv1d(
            *args,
            norm=self.norm_of(block),
            norm_kwargs=dict(self.norm_params),
            causal=self.causal,
            pad_mode=self.pad_mode,
            **kwargs,
        )

    def residuals(self, block: int, dim: int) -> list[nn.Module]:
        """The residual blocks at one resolution, each looking further than the one before."""
        dilations = [self.dilation_base**i for i in range(self.n_residual_layers)]
        return [SEANetResnetBlock(self, block, dim, dilation) for dilation in dilations]

    def memory(self, dim: int) -> list[nn.Module]:
        return [StreamableLSTM(dim, num_layers=self.lstm)] if self.lstm else []


def activation(name: str, params: tp.Mapping[str, tp.Any] | None = None) -> nn.Module:
    """Activation of `torch.nn` by the name of its class.

    Raises:
        ValueError: There is no such class.
    """
    kind = getattr(nn, name, None)
    if not isinstance(kind, type) or not issubclass(kind, nn.Module):
        raise ValueError(f"activation is {name!r}, but must be a class in torch.nn, such as 'ELU'.")
    return kind(**(params or {}))


class SEANetResnetBlock(nn.Module):
    """Two convolutions, the wide one dilated, beside a skip connection."""

    def __init__(self, options: SEANetOptions, block: int, dim: int, dilation: int):
        super().__init__()
        hidden = dim // options.compress
        self.block = nn.Sequential(
            options.act(),
            options.conv(block, dim, hidden, options.residual_kernel_size, dilation=dilation),
            options.act(),
            options.conv(block, hidden, dim, 1),
        )
        self.shortcut = nn.Identity() if options.true_skip else options.conv(block, dim, dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.shortcut(x) + self.block(x)


class SEANetEncoder(nn.Module):
    """Audio `[B, C, T]` to a latent `[B, D, F]` with `F = ceil(T / hop_length)`.

    Args:
        options: The fields of `SEANetOptions`.
    """

    def __init__(self, **options: tp.Any):
        super().__init__()
        o = SEANetOptions(**options)
        self.dimension = o.dimension
        self.hop_length = math.prod(o.ratios)
        dim = o.n_filters
        layers: list[nn.Module] = [o.conv(0, o.channels, dim, o.kernel_size)]
        for block, ratio in enumerate(reversed(o.ratios), start=1):
            layers += o.residuals(block, dim)
            layers += [o.act(), o.conv(block, dim, 2 * dim, 2 * ratio, stride=ratio)]
            dim *= 2
        layers += o.memory(dim)
        layers += [o.act(), o.conv(o.num_blocks - 1, dim, o.dimension, o.last_kernel_size)]
        self.model = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)


class SEANetDecoder(nn.Module):
    """Latent `[B, D, F]` to audio `[B, C, F * hop_length]`.

    Args:
        final_activation: Class in `torch.nn` that ends the decoder; `None` is none.
        final_activation_params: Its arguments.
        trim_right_ratio: Share of the excess cut at the end by causal transposed convolutions.
        options: The fields of `SEANetOptions`.
    """

    def __init__(
        self,
        *,
        final_activation: str | None = None,
        final_activation_params: tp.Mapping[str, tp.Any] | None = None,
        trim_right_ratio: float = 1.0,
        **options: tp.Any,
    ):
        super().__init__()
        o = SEANetOptions(**options)
        self.dimension = o.dimension
        self.hop_length = math.prod(o.ratios)
        dim = o.n_filters * 2 ** len(o.ratios)
        layers: list[nn.Module] = [o.conv(o.num_blocks - 1, o.dimension, dim, o.kernel_size)]
        layers += o.memory(dim)
        for block, ratio in zip(range(len(o.ratios), 0, -1), o.ratios):
            upsample = StreamableConvTranspose1d(
                dim,
                dim // 2,
                2 * ratio,
                ratio,
                norm=o.norm_of(block),
                norm_kwargs=dict(o.norm_params),
                causal=o.causal,
                trim_right_ratio=trim_right_ratio,
            )
            dim //= 2
            layers += [o.act(), upsample, *o.residuals(block, dim)]
        layers += [o.act(), o.conv(0, dim, o.channels, o.last_kernel_size)]
        if final_activation is not None:
            layers.append(activation(final_activation, final_activation_params))
        self.model = nn.Sequential(*layers)

    def forward(self, z: Tensor) -> Tensor:
        return self.model(z)
