"""Pretrained networks of other projects: T5, MERT, MusiCNN, and codecs of transformers.

Conditioners load them when they are first used. Code that comes with weights is never executed.
"""

import json
import logging
import typing as tp
import warnings
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from pickle import UnpicklingError

import encodec
import torch
import transformers  # a lazy package: a network is imported when it is first loaded
from safetensors import SafetensorError
from transformers.utils import logging as transformers_logging

from ...environment import bundled_dir
from ...errors import CheckpointError
from ...modules.conditioners import Musicnn, PretrainedText, build_hubert, load_hubert_state
from .hub import CacheDir, cache_folder, download_instructions, fetch, find_in_cache, manual_folder

logger = logging.getLogger(__name__)

# Exceptions of transformers for files that are missing, truncated or of something else.
LOADING_ERRORS = (OSError, ValueError, RuntimeError, UnpicklingError, SafetensorError)
MERT = "m-a-p/MERT-v1-95M"
T5_FILES = (
    ["config.json"],
    ["pytorch_model.bin", "model.safetensors"],
    ["tokenizer.json", "spiece.model"],
)
ENCODEC_24KHZ = "encodec_24khz-d7cc33bc.th"  # as the `encodec` package names its weights
CODEC_FILES = (["config.json"], ["pytorch_model.bin", "model.safetensors"])
CODECS = {"encodec": "EncodecModel", "dac": "DacModel"}  # class by `model_type` of the config.json


def load_t5(name: str) -> PretrainedText:
    """Load a T5 encoder with its tokenizer, from the hub or a folder."""
    return PretrainedText(
        load_from_hub(transformers.AutoTokenizer.from_pretrained, name, T5_FILES),
        load_weights_from_hub(transformers.T5EncoderModel, name, T5_FILES),
    )


def load_codec(
    name: str, cache_dir: CacheDir = None
) -> "transformers.EncodecModel | transformers.DacModel":
    """Load a codec of transformers, such as `facebook/encodec_32khz`, from the hub or a folder.

    Raises:
        CheckpointError: It cannot be downloaded, or is another kind of model.
    """
    load = transformers.AutoConfig.from_pretrained
    kind = load_from_hub(load, name, CODEC_FILES, cache_dir).model_type
    if kind not in CODECS:
        raise CheckpointError(
            f"{name} is a model of the type {kind}, not a codec: {', '.join(CODECS)}."
        )
    return load_weights_from_hub(getattr(transformers, CODECS[kind]), name, CODEC_FILES, cache_dir)


def load_package_encodec() -> encodec.EncodecModel:
    """Load the 24 kHz model of the `encodec` package, which downloads it, with all codebooks.

    Raises:
        CheckpointError: It cannot be downloaded.
    """
    folder = manual_folder("encodec")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # of the deprecated weight norm
            model = encodec.EncodecModel.encodec_model_24khz(
                repository=folder if (folder / ENCODEC_24KHZ).is_file() else None
            )
    except OSError as error:
        raise CheckpointError(
            f"The weights of the encodec package cannot be downloaded: {error}. "
            f"Put {ENCODEC_24KHZ} into {folder}/."
        ) from error
    model.set_target_bandwidth(max(model.target_bandwidths))
    return model


def load_mert(name: str = MERT) -> "transformers.HubertModel":
    """Load MERT, which is a HuBERT, from the hub or a folder."""
    warn_mert_licence()
    network = build_hubert()
    load_hubert_state(network, fetch(name, "model.safetensors", "pytorch_model.bin"))
    return network


@cache
def warn_mert_licence() -> None:
    """Warn once about the licence of MERT."""
    logger.warning(
        "The style conditioner uses MERT-v1-95M, whose licence (CC-BY-NC 4.0) excludes commercial "
        "use."
    )


def load_musicnn(name: str = "musicnn_mtt") -> Musicnn:
    """Load the bundled MusiCNN."""
    folder = bundled_dir() / name
    labels = json.loads((folder / "labels.json").read_text(encoding="utf-8"))
    return Musicnn.from_file(folder / "model.safetensors", labels)


def load_from_hub(
    load: tp.Callable,
    name: str,
    files: tp.Sequence[tp.Sequence[str]],
    cache_dir: CacheDir = None,
) -> tp.Any:
    """Call a loader of transformers with a folder, or with a hub id.

    Args:
        load: Loader, such as `from_pretrained` of a class.
        name: Hub id, or a folder.
        files: Files that it reads, each as a list of alternatives.
        cache_dir: Folder of downloads; `None` is the configured one.

    Raises:
        CheckpointError: The model is neither in the cache nor can it be downloaded, or a file is
            missing or unreadable.
    """
    source = manual_folder(name, cache_dir)
    source = source if source.is_dir() else Path(name)
    is_folder = source.is_dir()
    if is_folder:
        for names in files:
            if not any((source / filename).is_file() for filename in names):
                raise CheckpointError(f"{source} has no {' or '.join(reversed(names))}.")
    is_local = is_folder or all(find_in_cache(name, names, cache_dir) for names in files)
    try:
        path_or_id = str(source) if is_folder else name
        with torch.device("cpu"):  # even while a model is built on `meta`
            return load(path_or_id, cache_dir=cache_folder(cache_dir), local_files_only=is_local)
    except LOADING_ERRORS as error:
        reason = str(error).strip().partition("\n")[0]
        if is_folder:
            raise CheckpointError(f"{source} cannot be read: {reason}") from error
        instructions = download_instructions(name, *files, cache_dir=cache_dir)
        raise CheckpointError(f"{instructions} ({reason})") from error


def load_weights_from_hub(
    kind: "type[transformers.PreTrainedModel]",
    name: str,
    files: tp.Sequence[tp.Sequence[str]],
    cache_dir: CacheDir = None,
) -> tp.Any:
    """Load a network of transformers, and check that its file has all weights.

    Raises:
        CheckpointError: As `load_from_hub`, or the file lacks weights.
    """
    load = partial(kind.from_pretrained, output_loading_info=True)
    with _bar_hidden():
        network, report = load_from_hub(load, name, files, cache_dir)
    missing = sorted(report["missing_keys"])
    if missing:
        raise CheckpointError(
            f"The file of {name} is missing {len(missing)} weights of {kind.__name__}, such as "
            f"{missing[0]}. Download it again."
        )
    return network


@contextmanager
def _bar_hidden() -> tp.Iterator[None]:
    """Hide the progress bar of transformers for reading a file; download bars stay."""
    # transformers before version 5 has neither the hook nor the bar.
    set_hook = getattr(transformers_logging, "set_tqdm_hook", lambda hook: None)
    before = set_hook(lambda make, args, kwargs: make(*args, **kwargs | {"disable": True}))
    try:
        yield
    finally:
        set_hook(before)
