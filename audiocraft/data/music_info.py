"""Music metadata: `MusicInfo`, its JSON files, and augmentation of descriptions.

Metadata of public data sets has many spellings. `READERS` normalizes each field to one form or
`None`; text conditioners receive only these forms.
"""

import gzip
import json
import math
import re
import typing as tp
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from ..errors import ManifestError
from ..utils.text import valid_unicode
from .batch import SegmentInfo
from .conditions import ConditioningAttributes, WavCondition
from .io.files import open_binary
from .manifest import AudioMeta


class InvalidInfoError(ManifestError):
    """A JSON file that exists but cannot be read."""


def normalize(value: tp.Any) -> str | int | float | list[str] | None:
    """Normalize a value of any source (JSON, a table, tags) to what a JSON file contains.

    Args:
        value: A number, a text or a list of these; `None`, "", NaN and an empty list are missing.

    Returns:
        A number, a text without surrounding spaces, a list of texts, or `None` if missing.

    Raises:
        TypeError: The value has another type, such as an object.
    """
    if isinstance(value, list | tuple):
        entries = [normalize(entry) for entry in value]
        if any(isinstance(entry, list) for entry in entries):
            raise TypeError(f"must be a text or a list of texts but is {value!r}")
        return [str(entry) for entry in entries if entry is not None] or None
    if _is_missing(value):
        return None
    if isinstance(value, bool | bytes | dict):
        raise TypeError(f"must be a text or a list of texts but is {value!r}")
    if isinstance(value, int | float):
        return value
    return valid_unicode(str(value)).strip() or None


def read_string(value: tp.Any) -> str | None:
    """Text without surrounding spaces; a list is joined by commas; `None` if empty.

    Raises:
        TypeError: The value is neither a text, a number nor a list of these.
    """
    value = normalize(value)
    if isinstance(value, list):
        return ", ".join(value)
    return None if value is None else str(value)


def read_keyword(value: tp.Any) -> str | None:
    """Lower-case text."""
    text = read_string(value)
    return None if text is None else text.lower()


def read_keywords(value: tp.Any) -> list[str] | None:
    """List of keywords; a text is split at commas and spaces."""
    value = normalize(value)
    if isinstance(value, list):
        words = [word.lower() for word in value]
    else:
        words = re.split(r"[\s,]+", read_keyword(value) or "")
    return [word for word in words if word] or None


def read_keyword_or_keywords(value: tp.Any) -> str | list[str] | None:
    """Keywords if given a list, else one keyword that may contain spaces."""
    return read_keywords(value) if isinstance(value, list | tuple) else read_keyword(value)


def read_key(value: tp.Any) -> str | None:
    """Musical key such as `c major`; `None` if there are several."""
    text = read_keyword(value)
    return None if text is None or "," in text else text


def read_bpm(value: tp.Any) -> float | None:
    """Beats per minute; `None` if not a finite number."""
    try:
        bpm = float(read_string(value) or "nan")
    except (TypeError, ValueError):
        return None
    return bpm if math.isfinite(bpm) else None


def _is_missing(value: tp.Any) -> bool:
    return value is None or value in ("", "None") or (isinstance(value, float) and value != value)


READERS: dict[str, tp.Callable[[tp.Any], tp.Any]] = {
    "title": read_string,
    "artist": read_string,
    "key": read_key,
    "bpm": read_bpm,
    "genre": read_keyword,
    "moods": read_keywords,
    "keywords": read_keywords,
    "description": read_string,
    "name": read_string,
    "instrument": read_keyword_or_keywords,
}


@dataclass(frozen=True, kw_only=True)
class MusicInfo(SegmentInfo):
    """A segment with its metadata; every field may be `None`."""

    title: str | None = None
    artist: str | None = None
    key: str | None = None
    bpm: float | None = None
    genre: str | None = None
    moods: list[str] | None = None
    keywords: list[str] | None = None
    description: str | None = None
    name: str | None = None
    instrument: str | list[str] | None = None
    self_wav: WavCondition | None = None  # the segment itself, clip for the style conditioner

    @classmethod
    def from_dict(
        cls, raw: tp.Mapping[str, tp.Any], segment: SegmentInfo | None = None, **more: tp.Any
    ) -> "MusicInfo":
        """Parse a JSON object. Missing fields are `None`, unknown fields are ignored.

        Args:
            raw: The object.
            segment: The segment that it belongs to.
            more: Further fields of the result.

        Raises:
            ManifestError: A field has an unsupported type.
        """
        fields = {}
        for name, read in READERS.items():
            try:
                fields[name] = read(raw.get(name))
            except TypeError as error:
                raise ManifestError(f"The field {name!r} {error}.") from None
        return cls(**(vars(segment) if segment else {}), **(fields | more))

    @property
    def texts(self) -> dict[str, str | None]:
        """All fields as texts; lists are joined by spaces."""
        return {name: _as_text(getattr(self, name), " ") for name in READERS}

    def to_condition_attributes(self) -> ConditioningAttributes:
        """Conditions of the segment: every field as a text, and the clip as `self_wav`."""
        wav = {} if self.self_wav is None else {"self_wav": self.self_wav}
        return ConditioningAttributes(text=self.texts, wav=wav)


def _as_text(value: tp.Any, separator: str) -> str | None:
    if isinstance(value, list):
        return separator.join(value)
    return None if value is None else str(value)


def info_path_of(meta: AudioMeta) -> str:
    """Path of the JSON file of an audio file: given in the manifest, or beside the audio."""
    return meta.info_path or str(Path(meta.path).with_suffix(".json"))


def read_raw_info(meta: AudioMeta) -> dict[str, tp.Any]:
    """Read the JSON file of an audio file without parsing its fields.

    Raises:
        ManifestError: The file is missing.
        InvalidInfoError: It is not a JSON object.
    """
    path = info_path_of(meta)
    try:
        with open_binary(path) as file:
            raw = json.loads(file.read())
    except FileNotFoundError:
        raise ManifestError(
            f"The metadata of {meta.path} is missing: {path} does not exist. "
            "Create it, or set info_path in the manifest."
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise InvalidInfoError(f"{path} cannot be read as JSON: {error}.") from None
    if not isinstance(raw, dict):
        raise InvalidInfoError(
            f"{path} must contain a JSON object but contains a {type(raw).__name__}."
        )
    return raw


def parse_music_info(
    raw: tp.Mapping[str, tp.Any],
    source: str,
    required: tp.Iterable[str] = (),
    segment: SegmentInfo | None = None,
    **more: tp.Any,
) -> MusicInfo:
    """Parse a JSON object of music metadata.

    Args:
        raw: The object.
        source: Name of its file, for messages.
        required: Fields that must be present; their value may be null.
        segment: The segment that it belongs to.
        more: Further fields of the result.

    Raises:
        ManifestError: A required field is missing.
        InvalidInfoError: A field has an unsupported type.
    """
    for name in required:
        if name not in raw:
            raise ManifestError(
                f"{source} has no field {name!r}, which the model is conditioned on. "
                "Add it; its value may be null."
            )
    try:
        return MusicInfo.from_dict(raw, segment, **more)
    except ManifestError as error:
        raise InvalidInfoError(f"{source}: {error}") from None


def load_music_info(
    meta: AudioMeta,
    required: tp.Iterable[str] = (),
    segment: SegmentInfo | None = None,
    **more: tp.Any,
) -> MusicInfo:
    """Read and parse the JSON file of an audio file; arguments as for `parse_music_info`.

    Raises:
        ManifestError: The file is missing or lacks a required field.
        InvalidInfoError: It is not a JSON object, or a field has an unsupported type.
    """
    return parse_music_info(read_raw_info(meta), info_path_of(meta), required, segment, **more)


APPENDABLE = ("key", "bpm", "genre", "moods", "keywords", "instrument")


class TextAugmentation(tp.NamedTuple):
    """Random decisions about one description."""

    merge: bool = False  # append other fields; if false, the rest is ignored
    drop_description: bool = False
    appended: tuple[str, ...] = ()  # fields to append, in this order


def draw_text_augmentation(
    merge_p: float, drop_description_p: float, keep_other_p: float, rng: torch.Generator
) -> TextAugmentation:
    """Draw the augmentation of one description.

    Args:
        merge_p: Probability of appending other fields.
        drop_description_p: Probability of omitting the description when fields are appended.
        keep_other_p: Probability of each field of being appended. Configurations call it
            `drop_other_p`; released models were trained with this.
        rng: Random generator.
    """
    merge, drop, *kept = torch.rand(2 + len(APPENDABLE), generator=rng).tolist()
    order = torch.randperm(len(APPENDABLE), generator=rng).tolist()
    appended = tuple(APPENDABLE[i] for i in order if kept[i] < keep_other_p)
    return TextAugmentation(merge < merge_p, drop < drop_description_p, appended)


def augment_description(info: MusicInfo, augmentation: TextAugmentation) -> str | None:
    """Apply an augmentation to the description; `None` if nothing remains."""
    if not augmentation.merge:
        return info.description
    parts = [f"{name}: {text}" for name in augmentation.appended if (text := _text(info, name))]
    text = ". ".join(parts)
    if info.description is not None and not augmentation.drop_description:
        text = f"{info.description.rstrip('.')}. {text}"  # ends with a dot if no field is kept
    return text.strip() or None


def _text(info: MusicInfo, name: str) -> str | None:
    value = getattr(info, name)
    return ", ".join(value) if isinstance(value, list) else value and str(value)


def load_paraphrases(path: str | Path) -> dict[str, list[str]]:
    """Read paraphrases: a JSON object (`.json[.gz]`) from audio paths to lists of texts.

    Raises:
        ManifestError: The file cannot be read or has another structure.
    """
    try:
        content = Path(path).read_bytes()
        content = gzip.decompress(content) if str(path).endswith(".gz") else content
        paraphrases = json.loads(content)
    except (OSError, EOFError, ValueError) as error:
        raise ManifestError(f"paraphrase_source={path} cannot be read: {error}") from None
    if not isinstance(paraphrases, dict) or not all(
        isinstance(texts, list) and all(isinstance(text, str) for text in texts)
        for texts in paraphrases.values()
    ):
        raise ManifestError(
            f"paraphrase_source={path} must map paths of audio files to lists of texts."
        )
    return paraphrases


def draw_paraphrase(paraphrase_p: float, rng: torch.Generator) -> float | None:
    """Draw whether to replace a description, and by which paraphrase.

    Returns:
        Position in the list of paraphrases as a quantile in [0, 1), or `None` to keep the original.
    """
    uniform, quantile = torch.rand(2, generator=rng).tolist()
    return quantile if uniform < paraphrase_p else None


def paraphrase(info: MusicInfo, texts: tp.Sequence[str], quantile: float | None) -> MusicInfo:
    """Replace the description by the paraphrase at `quantile`, if there is one."""
    if quantile is None or not texts:
        return info
    return replace(info, description=texts[int(quantile * len(texts))])
