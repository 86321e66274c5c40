"""Discriminators and adversarial losses from the nodes `adversarial`, `msstftd`, `msd`, `mpd`."""

import typing as tp

from omegaconf import DictConfig, OmegaConf
from torch import nn

from ..errors import ConfigError
from ..optim.builders import get_optimizer
from ..utils.config_arguments import OnUnknown, arguments, as_config_error, reject_unknown_key
from .discriminators import (
    MultiDiscriminator,
    MultiPeriodDiscriminator,
    MultiScaleDiscriminator,
    MultiScaleSTFTDiscriminator,
)
from .losses import (
    THRESHOLD,
    AdversarialLoss,
    FeatureMatchingLoss,
    get_adv_criterion,
    get_fake_criterion,
    get_real_criterion,
)

DISCRIMINATORS: dict[str, type[MultiDiscriminator]] = {
    "msstftd": MultiScaleSTFTDiscriminator,
    "msd": MultiScaleDiscriminator,
    "mpd": MultiPeriodDiscriminator,
}
DISTANCES: dict[str, type[nn.Module]] = {"l1": nn.L1Loss, "l2": nn.MSELoss}
LAST_KERNEL = 3  # of the multi-period discriminator, whose node names only the other one


def get_adversary(
    name: str, cfg: DictConfig, on_unknown: OnUnknown = reject_unknown_key
) -> MultiDiscriminator:
    """Build the discriminator that the node of its name describes.

    Raises:
        ConfigError: There is no such discriminator, or its node has a key or value that is wrong.
    """
    if name not in DISCRIMINATORS:
        raise ConfigError(
            f"adversarial.adversaries has {name!r}, which is not supported. Supported: "
            f"{', '.join(DISCRIMINATORS)}."
        )
    node = dict(tp.cast(dict, OmegaConf.to_container(cfg[name], resolve=True)))
    if name == "mpd":  # keys of the original's configuration
        if "kernel_size" in node:
            node["kernel_sizes"] = [node.pop("kernel_size"), LAST_KERNEL]
        if "filter_scales" in node:
            node["filters_scale"] = node.pop("filter_scales")
    kind = DISCRIMINATORS[name]
    with as_config_error(name):
        return kind(**arguments(node, name, kind, on_unknown=on_unknown))


def get_adversarial_losses(cfg: DictConfig, device: tp.Any = "cpu") -> nn.ModuleDict:
    """One `AdversarialLoss` for each of `adversarial.adversaries`, by name.

    Raises:
        ConfigError: A setting of `adversarial` is not supported.
    """
    node = cfg.adversarial
    if node.feat_loss not in DISTANCES:
        raise ConfigError(
            f"adversarial.feat_loss={node.feat_loss!r} is not supported. Supported: "
            f"{', '.join(DISTANCES)}."
        )
    losses = nn.ModuleDict()
    for name in node.adversaries:
        adversary = get_adversary(name, cfg).to(device)
        with as_config_error("adversarial"):
            losses[name] = AdversarialLoss(
                adversary,
                get_optimizer([{"params": list(adversary.parameters())}], _optim_of(cfg)),
                get_adv_criterion(node.adv_loss),
                get_real_criterion(node.adv_loss),
                get_fake_criterion(node.adv_loss),
                FeatureMatchingLoss(DISTANCES[node.feat_loss]()),
                threshold=THRESHOLD[node.adv_loss],
                max_norm=node.get("max_norm") or 0.0,
            )
    return losses


def _optim_of(cfg: DictConfig) -> DictConfig:
    """The node `optim` with the learning rate of the discriminators."""
    if cfg.adversarial.get("lr") is None:
        return cfg.optim
    return OmegaConf.merge(cfg.optim, {"lr": cfg.adversarial.lr})  # type: ignore[return-value]
