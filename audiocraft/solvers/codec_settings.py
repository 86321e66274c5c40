"""Checks of a codec run's settings, before anything is loaded or trained."""

import torch
from omegaconf import DictConfig, OmegaConf, open_dict

from ..errors import ConfigError
from ..utils.device import resolve_dtype
from .validation import check_audio_output, check_run_settings

# Settings of other solvers, the value that means off, and why a codec run does not support them.
NOT_SUPPORTED = {
    "fsdp.use": (False, "a codec is small: every process holds it whole"),
    "compile.use": (False, "only language models are compiled"),
    "optim.accumulate": (1, "codebooks follow whole batches"),
    "continue_from_config": (None, "choose the architecture of the source with its model node"),
}


def check_codec_settings(cfg: DictConfig) -> None:
    """Check that a run does what its configuration says.

    Args:
        cfg: Resolved configuration of a run with solver=compression.

    Raises:
        ConfigError: It would not; the message names the setting and the accepted values.
    """
    check_run_settings(cfg)
    for key, (off, reason) in NOT_SUPPORTED.items():
        value = OmegaConf.select(cfg, key)
        if value not in (None, off):
            shown = "null" if off is None else str(off).lower()
            raise ConfigError(
                f"{key}={value} is not supported by solver=compression ({reason}). "
                f"Set {key}={shown}."
            )
    if cfg.autocast and resolve_dtype(cfg.autocast_dtype) is torch.float16:
        raise ConfigError(
            "autocast_dtype=float16 is not supported by solver=compression: the gradients of its "
            "losses differ too much in scale. Set autocast_dtype=bfloat16 or autocast=false."
        )
    _check_losses(cfg)
    _check_data(cfg)
    if cfg.generate.every or cfg.execute_only == "generate":
        check_audio_output(cfg)


def _check_losses(cfg: DictConfig) -> None:
    wrong = [f"losses.{name}={w!r}" for name, w in cfg.losses.items() if not w >= 0]
    if wrong:
        raise ConfigError(f"{wrong[0]}: give a weight from 0; 0 leaves the loss out.")
    adversarial = cfg.adversarial.adversaries and (cfg.losses.adv or cfg.losses.feat)
    others = [n for n, w in cfg.losses.items() if w and n not in ("adv", "feat")]
    if not others and not adversarial:
        raise ConfigError(
            "All losses are off: give a weight to one, such as losses.msspec=2, or to losses.adv "
            "with adversarial.adversaries=[msstftd]."
        )


def _check_data(cfg: DictConfig) -> None:
    if cfg.dataset.segment_duration is None:
        raise ConfigError(
            "dataset.segment_duration=null is not supported by solver=compression, whose batches "
            "hold clips of one length. Give seconds, such as dataset.segment_duration=1."
        )
    needed = {"valid": True, "evaluate": bool(cfg.evaluate.every)}
    if cfg.execute_only:
        needed = {cfg.execute_only: True}
    for split, is_needed in needed.items():
        if is_needed and cfg.datasource.get(split) is None:
            raise ConfigError(
                f"datasource.{split} is not set. Choose a data set such as dset=audio/example, or "
                f"give a manifest: datasource.{split}=egs/NAME."
            )


def with_segment_infos(cfg: DictConfig) -> DictConfig:
    """The configuration with the source of every segment, which errors name."""
    cfg = cfg.copy()
    with open_dict(cfg):
        cfg.dataset.return_info = True
    return cfg
