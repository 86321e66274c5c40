"""What is known about a piece of music, and how it is read from a JSON file beside the audio.

Texts in the wild are spelled in many ways; each field has a reader that brings it into one form
or into `None`. The text conditioners only ever see these forms.
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
from .batch import SegmentInfo
from .conditions import ConditioningAttributes, WavCondition
from .io.files import open_binary
from .manifest import AudioMeta


class InvalidInfoError(ManifestError):
    """A JSON file that is there but cannot be used, as other files are damaged."""


def read_string(value: tp.Any) -> str | None:
    """Text without the space around it; `None` where it says nothing.

    Raises:
        TypeError: It is a list or a table.
    """
    if _is_missing(value):
        return None
    if not isinstance(value, str | int | float):
        raise TypeError(f"must be a text, not {value!r}")
    return str(value).strip() or None


def read_keyword(value: tp.Any) -> str | None:
    """Text in lower case."""
    text = read_string(value)
    return None if text is None else text.lower()


def read_keywords(value: tp.Any) -> list[str] | None:
    """A list of keywords; a text is split at commas and spaces."""
    if isinstance(value, list):
        words = [str(word).strip().lower() for word in value if not _is_missing(word)]
    else:
        words = re.split(r"[\s,]+", read_keyword(value) or "")
    return [word for word in words if word] or None


def read_keyword_or_keywords(value: tp.Any) -> str | list[str] | None:
    """Keywords if it is a list, else one keyword that may hold spaces."""
    return read_keywords(value) if isinstance(value, list) else read_keyword(value)


def read_key(value: tp.Any) -> str | None:
    """A musical key such as `c major`; `None` where there are several."""
    text = read_keyword(value)
    return None if text is None or "," in text else text


def read_bpm(value: tp.Any) -> float | None:
    """Beats per minute; `None` where it is no number."""
    try:
        bpm = float(value)
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
    """A segment and what is known about its music; every field may be missing."""

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
    self_wav: WavCondition | None = None  # the segment itself, for the style conditioner

    @classmethod
    def from_dict(
        cls, raw: tp.Mapping[str, tp.Any], segment: SegmentInfo | None = None, **more: tp.Any
    ) -> "MusicInfo":
        """Read the fields of a JSON object; those it lacks are `None`, others are ignored.

        Args:
            raw: The object.
            segment: The segment that it describes.
            more: Other fields, as they are.

        Raises:
            ManifestError: A field has a type that cannot be read.
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
        """All fields as texts; the words of a list follow each other."""
        return {name: _as_text(getattr(self, name), " ") for name in READERS}

    def to_condition_attributes(self) -> ConditioningAttributes:
        """What a model may be conditioned on: every text by name, and the sound as `self_wav`."""
        wav = {} if self.self_wav is None else {"self_wav": self.self_wav}
        return ConditioningAttributes(text=self.texts, wav=wav)


def _as_text(value: tp.Any, separator: str) -> str | None:
    if isinstance(value, list):
        return separator.join(value)
    return None if value is None else str(value)


def info_path_of(meta: AudioMeta) -> str:
    """Where the metadata of a file is: as the manifest says, or beside the audio."""
    return meta.info_path or str(Path(meta.path).with_suffix(".json"))


def read_raw_info(meta: AudioMeta) -> dict[str, tp.Any]:
    """Read the JSON file of an audio file as it is.

    Raises:
        ManifestError: The file is missing; as `InvalidInfoError`, it is no JSON object.
    """
    path = info_path_of(meta)
    try:
        with open_binary(path) as file:
            raw = json.loads(file.read())
    except FileNotFoundError:
        raise ManifestError(
            f"{meta.path} has no metadata: there is no {path}. "
            "Write it, or name another file as info_path in the manifest."
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise InvalidInfoError(f"{path} cannot be read as JSON: {error}.") from None
    if not isinstance(raw, dict):
        raise InvalidInfoError(
            f"{path} holds a JSON {type(raw).__name__}, where an object is needed."
        )
    return raw


def parse_music_info(
    raw: tp.Mapping[str, tp.Any],
    source: str,
    required: tp.Iterable[str] = (),
    segment: SegmentInfo | None = None,
    **more: tp.Any,
) -> MusicInfo:
    """Read a JSON object about a piece of music.

    Args:
        raw: The object.
        source: Where it is written, for messages.
        required: Fields that it must have, though they may be null.
        segment: The segment that is described.
        more: Other fields of the result, as they are.

    Raises:
        ManifestError: It lacks a required field; as `InvalidInfoError`, a field has a type that cannot
            be read.
    """
    for name in required:
        if name not in raw:
            raise ManifestError(
                f"{source} has no field {name!r}, which the model is conditioned on. "
                "Add it; null says that it is unknown."
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
    """Read the JSON file of an audio file; the arguments are those of `parse_music_info`.

    Raises:
        ManifestError: The file is missing, is no JSON object, lacks a required field, or a field
            has a type that cannot be read.
    """
    return parse_music_info(read_raw_info(meta), info_path_of(meta), required, segment, **more)


APPENDABLE = ("key", "bpm", "genre", "moods", "keywords", "instrument")


class TextAugmentation(tp.NamedTuple):
    """What happens to one description."""

    merge: bool = False  # append other fields; nothing else happens without it
    drop_description: bool = False
    appended: tuple[str, ...] = ()  # fields, in this order


def draw_text_augmentation(
    merge_p: float, drop_description_p: float, keep_other_p: float, rng: torch.Generator
) -> TextAugmentation:
    """Decide what happens to one description.

    Args:
        merge_p: Probability that other fields are appended.
        drop_description_p: Then: probability that the description itself is left out.
        keep_other_p: And that a field is among the appended. Configurations call it
            `drop_other_p`, for released models were trained so.
        rng: The dice.
    """
    merge, drop, *kept = torch.rand(2 + len(APPENDABLE), generator=rng).tolist()
    order = torch.randperm(len(APPENDABLE), generator=rng).tolist()
    appended = tuple(APPENDABLE[i] for i in order if kept[i] < keep_other_p)
    return TextAugmentation(merge < merge_p, drop < drop_description_p, appended)


def augment_description(info: MusicInfo, augmentation: TextAugmentation) -> str | None:
    """The description after its augmentation; `None` where nothing is left."""
    if not augmentation.merge:
        return info.description
    described = [f"{name}: {text}" for name in augmentation.appended if (text := _text(info, name))]
    if info.description is not None and not augmentation.drop_description:
        described = [info.description, *described]
        if len(described) > 1:
            described[0] = info.description.rstrip(".")
    return ". ".join(described) or None


def _text(info: MusicInfo, name: str) -> str | None:
    value = getattr(info, name)
    return ", ".join(value) if isinstance(value, list) else value and str(value)


def load_paraphrases(path: str | Path) -> dict[str, list[str]]:
    """Read other wordings: a JSON object (`.json[.gz]`) from audio paths to lists of texts.

    Raises:
        ManifestError: The file is missing or is something else.
    """
    try:
        content = Path(path).read_bytes()
        content = gzip.decompress(content) if str(path).endswith(".gz") else content
        wordings = json.loads(content)
    except (OSError, EOFError, ValueError) as error:
        raise ManifestError(f"paraphrase_source is {path}, which cannot be read: {error}") from None
    if not isinstance(wordings, dict) or not all(
        isinstance(texts, list) and all(isinstance(text, str) for text in texts)
        for texts in wordings.values()
    ):
        raise ManifestError(f"{path} must map the paths of audio files to lists of texts.")
    return wordings


def draw_paraphrase(paraphrase_p: float, rng: torch.Generator) -> float | None:
    """Decide whether another wording is taken: its place among them from 0 to 1, or `None`."""
    chance, place = torch.rand(2, generator=rng).tolist()
    return place if chance < paraphrase_p else None


def paraphrase(info: MusicInfo, wordings: tp.Sequence[str], place: float | None) -> MusicInfo:
    """`info` with the wording at `place` as its description, if there is one."""
    if place is None or not wordings:
        return info
    return replace(info, description=wordings[int(place * len(wordings))])
