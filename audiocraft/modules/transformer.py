"""Transformer of the language model and of the style conditioner.

It processes a sequence at once or in parts: with a `KVCache`, any number of steps may be given at
a time, and the outputs are those of one full pass.

Method: Vaswani et al., 2017, https://arxiv.org/abs/1706.03762; layer scale: Touvron et al., 2021,
https://arxiv.org/abs/2103.17239.
"""

import typing as tp
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from ..errors import ConfigError
from .attention import (
    MultiheadAttention,
    NestedAttention,
    StreamingMultiheadAttention,
    attention_mask,
)
from .kv_cache import KVCache, LayerCache
from .rope import RotaryEmbedding

__all__ = [
    "StreamingMultiheadAttention",
    "StreamingTransformer",
    "TransformerLayer",
    "TransformerSpec",
    "sin_embedding",
]

ACTIVATIONS: dict[str, tp.Callable[[Tensor], Tensor]] = {"gelu": F.gelu, "relu": F.relu}
POSITIONS = ("sin", "rope", "sin_rope")
# The `xformers_*` kinds of older configurations chose which activations to store; all save memory.
CHECKPOINTING = ("none", "torch", "xformers_default", "xformers_mm")
COMPILE_MODES = ("default", "max-autotune-no-cudagraphs")


@dataclass(frozen=True, kw_only=True)
class TransformerSpec:
    """Parameters of a `StreamingTransformer`.

    `custom` and `memory_efficient` used to choose an implementation. There is one now; they only
    decide the names of the attention weights in the state dict.
    """

    d_model: int  # width D
    num_heads: int
    num_layers: int
    dim_feedforward: int = 2048
    dropout: float = 0.1
    attention_dropout: float | None = None  # None: as `dropout`
    activation: str = "gelu"  # gelu | relu
    norm: str = "layer_norm"
    norm_first: bool = True  # normalise before each block; False: after it
    bias_ff: bool = True
    bias_attn: bool = True
    layer_scale: float | None = None  # initial learned scale of each block; None: no scale
    causal: bool = True
    past_context: int | None = None  # past steps that a step attends to; None: all of them
    cross_attention: bool = False
    positional_embedding: str = "sin"  # sin | rope | sin_rope
    max_period: float = 10000.0
    positional_scale: float = 1.0  # scale of the positions; 0 is off
    xpos: bool = False  # rotary attention decays with the distance
    qk_layer_norm: bool = False
    qk_layer_norm_cross: bool = False
    kv_repeat: int = 1  # query heads per head of keys and values, in self-attention
    attention_as_float32: bool = False
    checkpointing: str = "none"  # none | torch: recompute each layer in the backward pass
    custom: bool = False
    memory_efficient: bool = False

    def __post_init__(self):
        check_choice("activation", self.activation, ACTIVATIONS)
        check_choice("norm", self.norm, ("layer_norm",))
        check_choice("positional_embedding", self.positional_embedding, POSITIONS)
        check_choice("checkpointing", self.checkpointing, CHECKPOINTING)
        if self.d_model % self.num_heads or self.num_heads % self.kv_repeat:
            raise ValueError(
                f"d_model={self.d_model} must be divisible by num_heads={self.num_heads}, and "
                f"num_heads by kv_repeat={self.kv_repeat}."
            )

    @property
    def head_dim(self) -> int:
        return self.d_model // self.num_heads

    def rope(self) -> RotaryEmbedding | None:
        """Build the rotary embedding, if there is one."""
        if self.positional_embedding == "sin":
            return None
        return RotaryEmbedding(self.head_dim, self.max_period, self.xpos, self.positional_scale)

    def attention(
        self,
        *,
        kv_repeat: int = 1,
        qk_layer_norm: bool = False,
        rope: RotaryEmbedding | None = None,
    ) -> MultiheadAttention | NestedAttention:
        """Build the attention of one layer."""
        attention = MultiheadAttention(
            self.d_model,
            self.num_heads,
            bias=self.bias_attn,
            dropout=self.dropout if self.attention_dropout is None else self.attention_dropout,
            as_float32=self.attention_as_float32,
            kv_repeat=kv_repeat,
            qk_layer_norm=qk_layer_norm,
            rope=rope,
        )
        return attention if self.custom or self.memory_efficient else NestedAttention(attention)


def check_choice(name: str, value: str, choices: tp.Iterable[str]) -> None:
    """Check that a value is one of the choices.

    Raises:
        ValueError: It is not.
    """
    if value not in choices:
        raise ValueError(f"{name} is {value!r}. Choose one of: {', '.join(choices)}.")


def sin_embedding(positions: Tensor, dim: int, max_period: float = 10000.0) -> Tensor:
    """Sinusoidal positions, cosines first as in released checkpoints.

    Args:
        positions: Any shape, `[...]`.
        dim: Width D, even.
        max_period: Steps per turn of the slowest wave, divided by 2π.

    Returns:
        Float32, `[..., D]`.

    Raises:
        ValueError: `dim` is odd.
    """
    if dim % 2:
        raise ValueError(f"Sinusoidal positions need an even width but it is {dim}.")
    half = dim // 2
    rank = torch.arange(half, device=positions.device, dtype=torch.float32) / max(half - 1, 1)
    phase = positions[..., None] / max_period**rank
    return torch.cat([phase.cos(), phase.sin()], dim=-1)


class LayerScale(nn.Module):
    """Learned factor per channel, initially small."""

    def __init__(self, dim: int, start: float):
        super().__init__()
        self.scale = nn.Parameter(torch.full((dim,), start))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale


class TransformerLayer(nn.Module):
    """Self-attention, optional cross attention, feed-forward."""

    def __init__(self, spec: TransformerSpec, rope: RotaryEmbedding | None = None):
        super().__init__()
        dim, hidden = spec.d_model, spec.dim_feedforward
        self.norm_first = spec.norm_first
        self.activation = ACTIVATIONS[spec.activation]
        self.dropout = nn.Dropout(spec.dropout) if spec.dropout else nn.Identity()

        self.self_attn = spec.attention(
            kv_repeat=spec.kv_repeat, qk_layer_norm=spec.qk_layer_norm, rope=rope
        )
        self.linear1 = nn.Linear(dim, hidden, bias=spec.bias_ff)
        self.linear2 = nn.Linear(hidden, dim, bias=spec.bias_ff)
        self.norm1 = nn.LayerNorm(dim)
        self.norm2 = nn.LayerNorm(dim)
        self.layer_scale_1 = self._layer_scale(spec)
        self.layer_scale_2 = self._layer_scale(spec)
        self.cross_attention = None
        if spec.cross_attention:
            self.cross_attention = spec.attention(qk_layer_norm=spec.qk_layer_norm_cross)
            self.norm_cross = nn.LayerNorm(dim)
            self.layer_scale_cross = self._layer_scale(spec)

    @staticmethod
    def _layer_scale(spec: TransformerSpec) -> nn.Module:
        if spec.layer_scale is None:
            return nn.Identity()
        return LayerScale(spec.d_model, spec.layer_scale)

    def forward(
        self, x: Tensor, source: Tensor | None, cache: LayerCache | None, context: dict[str, tp.Any]
    ) -> Tensor:
        """Compute one layer, `[B, S, D]` to `[B, S, D]`.

        Args:
            x: Input, `[B, S, D]`.
            source: Source of the cross attention, `[B, X, D]`.
            cache: Keys and values of the steps before `x`.
            context: Mask and offset, as keyword arguments of the self-attention.
        """
        if self.norm_first:
            x = x + self._self_attention(self.norm1(x), cache, context)
            if self.cross_attention is not None:
                crossed = self.cross_attention.cross(self.norm_cross(x), source, cache)
                x = x + self.layer_scale_cross(self.dropout(crossed))
            return x + self._feed_forward(self.norm2(x))
        # In released post-norm models the queries are computed from the layer's input, not from
        # the output of the self-attention.
        layer_input = x
        x = self.norm1(x + self._self_attention(x, cache, context))
        if self.cross_attention is not None:
            crossed = self.cross_attention.cross(layer_input, source, cache)
            x = self.norm_cross(x + self.layer_scale_cross(self.dropout(crossed)))
        return self.norm2(x + self._feed_forward(x))

    def _self_attention(self, x: Tensor, cache: LayerCache | None, context) -> Tensor:
        return self.layer_scale_1(self.dropout(self.self_attn(x, cache=cache, **context)))

    def _feed_forward(self, x: Tensor) -> Tensor:
        x = self.linear2(self.dropout(self.activation(self.linear1(x))))
        return self.layer_scale_2(self.dropout(x))


class StreamingTransformer(nn.Module):
    """Stack of transformer layers, for whole sequences or step by step with a `KVCache`.

    The arguments are the fields of `TransformerSpec`, which documents them; `from_spec` takes one.
    """

    def __init__(
        self,
        d_model: int,
        num_heads: int,
        num_layers: int,
        *,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        bias_ff: bool = True,
        bias_attn: bool = True,
        causal: bool = True,
        past_context: int | None = None,
        custom: bool = False,
        memory_efficient: bool = False,
        attention_as_float32: bool = False,
        cross_attention: bool = False,
        layer_scale: float | None = None,
        positional_embedding: str = "sin",
        max_period: float = 10_000.0,
        positional_scale: float = 1.0,
        xpos: bool = False,
        norm: str = "layer_norm",
        norm_first: bool = True,
        activation: str = "gelu",
        qk_layer_norm: bool = False,
        qk_layer_norm_cross: bool = False,
        kv_repeat: int = 1,
        checkpointing: str = "none",
        attention_dropout: float | None = None,
    ):
        super().__init__()
        self.spec = TransformerSpec(
            d_model=d_model,
            num_heads=num_heads,
            num_layers=num_layers,
            dim_feedforward=dim_feedforward,
            dropout=dropout,
            bias_ff=bias_ff,
            bias_attn=bias_attn,
            causal=causal,
            past_context=past_context,
            custom=custom,
            memory_efficient=memory_efficient,
            attention_as_float32=attention_as_float32,
            cross_attention=cross_attention,
            layer_scale=layer_scale,
            positional_embedding=positional_embedding,
            max_period=max_period,
            positional_scale=positional_scale,
            xpos=xpos,
            norm=norm,
            norm_first=norm_first,
            activation=activation,
            qk_layer_norm=qk_layer_norm,
            qk_layer_norm_cross=qk_layer_norm_cross,
            kv_repeat=kv_repeat,
            checkpointing=checkpointing,
            attention_dropout=attention_dropout,
        )
        self.rope = self.spec.rope()  # one for all layers
        self.layers = nn.ModuleList(
            TransformerLayer(self.spec, self.rope) for _ in range(self.spec.num_layers)
        )

    @classmethod
    def from_spec(cls, spec: TransformerSpec) -> tp.Self:
        """Build a transformer from its parameters."""
        return cls(**asdict(spec))

    def new_cache(
        self,
        batch_size: int,
        num_steps: int,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> KVCache:
        """Empty cache for `num_steps` steps; on the module's device and in its dtype by default."""
        weight = next(self.parameters())
        return KVCache(
            self.spec.num_layers,
            batch_size,
            self.spec.num_heads // self.spec.kv_repeat,
            num_steps,
            self.spec.head_dim,
            device=device or weight.device,
            dtype=dtype or weight.dtype,
        )

    def compile_layers(self, mode: str = "default") -> None:
        """Compile each layer with `torch.compile`, for whole sequences.

        State-dict keys do not change. Sequences of all lengths share one compilation.

        Args:
            mode: Mode of `torch.compile`; those that use CUDA graphs are not supported.

        Raises:
            ConfigError: The mode is not supported.
        """
        if mode not in COMPILE_MODES:
            raise ConfigError(
                f"compile.mode is {mode!r}. Choose one of: {', '.join(COMPILE_MODES)}."
            )
        for layer in self.layers:
            layer.compile(dynamic=True, mode=mode)

    def forward(
        self,
        x: Tensor,
        cross_attention_src: Tensor | None = None,
        cache: KVCache | None = None,
    ) -> Tensor:
        """Process the next steps of a sequence, `[B, S, D]` to `[B, S, D]`.

        Args:
            x: Input of the steps, `[B, S, D]`.
            cross_attention_src: Source of the cross attention, `[B, X, D]`. With a cache, only
                that of the first call is used.
            cache: Keys and values of the steps before `x`; `None` for a whole sequence.

        Raises:
            ValueError: There is a source without cross attention or the reverse, or the cache is
                full.
        """
        num_steps = x.shape[1]
        offset = 0 if cache is None else cache.length
        self._check(cross_attention_src, cache, num_steps)
        x = self._add_positions(x, offset)
        mask = attention_mask(
            num_steps,
            offset,
            causal=self.spec.causal,
            past_context=self.spec.past_context,
            device=x.device,
        )
        context = {"offset": offset, **mask}
        for index, layer in enumerate(self.layers):
            layer_cache = None if cache is None else cache.layers[index]
            inputs = (x, cross_attention_src, layer_cache, context)
            if cache is not None:
                x = layer.forward(*inputs)  # not compiled: slower for single steps
            elif self.spec.checkpointing != "none" and self.training and torch.is_grad_enabled():
                x = checkpoint(layer, *inputs, use_reentrant=False)
            else:
                x = layer(*inputs)
        if cache is not None:
            cache.advance(num_steps)
        return x

    def _add_positions(self, x: Tensor, offset: int) -> Tensor:
        if self.spec.positional_embedding == "rope":
            return x
        positions = torch.arange(offset, offset + x.shape[1], device=x.device)
        embedding = sin_embedding(positions, self.spec.d_model, self.spec.max_period)
        return x + (self.spec.positional_scale * embedding).to(x.dtype)

    def _check(self, source: Tensor | None, cache: KVCache | None, num_steps: int) -> None:
        if source is not None and not self.spec.cross_attention:
            raise ValueError(
                "`cross_attention_src` was given but this transformer has no cross attention. "
                "Build it with `cross_attention=True`."
            )
        if cache is None:
            return
        if not self.spec.causal:
            raise ValueError(
                "A transformer that is not causal cannot decode step by step. "
                "Call it without a cache, or build it with `causal=True`."
            )
        cache.check_room(num_steps)
