"""A description is told in many ways, so that a model learns to read all of them.

Fields such as genre or moods are appended to the description, which then may be left out
itself; or another wording takes its place. Dice first, then a deterministic function of them.

Method: Copet et al., 2023, https://arxiv.org/abs/2306.05284.
"""

import gzip
import json
import typing as tp
from dataclasses import replace
from pathlib import Path

import torch

from ..errors import ManifestError
from .music_info import MusicInfo

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


def draw_wording(paraphrase_p: float, rng: torch.Generator) -> float | None:
    """Decide whether another wording is taken: its place among them from 0 to 1, or `None`."""
    chance, place = torch.rand(2, generator=rng).tolist()
    return place if chance < paraphrase_p else None


def paraphrase(info: MusicInfo, wordings: tp.Sequence[str], place: float | None) -> MusicInfo:
    """`info` with the wording at `place` as its description, if there is one."""
    if place is None or not wordings:
        return info
    return replace(info, description=wordings[int(place * len(wordings))])
