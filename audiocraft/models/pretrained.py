"""Networks of others that conditioners use, loaded when they are first needed.

None of them runs code that came with its weights.
"""

import json
import logging
import typing as tp

from transformers import AutoTokenizer, EncodecModel, HubertModel, T5EncoderModel

from ..environment import AudioCraftEnvironment, bundled_dir
from ..errors import CheckpointError
from ..modules.conditioners import Musicnn, PretrainedText, build_hubert, load_hubert_state
from .hub import fetch

logger = logging.getLogger(__name__)

MERT = "m-a-p/MERT-v1-95M"


def load_t5(name: str) -> PretrainedText:
    """A T5 encoder with its tokenizer, from the hub or a folder."""
    return PretrainedText(
        from_hub(AutoTokenizer.from_pretrained, name),
        from_hub(T5EncoderModel.from_pretrained, name),
    )


def load_encodec(name: str) -> EncodecModel:
    """An EnCodec of transformers, such as `facebook/encodec_32khz`."""
    return from_hub(EncodecModel.from_pretrained, name)


def load_mert(name: str = MERT) -> HubertModel:
    """MERT as the HuBERT that it is, from the hub or a folder."""
    logger.info("MERT-v1-95M listens to the style clips. Its licence is CC-BY-NC 4.0.")
    network = build_hubert()
    load_hubert_state(network, fetch(name, "model.safetensors", "pytorch_model.bin"))
    return network


def load_musicnn(name: str = "musicnn_mtt") -> Musicnn:
    """The bundled music listener."""
    folder = bundled_dir() / name
    labels = json.loads((folder / "labels.json").read_text())
    return Musicnn.from_file(folder / "model.safetensors", labels)


def from_hub(load: tp.Callable, name: str) -> tp.Any:
    """Call a loader of transformers; say what to do where the hub is out of reach."""
    try:
        return load(name, cache_dir=AudioCraftEnvironment.get_cache_dir())
    except OSError as error:
        raise CheckpointError(
            f"{name} is not in the cache and the hub cannot be reached. Download it elsewhere into "
            "a folder and give that folder's path instead of the name, or set AUDIOCRAFT_CACHE_DIR "
            f"to a cache that has it. ({error})"
        ) from error
