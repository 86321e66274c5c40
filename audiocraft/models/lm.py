"""The language model: it predicts the codes of music, step by step, under conditions.

Each step of the sequence holds one code per codebook. Their embeddings are summed, conditions are
fused in (`[self_wav, description, codes]` in the released style model), a transformer reads the
result, and one linear layer per codebook predicts the next step.

Method: Copet et al., 2023, https://arxiv.org/abs/2306.05284; style: Rouard et al., 2024,
https://arxiv.org/abs/2407.12563.
"""

import math
import typing as tp

import torch
from torch import Tensor, nn

from ..modules.codebooks_patterns import CodebooksPatternProvider
from ..modules.conditioners.base import Condition
from ..modules.conditioners.fuser import ConditionFuser
from ..modules.conditioners.provider import ConditionProvider
from ..modules.kv_cache import KVCache
from ..modules.transformer import StreamingTransformer, check_choice

Conditions = tp.Mapping[str, Condition]


class LMOutput(tp.NamedTuple):
    """Predictions on the grid of codes."""

    logits: Tensor  # [B, K, F, V], NaN where `mask` is False
    mask: Tensor  # [B, K, F] bool, True where the pattern predicts the code


class LMModel(nn.Module):
    """Transformer language model over several streams of codes.

    Args:
        condition_provider: Turns attributes into conditions; part of the model's state.
        fuser: Joins conditions and codes.
        pattern_provider: The order in which the codes of a frame are predicted.
        n_q: Codebooks, K.
        card: Codes per codebook, V. The next number is the special token.
        dim: Width, D.
        hidden_scale: Width of the feed-forward blocks over `dim`.
        emb_lr: Learning rate of the embeddings where it differs, see `param_groups`.
        bias_proj: Give the output layers a bias.
        weight_init: gaussian | uniform; `None` keeps PyTorch's initial weights.
        depthwise_init: current | global: start deeper layers, or all of them, with smaller
            weights; `None`: all alike.
        zero_bias_init: Start biases at zero.
        transformer: Further arguments of `StreamingTransformer`.

    Raises:
        ValueError: The pattern is of another number of codebooks.
    """

    def __init__(
        self,
        condition_provider: ConditionProvider,
        fuser: ConditionFuser,
        pattern_provider: CodebooksPatternProvider,
        *,
        n_q: int,
        card: int,
        dim: int,
        hidden_scale: float = 4,
        norm_first: bool = False,
        emb_lr: float | None = None,
        bias_proj: bool = True,
        weight_init: str | None = None,
        depthwise_init: str | None = None,
        zero_bias_init: bool = False,
        **transformer: tp.Any,
    ):
        super().__init__()
        if pattern_provider.n_q != n_q:
            raise ValueError(
                f"The model has {n_q} codebooks but its pattern {pattern_provider.n_q}. "
                "Give both the same `n_q`, and as many delays."
            )
        self.condition_provider = condition_provider
        self.fuser = fuser
        self.pattern_provider = pattern_provider
        self.num_codebooks = n_q
        self.card = card
        self.dim = dim
        self.emb_lr = emb_lr
        self.emb = nn.ModuleList(nn.Embedding(card + 1, dim) for _ in range(n_q))
        self.transformer = StreamingTransformer(
            d_model=dim,
            dim_feedforward=int(hidden_scale * dim),
            norm_first=norm_first,
            **transformer,
        )
        self.out_norm = nn.LayerNorm(dim) if norm_first else None
        self.linears = nn.ModuleList(nn.Linear(dim, card, bias=bias_proj) for _ in range(n_q))
        self._init_weights(weight_init, depthwise_init, zero_bias_init)

    def _init_weights(self, method: str | None, depthwise: str | None, zero_bias: bool) -> None:
        if method is None:
            if depthwise is not None or zero_bias:
                raise ValueError(
                    f"depthwise_init is {depthwise!r} and zero_bias_init {zero_bias}, which needs "
                    "a `weight_init`: gaussian or uniform."
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
        """Stands in a sequence where no code does."""
        return self.card

    @property
    def device(self) -> torch.device:
        """Where the model computes."""
        return next(self.emb.parameters()).device

    def param_groups(self) -> list[dict[str, tp.Any]]:
        """Trainable parameters as an optimizer takes them; embeddings apart if they have a rate."""
        embeddings = list(self.emb.parameters()) if self.emb_lr is not None else []
        apart = {id(p) for p in embeddings}
        others = [p for p in self.parameters() if p.requires_grad and id(p) not in apart]
        groups: list[dict[str, tp.Any]] = [{"params": others}]
        if embeddings:
            groups.append({"params": embeddings, "lr": self.emb_lr})
        return groups

    def new_cache(self, batch_size: int, num_steps: int) -> KVCache:
        """Decoding state with room for `num_steps`, those of `num_prefix` included."""
        return self.transformer.new_cache(batch_size, num_steps)

    def num_prefix(self, conditions: Conditions) -> int:
        """Steps that the conditions put in front of the codes."""
        in_front = self.fuser.names("prepend")
        return sum(c.embed.shape[1] for name, c in conditions.items() if name in in_front)

    def hidden(
        self, sequence: Tensor, conditions: Conditions | None = None, cache: KVCache | None = None
    ) -> Tensor:
        """What the transformer makes of a sequence, `[B, K, S]`; `[B, S, D]` without prefix.

        Raises:
            ValueError: The sequence is of another number of codebooks.
        """
        if sequence.shape[1] != self.num_codebooks:
            raise ValueError(
                f"The model reads {self.num_codebooks} codebooks but the sequence, "
                f"{list(sequence.shape)}, has {sequence.shape[1]}."
            )
        x = self.emb[0](sequence[:, 0])
        for k, embedding in enumerate(self.emb[1:], start=1):
            x = x + embedding(sequence[:, k])
        fused = self.fuser(x, conditions or {}, 0 if cache is None else cache.length)
        x = self.transformer(fused.x, fused.cross, cache)
        return x[:, fused.num_prefix :]

    def predict(self, hidden: Tensor) -> Tensor:
        """Logits of the next step, `[B, K, S, V]`, after each of the steps, `[B, S, D]`."""
        if self.out_norm is not None:
            hidden = self.out_norm(hidden)
        return torch.stack([linear(hidden) for linear in self.linears], dim=1)

    def forward(
        self, sequence: Tensor, conditions: Conditions | None = None, cache: KVCache | None = None
    ) -> Tensor:
        """Predict the step after each one of a sequence.

        Args:
            sequence: Codes laid out by the pattern, `[B, K, S]`.
            conditions: By name, in the provider's order. A prefix and what cross attention reads
                only matter at the first call with a cache.
            cache: The steps before; `None` if there are none.

        Returns:
            Logits, `[B, K, S, V]`; those of the prefix are left out.
        """
        return self.predict(self.hidden(sequence, conditions, cache))

    def compute_predictions(
        self, codes: Tensor, conditions: Conditions, keep_only_valid_steps: bool = True
    ) -> LMOutput:
        """Predict every code from those before it.

        Args:
            codes: `[B, K, F]`.
            conditions: By name, in the provider's order.
            keep_only_valid_steps: Leave out the last steps, in which some codebooks have run out
                of frames.
        """
        pattern = self.pattern_provider.get_pattern(codes.shape[-1])
        laid_out = pattern.build_pattern_sequence(
            codes, self.special_token_id, keep_only_valid_steps
        )
        logits, _, mask = pattern.revert_pattern_logits(
            self(laid_out.values, conditions), float("nan")
        )
        return LMOutput(logits, mask.expand(len(codes), -1, -1))

    def encode_and_predict(
        self,
        codes: Tensor,
        prepared: tp.Mapping[str, tp.Any],
        adjust: tp.Callable[[dict[str, Condition]], dict[str, Condition]] | None = None,
    ) -> tuple[dict[str, Condition], LMOutput]:
        """A training step's whole way through the model, one call that can be sharded.

        Args:
            codes: `[B, K, F]`.
            prepared: What the condition provider's `prepare` gave.
            adjust: Is given the conditions, and returns those to predict with.
        """
        conditions = self.condition_provider(prepared)
        if adjust is not None:
            conditions = adjust(conditions)
        return conditions, self.compute_predictions(codes, conditions)


def gaussian_(weight: Tensor, std: float) -> None:
    nn.init.trunc_normal_(weight, std=std, a=-3 * std, b=3 * std)


def uniform_(weight: Tensor, std: float) -> None:
    bound = math.sqrt(3) * std
    nn.init.uniform_(weight, -bound, bound)


INITIALISERS = {"gaussian": gaussian_, "uniform": uniform_}


def init_weights(module: nn.Module, method: str, scale: float, zero_bias: bool) -> None:
    """Initialise a linear layer or an embedding; anything else is left alone.

    So is the input projection of the attention, a bare parameter: released models started from
    PyTorch's default there.
    """
    if not isinstance(module, nn.Linear | nn.Embedding):
        return
    INITIALISERS[method](module.weight, scale / math.sqrt(module.weight.shape[1]))
    if zero_bias and isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)
