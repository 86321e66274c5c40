"""Adversarial losses: criteria of generator and discriminator, feature matching, one update.

Methods: hinge: Lim and Ye, 2017, https://arxiv.org/abs/1705.02894; least squares: Mao et al., 2016,
https://arxiv.org/abs/1611.04076; feature matching: Larsen et al., 2015,
https://arxiv.org/abs/1512.09300; all of them for codecs: Défossez et al., 2022,
https://arxiv.org/abs/2210.13438 (section 3.4).
"""

import math
import typing as tp

import torch
from flashy.distrib import sync_model
from torch import Tensor, nn
from torch.nn import functional as F

from .discriminators import MultiDiscriminator

Criterion = tp.Callable[[Tensor], Tensor]  # logits to a scalar


def _hinge_generator(fake: Tensor) -> Tensor:
    return -fake.mean()


def _hinge2_generator(fake: Tensor) -> Tensor:
    return F.relu(1 - fake).mean()


def _hinge_real(real: Tensor) -> Tensor:
    return F.relu(1 - real).mean()


def _hinge_fake(fake: Tensor) -> Tensor:
    return F.relu(1 + fake).mean()


def _mse_to_one(logits: Tensor) -> Tensor:
    return (logits - 1).square().mean()


def _mse_to_zero(logits: Tensor) -> Tensor:
    return logits.square().mean()


GENERATOR = {"hinge": _hinge_generator, "hinge2": _hinge2_generator, "mse": _mse_to_one}
REAL = {"hinge": _hinge_real, "hinge2": _hinge_real, "mse": _mse_to_one}
FAKE = {"hinge": _hinge_fake, "hinge2": _hinge_fake, "mse": _mse_to_zero}
# Logits above it count as real, when accuracy is measured.
THRESHOLD = {"hinge": 0.0, "hinge2": 0.0, "mse": 0.5}


def get_adv_criterion(loss_type: str) -> Criterion:
    """Loss of the generator on logits of its estimates: `hinge`, `hinge2` or `mse`.

    `hinge2` stops pushing logits that are above 1 already.

    Raises:
        ValueError: `loss_type` is not supported.
    """
    return _chosen(GENERATOR, loss_type)


def get_real_criterion(loss_type: str) -> Criterion:
    """Loss of the discriminator on logits of real waveforms; see `get_adv_criterion`."""
    return _chosen(REAL, loss_type)


def get_fake_criterion(loss_type: str) -> Criterion:
    """Loss of the discriminator on logits of estimates; see `get_adv_criterion`."""
    return _chosen(FAKE, loss_type)


def _chosen(criteria: tp.Mapping[str, Criterion], loss_type: str) -> Criterion:
    if loss_type not in criteria:
        raise ValueError(
            f"adv_loss is {loss_type!r}, which is not supported. Supported: "
            f"{', '.join(sorted(criteria))}."
        )
    return criteria[loss_type]


class FeatureMatchingLoss(nn.Module):
    """Distance between the feature maps of a real waveform and of its estimate.

    Args:
        loss: Distance between two maps; `None` is the mean absolute difference.
        normalize: Divide by the number of maps.
    """

    def __init__(self, loss: nn.Module | None = None, normalize: bool = True):
        super().__init__()
        self.loss = nn.L1Loss() if loss is None else loss
        self.normalize = normalize

    def forward(self, fmap_fake: tp.Sequence[Tensor], fmap_real: tp.Sequence[Tensor]) -> Tensor:
        """Feature maps of one sub-discriminator to a scalar.

        Raises:
            ValueError: There is no map, or not the same number of both.
        """
        if len(fmap_fake) != len(fmap_real) or not fmap_fake:
            raise ValueError(
                f"{len(fmap_fake)} feature maps of estimates and {len(fmap_real)} of real audio "
                "cannot be compared. Give the same number, at least one."
            )
        distances = [self.loss(fake, real) for fake, real in zip(fmap_fake, fmap_real)]
        total = torch.stack(distances).sum()
        return total / len(distances) if self.normalize else total


class GeneratorLosses(tp.NamedTuple):
    """Losses of the generator against one discriminator."""

    adv: Tensor  # scalar
    feat: Tensor  # scalar; 0 without feature matching


class AdversaryUpdate(tp.NamedTuple):
    """Result of one update of a discriminator."""

    loss: Tensor  # scalar, detached
    accuracy: float  # share of logits on the right side of the threshold, before the update
    grad_norm: float


class AdversarialLoss(nn.Module):
    """A discriminator with its optimizer, and the losses that it gives to a generator.

    The state of the optimizer is part of the state dict, under `optimizer`.

    Args:
        adversary: The discriminator.
        optimizer: Of its parameters.
        loss: Criterion of the generator.
        loss_real: Criterion of the discriminator on real waveforms.
        loss_fake: Criterion of the discriminator on estimates.
        loss_feat: Feature matching; `None` leaves it out.
        normalize: Divide by the number of sub-discriminators.
        threshold: Logit above which a waveform counts as judged real, for the accuracy.
        max_norm: Norm to which the gradient of the discriminator is clipped; 0 does not clip.
    """

    def __init__(
        self,
        adversary: MultiDiscriminator,
        optimizer: torch.optim.Optimizer,
        loss: Criterion,
        loss_real: Criterion,
        loss_fake: Criterion,
        loss_feat: FeatureMatchingLoss | None = None,
        normalize: bool = True,
        threshold: float = 0.0,
        max_norm: float = 0.0,
    ):
        super().__init__()
        self.adversary = adversary
        self.optimizer = optimizer
        self.loss = loss
        self.loss_real = loss_real
        self.loss_fake = loss_fake
        self.loss_feat = loss_feat
        self.normalize = normalize
        self.threshold = threshold
        self.max_norm = max_norm or math.inf

    def train_adv(self, fake: Tensor, real: Tensor) -> Tensor:
        """Update the discriminator once; returns its loss. See `update`."""
        return self.update(fake, real).loss

    def update(self, fake: Tensor, real: Tensor) -> AdversaryUpdate:
        """Update the discriminator once, on estimates and real waveforms `[B, C, T]`.

        Over several processes the gradients are averaged; all of them have to call it.

        Raises:
            FloatingPointError: The loss or the gradient is not finite; the weights are unchanged.
        """
        fake_logits, _ = self.adversary(fake.detach())
        real_logits, _ = self.adversary(real.detach())
        parts = [
            self.loss_fake(fake) + self.loss_real(real)
            for fake, real in zip(fake_logits, real_logits)
        ]
        loss = self._combined(parts)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        sync_model(self.adversary)
        norm = float(nn.utils.clip_grad_norm_(self.adversary.parameters(), self.max_norm))
        loss = loss.detach()
        if not math.isfinite(norm) or not math.isfinite(float(loss)):
            raise FloatingPointError(
                f"discriminator's loss became {float(loss)} and the norm of its gradient {norm}"
            )
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return AdversaryUpdate(loss, self.accuracy(fake_logits, real_logits), norm)

    def accuracy(self, fake_logits: tp.Sequence[Tensor], real_logits: tp.Sequence[Tensor]) -> float:
        """Share of logits on the right side of the threshold, averaged over estimate and real."""
        right = [(logits.detach() < self.threshold).float().mean() for logits in fake_logits]
        right += [(logits.detach() > self.threshold).float().mean() for logits in real_logits]
        return float(torch.stack(right).mean())

    def forward(self, fake: Tensor, real: Tensor) -> GeneratorLosses:
        """Losses of the generator, whose gradient does not reach the discriminator's weights."""
        with frozen_parameters(self.adversary):
            fake_logits, fake_maps = self.adversary(fake)
            adv = self._combined([self.loss(logits) for logits in fake_logits])
            if self.loss_feat is None:
                return GeneratorLosses(adv, adv.new_zeros(()))
            with torch.no_grad():
                _, real_maps = self.adversary(real)
            pairs = zip(fake_maps, real_maps)
            feat = self._combined([self.loss_feat(fake, real) for fake, real in pairs])
        return GeneratorLosses(adv, feat)

    def _combined(self, parts: list[Tensor]) -> Tensor:
        total = torch.stack(parts).sum()
        return total / len(parts) if self.normalize else total

    def _save_to_state_dict(self, destination: tp.Any, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        destination[f"{prefix}optimizer"] = self.optimizer.state_dict()

    def _load_from_state_dict(
        self,
        state_dict: tp.Any,
        prefix: str,
        local_metadata: tp.Any,
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        state = state_dict.pop(f"{prefix}optimizer", None)
        if state is None:
            missing_keys.append(f"{prefix}optimizer")
        else:
            self.optimizer.load_state_dict(state)
        super()._load_from_state_dict(
            state_dict,
            prefix,
            local_metadata,
            strict,
            missing_keys,
            unexpected_keys,
            error_msgs,
        )


class frozen_parameters:
    """Context in which the parameters of a module take no gradient."""

    def __init__(self, module: nn.Module):
        self.parameters = [p for p in module.parameters() if p.requires_grad]

    def __enter__(self) -> None:
        for parameter in self.parameters:
            parameter.requires_grad_(False)

    def __exit__(self, *exc: tp.Any) -> None:
        for parameter in self.parameters:
            parameter.requires_grad_(True)
