"""Published weights: where they are kept, how they are fetched, what their names mean.

Names: `//pretrained/ID` and plain `owner/model` are on the Hugging Face hub, `//bundled/NAME` lies
in `assets/`, `//sig/SIG` is an experiment of this folder of outputs, everything else is a path.
What comes from the hub is kept in the cache (`AUDIOCRAFT_CACHE_DIR`). Files that were brought by
hand into `CACHE/owner/model/` win, so that a machine without network needs no more than a copy.
"""

import typing as tp
from pathlib import Path

from huggingface_hub import constants, hf_hub_download, try_to_load_from_cache
from huggingface_hub.errors import (
    EntryNotFoundError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
)

from ...environment import AudioCraftEnvironment, bundled_dir
from ...errors import CheckpointError

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


class HubFileMissing(CheckpointError):
    """A repository of the hub has none of the files that were asked for."""


def manual_folder(repo_id: str) -> Path:
    """Where files of a repository may be put by hand: a folder of its name in the cache."""
    return AudioCraftEnvironment.get_cache_dir() / repo_id


def find_in_cache(repo_id: str, filenames: tp.Sequence[str]) -> Path | None:
    """The first of some files of a repository that was brought by hand or downloaded before.

    Raises:
        CheckpointError: No repository can have that name.
    """
    for filename in filenames:
        if (manual_folder(repo_id) / filename).is_file():
            return manual_folder(repo_id) / filename
    cache = AudioCraftEnvironment.get_cache_dir()
    try:
        found = [try_to_load_from_cache(repo_id, filename, cache) for filename in filenames]
    except HFValidationError as error:
        raise CheckpointError(f"{repo_id} is no name of a model on the hub: {error}") from error
    return next((Path(path) for path in found if isinstance(path, str)), None)


def fetch(repo_id: str, *filenames: str, beside: tp.Sequence[str] = ()) -> Path:
    """Path of the first of `filenames` that was put into the cache or that the hub has.

    A download shows its progress and happens once; `HF_HUB_OFFLINE=1` forbids it. The hub is not
    asked about what is in the cache: nobody waits for a network that is not there, and weights do
    not change by themselves. To take newer ones, remove the repository's folder from the cache.

    Args:
        repo_id: `owner/model`.
        filenames: Equally good files, the preferred one first.
        beside: Others that will be asked for next; told where the hub is out of reach.

    Raises:
        HubFileMissing: The repository has none of the files.
        CheckpointError: The hub cannot be reached and the cache has none of them, or it refuses;
            or no repository can have that name.
    """
    found = find_in_cache(repo_id, filenames)
    if found is not None:
        return found
    cache = AudioCraftEnvironment.get_cache_dir()
    for filename in filenames:
        try:
            return Path(hf_hub_download(repo_id, filename, cache_dir=cache))
        except LocalEntryNotFoundError as error:
            raise CheckpointError(download_instructions(repo_id, filenames, beside)) from error
        except EntryNotFoundError:
            continue
        except HfHubHTTPError as error:
            raise CheckpointError(
                f"The hub refused {repo_id}/{filename}: {error}. Check the name; a private or "
                "gated model needs `hf auth login` first."
            ) from error
    raise HubFileMissing(f"{repo_id} on the hub has none of: {', '.join(filenames)}.")


def download_instructions(repo_id: str, *alternatives: tp.Sequence[str]) -> str:
    """What to do where the hub is out of reach: which files to put where."""
    offline = " (HF_HUB_OFFLINE is set)" if constants.HF_HUB_OFFLINE else ""
    files = " and ".join(" or ".join(reversed(names)) for names in alternatives if names)
    return (
        f"{repo_id} is not in the cache and the hub cannot be reached{offline}. On a machine that "
        f"reaches it run `hf download {repo_id}`, then put {files} into {manual_folder(repo_id)}/. "
        "AUDIOCRAFT_CACHE_DIR moves the cache."
    )
