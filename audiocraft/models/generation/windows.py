"""Long-form generation in overlapping windows, for samples with different conditions.

A model generates at most `max_duration` seconds at once. Longer samples are generated in windows:
each starts with the end of the previous one as its prompt, and all have the same conditions.

Released models attend to padded condition steps, so only samples whose conditions have equal
lengths share a batch: the result of a sample does not depend on the other samples.
"""

import contextlib
import typing as tp

import torch
from torch import Tensor
from tqdm.auto import tqdm

from ...data.conditions import ConditioningAttributes
from ...modules.conditioners import Condition, ConditionProvider
from ..lm import LMModel
from .decoding import generate_tokens
from .inputs import GenerationParams

ProgressCallback = tp.Callable[[int, int], None]  # (frames done, total frames)
Group = tuple[list[int], dict[str, Condition]]  # indices of samples, and their conditions


class WindowSizes(tp.NamedTuple):
    """Lengths of long-form generation, in frames."""

    total: int  # of the sample
    window: int  # of the longest window
    stride: int  # between the starts of two windows


def nearest_frame_count(seconds: float, frame_rate: float) -> int:
    """Return the number of frames nearest to a duration."""
    return round(seconds * frame_rate)


def window_sizes(params: GenerationParams, frame_rate: float, max_duration: float) -> WindowSizes:
    """Return the lengths in frames of `params` and of a model with windows of `max_duration`."""
    return WindowSizes(
        total=nearest_frame_count(params.duration, frame_rate),
        window=nearest_frame_count(max_duration, frame_rate),
        stride=max(1, int(params.extend_stride * frame_rate)),
    )


def generate_samples(
    lm: LMModel,
    attributes: list[ConditioningAttributes],
    generators: tp.Sequence[torch.Generator],
    params: GenerationParams,
    *,
    prompt: Tensor | None,
    frame_rate: float,
    max_duration: float,
    report: ProgressCallback,
) -> Tensor:
    """Generate codes for samples with any conditions, each as if generated alone.

    Args:
        lm: Language model, in eval mode.
        attributes: Condition attributes of each sample; encoded once.
        generators: One per sample.
        params: Duration, stride, sampling, guidance.
        prompt: Codes at the beginning, `[B, K, F]`.
        frame_rate: Codec frames per second.
        max_duration: Length of a window, in seconds.
        report: Called with the number of frames done and the total.

    Returns:
        Codes, `[B, K, F]`.

    Raises:
        ValueError: The duration is less than a frame, or the prompt is too long.
    """
    length = nearest_frame_count(params.duration, frame_rate)
    if length < 1:
        raise ValueError(
            f"duration={params.duration} s is less than one frame of {1 / frame_rate:g} s."
        )
    groups = group_by_condition_shape(lm.condition_provider, attributes)
    codes_of: list[Tensor | None] = [None] * len(attributes)
    for number, (members, conditions) in enumerate(groups):
        codes = generate_windows(
            lm,
            conditions,
            [generators[i] for i in members],
            params,
            prompt=None if prompt is None else prompt[members],
            frame_rate=frame_rate,
            max_duration=max_duration,
            report=lambda done, n=number: report(n * length + done, len(groups) * length),
        )
        for i, row in zip(members, codes):
            codes_of[i] = row
    return torch.stack(tp.cast(list[Tensor], codes_of))


def group_by_condition_shape(
    provider: ConditionProvider, attributes: list[ConditioningAttributes]
) -> list[Group]:
    """Encode the conditions of each sample, and batch those of equal lengths."""
    groups: dict[tuple, list[tuple[int, dict[str, Condition]]]] = {}
    for i, sample in enumerate(attributes):
        conditions = provider(provider.prepare([sample], None))
        shape = tuple((c.embed.shape[1], bool(c.mask.any())) for c in conditions.values())
        groups.setdefault(shape, []).append((i, conditions))
    return [([i for i, _ in group], _concat([c for _, c in group])) for group in groups.values()]


def _concat(conditions: list[dict[str, Condition]]) -> dict[str, Condition]:
    """Concatenate the conditions of single samples to a batch."""
    return {
        name: Condition(
            torch.cat([sample[name].embed for sample in conditions]),
            torch.cat([sample[name].mask for sample in conditions]),
        )
        for name in conditions[0]
    }


def generate_windows(
    lm: LMModel,
    conditions: dict[str, Condition],
    generators: list[torch.Generator],
    params: GenerationParams,
    *,
    prompt: Tensor | None,
    frame_rate: float,
    max_duration: float,
    report: tp.Callable[[int], None],
) -> Tensor:
    """Generate codes of any length for a batch, in overlapping windows if needed.

    Args:
        lm: Language model, in eval mode.
        conditions: Conditions of the batch, the same in each window.
        generators, params, prompt, frame_rate, max_duration: As in `generate_samples`.
        report: Called with the number of frames done.

    Returns:
        Codes, `[B, K, F]`.

    Raises:
        ValueError: The prompt is as long as the first window.
    """
    total, longest, stride = window_sizes(params, frame_rate, max_duration)
    if prompt is not None and prompt.shape[-1] >= min(total, longest):
        raise _prompt_too_long(prompt.shape[-1] / frame_rate, params.duration, max_duration)
    new_codes: list[Tensor] = []
    offset = 0
    while True:
        window = min(total - offset, longest)
        codes = generate_tokens(
            lm,
            conditions,
            num_samples=len(generators),
            max_gen_len=window,
            prompt=prompt,
            sampling=params.sampling,
            guidance=params.guidance,
            generators=generators,
            on_step=lambda done, _, start=offset: report(min(start + done, total)),
        )
        overlap = prompt.shape[-1] if prompt is not None and new_codes else 0
        new_codes.append(codes[..., overlap:])
        if offset + window >= total:
            return torch.cat(new_codes, dim=-1)
        prompt = codes[..., stride:]
        offset += stride


def _prompt_too_long(seconds: float, duration: float, max_duration: float) -> ValueError:
    remedy = "Pass a shorter prompt or a longer duration."
    if duration > max_duration:
        remedy = "Pass only its end: a window of the model is not longer."
    return ValueError(
        f"The prompt lasts {seconds:.2f} s, which leaves nothing to generate in "
        f"{min(duration, max_duration):.2f} s. {remedy}"
    )


@contextlib.contextmanager
def frame_progress_bar(
    shown: bool, callback: ProgressCallback | None
) -> tp.Iterator[ProgressCallback]:
    """Yield a function that updates a progress bar and calls `callback`."""
    with tqdm(disable=not shown, unit="frame") as bar:

        def report(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)
            if callback is not None:
                callback(done, total)

        yield report


def window_boundaries(
    params: GenerationParams, frame_rate: float, max_duration: float
) -> list[int]:
    """Return the first new frame of each window of `generate_windows` after the first."""
    sizes = window_sizes(params, frame_rate, max_duration)
    return list(range(sizes.window, sizes.total, sizes.stride))
