"""Language model: autoregressive prediction of codec tokens under conditions.

Each step of the interleaved sequence holds one code per codebook. Their embeddings are summed,
conditions are fused (`[self_wav, description, codes]` in the released style model), a transformer
processes the result, and one linear layer per codebook predicts the next step.

Method: Copet et al., 2023, https://arxiv.org/abs/2306.05284; style: Rouard et al., 2024,
https://arxiv.org/abs/2407.12563.
"""

import dataclasses
import math
import typing as tp

import torch
from torch import Tensor, nn

from ..data.conditions import ConditioningAttributes
from ..modules.codebooks_patterns import CodebooksPatternProvider
from ..modules.conditioners.base import Condition
from ..modules.conditioners.dropout import AttributeDropout, ClassifierFreeGuidanceDropout
from ..modules.conditioners.fuser import ConditionFuser
from ..modules.conditioners.provider import ConditionProvider
from ..modules.kv_cache import KVCache
from ..modules.transformer import StreamingTransformer, TransformerSpec, check_choice

Conditions = tp.Mapping[str, Condition]
FROM_WIDTH = ("d_model", "dim_feedforward")  # fields of `TransformerSpec` that follow from `dim`


class LMOutput(tp.NamedTuple):
    """Predictions for every code."""

    logits: Tensor  # [B, K, F, V], NaN where `mask` is False
    mask: Tensor  # [B, K, F] bool, True where the pattern predicts the code


class LMModel(nn.Module):
    """Transformer language model over several parallel streams of codes.

    The arguments from `num_layers` on are those of `TransformerSpec`.

    Args:
        pattern_provider: Interleaving of the codebooks.
        condition_provider: Computes conditions from attributes; part of the model's state.
        fuser: Fuses conditions with the code embeddings.
        n_q: Number of codebooks, K.
        card: Codebook size, V. The special token is the index after the last code.
        dim: Width, D.
        num_heads: Attention heads, H.
        hidden_scale: Width of the feed-forward layers as a multiple of `dim`.
        norm: Kind of normalisation: layer_norm.
        norm_first: Normalise before each block (pre-norm) instead of after it.
        emb_lr: Learning rate of the embeddings, see `param_groups`; `None`: that of the optimizer.
        bias_proj: Whether the output layers have a bias.
        weight_init: gaussian | uniform; `None` keeps PyTorch's initial weights.
        depthwise_init: Scale the initial weights of the layers: current (by the depth of each
            layer) | global (by the number of layers); `None`: no scaling.
        zero_bias_init: Initialise biases with zero.
        cfg_dropout: Probability of dropping all conditions of a batch in training.
        cfg_coef: Default coefficient of classifier-free guidance.
        attribute_dropout: Probability of dropping each condition in training, by kind and name:
            `{"text": {"description": 0.4}, "wav": {"self_wav": 0.4}}`.
        two_step_cfg: Whether guidance runs its branches one by one by default.

    Raises:
        ValueError: An argument is out of range, or `pattern_provider` has another number of
            codebooks.
    """

    def __init__(
        self,
        pattern_provider: CodebooksPatternProvider,
        condition_provider: ConditionProvider,
        fuser: ConditionFuser,
        n_q: int,
        card: int,
        dim: int,
        num_heads: int,
        hidden_scale: float = 4,
        norm: str = TransformerSpec.norm,
        norm_first: bool = False,
        emb_lr: float | None = None,
        bias_proj: bool = True,
        weight_init: str | None = None,
        depthwise_init: str | None = None,
        zero_bias_init: bool = False,
        cfg_dropout: float = 0.0,
        cfg_coef: float = 3.0,
        attribute_dropout: AttributeDropout | tp.Mapping[str, tp.Mapping[str, float]] | None = None,
        two_step_cfg: bool = False,
        *,
        num_layers: int,
        dropout: float = TransformerSpec.dropout,
        attention_dropout: float | None = TransformerSpec.attention_dropout,
        activation: str = TransformerSpec.activation,
        bias_ff: bool = TransformerSpec.bias_ff,
        bias_attn: bool = TransformerSpec.bias_attn,
        layer_scale: float | None = TransformerSpec.layer_scale,
        causal: bool = TransformerSpec.causal,
        past_context: int | None = TransformerSpec.past_context,
        cross_attention: bool = TransformerSpec.cross_attention,
        positional_embedding: str = TransformerSpec.positional_embedding,
        max_period: float = TransformerSpec.max_period,
        positional_scale: float = TransformerSpec.positional_scale,
        xpos: bool = TransformerSpec.xpos,
        qk_layer_norm: bool = TransformerSpec.qk_layer_norm,
        qk_layer_norm_cross: bool = TransformerSpec.qk_layer_norm_cross,
        kv_repeat: int = TransformerSpec.kv_repeat,
        attention_as_float32: bool = TransformerSpec.attention_as_float32,
        checkpointing: str = TransformerSpec.checkpointing,
        custom: bool = TransformerSpec.custom,
        memory_efficient: bool = TransformerSpec.memory_efficient,
    ):
        passed = locals()
        super().__init__()
        fields = {f.name for f in dataclasses.fields(TransformerSpec)} - {*FROM_WIDTH}
        transformer = TransformerSpec(
            d_model=dim,
            dim_feedforward=int(hidden_scale * dim),
            **{name: passed[name] for name in fields},
        )
        if pattern_provider.n_q != n_q:
            raise ValueError(
                f"n_q={n_q} but the pattern has {pattern_provider.n_q} codebooks. Give both the "
                "same `n_q`, and one delay per codebook."
            )
        self.condition_provider = condition_provider
        self.fuser = fuser
        self.pattern_provider = pattern_provider
        self.num_codebooks = n_q
        self.card = card
        self.dim = dim
        self.emb_lr = emb_lr
        self.cfg_coef = cfg_coef
        self.two_step_cfg = two_step_cfg
        if not isinstance(attribute_dropout, AttributeDropout):
            attribute_dropout = AttributeDropout(attribute_dropout or {})
        self.condition_dropouts = (ClassifierFreeGuidanceDropout(cfg_dropout), attribute_dropout)
        self.emb = nn.ModuleList(nn.Embedding(card + 1, dim) for _ in range(n_q))
        self.transformer = StreamingTransformer.from_spec(transformer)
        self.out_norm = nn.LayerNorm(dim) if norm_first else None
        self.linears = nn.ModuleList(nn.Linear(dim, card, bias=bias_proj) for _ in range(n_q))
        self._init_weights(weight_init, depthwise_init, zero_bias_init)

    def _init_weights(self, method: str | None, depthwise: str | None, zero_bias: bool) -> None:
        if method is None:
            if depthwise is not None or zero_bias:
                raise ValueError(
                    f"depthwise_init={depthwise!r} and zero_bias_init={zero_bias} need a "
                    "`weight_init`: gaussian or uniform."
                )
            return
        check_choice("weight_init", method, INITIALISERS)
        check_choice("depthwise_init", depthwise or "current", ("current", "global"))
        for module in (*self.emb, *self.linears):
            init_weights(module, method, 1.0, zero_bias)
        layers = self.transformer.layers
        for index, layer in enumerate(layers, start=1):
            depth = {None: None, "current": index, "global": len(layers)}[depthwise]
            scale = 1.0 if depth is None else 1 / math.sqrt(2 * depth)
            for module in layer.modules():
                init_weights(module, method, scale, zero_bias)

    @property
    def special_token_id(self) -> int:
        """Token at the positions of a sequence without a code."""
        return self.card

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return next(self.emb.parameters()).device

    def param_groups(self) -> list[dict[str, tp.Any]]:
        """Trainable parameters as optimizer groups; the embeddings apart if `emb_lr` is set."""
        embeddings = list(self.emb.parameters()) if self.emb_lr is not None else []
        separate = {id(p) for p in embeddings}
        others = [p for p in self.parameters() if p.requires_grad and id(p) not in separate]
        groups: list[dict[str, tp.Any]] = [{"params": others}]
        if embeddings:
            groups.append({"params": embeddings, "lr": self.emb_lr})
        return groups

    def drop_conditions(
        self, attributes: list[ConditioningAttributes], generator: torch.Generator
    ) -> list[ConditioningAttributes]:
        """Apply the condition dropout, which is active in training mode only."""
        for dropout in self.condition_dropouts:
            attributes = dropout(attributes, generator, training=self.training)
        return attributes

    def new_cache(self, batch_size: int, num_steps: int) -> KVCache:
        """Create the decoding state for `num_steps` steps, including those of `num_prefix`."""
        return self.transformer.new_cache(batch_size, num_steps)

    def num_prefix(self, conditions: Conditions) -> int:
        """Number of prefix steps, P, which prepended conditions take."""
        prepended = self.fuser.names("prepend")
        return sum(c.embed.shape[1] for name, c in conditions.items() if name in prepended)

    def compute_hidden(
        self, sequence: Tensor, conditions: Conditions | None = None, cache: KVCache | None = None
    ) -> Tensor:
        """Compute the transformer's output for a sequence.

        Args:
            sequence, conditions, cache: As in `forward`.

        Returns:
            `[B, S, D]`, without the prefix.

        Raises:
            ValueError: The sequence has another number of codebooks.
        """
        if sequence.shape[1] != self.num_codebooks:
            raise ValueError(
                f"The model has {self.num_codebooks} codebooks but the sequence, "
                f"{list(sequence.shape)}, has {sequence.shape[1]}."
            )
        x = self.emb[0](sequence[:, 0])
        for k, embedding in enumerate(self.emb[1:], start=1):
            x = x + embedding(sequence[:, k])
        fused = self.fuser(x, conditions or {}, 0 if cache is None else cache.length)
        x = self.transformer(fused.x, fused.cross, cache)
        return x[:, fused.num_prefix :]

    def predict(self, hidden: Tensor) -> Tensor:
        """Compute the logits of the next step, `[B, K, S, V]`, from hidden states, `[B, S, D]`."""
        if self.out_norm is not None:
            hidden = self.out_norm(hidden)
        return torch.stack([linear(hidden) for linear in self.linears], dim=1)

    def forward(
        self, sequence: Tensor, conditions: Conditions | None = None, cache: KVCache | None = None
    ) -> Tensor:
        """Predict the next step after each step of a sequence.

        Args:
            sequence: Interleaved codes, `[B, K, S]`.
            conditions: By name, in the provider's order. With a cache, prepended and cross
                attention conditions are only needed in the first call.
            cache: Decoding state after the previous steps; `None` if there are none.

        Returns:
            Logits, `[B, K, S, V]`, without the prefix.
        """
        return self.predict(self.compute_hidden(sequence, conditions, cache))

    def compute_predictions(
        self, codes: Tensor, conditions: Conditions, keep_only_valid_steps: bool = True
    ) -> LMOutput:
        """Predict every code from the steps before it (teacher forcing).

        Args:
            codes: `[B, K, F]`.
            conditions: By name, in the provider's order.
            keep_only_valid_steps: Leave out the last steps, where delayed codebooks are past the
                last frame.
        """
        pattern = self.pattern_provider.get_pattern(codes.shape[-1])
        sequence = pattern.build_pattern_sequence(
            codes, self.special_token_id, keep_only_valid_steps
        )
        logits, _, mask = pattern.revert_pattern_logits(
            self(sequence.values, conditions), float("nan")
        )
        return LMOutput(logits, mask.expand(len(codes), -1, -1))

    def encode_and_predict(
        self,
        codes: Tensor,
        prepared: tp.Mapping[str, tp.Any],
        adjust: tp.Callable[[dict[str, Condition]], dict[str, Condition]] | None = None,
    ) -> tuple[dict[str, Condition], LMOutput]:
        """Encode the conditions and predict: the forward pass of training, in one shardable call.

        Args:
            codes: `[B, K, F]`.
            prepared: Output of the condition provider's `prepare`.
            adjust: Maps the encoded conditions to those that the prediction uses.
        """
        conditions = self.condition_provider(prepared)
        if adjust is not None:
            conditions = adjust(conditions)
        return conditions, self.compute_predictions(codes, conditions)


def gaussian_(weight: Tensor, std: float) -> None:
    """Draw from a normal distribution, truncated at three standard deviations."""
    nn.init.trunc_normal_(weight, std=std, a=-3 * std, b=3 * std)


def uniform_(weight: Tensor, std: float) -> None:
    """Draw from a uniform distribution with this standard deviation."""
    bound = math.sqrt(3) * std
    nn.init.uniform_(weight, -bound, bound)


INITIALISERS = {"gaussian": gaussian_, "uniform": uniform_}


def init_weights(module: nn.Module, method: str, scale: float, zero_bias: bool) -> None:
    """Initialise a linear layer or an embedding; other modules are not changed.

    The input projection of the attention is a bare parameter and keeps PyTorch's initial weights,
    as in released models.
    """
    if not isinstance(module, nn.Linear | nn.Embedding):
        return
    INITIALISERS[method](module.weight, scale / math.sqrt(module.weight.shape[1]))
    if zero_bias and isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)
