"""Attention over the past of a sequence, or over a second sequence.

One implementation serves all the released models. They were trained with three others that give
the same numbers and differ in the name of their weights only.
"""

from contextlib import nullcontext

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .kv_cache import LayerCache
from .rope import RotaryEmbedding


class MultiheadAttention(nn.Module):
    """Multi-head attention whose three input projections are one matrix.

    Args:
        dim: Width of the input and of the output.
        num_heads: Heads of the queries.
        bias: Give the projections a bias.
        dropout: Probability that an attention weight is dropped in training.
        as_float32: Compute the attention in float32 whatever the precision around it.
        kv_repeat: Each head of the keys and values serves that many heads of the queries.
        qk_layer_norm: Normalise queries and keys, over all their heads together.
        rope: Turns queries and keys by their positions.
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
        """Attend to the steps of `x` itself, and to those in the cache.

        Args:
            x: The new steps, `[B, S, D]`.
            mask: True where a query (row) sees a key (column), `[S, steps so far]`.
            is_causal: Every step sees itself and its past; instead of `mask`.
            cache: The steps before; it stores the new ones.
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
        """Attend from `x`, `[B, S, D]`, to `source`, `[B, X, D]`.

        With a cache the source is projected once: later calls use the first one's.

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
                    "Cross attention was given nothing to read. "
                    "Where a condition is absent give zeros, [B, 1, D]."
                )
            k, v = F.linear(source, self.in_proj_weight[dim:], kv_bias).chunk(2, dim=-1)
            return self._keys(k), self._heads(v)

        queries = self._queries(F.linear(x, self.in_proj_weight[:dim], q_bias))
        if cache is None:
            keys, values = project_source()
        else:
            keys, values = cache.remember_source(project_source)
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
    """The same attention under the key names of models that used PyTorch's own (`mha.…`)."""

    def __init__(self, attention: MultiheadAttention):
        super().__init__()
        self.mha = attention
        nn.init.xavier_uniform_(attention.in_proj_weight)  # PyTorch's own default

    def forward(self, x: Tensor, **context) -> Tensor:
        return self.mha(x, **context)

    def cross(self, x: Tensor, source: Tensor | None, cache: LayerCache | None = None) -> Tensor:
        return self.mha.cross(x, source, cache)
