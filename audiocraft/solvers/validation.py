"""Validation of settings, before models are loaded or data is read."""

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

UNSUPPORTED = (  # keys that must be false
    *(f"evaluate.metrics.{name}" for name in ("fad", "kld", "text_consistency", "chroma_cosine")),
    "generate.lm.gen_gt_samples",
)

INTEGERS = {  # and their minima
    "seed": 0,
    "dataset.batch_size": 1,
    "optim.epochs": 1,
    "optim.accumulate": 1,
    **{f"transformer_lm.{name}": 1 for name in ("dim", "num_heads", "num_layers", "n_q", "card")},
    **{f"{node}.num_workers": 0 for node in ("dataset", "generate", "evaluate")},
}
POSITIVE = ("optim.updates_per_epoch", "dataset.segment_duration")  # above 0, or null
INTERVALS = (  # 0 or null disables
    *("generate.every", "evaluate.every", "checkpoint.save_every", "checkpoint.keep_last"),
    *("checkpoint.every_updates", "checkpoint.every_minutes", "logging.log_updates"),
)
MIN_AUDIO_RATIO = 0.5  # of a segment that is audio and not padding


def check_settings(cfg: DictConfig) -> None:
    """Check the settings of a run that trains a language model.

    Args:
        cfg: Resolved configuration.

    Raises:
        ConfigError: A setting is invalid; the message names key, value and accepted values.
    """
    for key in UNSUPPORTED:
        if OmegaConf.select(cfg, key):
            raise ConfigError(f"{key} is not supported. Set {key}=false.")
    check_run_settings(cfg)
    if not cfg.transformer_lm.get("causal", True):
        raise ConfigError(
            "transformer_lm.causal=false is not supported: the model could not generate. Set "
            "transformer_lm.causal=true."
        )
    _check_conditions(cfg)
    _check_excerpts(cfg)
    if cfg.generate.every or cfg.execute_only == "generate":
        _check_sample_generation(cfg)


def check_run_settings(cfg: DictConfig) -> None:
    """Check the settings that every solver has.

    Raises:
        ConfigError: One is out of range; the message names it and the accepted values.
    """
    for key, minimum in INTEGERS.items():
        if key.startswith("transformer_lm.") and "transformer_lm" not in cfg:
            continue  # of language models
        value = OmegaConf.select(cfg, key)
        if not is_integer(value) or value < minimum:
            raise ConfigError(f"{key} is {value!r} but must be a whole number from {minimum}.")
    for key in POSITIVE:
        value = OmegaConf.select(cfg, key)
        if value is not None and (not is_number(value) or value <= 0):
            raise ConfigError(f"{key} is {value!r} but must be a number above 0, or null.")
    if not is_number(cfg.optim.lr) or cfg.optim.lr < 0:
        raise ConfigError(f"optim.lr is {cfg.optim.lr!r} but must be a number from 0.")
    for key in INTERVALS:
        value = OmegaConf.select(cfg, key)
        if value is not None and (not is_number(value) or value < 0):
            raise ConfigError(f"{key} is {value!r} but must be a number from 0, or null.")
    if cfg.dtype != "float32":
        raise ConfigError(
            f"dtype={cfg.dtype!r} is not supported: weights are trained in float32. Set "
            "dtype=float32; autocast=true computes in half precision."
        )
    resolve_dtype(cfg.autocast_dtype)


def _check_sample_generation(cfg: DictConfig) -> None:
    """Check the settings of samples, which are generated only at the end of an epoch."""
    try:
        params, modes = get_generation_params(cfg), get_conditioning_modes(cfg)
        window = min(params.duration, cfg.dataset.segment_duration or DEFAULT_MAX_DURATION)
        if modes.prompted and modes.prompt_duration >= window:
            raise ValueError(
                f"prompt_duration is {modes.prompt_duration:g} s but must be less than the "
                f"{window:g} s of a sample."
            )
    except ValueError as error:
        raise ConfigError(f"generate.lm: {error}") from error
    check_audio_output(cfg)


def check_audio_output(cfg: DictConfig) -> None:
    """Check that audio can be written with the settings of `generate.audio`.

    Raises:
        ConfigError: It cannot.
    """
    audio: tp.Any = OmegaConf.to_container(cfg.generate.audio, resolve=True)
    try:
        with tempfile.TemporaryDirectory() as folder:
            silence = torch.zeros(cfg.channels, 4800)
            audio_write(Path(folder) / "silence", silence, **{"sample_rate": 48000} | audio)
    except (ValueError, TypeError) as error:
        raise ConfigError(f"generate.audio: {error}") from error


def _check_conditions(cfg: DictConfig) -> None:
    """Check that each condition has a model, and that conditions with dropout exist."""
    conditions = cfg.get("conditioners") or {}
    for name, node in conditions.items():
        if "model" not in node:
            raise ConfigError(
                f"conditioners.{name} has settings but no model, since the chosen conditioner does "
                "not define it. Choose one that does, such as conditioner=style2music_tiny."
            )
    for kind in ("text", "wav"):
        for name in OmegaConf.select(cfg, f"attribute_dropout.{kind}") or {}:
            if name not in conditions:
                raise ConfigError(
                    f"attribute_dropout.{kind}.{name} is not a condition of the model. It has: "
                    f"{', '.join(conditions) or 'none'}."
                )


def _check_excerpts(cfg: DictConfig) -> None:
    """Check that segments are long enough for the style excerpt of validation."""
    segment = cfg.dataset.segment_duration
    for name, node in (cfg.get("conditioners") or {}).items():
        length = OmegaConf.select(node, "style.length")
        if length is not None and segment is not None and segment < length:
            raise ConfigError(
                f"dataset.segment_duration is {segment:g} s, which is shorter than the style "
                f"excerpt of {length:g} s (conditioners.{name}.style.length). Set longer segments "
                "or a shorter excerpt."
            )


def padding_warning(durations: np.ndarray, segment_duration: float | None) -> str | None:
    """Warning about segments that are mostly padding; `None` if they are not.

    Args:
        durations: Durations of the files, in seconds.
        segment_duration: Duration of a segment, in seconds; `None` is whole files.
    """
    if segment_duration is None:
        return None
    ratio = float(np.minimum(durations, segment_duration).mean()) / segment_duration
    if ratio >= MIN_AUDIO_RATIO:
        return None
    return (
        f"Only {ratio:.0%} of a segment is audio: dataset.segment_duration is "
        f"{segment_duration:g} s but files last {durations.mean():.1f} s on average. Padding is "
        "computed but excluded from the loss. Set shorter segments, or use longer files."
    )
