"""Recorded cases of the original implementation, and the registry of their adapters.

The folders come from `AUDIOCRAFT_PARITY`. A case is a JSON file, usually with a safetensors file
beside it, or a folder with an exported model; its kind is the longest registered prefix of
its name. One adapter per kind builds our module from the recorded arguments and replays a call.
No code is specific to a case, so folders with other seeds, sizes and options run unchanged.
"""

import json
import os
import typing as tp
import zlib
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

ROOT = Path(__file__).parents[2]

Call = dict[str, tp.Any]


def configured_folders() -> list[Path]:
    """Folders of recorded numbers, separated by `os.pathsep` in `AUDIOCRAFT_PARITY`."""
    named = os.environ.get("AUDIOCRAFT_PARITY")
    if named:
        return [Path(folder) for folder in named.split(os.pathsep) if folder]
    return [ROOT.parent / "shared" / name for name in ("parity", "parity-codec")]


def parity_folders() -> list[Path]:
    """Return the configured folders that exist."""
    return [folder for folder in configured_folders() if folder.is_dir()]


class Recorded(dict[str, tp.Any]):
    """Outputs of a call, with a record of those not read yet."""

    def __init__(self, outputs: tp.Mapping[str, tp.Any]):
        super().__init__(outputs)
        self.unread = set(self)

    def __getitem__(self, name: str) -> tp.Any:
        self.unread.discard(name)
        return super().__getitem__(name)

    def get(self, name: str, default: tp.Any = None) -> tp.Any:
        if name in self:
            return self[name]
        return default

    def items(self) -> list[tuple[str, tp.Any]]:  # type: ignore
        return [(name, self[name]) for name in self]


class Case:
    """One recorded case.

    Args:
        path: `NAME.json`, with `NAME.safetensors` beside it where there are tensors; or a folder
            with `expected.json` and `expected.safetensors`.
    """

    def __init__(self, path: Path):
        self.path = path
        self.description = path / "expected.json" if path.is_dir() else path
        self._recorded: dict[str, Recorded] = {}

    @property
    def name(self) -> str:
        return self.path.stem

    @cached_property
    def meta(self) -> dict[str, tp.Any]:
        return json.loads(self.description.read_text())

    @cached_property
    def tensors(self) -> dict[str, Tensor]:
        file = self.description.with_suffix(".safetensors")
        return load_file(file) if file.exists() else {}

    @property
    def calls(self) -> list[Call]:
        return self.meta.get("calls", [])

    def state(self, prefix: str = "state/") -> dict[str, Tensor]:
        """Return the recorded state dict under `prefix`, with the prefix removed."""
        return {k[len(prefix) :]: v for k, v in self.tensors.items() if k.startswith(prefix)}

    def value(self, reference: tp.Any) -> tp.Any:
        """Return a recorded tensor if `reference` is its key, else the value itself."""
        if isinstance(reference, str) and reference in self.tensors:
            return self.tensors[reference]
        return reference

    def inputs(self, call: Call) -> dict[str, tp.Any]:
        """Inputs of the call: the values it lists, or all tensors under its name."""
        if "in" not in call:
            return self.state(f"in/{call['name']}/")
        return {name: self.value(key) for name, key in call["in"].items()}

    def outputs(self, call: Call) -> Recorded:
        """Outputs of the call; the same object until `forget`."""
        if call["name"] not in self._recorded:
            named = {name: self.value(key) for name, key in call.get("out", {}).items()}
            recorded = named if "out" in call else self.state(f"out/{call['name']}/")
            self._recorded[call["name"]] = Recorded(recorded)
        return self._recorded[call["name"]]

    def forget(self) -> None:
        """Mark all outputs as not read."""
        self._recorded.clear()


Check = tp.Callable[[Case, Call | None], None]
ADAPTERS: dict[str, Check] = {}


def adapter(prefix: str) -> tp.Callable[[Check], Check]:
    """Register the replay of a kind, run once per recorded call (`None` if it has none)."""

    def register(check: Check) -> Check:
        ADAPTERS[prefix] = check
        return check

    return register


def kind_of(name: str) -> str | None:
    """Return the longest registered prefix of the name of a case."""
    return max((kind for kind in ADAPTERS if name.startswith(kind)), key=len, default=None)


def recipe(seed: int, key: str, shape: tp.Sequence[int], scale: float = 1.0) -> Tensor:
    """Return a tensor generated from a seed and a key instead of stored (parity README)."""
    rng = np.random.RandomState(zlib.crc32(f"{seed}:{key}".encode()))
    return torch.from_numpy((rng.standard_normal(tuple(shape)) * scale).astype(np.float32))


NOT_FILLED = ("embed_avg", "cluster_size", "inited", "num_batches_tracked")
NOT_FILLED += ("frequencies", "decay_rates")


def fill_with_recipe(module: torch.nn.Module, seed: int) -> None:
    """Fill the state of a module by "the state recipe" of the parity README."""
    state = module.state_dict()
    for key, value in state.items():
        last = key.rsplit(".", 1)[-1]
        if not value.is_floating_point() or last in NOT_FILLED:
            continue
        noise = recipe(seed, key, value.shape)
        if last == "running_var":
            noise = 1 + 0.2 * noise.abs()
        elif last == "running_mean":
            noise = 0.3 * noise
        elif last == "embed":
            noise = 0.7 * noise
        elif value.dim() >= 2:
            noise = noise / float(np.sqrt(np.prod(value.shape[1:])))
        else:
            noise = 1 + 0.1 * noise if last == "weight" else 0.1 * noise
        state[key] = noise
    for key in [key for key in state if key.endswith("_codebook.embed")]:
        stem = key[: -len("embed")]
        state[stem + "embed_avg"] = state[key].clone()
        state[stem + "cluster_size"] = torch.ones_like(state[stem + "cluster_size"])
        state[stem + "inited"] = torch.ones_like(state[stem + "inited"])
    module.load_state_dict(state)


def assert_close(actual: tp.Any, expected: tp.Any, atol: float = 1e-5, rtol: float = 1e-5) -> None:
    """Assert equal integers and booleans, and close floats; NaN equals NaN."""
    torch.testing.assert_close(
        torch.as_tensor(actual),
        torch.as_tensor(expected),
        atol=atol,
        rtol=rtol,
        equal_nan=True,
        check_dtype=False,
    )
