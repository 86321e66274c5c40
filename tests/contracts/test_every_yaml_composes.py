"""Every shipped configuration file composes, without missing keys."""

from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf

from audiocraft.utils.deprecated_keys import DEPRECATED_KEYS

CONFIG = Path(__file__).parents[2] / "config"
FILES = sorted(path for path in CONFIG.rglob("*.yaml") if path.parent.name != "teams")
# The solver with which a group is composed; the longest prefix applies.
ON = {
    "": "solver=musicgen/musicgen_base_32khz",
    "model/none": "solver=musicgen/default",
    "model/encodec": "solver=compression/debug",
}
# Files whose missing keys are set by the named ones.
INCOMPLETE = {
    "config",
    "model/none",
    "solver/default",
    "solver/musicgen/default",
    "solver/compression/default",
}
KINDS = ("dset/audio", "model/encodec", "model/lm", "solver/compression", "solver/musicgen")


def composed(*overrides: str) -> DictConfig:
    with initialize_config_dir(str(CONFIG), version_base="1.3"):
        return compose("config", list(overrides))


def missing_keys(*overrides: str) -> set[str]:
    """Keys that are `???` after all interpolations are resolved."""
    cfg = composed(*overrides)
    OmegaConf.resolve(cfg)
    return OmegaConf.missing_keys(cfg)


def name_of(path: Path) -> str:
    return str(path.relative_to(CONFIG).with_suffix(""))


def command_line(name: str) -> list[str]:
    """Overrides that select a file."""
    if name == "config":
        return []
    group, _, option = name.rpartition("/")
    if group in KINDS:  # one level of folders is part of the option name
        group, _, kind = group.partition("/")
        option = f"{kind}/{option}"
    if group == "solver":
        return [f"solver={option}"]
    base = max((prefix for prefix in ON if name.startswith(prefix)), key=len)
    return [ON[base], f"{group}={option}"]


@pytest.mark.parametrize("name", [name_of(path) for path in FILES])
def test_every_shipped_file_composes(name):
    missing = missing_keys(*command_line(name))
    assert (name in INCOMPLETE) == bool(missing), f"left open: {missing}"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_every_file_has_a_package_directive_and_a_comment(path):
    lines = path.read_text().splitlines()
    if path.name != "config.yaml":
        assert lines.pop(0) == "# @package _global_"
    assert lines[0].startswith("# "), f"{path} does not say what it is for"
    assert max(map(len, lines)) <= 100


def test_dora_lists_every_config_group():
    """Dora compares an unlisted group as a value, which changes the signature."""
    with initialize_config_dir(str(CONFIG), version_base="1.3"):
        hydra = GlobalHydra.instance().hydra
        assert hydra is not None
        groups = hydra.list_all_config_groups()
    assert {"conditioner", "dset", "model", "model/lm/model_scale", "solver"} <= set(groups)


@pytest.mark.parametrize("name", [name_of(p) for p in FILES if p.parent.parent.name == "solver"])
def test_no_solver_sets_a_deprecated_key(name):
    cfg = composed(*command_line(name))
    assert not [key for key in DEPRECATED_KEYS if OmegaConf.select(cfg, key) is not None]


def test_an_unknown_key_is_refused():
    with pytest.raises(Exception, match="width"):
        composed("solver=musicgen/debug", "transformer_lm.width=3")
