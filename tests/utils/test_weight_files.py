"""Weight files: memory-mapped, without code, with checksums; errors name file and cause."""

import collections
import os
import pathlib
import pickle

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from safetensors.torch import save_file

from audiocraft.errors import CheckpointError
from audiocraft.utils import weight_files
from audiocraft.utils.weight_files import (
    CRC32_COMMENT,
    read_safetensors_file,
    read_torch_file,
    write_safetensors_file,
)

STATE = {"emb.0.weight": torch.arange(6.0).view(2, 3)}


def saved(folder, content, **options):
    torch.save(content, folder / "x.th", **options)
    return folder / "x.th"


def test_tensors_stay_on_disk_until_they_are_used(tmp_path):
    path = saved(tmp_path, {"best_state": {"big": torch.ones(2**22)}})  # 16 MB
    weight = read_torch_file(path)["best_state"]["big"]
    maps = pathlib.Path("/proc/self/smaps").read_text(encoding="utf-8").split(str(path))[1:]
    resident = [int(line.split()[1]) for line in maps[0].splitlines() if line.startswith("Rss:")]
    assert resident[0] < 1024  # kB
    assert float(weight.sum()) == 2**22


def test_legacy_torch_files_are_read(tmp_path):
    path = saved(tmp_path, {"best_state": STATE}, _use_new_zipfile_serialization=False)
    torch.testing.assert_close(read_torch_file(path)["best_state"], STATE)


def test_pickled_configuration_round_trip(tmp_path):
    config = OmegaConf.create({"a": [1, 2.5, "x", None, True], "b": {"c": "${a}"}})
    # The cache of a resolver is pickled too, in a non-empty `defaultdict`.
    config.__dict__["_metadata"].resolver_cache["now"][("%Y",)] = "2026"
    content = read_torch_file(saved(tmp_path, {"xp.cfg": config}))
    assert OmegaConf.to_container(content["xp.cfg"]) == OmegaConf.to_container(config)


def test_exactly_the_names_of_a_pickled_configuration_are_allowed():
    names = {
        name[1] if isinstance(name, tuple) else f"{name.__module__}.{name.__qualname__}"
        for name in weight_files.OMEGACONF_NAMES
    }
    assert names == {
        "omegaconf.dictconfig.DictConfig",
        "omegaconf.listconfig.ListConfig",
        "omegaconf.base.ContainerMetadata",
        "omegaconf.base.Metadata",
        "omegaconf.nodes.AnyNode",
        "typing.Any",
        "collections.defaultdict",
        "builtins.dict",
        "builtins.list",
        "builtins.int",
    }


def test_allowed_names_are_reset_after_reading(tmp_path):
    before = set(torch.serialization.get_safe_globals())
    path = saved(tmp_path, {"xp.cfg": OmegaConf.create({"a": 1})})
    read_torch_file(path)
    assert set(torch.serialization.get_safe_globals()) == before
    with pytest.raises(pickle.UnpicklingError, match="omegaconf"):
        torch.load(path, weights_only=True)


RAN = []


class Runs:
    def __reduce__(self):
        return (RAN.append, (1,))


class Shell:
    def __reduce__(self):
        return (os.system, ("true",))


@pytest.mark.parametrize(
    ("foreign", "name"),
    [
        (Runs(), "getattr"),
        (Shell(), r"posix\.system"),
        (pathlib.PurePosixPath("a"), r"pathlib\.PurePosixPath"),
        (np.float64(1.0), "numpy"),
        (torch.nn.Linear(1, 1), r"torch\.nn\.modules\.linear\.Linear"),
    ],
    ids=["method", "shell", "path", "numpy", "module"],
)
def test_disallowed_name_is_rejected_without_import(foreign, name, tmp_path):
    path = saved(tmp_path, {"best_state": STATE, "extra": foreign})
    with pytest.raises(CheckpointError, match=rf"x\.th .*{name}") as caught:
        read_torch_file(path)
    assert "torch.save({'best_state': {'model': state_dict}}" in str(caught.value)
    assert RAN == []


def test_plain_training_values_are_allowed(tmp_path):
    content = {"best_state": STATE, "counts": collections.Counter("aab"), "names": {"x", "y"}}
    assert read_torch_file(saved(tmp_path, content))["counts"]["a"] == 2


@pytest.mark.parametrize("kept", [0.0, 0.5, 0.99])
def test_truncated_checkpoint_raises(kept, tmp_path):
    path = saved(tmp_path, {"best_state": {"big": torch.ones(1000)}})
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole))])
    with pytest.raises(CheckpointError, match=r"x\.th .*truncated"):
        read_torch_file(path)


@pytest.mark.parametrize("content", [b"no checkpoint", b"\x80\x02garbage", b"<html>404</html>"])
def test_file_that_is_not_a_checkpoint_raises(content, tmp_path):
    path = tmp_path / "state_dict.bin"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"state_dict\.bin is not a checkpoint") as caught:
        read_torch_file(path)
    assert "weights_only" not in str(caught.value)


def test_bare_tensor_is_not_a_checkpoint(tmp_path):
    with pytest.raises(CheckpointError, match="Tensor"):
        read_torch_file(saved(tmp_path, torch.ones(2)))


def test_safetensors_header_stores_texts(tmp_path):
    path = tmp_path / "x.safetensors"
    weight_files.write_safetensors_file(path, STATE, {"xp.cfg": "a: 1"})
    state, header = read_safetensors_file(path)
    torch.testing.assert_close(state, STATE)
    assert header["xp.cfg"] == "a: 1"


@pytest.mark.parametrize("kept", [0.0, 0.05, 0.9])
def test_truncated_safetensors_file_raises(kept, tmp_path):
    path = tmp_path / "x.safetensors"
    save_file({"big": torch.ones(1000)}, path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole))])
    with pytest.raises(CheckpointError, match=r"x\.safetensors \(\d+ bytes\)"):
        read_safetensors_file(path)


def flip_a_bit(path, needle: bytes) -> None:
    """Change one bit of the bytes of a tensor."""
    content = bytearray(path.read_bytes())
    content[content.index(needle) + 1] ^= 4
    path.write_bytes(content)


WEIGHT = torch.linspace(1, 2, 1000)


def test_flipped_bit_in_a_safetensors_file_raises(tmp_path):
    path = tmp_path / "x.safetensors"
    write_safetensors_file(path, {"w": WEIGHT, "n": torch.tensor(3)}, {"xp.cfg": "a: 1"})
    state, header = read_safetensors_file(path)
    assert header == {"format": "pt", "xp.cfg": "a: 1"}
    assert torch.equal(state["w"], WEIGHT)
    flip_a_bit(path, WEIGHT.numpy().tobytes())
    with pytest.raises(CheckpointError, match=r"x\.safetensors is corrupt"):
        read_safetensors_file(path)


def test_flipped_bit_in_a_torch_file_with_checksums_raises(tmp_path):
    path = saved(tmp_path, {"best_state": {"w": WEIGHT}, "xp.cfg": f"a: 1\n{CRC32_COMMENT}"})
    read_torch_file(path)
    flip_a_bit(path, WEIGHT.numpy().tobytes())
    with pytest.raises(CheckpointError, match=r"x\.th is corrupt"):
        read_torch_file(path)


def test_files_without_checksum_are_read(tmp_path):
    save_file({"w": WEIGHT}, tmp_path / "x.safetensors", metadata={"format": "pt"})
    assert torch.equal(read_safetensors_file(tmp_path / "x.safetensors")[0]["w"], WEIGHT)
    path = saved(tmp_path, {"best_state": {"w": WEIGHT}, "xp.cfg": "a: 1"})  # of the original
    assert torch.equal(read_torch_file(path)["best_state"]["w"], WEIGHT)
