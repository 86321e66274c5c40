"""Replays resolved configurations, and the effect of each choice on them."""

import pytest
import torch
from hydra.errors import HydraException
from omegaconf import OmegaConf

from audiocraft.models.builders import get_compression_model, get_lm_model
from audiocraft.utils.checkpoint_files import extract_model_config
from audiocraft.utils.config_arguments import IgnoredKeys
from audiocraft.utils.deprecated_keys import deprecation_reason

from ..configuration import assert_same, composed, flatten, is_retired
from ..harness import adapter


def refused(*overrides):
    """Assert that an out-of-scope choice cannot be composed."""
    with pytest.raises(HydraException):
        composed(*overrides)


@adapter("resolved_configs")
def check_resolved(case, call):
    for key, recorded in case.meta["configs"].items():
        overrides = key.split()
        if is_retired(*overrides):
            refused(*overrides)
        else:
            assert_same(composed(*overrides), flatten(recorded), key)
            check_building(recorded)


def check_building(recorded):
    """Build the model from a configuration stored with weights; no key is unknown."""
    passed_over = IgnoredKeys()
    config = extract_model_config(OmegaConf.create(recorded), passed_over)
    build = get_lm_model if "transformer_lm" in config else get_compression_model
    with torch.device("meta"):
        build(config, on_unknown=passed_over)
    left = [key for key in passed_over.keys if flatten(recorded).get(key) != "???"]
    assert not left, f"passed over: {left}"


@adapter("config_group_effects")
def check_effects(case, call):
    for key in case.meta["compose_errors"]:
        refused(*key.removeprefix("on ").split())
    for on, effects in case.meta.items():
        if not on.startswith("on "):
            continue
        base = on.removeprefix("on ").split()
        for choice, effect in effects.items():
            check_effect(base, choice.split(), effect)


def check_effect(base, choice, effect):
    if is_retired(*base, *choice):
        refused(*base, *choice)
        return
    before = composed(*base)
    unknown = [k for k in effect["removed"] if k not in before and not deprecation_reason(k)]
    assert not unknown, f"{choice} removes what is not there: {unknown}"
    kept = {key: value for key, value in before.items() if key not in effect["removed"]}
    assert_same(composed(*base, *choice), kept | effect["set"], " ".join(base + choice))
