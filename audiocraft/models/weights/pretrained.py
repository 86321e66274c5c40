"""Networks of others that conditioners use, loaded when they are first needed.

None of them runs code that came with its weights.
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

from ...environment import AudioCraftEnvironment, bundled_dir
from ...errors import CheckpointError
from ...modules.conditioners import Musicnn, PretrainedText, build_hubert, load_hubert_state
from .hub import download_instructions, fetch, find_in_cache, manual_folder

logger = logging.getLogger(__name__)

# What transformers raises where a file is missing, torn or of something else.
UNREADABLE = (OSError, ValueError, RuntimeError, UnpicklingError, SafetensorError)
MERT = "m-a-p/MERT-v1-95M"
T5_FILES = (
    ["config.json"],
    ["pytorch_model.bin", "model.safetensors"],
    ["tokenizer.json", "spiece.model"],
)
ENCODEC_24KHZ = "encodec_24khz-d7cc33bc.th"  # as the `encodec` package names its weights
CODEC_FILES = (["config.json"], ["pytorch_model.bin", "model.safetensors"])
CODECS = {"encodec": "EncodecModel", "dac": "DacModel"}  # classes by `model_type` in a config.json


def load_t5(name: str) -> PretrainedText:
    """A T5 encoder with its tokenizer, from the hub or a folder."""
    return PretrainedText(
        load_from_hub(transformers.AutoTokenizer.from_pretrained, name, T5_FILES),
        load_weights_from_hub(transformers.T5EncoderModel, name, T5_FILES),
    )


def load_codec(name: str) -> "transformers.EncodecModel | transformers.DacModel":
    """A codec of transformers, such as `facebook/encodec_32khz`, from the hub or a folder.

    Raises:
        CheckpointError: It cannot be fetched, or is another kind of model.
    """
    kind = load_from_hub(transformers.AutoConfig.from_pretrained, name, CODEC_FILES).model_type
    if kind not in CODECS:
        raise CheckpointError(
            f"{name} is a {kind} of transformers, not one of its codecs: {', '.join(CODECS)}."
        )
    return load_weights_from_hub(getattr(transformers, CODECS[kind]), name, CODEC_FILES)


def load_package_encodec() -> encodec.EncodecModel:
    """The 24 kHz model of the `encodec` package, which downloads it, with all its codebooks.

    Raises:
        CheckpointError: It cannot be downloaded.
    """
    folder = manual_folder("encodec")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # its weight norm is an old function
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
    """MERT as the HuBERT that it is, from the hub or a folder."""
    warn_mert_licence()
    network = build_hubert()
    load_hubert_state(network, fetch(name, "model.safetensors", "pytorch_model.bin"))
    return network


@cache
def warn_mert_licence() -> None:
    """Say once on what terms MERT may be used."""
    logger.warning(
        "MERT-v1-95M listens to the style clips. Its licence is CC-BY-NC 4.0: not for commerce."
    )


def load_musicnn(name: str = "musicnn_mtt") -> Musicnn:
    """The bundled music listener."""
    folder = bundled_dir() / name
    labels = json.loads((folder / "labels.json").read_text())
    return Musicnn.from_file(folder / "model.safetensors", labels)


def load_from_hub(load: tp.Callable, name: str, files: tp.Sequence[tp.Sequence[str]]) -> tp.Any:
    """Call a loader of transformers; say what to do where the hub is out of reach.

    Args:
        load: Takes a name or a folder.
        name: On the hub, or a folder.
        files: What it reads, in sets of which one file suffices.

    Raises:
        CheckpointError: The model is neither on disk nor to be had, or its folder is not whole.
    """
    source = manual_folder(name) if manual_folder(name).is_dir() else Path(name)
    is_folder = source.is_dir()
    if is_folder:
        for names in files:
            if not any((source / filename).is_file() for filename in names):
                raise CheckpointError(f"{source} lacks {' or '.join(reversed(names))}.")
    is_here = is_folder or all(
        find_in_cache(name, names) for names in files
    )  # then nobody is asked
    try:
        found = str(source) if is_folder else name
        with torch.device("cpu"):  # real weights, even while a model is described on `meta`
            return load(
                found, cache_dir=AudioCraftEnvironment.get_cache_dir(), local_files_only=is_here
            )
    except UNREADABLE as error:
        reason = str(error).strip().partition("\n")[0]
        if is_folder:
            raise CheckpointError(f"{source} cannot be read: {reason}") from error
        raise CheckpointError(f"{download_instructions(name, *files)} ({reason})") from error


def load_weights_from_hub(
    kind: "type[transformers.PreTrainedModel]", name: str, files: tp.Sequence[tp.Sequence[str]]
) -> tp.Any:
    """A network of transformers, which would make up weights that its file lacks.

    Raises:
        CheckpointError: As `load_from_hub`, or the file lacks weights.
    """
    load = partial(kind.from_pretrained, output_loading_info=True)
    with _bar_hidden():
        network, report = load_from_hub(load, name, files)
    missing = sorted(report["missing_keys"])
    if missing:
        raise CheckpointError(
            f"The file of {name} lacks {len(missing)} weights of {kind.__name__}, such as "
            f"{missing[0]}. Download it again."
        )
    return network


@contextmanager
def _bar_hidden() -> tp.Iterator[None]:
    """Without the bar of transformers for reading a file, which tears a longer one of ours."""
    # Bars of downloads are not its own and stay. Before version 5 it has neither hook nor bar.
    set_hook = getattr(transformers_logging, "set_tqdm_hook", lambda hook: None)
    before = set_hook(lambda make, args, kwargs: make(*args, **kwargs | {"disable": True}))
    try:
        yield
    finally:
        set_hook(before)
