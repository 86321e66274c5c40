import logging

import pytest
import torch

from audiocraft.models.generation import guidance
from audiocraft.models.generation.guidance import Guidance, concat_branches
from audiocraft.modules.conditioners.base import Condition, null_condition

from ..tiny_lm import condition, text_and_style

STYLE = ("self_wav",)


def outputs_of(branches):
    """One scalar output per branch and item: the sum of its condition embeddings."""
    return [sum(c.embed.sum(dim=(1, 2)) for c in branch.conditions.values()) for branch in branches]


def guided(chosen, conditions):
    branches = chosen.expand(conditions, STYLE)
    return chosen.mix(outputs_of(branches), branches), len(branches)


@pytest.fixture
def given():
    return text_and_style(2)


@pytest.fixture
def parts(given):
    """Contribution of each condition to the output; a null condition contributes zero."""
    return {name: c.embed.sum(dim=(1, 2)) for name, c in given.items()}


def test_single_guidance_scales_all_conditions(given, parts):
    result, count = guided(Guidance(cfg_coef=3.0), given)

    assert count == 2
    torch.testing.assert_close(result, 3 * (parts["description"] + parts["self_wav"]))


def test_double_guidance_scales_text_again(given, parts):
    result, count = guided(Guidance(cfg_coef=3.0, cfg_coef_beta=5.0), given)

    assert count == 3
    expected = 3 * (parts["self_wav"] + 5 * parts["description"])
    torch.testing.assert_close(result, expected, atol=1e-4, rtol=1e-5)


def test_beta_of_one_is_single_guidance(given):
    single, _ = guided(Guidance(cfg_coef=3.0), given)
    double, count = guided(Guidance(cfg_coef=3.0, cfg_coef_beta=1.0), given)

    assert count == 2
    torch.testing.assert_close(double, single)


@pytest.mark.parametrize(
    ("coef", "beta", "count"), [(1.0, None, 1), (0.0, None, 1), (1.0, 5.0, 2), (3.0, 0.0, 2)]
)
def test_branches_with_zero_weight_are_not_computed(given, coef, beta, count):
    branches = Guidance(cfg_coef=coef, cfg_coef_beta=beta).expand(given, STYLE)

    assert len(branches) == count
    assert sum(branch.weight for branch in branches) == pytest.approx(1)


def test_guidance_without_conditions_has_one_branch(given):
    null = {name: null_condition(c) for name, c in given.items()}

    assert len(Guidance().expand({})) == 1
    assert len(Guidance(cfg_coef_beta=5.0).expand(null, STYLE)) == 1


def test_double_guidance_without_style_falls_back_to_single_and_logs(given, caplog):
    text = {"description": given["description"]}

    guidance._log_single_guidance.cache_clear()
    with caplog.at_level(logging.INFO):
        double, count = guided(Guidance(cfg_coef_beta=5.0), text)

    assert count == 2
    torch.testing.assert_close(double, guided(Guidance(), text)[0])
    assert "cfg_coef_beta=5.0" in caplog.text


@pytest.mark.parametrize(("two_step", "num_steps"), [(False, 4), (True, 1)])
def test_null_condition_length_matches_released_behaviour(given, two_step, num_steps):
    *_, nothing = Guidance(two_step=two_step).expand(given, STYLE)

    null = nothing.conditions["description"]
    assert null.embed.shape == (2, num_steps, given["description"].embed.shape[2])
    assert not null.embed.any()
    assert not null.mask.any()


def test_conditions_keep_their_order(given):
    for branch in Guidance(cfg_coef_beta=5.0).expand(given, STYLE):
        assert list(branch.conditions) == ["description", "self_wav"]


def test_branches_are_concatenated_into_one_batch(given):
    branches = Guidance(cfg_coef_beta=5.0).expand(given, STYLE)

    together = concat_branches(branches)

    assert len(together["self_wav"].embed) == 3 * 2
    for index, branch in enumerate(branches):
        part = together["description"].embed[2 * index : 2 * index + 2]
        torch.testing.assert_close(part, branch.conditions["description"].embed)


def test_half_precision_logits_are_combined_in_float32():
    branches = Guidance(cfg_coef=7.0).expand({"description": condition(1, 3)})
    logits = [torch.full((1, 2), 9000.0).half(), torch.full((1, 2), -9000.0).half()]

    mixed = Guidance(cfg_coef=7.0).mix(logits, branches)

    assert mixed.dtype == torch.float32
    assert mixed.isfinite().all()


def test_guidance_applies_if_any_item_has_a_condition(given):
    embed = given["description"].embed.clone()
    embed[1] = 0
    mask = given["description"].mask.clone()
    mask[1] = False

    assert len(Guidance().expand({"description": Condition(embed, mask)})) == 2
