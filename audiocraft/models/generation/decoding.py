"""Decoding loop: autoregressive generation of one window of codes.

`Decoder` holds the decoding state and predicts the next step under guidance. `generate_tokens`
samples from these predictions until the interleaved sequence of the pattern is complete.
"""

import typing as tp

import torch
from torch import Tensor

from ...modules.codebooks_patterns import Pattern
from ...modules.conditioners.base import Condition
from ...modules.kv_cache import KVCache
from ...modules.sampling import Sampling, draw_uniform, pick
from ..lm import Conditions, LMModel
from .guidance import Branch, Guidance, concat_branches

OnStep = tp.Callable[[int, int], None]
TO_GENERATE = -1  # placeholder of a code that has not been generated yet


class ForwardPass(tp.NamedTuple):
    """One forward pass per step, over one or several guidance branches as a batch."""

    conditions: Conditions
    cache: KVCache
    num_branches: int


class Decoder:
    """Predicts the next step of a batch under guidance, and holds the decoding state.

    Args:
        lm: Language model, in eval mode.
        conditions: Conditions of the batch, by name, in the provider's order.
        guidance: Guidance coefficients.
        batch_size: Number of items, B.
        num_steps: Number of steps to decode, without the prefix.
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
        groups = [[branch] for branch in self.branches] if guidance.two_step else [self.branches]
        self.passes = [self._new_pass(group, batch_size, num_steps) for group in groups]

    def _new_pass(self, branches: list[Branch], batch_size: int, num_steps: int) -> ForwardPass:
        conditions = concat_branches(branches)
        capacity = num_steps + self.lm.num_prefix(conditions)
        cache = self.lm.new_cache(len(branches) * batch_size, capacity)
        return ForwardPass(conditions, cache, len(branches))

    def step(self, tokens: Tensor) -> Tensor:
        """Append steps to the sequence and predict the next one.

        Args:
            tokens: New steps, `[B, K, S]`.

        Returns:
            Logits, `[B, K, V]`, float32.
        """
        logits: list[Tensor] = []
        for conditions, cache, num_branches in self.passes:
            repeated = tokens.repeat(num_branches, 1, 1)
            hidden = self.lm.compute_hidden(repeated, self._needed(conditions, cache), cache)
            logits.extend(self.lm.predict(hidden[:, -1:])[:, :, 0].chunk(num_branches))
        return self.guidance.mix(logits, self.branches)

    def _needed(self, conditions: Conditions, cache: KVCache) -> Conditions:
        """Select the conditions that are not in the cache: past the first step, those added."""
        if cache.length == 0:
            return conditions
        fuser = self.lm.fuser
        added = (*fuser.names("sum"), *fuser.names("input_interpolate"))
        return {name: conditions[name] for name in conditions if name in added}


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
        lm: Language model, in eval mode.
        conditions: Conditions of all items, by name, in the provider's order; without any, there
            is no guidance.
        max_gen_len: Frames of the result, including the prompt.
        num_samples: Number of items, B; needed without conditions and prompt.
        prompt: Codes at the beginning of the result, `[B, K, F]`.
        sampling: Sampling parameters.
        guidance: Guidance coefficients; `None` uses the model's `cfg_coef` and `two_step_cfg`.
        generators: One per item, so that its codes do not depend on the rest of the batch; `None`
            uses PyTorch's global generator.
        remove_prompts: Return only the frames after the prompt.
        on_step: Called with the number of steps done and the total.

    Returns:
        Codes, `[B, K, F]`.

    Raises:
        ValueError: Arguments disagree on the number of items, or the prompt is too long.
    """
    conditions = conditions or {}
    sampling = sampling or Sampling()
    guidance = guidance or Guidance(cfg_coef=lm.cfg_coef, two_step=lm.two_step_cfg)
    batch_size = resolve_batch_size(num_samples, conditions, prompt)
    if prompt is not None:
        check_prompt(lm, prompt, max_gen_len)
    prompt_len = 0 if prompt is None else prompt.shape[-1]
    pattern = lm.pattern_provider.get_pattern(max_gen_len)
    sequence = initial_sequence(lm, pattern, batch_size, prompt)
    first = first_generated_step(pattern, prompt_len)
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
        given = sequence[..., step]  # special tokens, and codes of the prompt
        sequence[..., step] = torch.where(given == TO_GENERATE, drawn, given)
        start = step
        if on_step is not None:
            on_step(step - first + 1, num_steps - first)

    codes = pattern.revert_pattern_sequence(sequence, TO_GENERATE).values
    return codes[..., prompt_len:] if remove_prompts else codes


def initial_sequence(
    lm: LMModel, pattern: Pattern, batch_size: int, prompt: Tensor | None
) -> Tensor:
    """Return the sequence `[B, K, S]` of prompt codes, special tokens and `TO_GENERATE`."""
    shape = (batch_size, lm.num_codebooks, pattern.timesteps)
    codes = torch.full(shape, TO_GENERATE, device=lm.device)
    if prompt is not None:
        codes[..., : prompt.shape[-1]] = prompt
    return pattern.build_pattern_sequence(codes, lm.special_token_id).values


def resolve_batch_size(
    num_samples: int | None, conditions: tp.Mapping[str, Condition], prompt: Tensor | None
) -> int:
    """Return the number of items, B.

    Raises:
        ValueError: The arguments disagree, or none is given.
    """
    counts = {name: len(condition.embed) for name, condition in conditions.items()}
    if num_samples is not None:
        counts["num_samples"] = num_samples
    if prompt is not None:
        counts["prompt"] = len(prompt)
    if len(set(counts.values())) != 1:
        raise ValueError(
            f"The number of items is {counts or 'unknown'}. Pass `num_samples`, conditions or a "
            "prompt, all with the same number of items."
        )
    return next(iter(counts.values()))


def check_prompt(lm: LMModel, prompt: Tensor, max_gen_len: int) -> None:
    """Check a prompt.

    Raises:
        ValueError: Its shape or its length does not fit, or a code is out of range.
    """
    if prompt.dim() != 3 or prompt.shape[1] != lm.num_codebooks:
        raise ValueError(
            f"The prompt is {list(prompt.shape)} but must be [items, {lm.num_codebooks}, frames]."
        )
    if prompt.shape[-1] >= max_gen_len:
        raise ValueError(
            f"The prompt has {prompt.shape[-1]} frames, but max_gen_len={max_gen_len} includes it. "
            "Increase max_gen_len or shorten the prompt."
        )
    if prompt.numel() and not 0 <= int(prompt.min()) <= int(prompt.max()) < lm.card:
        raise ValueError(
            f"The prompt has codes from {int(prompt.min())} to {int(prompt.max())} but the "
            f"model's are 0 to {lm.card - 1}. Encode it with the model's own codec."
        )


def first_generated_step(pattern: Pattern, prompt_len: int) -> int:
    """Return the first step with a code of the first frame after the prompt.

    Raises:
        ValueError: The pattern has no step before the first code.
    """
    first = pattern.get_first_step_with_timesteps(prompt_len)
    if not first:
        raise ValueError(
            "The pattern starts with a code, which no step before it can predict. Use a pattern "
            "with `empty_initial` of at least 0."
        )
    return first
