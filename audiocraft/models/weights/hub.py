"""Model names and downloads: resolution of names to files in the cache or on the Hugging Face hub.

`//pretrained/ID` and `owner/model` are on the hub, `//bundled/NAME` is in `assets/`, `//sig/SIG` is
an experiment in the output folder, `https://…` is a file to download, anything else is a path.
Downloads are kept in the cache (`AUDIOCRAFT_CACHE_DIR`). Files that the user has put into
`CACHE/owner/model/` take precedence, so that a machine without network only needs a copy of them.
"""

import hashlib
import re
import typing as tp
from pathlib import Path

import torch
from huggingface_hub import constants, hf_hub_download, try_to_load_from_cache
from huggingface_hub.errors import (
    EntryNotFoundError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
)

from ...environment import AudioCraftEnvironment, bundled_dir
from ...errors import CheckpointError
from ...utils.atomic_write import atomic_path

CacheDir = str | Path | None
PRETRAINED = "//pretrained/"
BUNDLED = "//bundled/"
SIGNATURE = "//sig/"
URL_SCHEMES = ("https://", "http://")


def hub_id(name: str) -> str | None:
    """Return the hub id that a name refers to, or `None` if it refers to a file or URL."""
    if name.startswith(PRETRAINED):
        return name.removeprefix(PRETRAINED)
    if name.startswith(("//", *URL_SCHEMES)) or Path(name).expanduser().exists():
        return None
    owner, _, model = name.partition("/")
    return name if owner and model and "/" not in model and not name.startswith(".") else None


def expand_signature(name: str) -> str:
    """Return `//sig/SIG` for the bare signature of an experiment; other names are unchanged."""
    is_signature = re.fullmatch(r"[0-9a-f]{8}", name) and not Path(name).exists()
    return SIGNATURE + name if is_signature else name


def local_path(name: str, cache_dir: CacheDir = None) -> Path:
    """Return the file or folder that a name other than a hub id refers to.

    Raises:
        CheckpointError: It does not exist, or cannot be downloaded.
    """
    if name.startswith(URL_SCHEMES):
        return download_url(name, cache_dir)
    if name.startswith(BUNDLED):
        path = bundled_dir() / name.removeprefix(BUNDLED)
        choices = sorted(p.parent.name for p in bundled_dir().glob("*/*.safetensors"))
        hint = f"Bundled models: {', '.join(dict.fromkeys(choices))}."
    elif name.startswith(SIGNATURE):
        folder = AudioCraftEnvironment.get_dora_dir() / "xps" / name.removeprefix(SIGNATURE)
        path = folder / "checkpoint.th"
        hint = "Train that experiment first, or set AUDIOCRAFT_DORA_DIR to its output folder."
    else:
        path = Path(name).expanduser()
        hint = (
            "Accepted: a file, a folder with an exported model, a hub id such as "
            "facebook/musicgen-style, a URL, //sig/SIG, //bundled/NAME."
        )
    if not path.exists():
        raise CheckpointError(f"{name}: {path} does not exist. {hint}")
    return path


class HubFileMissing(CheckpointError):
    """A repository on the hub has none of the requested files."""


def cache_folder(cache_dir: CacheDir = None) -> Path:
    """Return the folder of downloads: `cache_dir`, or the configured one if it is `None`."""
    return AudioCraftEnvironment.get_cache_dir() if cache_dir is None else Path(cache_dir)


def manual_folder(repo_id: str, cache_dir: CacheDir = None) -> Path:
    """Return the folder in the cache into which users put files of a repository themselves."""
    return cache_folder(cache_dir) / repo_id


def find_in_cache(
    repo_id: str, filenames: tp.Sequence[str], cache_dir: CacheDir = None
) -> Path | None:
    """Return the first of `filenames` that is in the cache.

    Raises:
        CheckpointError: `repo_id` is not a valid name.
    """
    for filename in filenames:
        path = manual_folder(repo_id, cache_dir) / filename
        if path.is_file():
            return path
    cache = cache_folder(cache_dir)
    try:
        found = [try_to_load_from_cache(repo_id, filename, cache) for filename in filenames]
    except HFValidationError as error:
        raise CheckpointError(f"{repo_id} is not a valid hub id: {error}") from error
    return next((Path(path) for path in found if isinstance(path, str)), None)


def fetch(
    repo_id: str,
    *filenames: str,
    beside: tp.Sequence[str] = (),
    cache_dir: CacheDir = None,
) -> Path:
    """Return the path of the first of `filenames` in the cache, else download it from the hub.

    Files in the cache are used without a request to the hub, so that no network is needed and
    weights do not change unnoticed; to update them, remove the repository's folder from the cache.
    `HF_HUB_OFFLINE=1` disables downloads.

    Args:
        repo_id: `owner/model`.
        filenames: Equivalent files, the preferred one first.
        beside: Further files that will be needed, for the error message.
        cache_dir: Folder of downloads; `None` is the configured one.

    Raises:
        HubFileMissing: The repository has none of the files.
        CheckpointError: None is in the cache and the hub cannot be reached or denies access, or
            `repo_id` is not a valid name.
    """
    found = find_in_cache(repo_id, filenames, cache_dir)
    if found is not None:
        return found
    cache = cache_folder(cache_dir)
    for filename in filenames:
        try:
            return Path(hf_hub_download(repo_id, filename, cache_dir=cache))
        except LocalEntryNotFoundError as error:
            raise CheckpointError(
                download_instructions(repo_id, filenames, beside, cache_dir=cache_dir)
            ) from error
        except EntryNotFoundError:
            continue
        except HfHubHTTPError as error:
            raise CheckpointError(
                f"The hub denied access to {repo_id}/{filename}: {error}. Check the name; private "
                "and gated models need `hf auth login`."
            ) from error
    raise HubFileMissing(f"{repo_id} on the hub has none of: {', '.join(filenames)}.")


def download_url(url: str, cache_dir: CacheDir = None) -> Path:
    """Return the path of a downloaded file; a URL is downloaded once.

    Raises:
        CheckpointError: The download fails.
    """
    key = hashlib.sha256(url.encode()).hexdigest()[:16]
    path = cache_folder(cache_dir) / "urls" / key / (url.rpartition("/")[2] or "file")
    if path.is_file():
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(path) as temporary:
            torch.hub.download_url_to_file(url, str(temporary))
    except OSError as error:
        raise CheckpointError(
            f"{url} cannot be downloaded: {error}. Download it elsewhere and pass the file."
        ) from error
    return path


def download_instructions(
    repo_id: str, *alternatives: tp.Sequence[str], cache_dir: CacheDir = None
) -> str:
    """Return the error message for an unreachable hub: which files to put where."""
    offline = " (HF_HUB_OFFLINE is set)" if constants.HF_HUB_OFFLINE else ""
    files = " and ".join(" or ".join(reversed(names)) for names in alternatives if names)
    return (
        f"{repo_id} is not in the cache and the hub cannot be reached{offline}. On a machine that "
        f"can reach it run `hf download {repo_id}`, then put {files} into "
        f"{manual_folder(repo_id, cache_dir)}/. "
        "AUDIOCRAFT_CACHE_DIR sets the cache folder."
    )
