"""Model loading: from a name, as passed to `get_pretrained` or `continue_from`, to a model.

`weights/hub.py` resolves names to files, `utils/checkpoint_files.py` reads them.
"""

import typing as tp
import warnings
from functools import partial
from pathlib import Path

import torch
from omegaconf import DictConfig, OmegaConf

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
    check_describes,
    check_has_weights,
    read_checkpoint,
    read_lm_checkpoint,
)
from .weights.hub import (
    PRETRAINED,
    CacheDir,
    HubFileMissing,
    expand_signature,
    fetch,
    hub_id,
    local_path,
)
from .weights.mismatch import load_matching_state
from .weights.pretrained import load_codec, load_package_encodec

LM_FILES = ("state_dict.safetensors", "state_dict.bin")
COMPRESSION_FILES = ("compression_state_dict.safetensors", "compression_state_dict.bin")
DEBUG = "debug"  # name of a tiny untrained model
SHORT_NAMES = {
    "small": "facebook/musicgen-small",
    "medium": "facebook/musicgen-medium",
    "large": "facebook/musicgen-large",
    "melody": "facebook/musicgen-melody",
    "style": "facebook/musicgen-style",
}
TRANSFORMERS_CODECS = (
    *("facebook/encodec_32khz", "facebook/encodec_24khz", "facebook/encodec_48khz"),
    *("descript/dac_44khz", "descript/dac_24khz", "descript/dac_16khz"),
)

# Codecs `//pretrained/NAME` that other packages download, or that have random weights.
PACKAGE_CODECS: dict[str, tp.Callable[[], CompressionModel]] = {
    "debug_compression_model": builders.get_debug_compression_model,
    "encodec_24khz": lambda: EncodecPackageCompressionModel(load_package_encodec()),
    "dac_16khz": partial(DAC, "16khz"),
    "dac_24khz": partial(DAC, "24khz"),
    "dac_44khz": partial(DAC, "44khz"),
}


def full_name(name: str) -> str:
    """Return the hub id of a short name, with a warning; other names are returned unchanged."""
    if name not in SHORT_NAMES or Path(name).exists():
        return name
    warnings.warn(
        f"The name {name!r} is deprecated. Use {SHORT_NAMES[name]!r}.", FutureWarning, stacklevel=3
    )
    return SHORT_NAMES[name]


def load_musicgen(
    name: str,
    device: torch.device,
    dtype: torch.dtype | None = None,
    cache_dir: CacheDir = None,
) -> tuple[CompressionModel, LMModel, float | None]:
    """Load a tokenizer, a language model and its window length in seconds.

    Args:
        name: Hub id, folder, file, URL, `//sig/SIG`, `//bundled/NAME` or `debug`.
        device: Device of both models.
        dtype: Dtype of the language model; `None` is that of the file.
        cache_dir: Folder of downloads; `None` is the configured one.

    Raises:
        CheckpointError: There is no such model, or its files cannot be used.
    """
    if name == DEBUG and not Path(name).exists():
        tokenizer, lm = builders.get_debug_models()
        tokenizer = tokenizer.to(device).requires_grad_(False)
        return tokenizer, _place(lm, device, dtype), None
    name = expand_signature(name)
    path = find_model_file(name, LM_FILES, beside=COMPRESSION_FILES, cache_dir=cache_dir)
    content, config = read_lm_checkpoint(path)
    tokenizer = _tokenizer_of(name, path, config, device, cache_dir)
    lm = lm_from_checkpoint(content, config, path, device, dtype)
    for word, needed, available in (
        ("codebooks", lm.num_codebooks, tokenizer.num_codebooks),
        ("entries per codebook", lm.card, tokenizer.cardinality),
    ):
        if needed > available:
            raise CheckpointError(
                f"The language model in {path} has {needed} {word} but its tokenizer {available}. "
                "Put the tokenizer that it was trained with beside it."
            )
    return tokenizer, lm, config.dataset.segment_duration


def find_model_file(
    name: str,
    filenames: tp.Sequence[str],
    beside: tp.Sequence[str] = (),
    cache_dir: CacheDir = None,
) -> Path:
    """Return the file that a name refers to: itself, or the first of `filenames` in its folder.

    Args:
        name: As for `load_musicgen`.
        filenames: Names of the file in a folder or repository, the preferred one first.
        beside: Further files that will be needed, for the error message.
        cache_dir: Folder of downloads; `None` is the configured one.

    Raises:
        CheckpointError: There is no such file.
    """
    repo_id = hub_id(name)
    if repo_id is not None:
        return fetch(repo_id, *filenames, beside=beside, cache_dir=cache_dir)
    path = local_path(name, cache_dir)
    if path.is_file():
        return path
    candidates = [*filenames, "model.safetensors", "checkpoint.th"]
    for candidate in candidates:
        if (path / candidate).is_file():
            return path / candidate
    raise CheckpointError(f"The folder {path} has no model: none of {', '.join(candidates)}.")


def lm_from_checkpoint(
    content: CheckpointFile,
    config: DictConfig,
    path: Path,
    device: torch.device,
    dtype: torch.dtype | None = None,
) -> LMModel:
    """Build a language model around the tensors of a checkpoint file.

    Args:
        content: The file; its tensors are memory-mapped and not copied.
        config: Configuration of the model, from `read_lm_checkpoint`.
        path: Path of the file, for errors.
        device: Device of the model.
        dtype: Dtype of the weights except those of conditioners; `None` is that of the file.
    """
    ignored = IgnoredKeys()
    load_codec = partial(load_compression_model, device=device)
    with torch.device("meta"):
        lm = builders.get_lm_model(config, load_codec, ignored)
    ignored.log(str(path))
    load_matching_state(lm, content.state, str(path), assign=True)
    assert not any(tensor.is_meta for tensor in (*lm.parameters(), *lm.buffers()))  # noqa: S101
    return _place(lm, device, dtype)


def _place(lm: LMModel, device: torch.device, dtype: torch.dtype | None) -> LMModel:
    if dtype is not None:
        for name, part in lm.named_children():  # the bottleneck compares distances: float32
            part.to(torch.float32 if name == "condition_provider" else dtype)
    return lm.to(device).eval().requires_grad_(False)


def load_lm_model(
    file_or_url_or_id: Path | str,
    device: torch.device | str = "cpu",
    cache_dir: CacheDir = None,
    *,
    dtype: torch.dtype | None = None,
) -> LMModel:
    """Load a language model without its tokenizer.

    Args:
        file_or_url_or_id: As `name` of `load_musicgen`.
        device, cache_dir, dtype: As for `load_musicgen`.

    Raises:
        CheckpointError: There is no such model, or its file cannot be used.
    """
    path = find_model_file(str(file_or_url_or_id), LM_FILES, cache_dir=cache_dir)
    content, config = read_lm_checkpoint(path)
    return lm_from_checkpoint(content, config, path, torch.device(device), dtype)


def load_lm_model_ckpt(
    file_or_url_or_id: Path | str, cache_dir: CacheDir = None
) -> dict[str, tp.Any]:
    """Load the content of a language model's file, without building the model.

    Returns:
        `best_state`, the state dict, and `xp.cfg`, the configuration as YAML text.
    """
    return _as_dict(find_model_file(str(file_or_url_or_id), LM_FILES, cache_dir=cache_dir))


def load_compression_model_ckpt(
    file_or_url_or_id: Path | str, cache_dir: CacheDir = None
) -> dict[str, tp.Any]:
    """Load the content of a tokenizer's file, without building the model.

    Returns:
        As for `load_lm_model_ckpt`; for a reference only `pretrained`, the name of the tokenizer.
    """
    return _as_dict(find_model_file(str(file_or_url_or_id), COMPRESSION_FILES, cache_dir=cache_dir))


def _as_dict(path: Path) -> dict[str, tp.Any]:
    content = read_checkpoint_file(path)
    if content.pretrained is not None:
        return {"pretrained": content.pretrained}
    return {"best_state": content.state, "xp.cfg": OmegaConf.to_yaml(content.config)}


def load_lm_weights(lm: LMModel, name: str) -> None:
    """Load the weights that a name refers to into a model.

    Raises:
        CheckpointError: The weights are of another model; the message has the probable cause.
    """
    path = find_model_file(name, LM_FILES)
    content = read_checkpoint_file(path)
    check_has_weights(content, path)
    check_not_adapter(content.state, path)
    load_matching_state(lm, content.state, str(path))


def _tokenizer_of(
    name: str, lm_path: Path, config: DictConfig, device: torch.device, cache_dir: CacheDir
) -> CompressionModel:
    """Load the tokenizer of a language model: beside it, or named in its configuration."""
    beside = [lm_path.with_name(filename) for filename in COMPRESSION_FILES]
    path = next((str(file) for file in beside if file.is_file()), None)
    reference = config.get("compression_model_checkpoint")
    repo_id = hub_id(name)
    if path is None and repo_id is not None:
        try:
            path = str(fetch(repo_id, *COMPRESSION_FILES, cache_dir=cache_dir))
        except HubFileMissing:
            path = None
    if path is None and reference is None:
        raise CheckpointError(
            f"{name} has no tokenizer and its configuration names none. Put "
            f"{COMPRESSION_FILES[-1]} into {lm_path.parent}."
        )
    return load_compression_model(
        path or str(reference),
        device,
        cache_dir,
        num_codebooks=config.get("compression_model_n_q"),
        interleave=config.get("interleave_stereo_codebooks"),
    )


def load_compression_model(
    file_or_url_or_id: Path | str,
    device: torch.device | str = "cpu",
    cache_dir: CacheDir = None,
    *,
    num_codebooks: int | None = None,
    interleave: tp.Mapping[str, bool] | None = None,
) -> CompressionModel:
    """Load a frozen tokenizer.

    Args:
        file_or_url_or_id: As `name` of `load_musicgen`; also a name of `TRANSFORMERS_CODECS`.
        device: Device of the tokenizer.
        cache_dir: Folder of downloads; `None` is the configured one.
        num_codebooks: Number of codebooks to use; `None`: all.
        interleave: `use` makes a stereo tokenizer of a mono one, `per_timestep` interleaves frames
            instead of codebooks.

    Raises:
        CheckpointError: There is no such tokenizer, or its file cannot be used.
    """
    model = _compression_model(str(file_or_url_or_id), cache_dir)
    model = model.to(device).eval().requires_grad_(False)
    if num_codebooks is not None:
        model.set_num_codebooks(num_codebooks)
    if interleave and interleave["use"]:
        model = InterleaveStereoCompressionModel(model, per_timestep=interleave["per_timestep"])
    return model


def _compression_model(name: str, cache_dir: CacheDir) -> CompressionModel:
    repo_id = hub_id(name)
    package_codec = repo_id if name.startswith(PRETRAINED) else name
    if package_codec in PACKAGE_CODECS and not Path(name).exists():
        try:
            return PACKAGE_CODECS[package_codec]()
        except ImportError as error:  # an optional package
            raise ConfigError(str(error)) from error
    if repo_id in TRANSFORMERS_CODECS:
        return _codec_of_transformers(repo_id, cache_dir)
    if repo_id is None and _is_transformers_folder(local_path(name, cache_dir)):
        return _codec_of_transformers(str(local_path(name, cache_dir)), cache_dir)
    path = find_model_file(name, COMPRESSION_FILES, cache_dir=cache_dir)
    content, config = read_checkpoint(path)
    if content.pretrained is not None:
        return _compression_model(content.pretrained, cache_dir)
    return compression_model_from_checkpoint(content, config, path)


def _codec_of_transformers(name: str, cache_dir: CacheDir) -> CompressionModel:
    codec: tp.Any = load_codec(name, cache_dir)
    is_dac = codec.config.model_type == "dac"
    return HFDacCompressionModel(codec) if is_dac else HFEncodecCompressionModel(codec)


def _is_transformers_folder(folder: Path) -> bool:
    """Whether a folder has a codec in the format of transformers."""
    has_ours = any((folder / filename).is_file() for filename in COMPRESSION_FILES)
    return (folder / "config.json").is_file() and not has_ours


def compression_model_from_checkpoint(
    content: CheckpointFile, config: DictConfig, path: Path
) -> CompressionModel:
    """Build a tokenizer around the tensors of a checkpoint file."""
    kind = config.compression_model
    check_describes(config, kind, path)
    ignored = IgnoredKeys()
    # Other kinds compute filters from their configuration, which `meta` would leave empty.
    with torch.device("meta" if kind == "encodec" else "cpu"):
        model = builders.get_compression_model(config, ignored)
    ignored.log(str(path))
    load_matching_state(model, content.state, str(path), assign=True)
    return model
