"""Parity suite: it runs on any folder of cases, and every wrong value fails."""

import copy

import pytest
import torch

from .harness import ADAPTERS, Case, configured_folders, kind_of, parity_folders
from .replay import calls_of, discover, replay

pytestmark = pytest.mark.skipif(not parity_folders(), reason=f"no folder {configured_folders()}")
CASES = [case for folder in parity_folders() for case in discover(folder)]

# Cases without calls contain facts; each path leads to one that our results must equal.
FACTS = {
    "audio_dataset": ("datasets", 0, "sampling_probabilities", 0),
    "checkpoint_formats": ("export_lm", "best_state", "<state dict>"),
    "conditioning_facts": ("cfg_dropout", "dropped", 0),
    "config_group_effects": None,  # each choice sets different keys: see `first_number`
    "init_statistics": ("configs", 0, "emb.0.weight", 0),
    "lr_schedulers": ("schedules", 0, "lr", -1),
    "music_info": ("augment", "rows", 0, "out"),
    "resolved_configs": ("configs", 0, "sample_rate"),
    "state_dict_keys_encodec": ("models", 0, "n_parameters"),
    "state_dict_keys_lm": ("models", 0, "n_parameters"),
}


@pytest.fixture
def renamed(tmp_path):
    """The recorded cases under other names."""
    for case in CASES:
        name = f"{kind_of(case.name)}_of_another_day"
        if (tmp_path / f"{name}.json").exists():
            name += f"_{case.name}"
        if case.path.is_dir():
            (tmp_path / name).symlink_to(case.path)
            continue
        for suffix in (".json", ".safetensors"):
            file = case.path.with_suffix(suffix)
            if file.exists():
                (tmp_path / f"{name}{suffix}").symlink_to(file)
    (tmp_path / "README.md").write_text("What is there.")
    return tmp_path


@pytest.mark.slow
def test_case_names_only_matter_up_to_their_kind(renamed):
    calls = list(calls_of(renamed))
    assert len(calls) == sum(len(list(calls_of(folder))) for folder in parity_folders())
    seen = set()
    for case, call in calls:
        if case.name not in seen:  # the first call of each
            seen.add(case.name)
            replay(case, call)
    assert len(seen) == len(CASES)


@pytest.mark.parametrize("name", ["mystery.json", "mystery.safetensors", "mystery"])
def test_unknown_prefix_fails(name, tmp_path):
    if "." in name:
        (tmp_path / name).write_text("{}")
    else:
        (tmp_path / name).mkdir()
    ((case, call),) = calls_of(tmp_path)
    with pytest.raises(AssertionError, match="no adapter replays mystery"):
        replay(case, call)


@pytest.mark.parametrize("name", ["patterns_b.safetensors", "exported_b"])
def test_numbers_without_a_description_fail(name, tmp_path):
    if "." in name:
        (tmp_path / name).write_bytes(b"")
    else:
        (tmp_path / name).mkdir()
    ((case, call),) = calls_of(tmp_path)
    with pytest.raises(AssertionError, match="no JSON that describes it"):
        replay(case, call)


def test_empty_folder_has_no_calls(tmp_path):
    assert list(calls_of(tmp_path)) == []  # `test_parity` then fails: it requires cases


def test_every_kind_of_the_plan_has_an_adapter():
    plan = """patterns transformer lm_ cross_entropy sampling_filters rvq style_conditioner hubert_
        t5_conditioner lut_conditioner fuser conditioning_facts encodec_ audio_utils lr_schedulers
        dadapt_adam ema audio_dataset music_info exported_ init_statistics checkpoint_formats
        resolved_configs config_group_effects state_dict_keys_lm state_dict_keys_encodec
        spectral_losses adversarial_losses discriminator_ balancer codec_train_steps"""
    assert set(plan.split()) <= set(ADAPTERS)


def outputs_once():
    """Yield one call for each kind and set of outputs."""
    seen = set()
    for case in CASES:
        for call in case.calls:
            names = (kind_of(case.name), *sorted(case.outputs(call)))
            if names not in seen:
                seen.add(names)
                yield pytest.param(case, call, id=f"{case.name}-{call['name']}")


@pytest.mark.parametrize(("case", "call"), list(outputs_once()))
def test_any_wrong_output_fails(case, call):
    for name in case.outputs(call):
        if is_all_nan(case.outputs(call)[name]):
            continue
        other = Case(case.path)
        other.meta, other.tensors = copy.deepcopy(case.meta), dict(case.tensors)
        called = next(c for c in other.calls if c["name"] == call["name"])
        key = called["out"][name] if "out" in called else f"out/{call['name']}/{name}"
        if isinstance(key, str) and key in other.tensors:
            other.tensors[key] = off(other.tensors[key])
        else:
            called["out"][name] = off(key)
        with pytest.raises(AssertionError):
            replay(other, called)


@pytest.mark.parametrize("case", [c for c in CASES if not c.calls], ids=lambda case: case.name)
def test_any_wrong_fact_fails(case):
    other = Case(case.path)
    other.meta = copy.deepcopy(case.meta)
    path = FACTS[kind_of(case.name)]
    node, last = walk(other.meta, path) if path else first_number(other.meta)
    node[last] = off(node[last])
    with pytest.raises(AssertionError):
        replay(other, None)


def is_all_nan(value):
    """Return whether a value is all NaN; altering it has no effect."""
    return isinstance(value, torch.Tensor) and value.is_floating_point() and value.isnan().all()


def off(value):
    """Return a value of the same kind that is wrong everywhere."""
    if isinstance(value, torch.Tensor):
        if value.dtype == torch.bool:
            return ~value
        return value + 0.05 * value.abs().clamp(min=1) if value.is_floating_point() else value + 1
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value * 1.1 + 1
    if isinstance(value, list):
        return [off(item) for item in value]
    if isinstance(value, dict):
        return {key: off(item) for key, item in value.items()}
    return f"{value}, but off"


def walk(node, path):
    """Return the last node of a path and the key below it; numbers index keys of dictionaries."""
    keys = []
    for step in path:
        keys.append(list(node)[step] if isinstance(node, dict) and isinstance(step, int) else step)
        parent, node = node, node[keys[-1]]
    return parent, keys[-1]


def first_number(meta):
    """Return a number set by a choice of the configuration."""
    for on, effects in meta.items():
        for effect in effects.values() if on.startswith("on ") else ():
            for key, value in effect["set"].items():
                if isinstance(value, int | float) and not isinstance(value, bool):
                    return effect["set"], key
    raise AssertionError("no choice sets a number")
