"""Models from names: what `get_pretrained`, `continue_from` and configurations refer to.

See `hub.py` for what names mean and `packages.py` for what files hold.
"""

import typing as tp
from functools import partial
from pathlib import Path

import torch
from omegaconf import DictConfig

from ..errors import CheckpointError, ConfigError
from ..utils.checkpoint_files import CheckpointFile, read_checkpoint_file
from ..utils.config_arguments import IgnoredKeys
from . import builders
from .encodec import (
    DAC,
    CompressionModel,
    EncodecPackageCompressionModel,
    HFDacCompressionModel,
    HFEncodecCompressionModel,
    InterleaveStereoCompressionModel,
)
from .lm import LMModel
from .lora import check_not_adapter
from .weights.checkpoint_config import (
    check_has_weights,
    read_checkpoint,
    read_lm_checkpoint,
    require,
)
from .weights.hub import PRETRAINED, HubFileMissing, fetch, hub_id, local_path
from .weights.mismatch import load_matching_state
from .weights.pretrained import load_codec, load_package_encodec

LM_FILES = ("state_dict.safetensors", "state_dict.bin")
COMPRESSION_FILES = ("compression_state_dict.safetensors", "compression_state_dict.bin")
TRANSFORMERS_CODECS = (
    *("facebook/encodec_32khz", "facebook/encodec_24khz", "facebook/encodec_48khz"),
    *("descript/dac_44khz", "descript/dac_24khz", "descript/dac_16khz"),
)

# Tokenizers that other packages fetch, or that are made up on the spot: `//pretrained/NAME`.
PACKAGE_CODECS: dict[str, tp.Callable[[], CompressionModel]] = {
    "debug_compression_model": builders.get_debug_compression_model,
    "encodec_24khz": lambda: EncodecPackageCompressionModel(load_package_encodec()),
    "dac_16khz": partial(DAC, "16khz"),
    "dac_24khz": partial(DAC, "24khz"),
    "dac_44khz": partial(DAC, "44khz"),
}


def load_musicgen(
    name: str, device: torch.device, dtype: torch.dtype | None = None
) -> tuple[CompressionModel, LMModel, float | None]:
    """Load a tokenizer, a language model and the longest duration (seconds) that it has learnt.

    Args:
        name: Hub id, folder, file, `//sig/SIG` or `//bundled/NAME`.
        device: Where both go.
        dtype: Of the language model's weights; `None` keeps that of the file.

    Raises:
        CheckpointError: There is no such model, or its files cannot be used.
    """
    path = find_model_file(name, LM_FILES, beside=COMPRESSION_FILES)
    package, config = read_lm_checkpoint(path)
    compression_model = _tokenizer_of(name, path, config, device)
    lm = lm_from_checkpoint(package, config, path, device, dtype)
    for word, wanted, given in (
        ("codebooks", lm.num_codebooks, compression_model.num_codebooks),
        ("entries per codebook", lm.card, compression_model.cardinality),
    ):
        if wanted > given:
            raise CheckpointError(
                f"The language model in {path} has {wanted} {word} but its tokenizer {given}: they "
                "do not belong together. Put the tokenizer of its training beside it."
            )
    return compression_model, lm, config.dataset.segment_duration


def find_model_file(name: str, filenames: tp.Sequence[str], beside: tp.Sequence[str] = ()) -> Path:
    """The file that a name stands for: itself, or the first of `filenames` in its folder.

    Args:
        name: As in `load_musicgen`.
        filenames: What to look for, the best one first.
        beside: Other files that will be needed; told where the hub is out of reach.

    Raises:
        CheckpointError: There is none.
    """
    repo_id = hub_id(name)
    if repo_id is not None:
        return fetch(repo_id, *filenames, beside=beside)
    path = local_path(name)
    if path.is_file():
        return path
    candidates = [*filenames, "model.safetensors", "checkpoint.th"]
    for candidate in candidates:
        if (path / candidate).is_file():
            return path / candidate
    raise CheckpointError(f"The folder {path} has no model: none of {', '.join(candidates)}.")


def lm_from_checkpoint(
    package: CheckpointFile,
    config: DictConfig,
    path: Path,
    device: torch.device,
    dtype: torch.dtype | None = None,
) -> LMModel:
    """Build the language model that a package describes around the package's own tensors.

    Args:
        package: Weights, mapped from their file: they cost memory when they are used, once.
        config: What `read_checkpoint` says about the model.
        path: Of the package, for errors.
        device: Where the model goes.
        dtype: Of the weights, those of the conditioners excepted; `None` keeps that of the file.
    """
    passed_over = IgnoredKeys()
    load_codec = partial(load_compression_model, device=device)
    with torch.device("meta"):
        lm = builders.get_lm_model(config, load_codec, passed_over)
    passed_over.log(str(path))
    load_matching_state(lm, package.state, str(path), assign=True)
    assert not any(tensor.is_meta for tensor in (*lm.parameters(), *lm.buffers()))  # noqa: S101
    if dtype is not None:
        for name, part in lm.named_children():  # the bottleneck compares distances: float32
            part.to(torch.float32 if name == "condition_provider" else dtype)
    return lm.to(device).eval().requires_grad_(False)


def load_lm_model(
    name: str, device: torch.device | str = "cpu", dtype: torch.dtype | None = None
) -> LMModel:
    """Load only the language model of a name, in the precision of its file or in `dtype`."""
    path = find_model_file(name, LM_FILES)
    package, config = read_lm_checkpoint(path)
    return lm_from_checkpoint(package, config, path, torch.device(device), dtype)


def load_lm_weights(lm: LMModel, name: str) -> None:
    """Give `lm` the weights that a name stands for.

    Raises:
        CheckpointError: The weights are of another model; the message names the difference and
            guesses its cause.
    """
    path = find_model_file(name, LM_FILES)
    package = read_checkpoint_file(path)
    check_has_weights(package, path)
    check_not_adapter(package.state, path)
    load_matching_state(lm, package.state, str(path))


def _tokenizer_of(
    name: str, lm_path: Path, config: DictConfig, device: torch.device
) -> CompressionModel:
    """The tokenizer that belongs to a language model: beside it, or named in its configuration."""
    beside = [lm_path.with_name(filename) for filename in COMPRESSION_FILES]
    path = next((str(file) for file in beside if file.is_file()), None)
    reference = config.get("compression_model_checkpoint")
    repo_id = hub_id(name)
    if path is None and repo_id is not None:
        try:
            path = str(fetch(repo_id, *COMPRESSION_FILES))
        except HubFileMissing:
            path = None
    if path is None and reference is None:
        raise CheckpointError(
            f"{name} comes without a tokenizer and names none. Put {COMPRESSION_FILES[-1]} into "
            f"{lm_path.parent}."
        )
    return load_compression_model(
        path or str(reference),
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
        name: As in `load_musicgen`; those of `TRANSFORMERS_CODECS` come from there.
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
    if name.startswith(PRETRAINED) and repo_id in PACKAGE_CODECS:
        try:
            return PACKAGE_CODECS[repo_id]()
        except ImportError as error:  # the package is an extra
            raise ConfigError(str(error)) from error
    if repo_id in TRANSFORMERS_CODECS:
        return _codec_of_transformers(repo_id)
    if repo_id is None and _is_of_transformers(local_path(name)):
        return _codec_of_transformers(str(local_path(name)))
    path = find_model_file(name, COMPRESSION_FILES)
    package, config = read_checkpoint(path)
    if package.pretrained is not None:
        return _compression_model(package.pretrained)
    return compression_model_from_checkpoint(package, config, path)


def _codec_of_transformers(name: str) -> CompressionModel:
    codec: tp.Any = load_codec(name)
    is_dac = codec.config.model_type == "dac"
    return HFDacCompressionModel(codec) if is_dac else HFEncodecCompressionModel(codec)


def _is_of_transformers(folder: Path) -> bool:
    """Whether a folder holds a tokenizer that transformers saved."""
    ours = any((folder / filename).is_file() for filename in COMPRESSION_FILES)
    return (folder / "config.json").is_file() and not ours


def compression_model_from_checkpoint(
    package: CheckpointFile, config: DictConfig, path: Path
) -> CompressionModel:
    """Build the tokenizer that a package describes around the package's own tensors."""
    kind = config.compression_model
    require(config, kind, path)
    passed_over = IgnoredKeys()
    # What another kind computes from its configuration is no weight: it is needed even so.
    with torch.device("meta" if kind == "encodec" else "cpu"):
        model = builders.get_compression_model(config, passed_over)
    passed_over.log(str(path))
    load_matching_state(model, package.state, str(path), assign=True)
    return model
