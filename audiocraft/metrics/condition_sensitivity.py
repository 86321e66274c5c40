"""Does a model listen? How well it predicts a piece, told the right and the wrong things about it.

A model that is steered by style is less surprised by a piece after hearing music of the same kind
than after hearing other music, and one that is steered by text after reading the right words. Every
target is predicted under all conditions, so that the conditions are compared within the target;
what makes one target harder than another cancels. Intervals come from a bootstrap over pieces,
since targets of one piece are not independent.

Method: intervals of repeated measures: Morey, 2008, doi 10.20982/tqmp.04.2.p061.
"""

import typing as tp
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ..data.conditions import ConditioningAttributes, wav_condition
from ..errors import ConfigError
from ..models.musicgen import MusicGen
from ..modules.conditioners import select_excerpt_start
from ..utils.randomness import derive_generator, derive_seed

STYLE_CONDITIONS = ("same piece", "same style", "other style", "no style")
TEXT_CONDITIONS = ("right text", "wrong text", "no text")
# Each should be less than its neighbour; the first question is only reported.
COMPARISONS = (
    ("same piece", "same style"),
    ("same style", "other style"),
    ("same style", "no style"),
    ("right text", "wrong text"),
    ("right text", "no text"),
)
RESAMPLES = 4000


@dataclass(frozen=True, kw_only=True)
class LabelledClip:
    """A clip of a held-out piece."""

    name: str
    track: str  # clips of one piece belong together
    style: str  # the label that is compared
    text: str
    wav: Tensor = field(repr=False)  # [C, T] at the model's rate


class Interval(tp.NamedTuple):
    """A mean and its 95 % interval, in nats."""

    mean: float
    low: float
    high: float


class SensitivityCondition(tp.NamedTuple):
    """What the model is told of a target under one condition."""

    condition: str
    style: Tensor | None = None  # excerpt [C, T]
    text: str | None = None


def draw_conditions(
    clips: tp.Sequence[LabelledClip], index: int, excerpt: float, rate: int, seed: int
) -> list[SensitivityCondition]:
    """What is told of one target: excerpts of drawn other clips, and descriptions.

    Args:
        clips: All of them.
        index: Of the target.
        excerpt: Seconds of an excerpt; its place in its clip is drawn.
        rate: Samples per second.
        seed: Of the draws.

    Raises:
        ConfigError: There is no other clip of a kind.
    """
    target = clips[index]
    others = {
        "same piece": [c for c in clips if c.track == target.track and c is not target],
        "same style": [c for c in clips if c.style == target.style and c.track != target.track],
        "other style": [c for c in clips if c.style != target.style],
    }
    others["wrong text"] = [c for c in others["other style"] if c.text != target.text]
    drawn = {}
    for kind, candidates in others.items():
        if not candidates:
            raise ConfigError(
                f"{target.name} has no other clip of the kind {kind!r}: the manifest needs two "
                "clips of every piece, two pieces of every style, and two styles."
            )
        rng = derive_generator(seed, target.name, kind)
        clip = candidates[int(torch.randint(len(candidates), (), generator=rng))]
        length = int(excerpt * rate)
        if clip.wav.shape[-1] < length:
            raise ConfigError(f"{clip.name} is shorter than an excerpt of {excerpt} s.")
        seed_of_excerpt = derive_seed(seed, target.name, kind)
        seconds = select_excerpt_start(clip.wav.shape[-1] / rate, excerpt, seed_of_excerpt)
        start = round(seconds * rate)
        drawn[kind] = clip, clip.wav[:, start : start + length]
    return [
        *(SensitivityCondition(kind, style=drawn[kind][1]) for kind in STYLE_CONDITIONS[:3]),
        SensitivityCondition("no style"),
        SensitivityCondition("right text", text=target.text),
        SensitivityCondition("wrong text", text=drawn["wrong text"][0].text),
        SensitivityCondition("no text"),
    ]


@torch.inference_mode()
def conditional_cross_entropy(
    model: MusicGen,
    wav: Tensor,
    conditions: tp.Sequence[SensitivityCondition],
    seconds: float | None = None,
) -> Tensor:
    """Cross entropy of a target under each condition.

    Args:
        model: Of text and style.
        wav: The target, `[C, T]` at the model's rate, no longer than its window.
        told: The conditions.
        seconds: Count only the first ones, when the target has not yet told much of itself.

    Returns:
        Nats per token, averaged over frames and then over codebooks, `[conditions]`.
    """
    name = model.style_name
    codes, _ = model.compression_model.encode(wav[None].to(model.codec_device))
    codes = codes[..., : int(model.max_duration * model.frame_rate)].to(model.device)
    results = []
    for condition in conditions:
        sample = ConditioningAttributes(text={"description": condition.text})
        if condition.style is not None:
            sample.wav[name] = wav_condition(condition.style, model.sample_rate, start=0.0)
        provider = model.lm.condition_provider
        output = model.lm.compute_predictions(codes, provider(provider.prepare([sample], None)))
        logits = output.logits[0].float()  # [K, F, V]
        each = F.cross_entropy(logits.transpose(1, 2), codes[0], reduction="none")  # [K, F]
        counts = output.mask[0].clone()
        if seconds is not None:
            counts[:, max(1, int(seconds * model.frame_rate)) :] = False
        per_codebook = each.masked_fill(~counts, 0).sum(dim=1) / counts.sum(dim=1)
        results.append(per_codebook.mean())
    return torch.stack(results).cpu()


@dataclass(frozen=True)
class ConditionSensitivity:
    """Cross entropies of all targets under all conditions."""

    table: np.ndarray  # [targets, conditions], nats
    tracks: tuple[str, ...]  # of each target
    conditions: tuple[str, ...] = STYLE_CONDITIONS + TEXT_CONDITIONS

    def column(self, condition: str) -> np.ndarray:
        """Of every target, `[targets]`."""
        return self.table[:, self.conditions.index(condition)]

    def condition_interval(self, condition: str) -> Interval:
        """The mean under a condition, with its interval after taking out what targets differ in.

        Style and text are two experiments: a target's own level is its mean over the conditions of
        the same one.
        """
        group = STYLE_CONDITIONS if condition in STYLE_CONDITIONS else TEXT_CONDITIONS
        columns = np.stack([self.column(name) for name in group], axis=1)
        own = columns.mean(axis=1) - columns.mean()
        spread = np.sqrt(len(group) / (len(group) - 1))  # Morey: the group's mean is known
        values = self.column(condition) - own
        interval = self._bootstrap(values)
        low = float(interval.mean - spread * (interval.mean - interval.low))
        high = float(interval.mean + spread * (interval.high - interval.mean))
        return Interval(interval.mean, low, high)

    def difference(self, less: str, more: str) -> Interval:
        """How much more surprised the model is under `more` than under `less`."""
        return self._bootstrap(self.column(more) - self.column(less))

    def is_lower(self, less: str, more: str) -> bool:
        """Whether `less` is less, with intervals that do not touch."""
        return (
            self.condition_interval(less).high < self.condition_interval(more).low
            and self.difference(less, more).low > 0
        )

    def _bootstrap(self, values: np.ndarray) -> Interval:
        """Mean of values, resampling whole pieces."""
        names = sorted(set(self.tracks))
        sums = np.zeros(len(names))
        counts = np.zeros(len(names))
        for name, value in zip(self.tracks, values):
            sums[names.index(name)] += value
            counts[names.index(name)] += 1
        rng = np.random.default_rng(derive_seed("steering", len(names)))
        picks = rng.integers(len(names), size=(RESAMPLES, len(names)))
        means = sums[picks].sum(axis=1) / counts[picks].sum(axis=1)
        low, high = np.quantile(means, [0.025, 0.975])
        return Interval(float(values.mean()), float(low), float(high))


def measure_condition_sensitivity(
    model: MusicGen,
    clips: tp.Sequence[LabelledClip],
    *,
    excerpt: float = 3.0,
    draws: int = 1,
    seconds: float | None = None,
    seed: int = 0,
    progress: tp.Callable[[tp.Sequence], tp.Iterable] = iter,
) -> ConditionSensitivity:
    """Predict every clip under every condition.

    Args:
        model: Of text and style.
        clips: Held-out music, several clips of every piece.
        excerpt: Seconds of the excerpts.
        draws: How many other clips of each kind are drawn for a target; their mean counts.
        seconds: Count only the first ones of every target.
        seed: Of the draws.
        progress: Wraps the targets, such as `tqdm`.

    Raises:
        ConfigError: There is no other clip of a kind.
    """
    rows = []
    conditioner = model.style_conditioner
    length = conditioner.excerpt_length
    conditioner.set_params(excerpt_length=excerpt)
    try:
        for index in progress(range(len(clips))):
            conditions = [
                draw_conditions(clips, index, excerpt, model.sample_rate, seed + d)
                for d in range(draws)
            ]
            each = [
                conditional_cross_entropy(model, clips[index].wav, conditions, seconds)
                for conditions in conditions
            ]
            rows.append(torch.stack(each).mean(dim=0).numpy())
    finally:
        conditioner.set_params(excerpt_length=length)
    return ConditionSensitivity(np.stack(rows), tuple(clip.track for clip in clips))
