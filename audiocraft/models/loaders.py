"""Models from names: what `get_pretrained`, `continue_from` and configurations refer to.

See `hub.py` for what names mean and `packages.py` for what files hold.
"""

import logging
import typing as tp
from functools import partial
from pathlib import Path

import torch
from omegaconf import DictConfig
from torch import Tensor

from ..errors import CheckpointError
from ..utils.packages import Package, model_config, read_package
from . import builders
from .encodec import CompressionModel, HFEncodecCompressionModel, InterleaveStereoCompressionModel
from .hub import fetch, hub_id, local_path
from .lm import LMModel
from .pretrained import load_encodec

logger = logging.getLogger(__name__)

LM_FILES = ("state_dict.safetensors", "state_dict.bin")
COMPRESSION_FILES = ("compression_state_dict.safetensors", "compression_state_dict.bin")
HF_ENCODEC = ("facebook/encodec_32khz", "facebook/encodec_24khz", "facebook/encodec_48khz")
DEBUG_COMPRESSION_MODEL = "debug_compression_model"


def load_musicgen(
    name: str, device: torch.device, dtype: torch.dtype
) -> tuple[CompressionModel, LMModel, float | None]:
    """Load a tokenizer, a language model and the longest duration (seconds) that it has learnt.

    Args:
        name: Hub id, folder, checkpoint, `//sig/SIG` or `//bundled/NAME`.
        device: Where both go.
        dtype: Of the language model's weights.

    Raises:
        CheckpointError: There is no such model, or its files cannot be used.
    """
    package = read_package(find_file(name, LM_FILES))
    config = model_config(package.config)
    compression_model = _tokenizer_of(name, config, device)
    lm = lm_from_package(package, config, device, dtype)
    return compression_model, lm, config.dataset.segment_duration


def find_file(name: str, filenames: tp.Sequence[str]) -> Path:
    """The file that a name stands for: itself, or the first of `filenames` in its folder."""
    repo_id = hub_id(name)
    if repo_id is not None:
        return fetch(repo_id, *filenames)
    path = local_path(name)
    if path.is_file():
        return path
    candidates = [*filenames, "model.safetensors", "checkpoint.th"]
    for candidate in candidates:
        if (path / candidate).is_file():
            return path / candidate
    raise CheckpointError(f"The folder {path} has no model: none of {', '.join(candidates)}.")


def lm_from_package(
    package: Package, config: DictConfig, device: torch.device, dtype: torch.dtype
) -> LMModel:
    """Build the language model that a package describes, with the package's weights."""
    with torch.device("meta"):
        lm = builders.get_lm_model(config, partial(load_compression_model, device=device))
    lm.load_state_dict(_checked(lm, package.state), assign=True)
    assert not any(tensor.is_meta for tensor in (*lm.parameters(), *lm.buffers()))  # noqa: S101
    lm.to(device, dtype).eval().requires_grad_(False)
    lm.condition_provider.float()  # the bottleneck's search for the nearest code needs it
    return lm


def load_lm_model(
    name: str, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
) -> LMModel:
    """Load only the language model of a name."""
    package = read_package(find_file(name, LM_FILES))
    return lm_from_package(package, model_config(package.config), torch.device(device), dtype)


def load_lm_weights(lm: LMModel, name: str) -> None:
    """Give `lm` the weights that a name stands for.

    Raises:
        CheckpointError: The weights are of another model; the message names the difference.
    """
    package = read_package(find_file(name, LM_FILES))
    lm.load_state_dict(_checked(lm, package.state))


def _checked(model: torch.nn.Module, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The state, if its keys and shapes are the model's."""
    own = model.state_dict()
    missing = sorted(own.keys() - state.keys())
    extra = sorted(state.keys() - own.keys())
    shapes = [k for k in own.keys() & state.keys() if own[k].shape != state[k].shape]
    problems = []
    for title, keys in (("missing", missing), ("unexpected", extra)):
        if keys:
            problems.append(f"{len(keys)} {title}, such as {keys[0]}")
    if shapes:
        key = sorted(shapes)[0]
        sizes = f"{list(state[key].shape)} instead of {list(own[key].shape)}"
        problems.append(f"{len(shapes)} of another shape, such as {key}: {sizes}")
    if problems:
        raise CheckpointError(
            f"These weights are of another model: {'; '.join(problems)}. "
            "Choose the model/lm/model_scale and conditioner that they were trained with."
        )
    return state


def _tokenizer_of(name: str, config: DictConfig, device: torch.device) -> CompressionModel:
    """The tokenizer that belongs to a language model: beside it, or named in its configuration."""
    reference = config.get("compression_model_checkpoint")
    try:
        path: str | None = str(find_file(name, COMPRESSION_FILES))
    except CheckpointError:
        path = None
    if path is None or not Path(path).name.startswith("compression_"):
        if reference is None:
            raise CheckpointError(f"{name} comes without a tokenizer and names none.")
        path = reference
    return load_compression_model(
        tp.cast(str, path),
        device,
        num_codebooks=config.get("compression_model_n_q"),
        interleave=config.get("interleave_stereo_codebooks"),
    )


def load_compression_model(
    name: str,
    device: torch.device | str = "cpu",
    *,
    num_codebooks: int | None = None,
    interleave: tp.Mapping[str, bool] | None = None,
) -> CompressionModel:
    """Load a frozen tokenizer.

    Args:
        name: As in `load_musicgen`; `facebook/encodec_32khz` and its kin come from transformers.
        device: Where it goes.
        num_codebooks: Use only so many; `None` uses all.
        interleave: `use` makes a stereo tokenizer of a mono one; `per_timestep` says how.

    Raises:
        CheckpointError: There is no such tokenizer.
    """
    model = _compression_model(name).to(device).eval().requires_grad_(False)
    if num_codebooks is not None:
        model.set_num_codebooks(num_codebooks)
    if interleave and interleave["use"]:
        model = InterleaveStereoCompressionModel(model, per_timestep=interleave["per_timestep"])
    return model


def _compression_model(name: str) -> CompressionModel:
    repo_id = hub_id(name)
    if repo_id == DEBUG_COMPRESSION_MODEL or name.endswith("/" + DEBUG_COMPRESSION_MODEL):
        return builders.get_debug_compression_model()
    if repo_id in HF_ENCODEC:
        return HFEncodecCompressionModel(load_encodec(repo_id))
    package = read_package(find_file(name, COMPRESSION_FILES))
    if package.pretrained is not None:
        return _compression_model(package.pretrained)
    model = builders.get_compression_model(model_config(package.config))
    model.load_state_dict(_checked(model, package.state))
    return model
