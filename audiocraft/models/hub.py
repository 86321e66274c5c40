"""Published weights: where they are kept, how they are fetched, what their names mean.

Names: `//pretrained/ID` and plain `owner/model` are on the Hugging Face hub, `//bundled/NAME` lies
in `assets/`, `//sig/SIG` is an experiment of this folder of outputs, everything else is a path.
"""

import logging
from pathlib import Path

from huggingface_hub import hf_hub_download
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, LocalEntryNotFoundError

from ..environment import AudioCraftEnvironment, bundled_dir
from ..errors import CheckpointError

logger = logging.getLogger(__name__)

PRETRAINED = "//pretrained/"
BUNDLED = "//bundled/"
SIGNATURE = "//sig/"


def hub_id(name: str) -> str | None:
    """The hub's id that a name stands for, or `None` where it stands for a local file."""
    if name.startswith(PRETRAINED):
        return name.removeprefix(PRETRAINED)
    if name.startswith("//") or Path(name).expanduser().exists():
        return None
    owner, _, model = name.partition("/")
    return name if owner and model and "/" not in model and not name.startswith(".") else None


def local_path(name: str) -> Path:
    """The file or folder that a name stands for.

    Raises:
        CheckpointError: Nothing is there; the message lists what is.
    """
    if name.startswith(BUNDLED):
        path = bundled_dir() / name.removeprefix(BUNDLED)
        choices = sorted(p.parent.name for p in bundled_dir().glob("*/*.safetensors"))
        hint = f"Bundled models: {', '.join(dict.fromkeys(choices))}."
    elif name.startswith(SIGNATURE):
        folder = AudioCraftEnvironment.get_dora_dir() / "xps" / name.removeprefix(SIGNATURE)
        path = folder / "checkpoint.th"
        hint = "Train that experiment first, or set AUDIOCRAFT_DORA_DIR to where it was trained."
    else:
        path = Path(name).expanduser()
        hint = (
            "Give a file, a folder with an exported model, a hub id such as "
            "facebook/musicgen-style, //sig/SIG or //bundled/NAME."
        )
    if not path.exists():
        raise CheckpointError(f"{name}: there is nothing at {path}. {hint}")
    return path


def fetch(repo_id: str, *filenames: str) -> Path:
    """Path of the first of `filenames` that the hub has, downloaded once into the cache.

    Raises:
        CheckpointError: The hub cannot be reached and the cache lacks the file, or the
            repository has none of them.
    """
    cache = AudioCraftEnvironment.get_cache_dir()
    for filename in filenames:
        try:
            return Path(hf_hub_download(repo_id, filename, cache_dir=cache))
        except LocalEntryNotFoundError as error:
            raise CheckpointError(
                f"{repo_id}/{filename} is not in the cache and the hub cannot be reached. Download "
                f"{' or '.join(filenames)} of {repo_id} elsewhere, put it in a folder, and give "
                "that folder's path; or set AUDIOCRAFT_CACHE_DIR to a cache that has it."
            ) from error
        except EntryNotFoundError:
            continue
        except HfHubHTTPError as error:
            raise CheckpointError(f"The hub refused {repo_id}/{filename}: {error}") from error
    raise CheckpointError(f"{repo_id} has none of: {', '.join(filenames)}.")
