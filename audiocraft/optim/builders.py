"""Builders of optimizers, schedules and weight averages from `optim` and `schedule`."""

import math
import typing as tp
from functools import partial

from omegaconf import DictConfig, OmegaConf
from torch import nn
from torch.optim import Adam, AdamW, Optimizer

from ..errors import ConfigError
from ..utils.device import resolve_device
from ..utils.numbers import is_number
from . import schedules
from .dadam import DAdaptAdam
from .ema import ModuleDictEMA

Groups = list[dict[str, tp.Any]]  # parameter groups of an optimizer
ABOVE_ZERO = ("step_size", "gamma", "lr_decay", "cycle_length")
SCHEDULES: dict[str, tp.Callable[..., schedules.Rule]] = {
    "step": schedules.step,
    "exponential": schedules.exponential,
    "cosine": schedules.cosine,
    "polynomial_decay": schedules.polynomial_decay,
    "inverse_sqrt": schedules.inverse_sqrt,
    "linear_warmup": schedules.linear_warmup,
}


def get_optim_parameter_groups(model: nn.Module) -> Groups:
    """Trainable parameters, as parameter groups of an optimizer.

    A model with several learning rates returns its groups by a method `param_groups`.
    """
    param_groups = getattr(model, "param_groups", None)
    if param_groups is not None:
        return param_groups()
    return [{"params": [p for p in model.parameters() if p.requires_grad]}]


def get_optimizer(groups: Groups, cfg: DictConfig) -> Optimizer:
    """Build the optimizer of the node `optim`.

    Args:
        groups: Parameter groups.
        cfg: The node `optim`.

    Raises:
        ConfigError: The optimizer is not supported, cannot use several learning rates, or has a
            setting that is out of range.
    """
    if cfg.optimizer not in OPTIMIZERS:
        raise ConfigError(
            f"optim.optimizer={cfg.optimizer!r} is not supported. "
            f"Supported: {', '.join(OPTIMIZERS)}."
        )
    _check("optim.lr", cfg.lr)
    options = _options(cfg.adam)
    options["betas"] = tuple(options["betas"])
    if cfg.optimizer == "dadam" and any("lr" in group for group in groups):
        raise ConfigError(
            "optim.optimizer=dadam has one learning rate, but a module has its own. "
            "Set transformer_lm.emb_lr=null or optim.optimizer=adamw."
        )
    try:
        return OPTIMIZERS[cfg.optimizer](groups, lr=cfg.lr, **options)
    except (TypeError, ValueError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"optim.optimizer={cfg.optimizer} with optim.adam: {error}") from error


def _check(key: str, value: tp.Any, above: bool = False, below: float = math.inf) -> None:
    """Check that a setting is a number of at least 0 (or above it) and less than `below`."""
    if is_number(value) and 0 <= value < below and not (above and value == 0):
        return
    limits = "above 0" if above else "of at least 0"
    if below != math.inf:
        limits += f" and less than {below:g}"
    raise ConfigError(f"{key} is {value!r} but must be a number {limits}.")


def _adam(kind: type[Adam] | type[AdamW], groups: Groups, **options: tp.Any) -> Optimizer:
    devices = {p.device.type for group in groups for p in group["params"]}
    fused = devices <= {"cpu", "cuda"}  # one kernel for all parameters: three times as fast
    return kind(groups, fused=fused, **options)


def _adamw8bit(groups: Groups, **options: tp.Any) -> Optimizer:
    """Build AdamW with 8-bit averages, which take a quarter of the memory.

    Method: Dettmers et al., 2021, https://arxiv.org/abs/2110.02861.
    """
    try:
        from bitsandbytes.optim import AdamW8bit  # noqa: PLC0415
    except ImportError as error:
        raise ConfigError(
            "optim.optimizer=adamw8bit needs bitsandbytes: pip install 'audiocraft-style[8bit]'."
        ) from error
    return AdamW8bit(groups, **options)


OPTIMIZERS: dict[str, tp.Callable[..., Optimizer]] = {
    "adam": partial(_adam, Adam),
    "adamw": partial(_adam, AdamW),
    "adamw8bit": _adamw8bit,
    "dadam": DAdaptAdam,
}


def get_lr_scheduler(
    optimizer: Optimizer, cfg: DictConfig, total_updates: int
) -> schedules.Schedule | None:
    """Build the schedule of the learning rate; `None` keeps it constant.

    Args:
        optimizer: The optimizer.
        cfg: The node `schedule`.
        total_updates: Updates of the whole run.

    Raises:
        ConfigError: The schedule is not supported, or a setting is missing or out of range.
    """
    name = cfg.lr_scheduler
    if name is None:
        return None
    if name not in SCHEDULES:
        raise ConfigError(
            f"schedule.lr_scheduler={name!r} is not supported. "
            f"Supported: null, {', '.join(SCHEDULES)}."
        )
    options = _options(cfg[name])
    for key in ("step_size", "gamma", "lr_decay"):
        if key in options and options[key] is None:
            raise ConfigError(f"schedule.{name}.{key} is null. Set it, or choose another schedule.")
    for key, value in options.items():
        if not (key == "warmup" and value is None):
            _check(f"schedule.{name}.{key}", value, above=key in ABOVE_ZERO)
    if "warmup" in options:
        options["warmup_steps"] = options.pop("warmup") or 0
    if name in ("cosine", "polynomial_decay"):
        options["total_steps"] = total_updates
    return schedules.Schedule(optimizer, SCHEDULES[name](**options))


def _options(node: DictConfig) -> dict[str, tp.Any]:
    """Keyword arguments of a node."""
    return tp.cast(dict[str, tp.Any], OmegaConf.to_container(node, resolve=True))


def get_ema(model: nn.Module, cfg: DictConfig) -> ModuleDictEMA | None:
    """Build the moving average of a model's weights; `None` where `optim.ema.use` is off.

    Args:
        model: The model.
        cfg: The node `optim.ema`.

    Raises:
        ConfigError: A setting is out of range, or the device is not available.
    """
    if not cfg.use:
        return None
    _check("optim.ema.decay", cfg.decay, below=1)
    _check("optim.ema.updates", cfg.updates, above=True)
    device = None if cfg.device == "auto" else resolve_device(cfg.device)
    return ModuleDictEMA({"model": model}, decay=cfg.decay, device=device, updates=cfg.updates)
