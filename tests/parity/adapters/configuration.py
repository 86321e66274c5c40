"""Configurations key by key, and what each choice changes in them."""

import pytest
from hydra.errors import HydraException

from audiocraft.utils.retired_keys import why_retired

from ..configuration import assert_same, composed, flatten, is_retired
from ..harness import adapter


def refused(*overrides):
    """A choice that is out of scope cannot be composed."""
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
    unknown = [k for k in effect["removed"] if k not in before and not why_retired(k)]
    assert not unknown, f"{choice} removes what is not there: {unknown}"
    kept = {key: value for key, value in before.items() if key not in effect["removed"]}
    assert_same(composed(*base, *choice), kept | effect["set"], " ".join(base + choice))
