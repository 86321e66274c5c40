"""Adversarial losses: gradients, updates, and the state with the optimizer."""

import copy

import pytest
import torch
from torch import nn

from audiocraft.adversarial import (
    AdversarialLoss,
    FeatureMatchingLoss,
    MultiPeriodDiscriminator,
    get_adv_criterion,
    get_fake_criterion,
    get_real_criterion,
)

KINDS = ("hinge", "hinge2", "mse")


def build(kind="hinge", **options):
    torch.manual_seed(0)
    adversary = MultiPeriodDiscriminator(periods=(2, 3), filters=2, n_layers=2, max_filters=16)
    return AdversarialLoss(
        adversary,
        torch.optim.Adam(adversary.parameters(), lr=1e-2),
        get_adv_criterion(kind),
        get_real_criterion(kind),
        get_fake_criterion(kind),
        FeatureMatchingLoss(),
        **options,
    )


def batch(seed=0):
    """Estimates (noise) and real waveforms (sines)."""
    noise = torch.randn(4, 1, 600, generator=torch.Generator().manual_seed(seed))
    return 0.3 * noise, torch.sin(torch.arange(600) / 5).expand(4, 1, 600)


@pytest.mark.parametrize("kind", KINDS)
def test_discriminator_learns_to_separate_real_from_estimated(kind):
    loss = build(kind, threshold=0.5 if kind == "mse" else 0.0)
    updates = [loss.update(*batch(seed)) for seed in range(30)]
    assert updates[-1].loss < updates[0].loss
    assert updates[-1].accuracy > 0.95


def test_train_adv_returns_the_loss_of_the_update():
    fake, real = batch()
    assert torch.equal(build().train_adv(fake, real), build().update(fake, real).loss)


def test_generator_losses_reach_the_estimate_and_not_the_discriminator():
    loss = build()
    fake, real = batch()
    fake.requires_grad_()
    adv, feat = loss(fake, real)
    (adv + feat).backward()
    assert fake.grad is not None
    assert fake.grad.abs().sum() > 0
    assert all(p.grad is None and p.requires_grad for p in loss.adversary.parameters())


def test_generator_loss_decreases_with_rising_logits():
    for kind in KINDS:
        criterion = get_adv_criterion(kind)
        assert criterion(torch.tensor([-1.0])) > criterion(torch.tensor([0.5]))


def test_discriminator_update_gives_the_estimate_no_gradient():
    fake, real = batch()
    fake.requires_grad_()
    build().update(fake, real)
    assert fake.grad is None


def test_restored_discriminator_continues_identically():
    loss, restored = build(), build()
    loss.update(*batch(0))
    restored.load_state_dict(copy.deepcopy(nn.ModuleDict({"a": loss}).state_dict()), strict=False)
    box, other = nn.ModuleDict({"msd": loss}), nn.ModuleDict({"msd": restored})
    state = copy.deepcopy(box.state_dict())
    assert isinstance(state["msd.optimizer"], dict)
    other.load_state_dict(state)
    assert torch.equal(loss.update(*batch(1)).loss, restored.update(*batch(1)).loss)
    for one, two in zip(loss.adversary.parameters(), restored.adversary.parameters()):
        assert torch.equal(one, two)


def test_non_finite_loss_does_not_change_the_weights():
    loss = build()
    before = copy.deepcopy(loss.adversary.state_dict())
    fake, real = batch()
    with pytest.raises(FloatingPointError, match="discriminator"):
        loss.update(fake * float("nan"), real)
    for key, value in loss.adversary.state_dict().items():
        assert torch.equal(value, before[key])


def test_feature_matching_is_zero_for_equal_maps_and_needs_equal_counts():
    maps = [torch.randn(2, 3, 4), torch.randn(2, 5)]
    assert float(FeatureMatchingLoss()(maps, maps)) == 0
    with pytest.raises(ValueError, match="same number"):
        FeatureMatchingLoss()(maps, maps[:1])


def test_unsupported_criterion_raises():
    with pytest.raises(ValueError, match="wasserstein"):
        get_adv_criterion("wasserstein")
