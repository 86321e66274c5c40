"""Optimizers, schedules and averages from the nodes `optim` and `schedule`."""

import typing as tp

from omegaconf import DictConfig, OmegaConf
from torch import nn
from torch.optim import Adam, AdamW, Optimizer

from ..errors import ConfigError
from . import schedules
from .dadam import DAdaptAdam
from .ema import ModuleDictEMA

OPTIMIZERS = ("adam", "adamw", "adamw8bit", "dadam")
SCHEDULES: dict[str, tp.Callable[..., schedules.Rule]] = {
    "step": schedules.step,
    "exponential": schedules.exponential,
    "cosine": schedules.cosine,
    "polynomial_decay": schedules.polynomial_decay,
    "inverse_sqrt": schedules.inverse_sqrt,
    "linear_warmup": schedules.linear_warmup,
}


def get_optim_parameter_groups(model: nn.Module) -> list[dict[str, tp.Any]]:
    """The parameters that learn, as groups for an optimizer.

    A model whose parts learn at different rates says so in a method `param_groups`.
    """
    param_groups = getattr(model, "param_groups", None)
    if param_groups is not None:
        return param_groups()
    return [{"params": [p for p in model.parameters() if p.requires_grad]}]


def get_optimizer(groups: list[dict[str, tp.Any]], cfg: DictConfig) -> Optimizer:
    """Build the optimizer that `optim` describes.

    Args:
        groups: From `get_optim_parameter_groups`.
        cfg: The node `optim`.

    Raises:
        ConfigError: The optimizer is unknown, or cannot use several learning rates.
    """
    if cfg.optimizer not in OPTIMIZERS:
        raise ConfigError(
            f"optim.optimizer is {cfg.optimizer!r}, which nobody builds. "
            f"Choose one of: {', '.join(OPTIMIZERS)}."
        )
    options = _options(cfg.adam)
    options["betas"] = tuple(options["betas"])
    if cfg.optimizer == "dadam":
        if any("lr" in group for group in groups):
            raise ConfigError(
                "optim.optimizer=dadam knows one learning rate, but a module has its own. "
                "Set transformer_lm.emb_lr=null or optim.optimizer=adamw."
            )
        return DAdaptAdam(groups, lr=cfg.lr, **options)
    if cfg.optimizer == "adamw8bit":
        return _adamw8bit(groups, lr=cfg.lr, **options)
    kind = AdamW if cfg.optimizer == "adamw" else Adam
    devices = {p.device.type for group in groups for p in group["params"]}
    fused = devices <= {"cpu", "cuda"}  # one kernel for all: thrice as fast on a CPU, too
    return kind(groups, lr=cfg.lr, fused=fused, **options)


def _adamw8bit(groups: list[dict[str, tp.Any]], **options: tp.Any) -> Optimizer:
    """AdamW whose averages take a quarter of the memory.

    Method: Dettmers et al., 2021, https://arxiv.org/abs/2110.02861.
    """
    try:
        from bitsandbytes.optim import AdamW8bit  # noqa: PLC0415
    except ImportError as error:
        raise ConfigError(
            "optim.optimizer=adamw8bit needs bitsandbytes: pip install 'audiocraft-style[8bit]'."
        ) from error
    return AdamW8bit(groups, **options)


def get_lr_scheduler(
    optimizer: Optimizer, cfg: DictConfig, total_updates: int
) -> schedules.Schedule | None:
    """Build the schedule of the learning rate; `None` keeps it constant.

    Args:
        optimizer: Whose rates are set.
        cfg: The node `schedule`.
        total_updates: Updates of the whole run.

    Raises:
        ConfigError: The schedule is unknown, or lacks a setting.
    """
    name = cfg.lr_scheduler
    if name is None:
        return None
    if name not in SCHEDULES:
        raise ConfigError(
            f"schedule.lr_scheduler is {name!r}, which nobody builds. "
            f"Choose null or one of: {', '.join(SCHEDULES)}."
        )
    options = _options(cfg[name])
    for key in ("step_size", "gamma", "lr_decay"):
        if key in options and options[key] is None:
            raise ConfigError(f"schedule.{name}.{key} is null. Set it, or choose another schedule.")
    if "warmup" in options:
        options["warmup_steps"] = options.pop("warmup") or 0
    if name in ("cosine", "polynomial_decay"):
        options["total_steps"] = total_updates
    return schedules.Schedule(optimizer, SCHEDULES[name](**options))


def _options(node: DictConfig) -> dict[str, tp.Any]:
    """A node as keyword arguments."""
    return tp.cast(dict[str, tp.Any], OmegaConf.to_container(node, resolve=True))


def get_ema(model: nn.Module, cfg: DictConfig) -> ModuleDictEMA | None:
    """Build the moving average of a model's weights; `None` where `optim.ema.use` is off.

    Args:
        model: Whose state is averaged.
        cfg: The node `optim.ema`.
    """
    if not cfg.use:
        return None
    device = None if cfg.device == "auto" else cfg.device
    return ModuleDictEMA({"model": model}, decay=cfg.decay, device=device, updates=cfg.updates)
