"""Losses and the balancer from the nodes `losses`, `balancer` and those named after a loss."""

import typing as tp

from omegaconf import DictConfig
from torch import nn

from ..errors import ConfigError
from ..utils.config_arguments import arguments, as_config_error
from .balancer import Balancer
from .sisnr import SISNR
from .spectral import MelSpectrogramL1Loss, MRSTFTLoss, MultiScaleMelSpectrogramLoss

LOSSES: dict[str, type[nn.Module]] = {
    "l1": nn.L1Loss,
    "l2": nn.MSELoss,
    "mel": MelSpectrogramL1Loss,
    "msspec": MultiScaleMelSpectrogramLoss,
    "mrstft": MRSTFTLoss,
    "sisnr": SISNR,
}


def get_loss(name: str, cfg: DictConfig) -> nn.Module:
    """Build a loss from the node of its name.

    Raises:
        ConfigError: There is no such loss, or its node has a key or value that is wrong.
    """
    if name not in LOSSES:
        raise ConfigError(
            f"losses.{name} is not supported. Supported: adv, feat, {', '.join(LOSSES)}."
        )
    kind = LOSSES[name]
    with_node = name not in ("l1", "l2")
    options = arguments(cfg.get(name), name, kind) if with_node else {}
    return _built(kind, name, options)


def get_balancer(weights: tp.Mapping[str, float], node: DictConfig) -> Balancer:
    """Build the balancer of some losses.

    Raises:
        ConfigError: A setting is unknown or out of range.
    """
    return _built(
        Balancer, "balancer", arguments(node, "balancer", Balancer, provided=["weights"]), weights
    )


def _built(kind: tp.Callable, where: str, options: dict[str, tp.Any], *args: tp.Any) -> tp.Any:
    with as_config_error(where):
        return kind(*args, **options)
