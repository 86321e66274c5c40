"""From conditions to codes: the pattern, the cache, the guidance and the dice, step by step.

`Decoder` is the model seen from the loop: it takes the newest steps and gives guided predictions
of the next one. `generate_tokens` fills the sequence of the pattern with what it draws from them.
"""

import typing as tp

import torch
from torch import Tensor

from ...modules.codebooks_patterns import Pattern
from ...modules.conditioners.base import Condition
from ...modules.kv_cache import KVCache
from ...modules.sampling import Sampling, draw_uniform, pick
from ..lm import Conditions, LMModel
from .guidance import Branch, Guidance, join

OnStep = tp.Callable[[int, int], None]
UNKNOWN = -1  # a code that is still to be drawn


class Pass(tp.NamedTuple):
    """One call of the model per step: several branches as one batch, or a single branch."""

    conditions: Conditions
    cache: KVCache
    num_branches: int


class Decoder:
    """Predicts the next step of a batch, under guidance. It owns the decoding state.

    Args:
        lm: The model, in eval mode.
        conditions: Of the batch, by name, in the provider's order.
        guidance: How strongly they are followed.
        batch_size: Items, B.
        num_steps: Steps that will be decoded, the prefix not counted.
    """

    def __init__(
        self,
        lm: LMModel,
        conditions: Conditions,
        guidance: Guidance,
        batch_size: int,
        num_steps: int,
    ):
        self.lm = lm
        self.guidance = guidance
        self.branches = guidance.expand(conditions, lm.condition_provider.wav_conditions)
        together = [[branch] for branch in self.branches] if guidance.two_step else [self.branches]
        self.passes = [self._new_pass(group, batch_size, num_steps) for group in together]

    def _new_pass(self, branches: list[Branch], batch_size: int, num_steps: int) -> Pass:
        conditions = join(branches)
        room = num_steps + self.lm.num_prefix(conditions)
        cache = self.lm.new_cache(len(branches) * batch_size, room)
        return Pass(conditions, cache, len(branches))

    def step(self, tokens: Tensor) -> Tensor:
        """Read the next steps, `[B, K, S]`, and predict the one after them.

        Returns:
            Logits, `[B, K, V]`, float32.
        """
        answers: list[Tensor] = []
        for conditions, cache, num_branches in self.passes:
            repeated = tokens.repeat(num_branches, 1, 1)
            hidden = self.lm.compute_hidden(repeated, self._useful(conditions, cache), cache)
            logits = self.lm.predict(hidden[:, -1:])[:, :, 0]
            answers.extend(logits.chunk(num_branches))
        return self.guidance.mix(answers, self.branches)

    def _useful(self, conditions: Conditions, cache: KVCache) -> Conditions:
        """After the first steps, the cache holds the prefix and what cross attention reads."""
        if cache.length == 0:
            return conditions
        fuser = self.lm.fuser
        lasting = (*fuser.names("sum"), *fuser.names("input_interpolate"))
        return {name: conditions[name] for name in conditions if name in lasting}


@torch.no_grad()
def generate_tokens(
    lm: LMModel,
    conditions: Conditions | None = None,
    *,
    max_gen_len: int,
    num_samples: int | None = None,
    prompt: Tensor | None = None,
    sampling: Sampling | None = None,
    guidance: Guidance | None = None,
    generators: tp.Sequence[torch.Generator] | None = None,
    remove_prompts: bool = False,
    on_step: OnStep | None = None,
) -> Tensor:
    """Generate codes.

    Args:
        lm: The model, in eval mode.
        conditions: Of every item, by name, in the provider's order. Without any, nothing guides.
        max_gen_len: Frames of the result, those of the prompt included.
        num_samples: Items, B; needed where neither conditions nor a prompt tell.
        prompt: Codes that the result starts with, `[B, K, F]`.
        sampling: How tokens are drawn.
        guidance: How strongly conditions are followed.
        generators: Dice, one per item; an item gets the same codes alone and in any batch.
            `None` takes PyTorch's own.
        remove_prompts: Return only what comes after the prompt.
        on_step: Called with the number of steps done and of all steps.

    Returns:
        Codes, `[B, K, F]`.

    Raises:
        ValueError: Items disagree in number, or the prompt leaves nothing to generate.
    """
    conditions = conditions or {}
    sampling, guidance = sampling or Sampling(), guidance or Guidance()
    batch_size = resolve_batch_size(num_samples, conditions, prompt)
    if prompt is not None:
        check_prompt(lm, prompt, max_gen_len)
    num_known = 0 if prompt is None else prompt.shape[-1]
    pattern = lm.pattern_provider.get_pattern(max_gen_len)
    sequence = lay_out(lm, pattern, batch_size, prompt)
    first = first_generated_step(pattern, num_known)
    num_steps = pattern.num_steps
    decoder = Decoder(lm, conditions, guidance, batch_size, num_steps)
    uniform = None
    if not sampling.greedy:
        uniform = draw_uniform(batch_size, (num_steps - first, lm.num_codebooks), generators)
        uniform = uniform.to(lm.device)

    start = 0
    for step in range(first, num_steps):
        logits = decoder.step(sequence[..., start:step])
        drawn = pick(logits, sampling, None if uniform is None else uniform[:, step - first])
        known = sequence[..., step]
        sequence[..., step] = torch.where(known == UNKNOWN, drawn, known)
        start = step
        if on_step is not None:
            on_step(step - first + 1, num_steps - first)

    codes = pattern.revert_pattern_sequence(sequence, UNKNOWN).values
    return codes[..., num_known:] if remove_prompts else codes


def lay_out(lm: LMModel, pattern: Pattern, batch_size: int, prompt: Tensor | None) -> Tensor:
    """The sequence to fill, `[B, K, S]`: known codes, special tokens, and `UNKNOWN`."""
    shape = (batch_size, lm.num_codebooks, pattern.timesteps)
    codes = torch.full(shape, UNKNOWN, device=lm.device)
    if prompt is not None:
        codes[..., : prompt.shape[-1]] = prompt
    return pattern.build_pattern_sequence(codes, lm.special_token_id).values


def resolve_batch_size(
    num_samples: int | None, conditions: tp.Mapping[str, Condition], prompt: Tensor | None
) -> int:
    """The number of items that all the arguments agree on.

    Raises:
        ValueError: They disagree, or none was given.
    """
    counts = {name: len(condition.embed) for name, condition in conditions.items()}
    if num_samples is not None:
        counts["num_samples"] = num_samples
    if prompt is not None:
        counts["prompt"] = len(prompt)
    if len(set(counts.values())) != 1:
        raise ValueError(
            f"The number of items is {counts or 'unknown'}. Give `num_samples`, conditions or a "
            "prompt, all of the same number of items."
        )
    return next(iter(counts.values()))


def check_prompt(lm: LMModel, prompt: Tensor, max_gen_len: int) -> None:
    """Refuse a prompt that does not fit.

    Raises:
        ValueError: Its shape, its length or a code is not one of the model.
    """
    if prompt.dim() != 3 or prompt.shape[1] != lm.num_codebooks:
        raise ValueError(
            f"The prompt is {list(prompt.shape)} but must be [items, {lm.num_codebooks}, frames]."
        )
    if prompt.shape[-1] >= max_gen_len:
        raise ValueError(
            f"The prompt has {prompt.shape[-1]} frames and {max_gen_len} are asked for, prompt "
            "included. Ask for more, or shorten the prompt."
        )
    if prompt.numel() and not 0 <= int(prompt.min()) <= int(prompt.max()) < lm.card:
        raise ValueError(
            f"The prompt holds codes from {int(prompt.min())} to {int(prompt.max())} but the "
            f"model knows 0 to {lm.card - 1}. Encode it with the model's own codec."
        )


def first_generated_step(pattern: Pattern, num_known: int) -> int:
    """The first step that holds a code of the first frame after the known ones.

    Raises:
        ValueError: The pattern has no step before the first code.
    """
    first = pattern.get_first_step_with_timesteps(num_known)
    if not first:
        raise ValueError(
            "A sequence that opens with codes cannot be generated: nothing comes before them. "
            "Use a pattern with `empty_initial` of at least 0."
        )
    return first
