"""Samples of different conditions side by side, and pieces longer than a model's memory.

Released models attend to the padding of their conditions, and know no more than one window of
time. Here both stay the model's own affair: a sample never notices its neighbours, and a long
piece is a chain of windows that hear the same conditions.
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

ProgressCallback = tp.Callable[[int, int], None]  # frames that are done, of how many
Group = tuple[list[int], dict[str, Condition]]


def generate_samples(
    lm: LMModel,
    attributes: list[ConditioningAttributes],
    generators: tp.Sequence[torch.Generator],
    params: GenerationParams,
    *,
    prompt: Tensor | None,
    frame_rate: float,
    max_duration: float,
    report: tp.Callable[[int, int], None],
) -> Tensor:
    """Generate codes for samples of any conditions; each is what it would be alone.

    Args:
        lm: The model, in eval mode.
        attributes: What is told of each sample; read and listened to once.
        generators: Dice, one per sample.
        params: Duration, stride, sampling, guidance.
        prompt: Codes to start with, `[B, K, F]`.
        frame_rate: Frames per second.
        max_duration: Seconds that one window holds.
        report: Called with the number of frames done and of all frames.

    Returns:
        Codes, `[B, K, F]`.

    Raises:
        ValueError: There is nothing to generate.
    """
    length = int(params.duration * frame_rate)
    if length < 1:
        raise ValueError(
            f"duration is {params.duration} s, less than one frame of {1 / frame_rate} s."
        )
    groups = group_by_condition_shape(lm.condition_provider, attributes)
    tokens: list[Tensor | None] = [None] * len(attributes)
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
            tokens[i] = row
    return torch.stack(tp.cast(list[Tensor], tokens))


def group_by_condition_shape(
    provider: ConditionProvider, attributes: list[ConditioningAttributes]
) -> list[Group]:
    """Conditions, computed once for each sample, joined where they have the same form.

    A text that is padded to the length of its neighbour's would sound different, so only samples
    whose conditions are equally long share a batch.

    Returns:
        For each batch the numbers of its samples, and their conditions.
    """
    groups: dict[tuple, list[tuple[int, dict[str, Condition]]]] = {}
    for i, sample in enumerate(attributes):
        conditions = provider(provider.prepare([sample], None))
        form = tuple((c.embed.shape[1], bool(c.mask.any())) for c in conditions.values())
        groups.setdefault(form, []).append((i, conditions))
    return [([i for i, _ in group], _join([c for _, c in group])) for group in groups.values()]


def _join(conditions: list[dict[str, Condition]]) -> dict[str, Condition]:
    """Conditions of single samples as those of a batch."""
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
    """Generate codes of any length, sliding a window where they are more than one holds.

    Args:
        lm: The model, in eval mode.
        conditions: Of every sample; each window hears the same.
        generators: Dice, one per sample.
        params: Duration, stride, sampling, guidance.
        prompt: Codes to start with, `[B, K, F]`.
        frame_rate: Frames per second.
        max_duration: Seconds that one window holds.
        report: Called with the number of frames done.

    Returns:
        Codes, `[B, K, F]`.

    Raises:
        ValueError: The prompt leaves nothing to generate.
    """
    total, longest, stride = _in_frames(params, frame_rate, max_duration)
    if prompt is not None and prompt.shape[-1] >= min(total, longest):
        _refuse_prompt(prompt.shape[-1] / frame_rate, params.duration, max_duration)
    pieces: list[Tensor] = []
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
        known = prompt.shape[-1] if prompt is not None and pieces else 0
        pieces.append(codes[..., known:])
        if offset + window >= total:
            return torch.cat(pieces, dim=-1)
        prompt = codes[..., stride:]
        offset += stride


def _refuse_prompt(seconds: float, duration: float, max_duration: float) -> tp.NoReturn:
    remedy = "Give a shorter prompt or a longer duration."
    if duration > max_duration:
        remedy = "Give only its end: a window of the model holds no more."
    raise ValueError(
        f"The prompt lasts {seconds:.2f} s and leaves nothing to generate in "
        f"{min(duration, max_duration):.2f} s. {remedy}"
    )


@contextlib.contextmanager
def frame_progress_bar(
    shown: bool, callback: ProgressCallback | None
) -> tp.Iterator[ProgressCallback]:
    """A progress bar for a while: what is reported moves it and goes on to the callback."""
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
    """The frames with which a further window of `generate_windows` begins to add to a piece."""
    total, longest, stride = _in_frames(params, frame_rate, max_duration)
    return list(range(longest, total, stride))


def _in_frames(
    params: GenerationParams, frame_rate: float, max_duration: float
) -> tuple[int, int, int]:
    """Frames of the piece, of a window, and between the starts of two windows."""
    stride = max(1, int(params.extend_stride * frame_rate))
    return int(params.duration * frame_rate), int(max_duration * frame_rate), stride
