"""Convolutions of the codec, with normalization and padding.

A causal convolution depends on the past only; any other is centred. Either way the output has
`ceil(T / stride)` steps: the input is padded to complete the last one. The nesting of the modules
gives the state-dict keys of released checkpoints: `conv.conv.weight_g`.
"""

import math
import typing as tp

import torch
from torch import Tensor, nn
from torch.nn import functional as F

NORMS = ("none", "weight_norm", "spectral_norm", "time_group_norm")


def pad1d(
    x: Tensor, paddings: tuple[int, int], mode: str = "constant", value: float = 0.0
) -> Tensor:
    """Pad the last dimension; reflection also works for signals shorter than the padding.

    For reflection, a short signal is first extended with zeros on its right; released checkpoints
    were trained so.

    Args:
        x: Signal, `[..., T]`.
        paddings: Steps added on the left and on the right.
        mode: `constant`, `reflect` or `replicate`.
        value: Value of constant padding.
    """
    if mode == "constant":
        return F.pad(x, paddings, mode, value)
    if mode != "reflect":
        return F.pad(x, paddings, mode)
    missing = max(0, max(paddings) + 1 - x.shape[-1])
    padded = F.pad(F.pad(x, (0, missing)), paddings, mode)
    return padded[..., : padded.shape[-1] - missing]


def unpad1d(x: Tensor, paddings: tuple[int, int]) -> Tensor:
    """Remove steps on the left and on the right of the last dimension; inverse of `pad1d`.

    Raises:
        ValueError: A padding is negative, or there are fewer steps than paddings.
    """
    left, right = paddings
    if min(left, right) < 0 or left + right > x.shape[-1]:
        raise ValueError(f"paddings={paddings} cannot be removed from {x.shape[-1]} steps.")
    return x[..., left : x.shape[-1] - right]


def pad_for_conv1d(x: Tensor, kernel_size: int, stride: int, padding_total: int = 0) -> Tensor:
    """Pad the end with zeros so that the last window of a convolution is complete.

    Args:
        x: Signal, `[..., T]`.
        kernel_size: Taps of the convolution.
        stride: Its stride.
        padding_total: Padding that the convolution adds by itself, left and right together.
    """
    missing = -(x.shape[-1] + padding_total - kernel_size) % stride
    return F.pad(x, (0, max(missing, kernel_size - padding_total - x.shape[-1])))


class WeightNormConv1d(nn.Conv1d):
    """Convolution with weight norm: direction `weight_v` and length `weight_g` per output.

    PyTorch's weight norm renames these parameters or warns; plain parameters under the names of
    released checkpoints can be saved, averaged and sharded without hooks.
    """

    def __init__(self, *args: tp.Any, **kwargs: tp.Any):
        super().__init__(*args, **kwargs)
        _split_weight(self)

    def forward(self, input: Tensor) -> Tensor:
        weight = _joined_weight(self)
        return F.conv1d(
            input, weight, self.bias, self.stride, self.padding, self.dilation, self.groups
        )


class WeightNormConv2d(nn.Conv2d):
    """Two-dimensional convolution with weight norm; see `WeightNormConv1d`."""

    def __init__(self, *args: tp.Any, **kwargs: tp.Any):
        super().__init__(*args, **kwargs)
        _split_weight(self)

    def forward(self, input: Tensor) -> Tensor:
        return self._conv_forward(input, _joined_weight(self), self.bias)


class WeightNormConvTranspose1d(nn.ConvTranspose1d):
    """Transposed convolution with weight norm; the length belongs to each input channel."""

    def __init__(self, *args: tp.Any, **kwargs: tp.Any):
        super().__init__(*args, **kwargs)
        _split_weight(self)

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        weight = _joined_weight(self)
        padding = tp.cast(tuple[int], self.padding)
        return F.conv_transpose1d(
            input, weight, self.bias, self.stride, padding, self.output_padding, self.groups
        )


def _split_weight(conv: nn.Module) -> None:
    weight = conv.get_parameter("weight").detach()
    del conv.weight
    conv.weight_g = nn.Parameter(_length(weight))
    conv.weight_v = nn.Parameter(weight.clone())


def _joined_weight(conv: nn.Module) -> Tensor:
    direction = conv.get_parameter("weight_v")
    return direction * (conv.get_parameter("weight_g") / _length(direction))


def _length(weight: Tensor) -> Tensor:
    return torch.linalg.vector_norm(weight, dim=tuple(range(1, weight.dim())), keepdim=True)


def _normalized(
    plain: type[nn.Module], weight_normed: type[nn.Module], norm: str, args: tuple, kwargs: dict
) -> nn.Module:
    """Build a convolution with weight norm or spectral norm, if `norm` is one of them."""
    if norm not in NORMS:
        raise ValueError(f"norm is {norm!r}. Choose one of: {', '.join(NORMS)}.")
    if norm == "weight_norm":
        return weight_normed(*args, **kwargs)
    conv = plain(*args, **kwargs)
    return nn.utils.spectral_norm(conv) if norm == "spectral_norm" else conv


def _norm_after(channels: int, norm: str, norm_kwargs: dict[str, tp.Any]) -> nn.Module:
    """Build the norm layer after the convolution."""
    if norm == "time_group_norm":
        return nn.GroupNorm(1, channels, **norm_kwargs)
    return nn.Identity()


class NormConv1d(nn.Module):
    """`nn.Conv1d` with one of `NORMS`, and with all arguments of `nn.Conv1d`."""

    def __init__(
        self, *args: tp.Any, norm: str = "none", norm_kwargs: dict | None = None, **kwargs: tp.Any
    ):
        super().__init__()
        self.conv = _normalized(nn.Conv1d, WeightNormConv1d, norm, args, kwargs)
        self.norm = _norm_after(tp.cast(nn.Conv1d, self.conv).out_channels, norm, norm_kwargs or {})

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x))


class NormConv2d(nn.Module):
    """`nn.Conv2d` with one of `NORMS`, and with all arguments of `nn.Conv2d`."""

    def __init__(
        self, *args: tp.Any, norm: str = "none", norm_kwargs: dict | None = None, **kwargs: tp.Any
    ):
        super().__init__()
        self.conv = _normalized(nn.Conv2d, WeightNormConv2d, norm, args, kwargs)
        self.norm = _norm_after(tp.cast(nn.Conv2d, self.conv).out_channels, norm, norm_kwargs or {})

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x))


class NormConvTranspose1d(nn.Module):
    """`nn.ConvTranspose1d` with one of `NORMS`, and with all its arguments."""

    def __init__(
        self, *args: tp.Any, norm: str = "none", norm_kwargs: dict | None = None, **kwargs: tp.Any
    ):
        super().__init__()
        self.convtr = _normalized(nn.ConvTranspose1d, WeightNormConvTranspose1d, norm, args, kwargs)
        channels = tp.cast(nn.ConvTranspose1d, self.convtr).out_channels
        self.norm = _norm_after(channels, norm, norm_kwargs or {})

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.convtr(x))


def _check_causal(causal: bool, norm: str) -> None:
    if causal and norm == "time_group_norm":
        raise ValueError(
            "norm='time_group_norm' averages over all steps, so the convolution cannot be causal. "
            "Choose norm='weight_norm', or causal=False."
        )


class StreamableConv1d(nn.Module):
    """Convolution `[B, C, T]` to `[B, C', ceil(T / stride)]`.

    Args:
        in_channels: Input channels, C.
        out_channels: Output channels, C'.
        kernel_size: Taps, at least `stride`.
        stride: Input steps per output step.
        dilation: Input steps between two taps.
        groups: Groups of channels.
        bias: Whether to add a bias.
        causal: Whether an output step depends on the past only.
        norm: One of `NORMS`.
        norm_kwargs: Arguments of the norm layer.
        pad_mode: `constant`, `reflect` or `replicate`.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        dilation: int = 1,
        groups: int = 1,
        bias: bool = True,
        causal: bool = False,
        norm: str = "none",
        norm_kwargs: dict[str, tp.Any] | None = None,
        pad_mode: str = "reflect",
    ):
        super().__init__()
        _check_causal(causal, norm)
        self.span = (kernel_size - 1) * dilation + 1
        self.stride = stride
        self.causal = causal
        self.pad_mode = pad_mode
        self.conv = NormConv1d(
            in_channels,
            out_channels,
            kernel_size,
            stride,
            dilation=dilation,
            groups=groups,
            bias=bias,
            norm=norm,
            norm_kwargs=norm_kwargs,
        )

    def forward(self, x: Tensor) -> Tensor:
        padding = self.span - self.stride
        right = 0 if self.causal else padding // 2
        extra = -x.shape[-1] % self.stride  # completes the last step
        x = pad1d(x, (padding - right, right + extra), self.pad_mode)
        return self.conv(x)


class StreamableConvTranspose1d(nn.Module):
    """Transposed convolution `[B, C, T]` to `[B, C', T * stride]`.

    Args:
        in_channels: Input channels, C.
        out_channels: Output channels, C'.
        kernel_size: Taps, at least `stride`.
        stride: Output steps per input step.
        causal: Whether `trim_right_ratio` applies; otherwise both ends are trimmed equally.
        norm: One of `NORMS`.
        trim_right_ratio: Share of the excess steps that is trimmed at the end if causal, 0 … 1.
        norm_kwargs: Arguments of the norm layer.
        groups: Groups of channels.
        bias: Whether to add a bias.

    Raises:
        ValueError: `trim_right_ratio` is outside 0 … 1, or not 1 without `causal`.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        causal: bool = False,
        norm: str = "none",
        trim_right_ratio: float = 1.0,
        norm_kwargs: dict[str, tp.Any] | None = None,
        *,
        groups: int = 1,
        bias: bool = True,
    ):
        super().__init__()
        _check_causal(causal, norm)
        if not 0 <= trim_right_ratio <= 1 or (trim_right_ratio != 1 and not causal):
            raise ValueError(
                f"trim_right_ratio is {trim_right_ratio} but must lie between 0 and 1, and be 1 "
                "unless causal=True."
            )
        excess = kernel_size - stride
        self.right = math.ceil(excess * trim_right_ratio) if causal else excess // 2
        self.left = excess - self.right
        self.convtr = NormConvTranspose1d(
            in_channels,
            out_channels,
            kernel_size,
            stride,
            groups=groups,
            bias=bias,
            norm=norm,
            norm_kwargs=norm_kwargs,
        )

    def forward(self, x: Tensor) -> Tensor:
        return unpad1d(self.convtr(x), (self.left, self.right))
