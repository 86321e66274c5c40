"""The transformer of the language model and of the style conditioner.

It reads a sequence at once or piece by piece: with a `KVCache` any number of steps may come at
any time, and the outputs are those of one full pass.

Method: Vaswani et al., 2017, https://arxiv.org/abs/1706.03762; layer scale: Touvron et al., 2021,
https://arxiv.org/abs/2103.17239.
"""

import typing as tp
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from ..errors import ConfigError
from .attention import MultiheadAttention, NestedAttention
from .kv_cache import KVCache, LayerCache
from .rope import RotaryEmbedding

ACTIVATIONS: dict[str, tp.Callable[[Tensor], Tensor]] = {"gelu": F.gelu, "relu": F.relu}
POSITIONS = ("sin", "rope", "sin_rope")
# The `xformers_*` kinds of older configurations chose what to keep; all of them save memory.
CHECKPOINTING = ("none", "torch", "xformers_default", "xformers_mm")


@dataclass(frozen=True, kw_only=True)
class TransformerSpec:
    """The keyword arguments of a `StreamingTransformer`.

    `custom` and `memory_efficient` once chose an implementation. There is one left; the weights
    keep the names that the choice gave them.
    """

    d_model: int
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
    layer_scale: float | None = None  # start of the learnt scale of each block; None: no scale
    causal: bool = True
    past_context: int | None = None  # steps of the past that a step sees; None: all of them
    cross_attention: bool = False
    positional_embedding: str = "sin"  # sin | rope | sin_rope
    max_period: float = 10000.0
    positional_scale: float = 1.0  # strength of the positions; 0 is off
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
                f"A width of {self.d_model} does not split into {self.num_heads} heads of which "
                f"each {self.kv_repeat} share keys. Choose `num_heads` so that it divides "
                "`d_model`, and `kv_repeat` so that it divides `num_heads`."
            )

    @property
    def head_dim(self) -> int:
        return self.d_model // self.num_heads

    def rope(self) -> RotaryEmbedding | None:
        if self.positional_embedding == "sin":
            return None
        return RotaryEmbedding(self.head_dim, self.max_period, self.xpos, self.positional_scale)

    def attention(self, **options) -> MultiheadAttention | NestedAttention:
        attention = MultiheadAttention(
            self.d_model,
            self.num_heads,
            bias=self.bias_attn,
            dropout=self.dropout if self.attention_dropout is None else self.attention_dropout,
            as_float32=self.attention_as_float32,
            **options,
        )
        return attention if self.custom or self.memory_efficient else NestedAttention(attention)


def check_choice(name: str, value: str, choices: tp.Iterable[str]) -> None:
    """Refuse a value that nobody implements.

    Raises:
        ValueError: `value` is none of the choices.
    """
    if value not in choices:
        raise ValueError(f"{name} is {value!r}. Choose one of: {', '.join(choices)}.")


COMPILE_MODES = ("default", "max-autotune-no-cudagraphs")


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
    """A learnt factor per channel, which starts small."""

    def __init__(self, dim: int, start: float):
        super().__init__()
        self.scale = nn.Parameter(torch.full((dim,), start))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale


class TransformerLayer(nn.Module):
    """Self-attention, cross attention if asked for, feed-forward."""

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
        """Map `[B, S, D]` to the same shape; `context` is what self-attention should know."""
        if self.norm_first:
            x = x + self._self_attention(self.norm1(x), cache, context)
            if self.cross_attention is not None:
                crossed = self.cross_attention.cross(self.norm_cross(x), source, cache)
                x = x + self.layer_scale_cross(self.dropout(crossed))
            return x + self._feed_forward(self.norm2(x))
        # Released post-norm models query the source with the layer's input, not with what
        # self-attention made of it.
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
    """A stack of layers that can read its sequence piece by piece.

    Keyword arguments: those of `TransformerSpec`.
    """

    def __init__(self, **spec: tp.Any):
        super().__init__()
        self.spec = TransformerSpec(**spec)
        self.rope = self.spec.rope()  # one for all layers
        self.layers = nn.ModuleList(
            TransformerLayer(self.spec, self.rope) for _ in range(self.spec.num_layers)
        )

    def new_cache(
        self,
        batch_size: int,
        num_steps: int,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> KVCache:
        """A memory for `num_steps` steps; on the module's device and in its dtype by default."""
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
        """Have `torch.compile` make each layer faster where it reads whole sequences.

        Names in the state dict stay. Sequences of all lengths share one compilation.

        Args:
            mode: As for `torch.compile`, without those that use CUDA graphs.

        Raises:
            ConfigError: There is no such mode.
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
        """Read the next steps of a sequence.

        Args:
            x: The steps, `[B, S, D]`.
            cross_attention_src: What cross attention reads, `[B, X, D]`. With a cache it is read
                at the first call only.
            cache: The steps before; `None` if there are none.

        Raises:
            ValueError: There is a source without cross attention or the reverse, or the cache is
                full.
        """
        num_steps = x.shape[1]
        offset = 0 if cache is None else cache.length
        self._check(cross_attention_src, cache, num_steps)
        x = self._add_positions(x, offset)
        context = {"offset": offset, **self._visible(num_steps, offset, x.device)}
        for index, layer in enumerate(self.layers):
            layer_cache = None if cache is None else cache.layers[index]
            inputs = (x, cross_attention_src, layer_cache, context)
            if cache is not None:
                x = layer.forward(*inputs)  # step by step, compiled layers would only be slower
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

    def _visible(self, num_steps: int, offset: int, device: torch.device) -> dict[str, tp.Any]:
        """What the new steps may attend to, as arguments of the attention."""
        if not self.spec.causal:
            return {}
        if self.spec.past_context is None:
            if num_steps == 1:
                return {}  # one new step sees everything so far
            if offset == 0:
                return {"is_causal": True}
        queries = torch.arange(offset, offset + num_steps, device=device)[:, None]
        distance = queries - torch.arange(offset + num_steps, device=device)
        visible = distance >= 0
        if self.spec.past_context is not None:
            visible &= distance <= self.spec.past_context
        return {"mask": visible}

    def _check(self, source: Tensor | None, cache: KVCache | None, num_steps: int) -> None:
        if source is not None and not self.spec.cross_attention:
            raise ValueError(
                "This transformer has no cross attention but was given a `cross_attention_src`. "
                "Build it with `cross_attention=True`."
            )
        if cache is None:
            return
        if not self.spec.causal:
            raise ValueError(
                "A transformer that sees the future cannot decode step by step. "
                "Call it without a cache, or build it with `causal=True`."
            )
        cache.check_room(num_steps)
