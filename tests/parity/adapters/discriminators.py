"""Replays discriminators: state, logits, feature maps, gradient."""

import torch

from audiocraft import adversarial

from ..harness import adapter, assert_close


def assert_close_in_scale(actual, expected):
    """Assert closeness relative to the largest value: outputs of order 1e5 have larger rounding."""
    assert_close(actual, expected, atol=1e-4 + 1e-5 * float(expected.abs().max()))


@adapter("discriminator_")
def check(case, call):
    kind = getattr(adversarial, case.meta["module"])
    discriminator = kind(**case.meta["config"]).eval()
    discriminator.load_state_dict(case.state(), strict=True)
    x = case.inputs(call)["x"].clone().requires_grad_()
    logits, maps = discriminator(x)
    torch.stack([part.sum() for part in logits]).sum().backward()
    recorded = case.outputs(call)
    for number, part in enumerate(logits):
        assert_close_in_scale(part.detach(), recorded[f"logits{number}"])
    assert [[list(m.shape) for m in part] for part in maps] == recorded["fmap_shapes"]
    means = torch.stack([m.detach().abs().mean() for part in maps for m in part])
    assert_close_in_scale(means, recorded["fmap_abs_means"])
    assert_close_in_scale(x.grad, recorded["grad"])
