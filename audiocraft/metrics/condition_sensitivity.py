"""Condition sensitivity: how much style and text conditions lower the cross entropy of a model.

The codes of held-out music are predicted under matching, other and missing conditions. A model that
follows its style condition has a lower cross entropy with an excerpt of the same style than with
one of another style; likewise for text. All conditions are applied to every target, so that the
level of a target cancels in comparisons. Intervals are bootstrapped over tracks, since targets of
one track are not independent.

Method: within-subject intervals: Morey, 2008, https://doi.org/10.20982/tqmp.04.2.p061.
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

# Names of conditions are keys of reports and parts of seeds; "piece" is what we call a track.
STYLE_CONDITIONS = ("same piece", "same style", "other style", "no style")
TEXT_CONDITIONS = ("right text", "wrong text", "no text")
COMPARISONS = (  # the first should have the lower cross entropy
    ("same piece", "same style"),
    ("same style", "other style"),
    ("same style", "no style"),
    ("right text", "wrong text"),
    ("right text", "no text"),
)
NUM_RESAMPLES = 4000


@dataclass(frozen=True, kw_only=True)
class LabelledClip:
    """A clip of a held-out track."""

    name: str
    track: str  # clips of one track are not independent
    style: str  # label that is compared
    text: str
    wav: Tensor = field(repr=False)  # [C, T] at the model's sample rate


class Interval(tp.NamedTuple):
    """A mean with its 95 % interval, in nats."""

    mean: float
    low: float
    high: float


class SensitivityCondition(tp.NamedTuple):
    """Conditions under which a target is predicted."""

    name: str  # of `STYLE_CONDITIONS` or `TEXT_CONDITIONS`
    style: Tensor | None = None  # excerpt, [C, T]
    text: str | None = None


def draw_conditions(
    clips: tp.Sequence[LabelledClip], index: int, excerpt: float, rate: int, seed: int
) -> list[SensitivityCondition]:
    """Draw the conditions of a target: excerpts of other clips, and descriptions.

    Args:
        clips: All clips.
        index: Index of the target.
        excerpt: Length of the excerpts, in seconds.
        rate: Sample rate, in Hz.
        seed: Seed of the draw.

    Raises:
        ConfigError: A kind of clip is missing, or a clip is shorter than the excerpt.
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
                "clips of every track, two tracks of every style, and two styles."
            )
        generator = derive_generator(seed, target.name, kind)
        clip = candidates[int(torch.randint(len(candidates), (), generator=generator))]
        drawn[kind] = clip, _excerpt(clip, excerpt, rate, derive_seed(seed, target.name, kind))
    return [
        *(SensitivityCondition(kind, style=drawn[kind][1]) for kind in STYLE_CONDITIONS[:3]),
        SensitivityCondition("no style"),
        SensitivityCondition("right text", text=target.text),
        SensitivityCondition("wrong text", text=drawn["wrong text"][0].text),
        SensitivityCondition("no text"),
    ]


def _excerpt(clip: LabelledClip, length: float, rate: int, seed: int) -> Tensor:
    """Return the style excerpt of a clip, `[C, T]`."""
    num_samples = int(length * rate)
    if clip.wav.shape[-1] < num_samples:
        raise ConfigError(
            f"{clip.name} is shorter than an excerpt of {length} s. Reduce --excerpt."
        )
    start = round(select_excerpt_start(clip.wav.shape[-1] / rate, length, seed) * rate)
    return clip.wav[:, start : start + num_samples]


@torch.inference_mode()
def conditional_cross_entropy(
    model: MusicGen,
    wav: Tensor,
    conditions: tp.Sequence[SensitivityCondition],
    seconds: float | None = None,
) -> Tensor:
    """Compute the cross entropy of a target under each condition.

    Args:
        model: Model with text and style conditioning.
        wav: Target, `[C, T]` at the model's sample rate, at most as long as its window.
        conditions: Conditions.
        seconds: Only the first seconds count, which depend most on the conditions; `None` counts
            all.

    Returns:
        Nats per token, averaged over frames, then over codebooks, `[conditions]`.
    """
    name = model.style_name
    codes, _ = model.compression_model.encode(wav[None].to(model.codec_device))
    codes = codes[..., : int(model.max_duration * model.frame_rate)].to(model.device)  # [1, K, F]
    results = []
    for condition in conditions:
        sample = ConditioningAttributes(text={"description": condition.text})
        if condition.style is not None:
            sample.wav[name] = wav_condition(condition.style, model.sample_rate, start=0.0)
        provider = model.lm.condition_provider
        output = model.lm.compute_predictions(codes, provider(provider.prepare([sample], None)))
        logits = output.logits[0].float()  # [K, F, V]
        losses = F.cross_entropy(logits.transpose(1, 2), codes[0], reduction="none")  # [K, F]
        mask = output.mask[0].clone()
        if seconds is not None:
            mask[:, max(1, int(seconds * model.frame_rate)) :] = False
        per_codebook = losses.masked_fill(~mask, 0).sum(dim=1) / mask.sum(dim=1)
        results.append(per_codebook.mean())
    return torch.stack(results).cpu()


@dataclass(frozen=True)
class ConditionSensitivity:
    """Cross entropies of all targets under all conditions."""

    table: np.ndarray  # [targets, conditions], nats
    tracks: tuple[str, ...]  # of each target
    conditions: tuple[str, ...] = STYLE_CONDITIONS + TEXT_CONDITIONS

    def column(self, condition: str) -> np.ndarray:
        """Return the cross entropies under a condition, `[targets]`."""
        return self.table[:, self.conditions.index(condition)]

    def condition_interval(self, condition: str) -> Interval:
        """Return the mean under a condition, with the interval that excludes the level of targets.

        Style and text are separate experiments: the level of a target is its mean over the
        conditions of the same experiment.
        """
        group = STYLE_CONDITIONS if condition in STYLE_CONDITIONS else TEXT_CONDITIONS
        columns = np.stack([self.column(name) for name in group], axis=1)
        level = columns.mean(axis=1) - columns.mean()
        correction = np.sqrt(len(group) / (len(group) - 1))  # Morey: the level is an estimate
        interval = self._bootstrap(self.column(condition) - level)
        low = float(interval.mean - correction * (interval.mean - interval.low))
        high = float(interval.mean + correction * (interval.high - interval.mean))
        return Interval(interval.mean, low, high)

    def difference(self, lower: str, higher: str) -> Interval:
        """Return how much the cross entropy under `higher` exceeds that under `lower`."""
        return self._bootstrap(self.column(higher) - self.column(lower))

    def is_lower(self, lower: str, higher: str) -> bool:
        """Return whether `lower` is lower than `higher`, with disjoint intervals."""
        return (
            self.condition_interval(lower).high < self.condition_interval(higher).low
            and self.difference(lower, higher).low > 0
        )

    def _bootstrap(self, values: np.ndarray) -> Interval:
        """Return the mean of values with its interval, resampling whole tracks."""
        names = sorted(set(self.tracks))
        sums = np.zeros(len(names))
        counts = np.zeros(len(names))
        for name, value in zip(self.tracks, values):
            sums[names.index(name)] += value
            counts[names.index(name)] += 1
        rng = np.random.default_rng(derive_seed("steering", len(names)))
        picks = rng.integers(len(names), size=(NUM_RESAMPLES, len(names)))
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
        model: Model with text and style conditioning.
        clips: Held-out clips, several of every track.
        excerpt: Length of the excerpts, in seconds.
        draws: Draws of the conditions of each target, which are averaged.
        seconds: Only the first seconds of every target count; `None` counts all.
        seed: Seed of the draws.
        progress: Wrapper of the targets, such as `tqdm`.

    Raises:
        ConfigError: A kind of clip is missing, or a clip is shorter than the excerpt.
    """
    rows = []
    conditioner = model.style_conditioner
    excerpt_length = conditioner.excerpt_length
    conditioner.set_params(excerpt_length=excerpt)
    try:
        for index in progress(range(len(clips))):
            entropies = [
                conditional_cross_entropy(
                    model,
                    clips[index].wav,
                    draw_conditions(clips, index, excerpt, model.sample_rate, seed + draw),
                    seconds,
                )
                for draw in range(draws)
            ]
            rows.append(torch.stack(entropies).mean(dim=0).numpy())
    finally:
        conditioner.set_params(excerpt_length=excerpt_length)
    return ConditionSensitivity(np.stack(rows), tuple(clip.track for clip in clips))
