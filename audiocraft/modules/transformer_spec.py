"""Every choice that the configuration of a transformer offers, checked once."""

import typing as tp
from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

from .attention import MultiheadAttention, NestedAttention
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
