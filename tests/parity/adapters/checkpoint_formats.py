"""Replays file layouts: recorded layouts are written and read; our exports have the same layout."""

import json
import tempfile
import typing as tp
from pathlib import Path

import torch
from omegaconf import OmegaConf
from torch import nn

from audiocraft.models.builders import get_compression_model, get_lm_model
from audiocraft.utils import export
from audiocraft.utils.checkpoint_files import read_checkpoint_file

from ..configuration import compose_config
from ..harness import adapter, assert_close

# The debug model of each solver, and its export function.
TRAINED = {
    "musicgen": ("solver=musicgen/debug", get_lm_model, "export_lm"),
    "compression": ("solver=compression/debug", get_compression_model, "export_encodec"),
}
EXPORTS = ("export_lm", "export_encodec", "export_pretrained_compression_model")
NOT_A_FORMAT = "files_of_an_experiment"  # an experiment of the original is not loaded


@adapter("checkpoint_formats")
def check(case, call):
    sections = [key for key in case.meta if key not in ("case", "origin", "note", NOT_A_FORMAT)]
    trained = [key for key in sections if key.startswith("solver_checkpoint")]
    assert trained
    unknown = set(sections) - {*trained, *EXPORTS}
    assert not unknown, f"{unknown} is not compared"
    for key in trained:
        solver = key.partition("(")[2].split(",")[0].rstrip(")")
        with tempfile.TemporaryDirectory() as folder:
            check_checkpoint(case.meta, key, *TRAINED[solver], Path(folder))
    with tempfile.TemporaryDirectory() as folder:
        recorded = case.meta["export_pretrained_compression_model"]
        path = export.export_pretrained_compression_model(recorded["pretrained"], f"{folder}/c.bin")
        content = torch.load(path, weights_only=True)
        assert content | {"version": None} == recorded | {"version": None}
        assert isinstance(content["version"], type(recorded["version"]))


def check_checkpoint(meta, key, override, build, exporter, folder):
    """Read and export a checkpoint of the recorded layout with the weights of our debug model."""
    config = compose_config(override)
    model = build(config)
    write = Described(model, config)
    torch.save(write(meta[key]), folder / "checkpoint.th")

    package = read_checkpoint_file(folder / "checkpoint.th")
    assert_close_states(package.state, model.state_dict())
    assert package.config == config

    path = getattr(export, exporter)(folder / "checkpoint.th", folder / "exported.bin")
    content = torch.load(path, weights_only=True)
    recorded = meta[exporter]
    claimed = {name for name in recorded if name.startswith("keys of")}
    assert all(recorded[name] for name in claimed)
    assert set(content) == set(recorded) - claimed
    assert_close_states(content["best_state"], model.state_dict())
    assert_described(content["best_state"], recorded["best_state"])
    assert recorded["exported"] == "bool True"
    assert content["exported"] is True
    for name in ("xp.cfg", "version"):
        assert recorded[name] == "builtins.str"
        assert isinstance(content[name], str)
    assert OmegaConf.create(content["xp.cfg"]) == config


def assert_close_states(ours, theirs):
    assert list(ours) == list(theirs)
    for name, value in ours.items():
        assert_close(value, theirs[name])


def assert_described(state, described):
    """Assert the recorded size, first keys and dtypes of a state dict."""
    assert len(state) == described["<state dict>"]
    assert list(state)[: len(described["first keys"])] == described["first keys"]
    assert {str(v.dtype).removeprefix("torch.") for v in state.values()} == {*described["dtypes"]}


class Described:
    """Builds described values: `float 0.1`, `tensor float32 [2, 3]`, lists, state dicts."""

    def __init__(self, model: nn.Module, config):
        self.model = model
        self.made: dict[str, tp.Callable[[str], tp.Any]] = {
            "float": float,
            "int": int,
            "bool": lambda text: text == "True",
            "NoneType": lambda text: None,
            "tensor": lambda text: torch.zeros(json.loads(text.partition(" ")[2])),
            "builtins.str": lambda text: "abcd1234",
            "omegaconf.dictconfig.DictConfig": lambda text: config,
        }

    def __call__(self, described: tp.Any) -> tp.Any:
        if isinstance(described, str):
            kind, _, rest = described.partition(" ")
            return self.made[kind](rest)
        if isinstance(described, list):
            items = [self(item) for item in described[2:]]
            return tuple(items) if described[0] == "tuple" else items
        if "<state dict>" in described:
            state = self.model.state_dict()
            assert_described(state, described)
            return state
        return {
            int(name) if name.isdigit() else name: self(value)
            for name, value in described.items()
            if name != "<per parameter index>"
        }
