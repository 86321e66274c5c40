"""Settings that can be composed but not carried out, told before anything is loaded or trained."""

import tempfile
import typing as tp
from pathlib import Path

import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf

from ..data.audio import audio_write
from ..errors import ConfigError
from ..models.musicgen import DEFAULT_MAX_DURATION
from ..utils.device import resolve_dtype
from ..utils.numbers import is_integer, is_number
from .sample_generation import get_conditioning_modes, get_generation_params

NOT_BUILT = (  # keys that may only be off
    *(f"evaluate.metrics.{name}" for name in ("fad", "kld", "text_consistency", "chroma_cosine")),
    "generate.lm.gen_gt_samples",
)

WHOLE_NUMBERS = {  # and the least of each
    "seed": 0,
    "optim.epochs": 1,
    **{f"{node}.num_workers": 0 for node in ("dataset", "generate", "evaluate")},
}
COUNTS = (  # 0 or null is never, or all
    *("generate.every", "evaluate.every", "checkpoint.save_every", "checkpoint.keep_last"),
    *("checkpoint.every_updates", "checkpoint.every_minutes", "logging.log_updates"),
)
MOSTLY = 0.5  # of a segment should be music


def check_settings(cfg: DictConfig) -> None:
    """See that a run does what its configuration says.

    Args:
        cfg: Resolved configuration of a language model's run.

    Raises:
        ConfigError: It could not; the message names the key and what would be right.
    """
    for key in NOT_BUILT:
        if OmegaConf.select(cfg, key):
            raise ConfigError(f"{key} is not built yet and would do nothing. Set {key}=false.")
    for key, least in WHOLE_NUMBERS.items():
        value = OmegaConf.select(cfg, key)
        if not is_integer(value) or value < least:
            raise ConfigError(f"{key} is {value!r}. Give a whole number, {least} or more.")
    for key in COUNTS:
        value = OmegaConf.select(cfg, key)
        if value is not None and (not is_number(value) or value < 0):
            raise ConfigError(f"{key} is {value!r}. Give a number from 0, or null.")
    if cfg.dtype != "float32":
        raise ConfigError(
            f"dtype is {cfg.dtype!r} but weights that learn are held in float32. Set "
            "dtype=float32; autocast=true computes in half precision."
        )
    resolve_dtype(cfg.autocast_dtype)
    if not cfg.transformer_lm.get("causal", True):
        raise ConfigError(
            "transformer_lm.causal=false sees the future, so that it could not generate. Set "
            "transformer_lm.causal=true."
        )
    _check_conditions(cfg)
    _check_excerpts(cfg)
    if cfg.generate.every or cfg.execute_only == "generate":
        _check_listening(cfg)


def _check_listening(cfg: DictConfig) -> None:
    """See that samples can be made, and written, when it is time: that can be days from now."""
    try:
        params, ways = get_generation_params(cfg), get_conditioning_modes(cfg)
        window = min(params.duration, cfg.dataset.segment_duration or DEFAULT_MAX_DURATION)
        if ways.prompted and ways.prompt_duration >= window:
            raise ValueError(
                f"prompt_duration is {ways.prompt_duration:g} s, which leaves nothing of "
                f"{window:g} s to generate."
            )
    except ValueError as error:
        raise ConfigError(f"generate.lm: {error}") from error
    audio: tp.Any = OmegaConf.to_container(cfg.generate.audio, resolve=True)
    try:
        with tempfile.TemporaryDirectory() as folder:
            silence = torch.zeros(cfg.channels, 4800)
            audio_write(Path(folder) / "silence", silence, **{"sample_rate": 48000} | audio)
    except (ValueError, TypeError) as error:
        raise ConfigError(f"generate.audio: {error}") from error


def _check_conditions(cfg: DictConfig) -> None:
    """See that every condition says what it is, and that those withheld now and then are there."""
    conditions = cfg.get("conditioners") or {}
    for name, node in conditions.items():
        if "model" not in node:
            raise ConfigError(
                f"conditioners.{name} has settings but no model: the chosen conditioner has no "
                "such condition. Choose one that has it, such as conditioner=style2music_tiny."
            )
    for kind in ("text", "wav"):
        for name in OmegaConf.select(cfg, f"attribute_dropout.{kind}") or {}:
            if name not in conditions:
                raise ConfigError(
                    f"attribute_dropout.{kind}.{name} withholds a condition that the model does "
                    f"not have. It has: {', '.join(conditions) or 'none'}."
                )


def _check_excerpts(cfg: DictConfig) -> None:
    """See that there is music beside the excerpts that are heard."""
    segment = cfg.dataset.segment_duration
    for name, node in (cfg.get("conditioners") or {}).items():
        length = OmegaConf.select(node, "style.length")
        if length is not None and segment is not None and segment < length:
            raise ConfigError(
                f"dataset.segment_duration is {segment:g} s but conditioners.{name}.style.length, "
                f"the excerpt that validation listens to, is {length:g} s: no clip would be "
                "heard. Give longer segments, or a shorter excerpt."
            )


def padding_warning(durations: np.ndarray, segment_duration: float | None) -> str | None:
    """What to do where most of the segments of a data set would be padding; `None` is nothing.

    Args:
        durations: Of the files, in seconds.
        segment_duration: Seconds of a segment; `None` is whole files.
    """
    if segment_duration is None:
        return None
    music = float(np.minimum(durations, segment_duration).mean()) / segment_duration
    if music >= MOSTLY:
        return None
    return (
        f"Only {music:.0%} of a segment is music: dataset.segment_duration is "
        f"{segment_duration:g} s but files last {durations.mean():.1f} s on average. The rest is "
        "computed and not learnt from. Give shorter segments, or longer files."
    )
