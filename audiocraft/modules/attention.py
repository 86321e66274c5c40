"""Multi-head self-attention and cross attention.

One implementation serves all released models. They were trained with three others, which give
the same numbers and differ only in the names of their weights.
"""

import typing as tp
from contextlib import nullcontext

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .kv_cache import LayerCache
from .rope import RotaryEmbedding


def attention_mask(
    num_steps: int,
    offset: int,
    *,
    causal: bool,
    past_context: int | None = None,
    device: torch.device | None = None,
) -> dict[str, tp.Any]:
    """Mask of `num_steps` new steps, as keyword arguments of `MultiheadAttention`.

    Args:
        num_steps: Number of new steps, S.
        offset: Steps before them.
        causal: Whether a step attends to itself and its past only.
        past_context: Past steps that a step attends to; `None`: all of them.
        device: Device of the mask.
    """
    if not causal:
        return {}
    if past_context is None:
        if num_steps == 1:
            return {}  # a single new step attends to all steps so far
        if offset == 0:
            return {"is_causal": True}
    queries = torch.arange(offset, offset + num_steps, device=device)[:, None]
    distance = queries - torch.arange(offset + num_steps, device=device)
    mask = distance >= 0
    if past_context is not None:
        mask &= distance <= past_context
    return {"mask": mask}


class MultiheadAttention(nn.Module):
    """Multi-head attention whose three input projections are one matrix.

    Args:
        dim: Width of the input and of the output, D.
        num_heads: Heads of the queries.
        bias: Add a bias to the projections.
        dropout: Dropout of the attention weights in training.
        as_float32: Compute the attention in float32 under autocast or half precision.
        kv_repeat: Query heads per head of keys and values.
        qk_layer_norm: Normalise queries and keys, over all their heads together.
        rope: Rotary embedding of queries and keys.
    """

    in_proj_bias: Tensor | None

    def __init__(
        self,
        dim: int,
        num_heads: int,
        *,
        bias: bool = True,
        dropout: float = 0.0,
        as_float32: bool = False,
        kv_repeat: int = 1,
        qk_layer_norm: bool = False,
        rope: RotaryEmbedding | None = None,
    ):
        super().__init__()
        self.dropout = dropout
        self.as_float32 = as_float32
        self.head_dim = dim // num_heads
        self.kv_heads = num_heads // kv_repeat
        self.widths = [dim, self.kv_heads * self.head_dim, self.kv_heads * self.head_dim]
        self.rope = rope
        # A bare parameter, so that initialisations which visit `nn.Linear` leave it alone:
        # released models started from PyTorch's default.
        default = nn.Linear(dim, sum(self.widths), bias=bias)
        self.in_proj_weight = default.weight
        self.register_parameter("in_proj_bias", default.bias)
        self.out_proj = nn.Linear(dim, dim, bias=bias)
        if bias:
            nn.init.zeros_(default.bias)
            nn.init.zeros_(self.out_proj.bias)
        self.q_layer_norm = nn.LayerNorm(dim) if qk_layer_norm else None
        self.k_layer_norm = nn.LayerNorm(self.widths[1]) if qk_layer_norm else None

    def forward(
        self,
        x: Tensor,
        *,
        mask: Tensor | None = None,
        is_causal: bool = False,
        cache: LayerCache | None = None,
        offset: int = 0,
    ) -> Tensor:
        """Self-attention over the steps of `x` and those in the cache.

        Args:
            x: The new steps, `[B, S, D]`.
            mask: True where a query (row) attends to a key (column), `[S, steps so far]`.
            is_causal: Use a causal mask instead of `mask`.
            cache: Keys and values of the steps before `x`; those of `x` are appended.
            offset: Position of the first new step.
        """
        projected = F.linear(x, self.in_proj_weight, self.in_proj_bias)
        q, k, v = projected.split(self.widths, dim=-1)
        queries, keys, values = self._queries(q), self._keys(k), self._heads(v)
        if self.rope is not None:
            queries, keys = self.rope(queries, keys, offset)
        if cache is not None:
            keys, values = cache.extend(keys, values, offset)
        return self._attend(queries, keys, values, mask, is_causal)

    def cross(self, x: Tensor, source: Tensor | None, cache: LayerCache | None = None) -> Tensor:
        """Cross attention from `x`, `[B, S, D]`, to `source`, `[B, X, D]`.

        With a cache the source is projected once: later calls use that of the first one.

        Raises:
            ValueError: There is no source, and none is in the cache.
        """
        dim = self.widths[0]
        q_bias = kv_bias = None
        if self.in_proj_bias is not None:
            q_bias, kv_bias = self.in_proj_bias[:dim], self.in_proj_bias[dim:]

        def project_source() -> tuple[Tensor, Tensor]:
            if source is None:
                raise ValueError(
                    "Cross attention needs a source, but `cross_attention_src` is None. "
                    "For an absent condition give zeros, [B, 1, D]."
                )
            k, v = F.linear(source, self.in_proj_weight[dim:], kv_bias).chunk(2, dim=-1)
            return self._keys(k), self._heads(v)

        queries = self._queries(F.linear(x, self.in_proj_weight[:dim], q_bias))
        if cache is None:
            keys, values = project_source()
        else:
            keys, values = cache.source_once(project_source)
        return self._attend(queries, keys, values)

    def _queries(self, q: Tensor) -> Tensor:
        return self._heads(q if self.q_layer_norm is None else self.q_layer_norm(q))

    def _keys(self, k: Tensor) -> Tensor:
        return self._heads(k if self.k_layer_norm is None else self.k_layer_norm(k))

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (-1, self.head_dim)).transpose(1, 2)  # [B, H, S, D]

    def _attend(
        self,
        queries: Tensor,
        keys: Tensor,
        values: Tensor,
        mask: Tensor | None = None,
        is_causal: bool = False,
    ) -> Tensor:
        dtype = queries.dtype
        precision = nullcontext()
        if self.as_float32:
            queries, keys, values = queries.float(), keys.float(), values.float()
            precision = torch.autocast(queries.device.type, enabled=False)
        with precision:
            heads = F.scaled_dot_product_attention(
                queries,
                keys,
                values,
                attn_mask=mask,
                dropout_p=self.dropout if self.training else 0.0,
                is_causal=is_causal,
                enable_gqa=queries.shape[1] != keys.shape[1],
            )
        return self.out_proj(heads.transpose(1, 2).flatten(2).to(dtype))


class NestedAttention(nn.Module):
    """`MultiheadAttention` under the state-dict keys of models that used PyTorch's (`mha.…`)."""

    def __init__(self, attention: MultiheadAttention):
        super().__init__()
        self.mha = attention
        nn.init.xavier_uniform_(attention.in_proj_weight)  # PyTorch's own default

    def forward(
        self,
        x: Tensor,
        *,
        mask: Tensor | None = None,
        is_causal: bool = False,
        cache: LayerCache | None = None,
        offset: int = 0,
    ) -> Tensor:
        return self.mha(x, mask=mask, is_causal=is_causal, cache=cache, offset=offset)

    def cross(self, x: Tensor, source: Tensor | None, cache: LayerCache | None = None) -> Tensor:
        return self.mha.cross(x, source, cache)


class StreamingMultiheadAttention(MultiheadAttention):
    """`MultiheadAttention` with the interface of `nn.MultiheadAttention`, batch first.

    Args:
        embed_dim: Width of the input and of the output, D.
        num_heads: Heads of the queries.
        dropout: Dropout of the attention weights in training.
        bias: Add a bias to the projections.
        causal: Whether a step attends to itself and its past only.
        past_context: Past steps that a step attends to; `None`: all of them.
        attention_as_float32: Compute the attention in float32.
        rope: Rotary embedding of queries and keys.
        cross_attention: Attend to `key` instead of `query` itself.
        qk_layer_norm: Normalise queries and keys, over all their heads together.
        kv_repeat: Query heads per head of keys and values.
        custom, memory_efficient: Unused: there is one implementation.
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        bias: bool = True,
        causal: bool = False,
        past_context: int | None = None,
        custom: bool = False,
        memory_efficient: bool = False,
        attention_as_float32: bool = False,
        rope: RotaryEmbedding | None = None,
        cross_attention: bool = False,
        qk_layer_norm: bool = False,
        kv_repeat: int = 1,
    ):
        super().__init__(
            embed_dim,
            num_heads,
            bias=bias,
            dropout=dropout,
            as_float32=attention_as_float32,
            kv_repeat=kv_repeat,
            qk_layer_norm=qk_layer_norm,
            rope=rope,
        )
        self.causal = causal
        self.past_context = past_context
        self.cross_attention = cross_attention

    def forward(  # type: ignore[override]
        self,
        query: Tensor,
        key: Tensor | None = None,
        value: Tensor | None = None,
        *,
        cache: LayerCache | None = None,
        offset: int = 0,
    ) -> tuple[Tensor, None]:
        """Attend from `query`, `[B, S, D]`.

        Args:
            query: The new steps, `[B, S, D]`.
            key: Source of the cross attention, `[B, X, D]`; in self-attention `query` or `None`.
            value: As `key`: keys and values are projections of the same tensor.
            cache: Keys and values of the steps before `query`.
            offset: Position of the first new step.

        Returns:
            Output, `[B, S, D]`, and `None` in place of the attention weights.

        Raises:
            ValueError: `value` is not `key`, or differs from `query` in self-attention.
        """
        if value is not key:
            raise ValueError("`value` must be the same tensor as `key`: both have one projection.")
        if self.cross_attention:
            return self.cross(query, key, cache), None
        if key is not None and key is not query:
            raise ValueError("`key` differs from `query`. Build it with `cross_attention=True`.")
        mask = attention_mask(
            query.shape[1],
            offset,
            causal=self.causal,
            past_context=self.past_context,
            device=query.device,
        )
        return super().forward(query, cache=cache, offset=offset, **mask), None
