"""Configurations key by key, and what each choice changes in them."""

from ..configuration import assert_same, composed, flatten, is_retired
from ..harness import adapter


@adapter("resolved_configs")
def check_resolved(case, call):
    for overrides, recorded in case.meta["configs"].items():
        if not is_retired(*overrides.split()):
            assert_same(composed(*overrides.split()), flatten(recorded), overrides)


@adapter("config_group_effects")
def check_effects(case, call):
    for on, effects in case.meta.items():
        if not on.startswith("on "):
            continue
        base = on.removeprefix("on ").split()
        for choice, effect in effects.items():
            overrides = [*base, *choice.split()]
            if is_retired(*overrides):
                continue
            kept = {k: v for k, v in composed(*base).items() if k not in effect["removed"]}
            assert_same(composed(*overrides), kept | effect["set"], " ".join(overrides))
