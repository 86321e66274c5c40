"""Labels of a section of a piece, with the fields of the metadata files.

All labels are computed from the score: an instrument is listed only if it plays in that section,
and a description is composed of labels only.
"""

import random

from .score import Score
from .style import Style

ARTIST = "audiocraft-style composer"
TEMPO_WORDS = ((70, "slow"), (92, "unhurried"), (118, "mid-tempo"), (145, "upbeat"), (999, "fast"))


def instruments_between(score: Score, start: float, end: float) -> list[str]:
    """Return the instruments that play at least two notes within [start, end] beats."""
    names = [
        part.instrument.name
        for part in score.parts
        if sum(start <= note.start < end for note in part.notes) >= 2
    ]
    return list(dict.fromkeys(names))


def tempo_word(bpm: float) -> str:
    """Return the word for a tempo."""
    return next(word for limit, word in TEMPO_WORDS if bpm < limit)


def describe_clip(style: Style, score: Score, instruments: list[str], name: str) -> str:
    """Return one sentence composed of the labels; its wording depends on the name of the clip."""
    rng = random.Random(f"{name}/words")
    phrase = rng.choice(style.phrases)
    tempo = tempo_word(score.bpm)
    first, second = rng.sample(score.moods, 2)
    played = join_names(instruments)
    _, noun = phrase.split(" ", 1)
    templates = (
        f"{phrase} with {played}, {first} and {second}, at {score.bpm} bpm",
        f"{phrase} in {score.key.name}, {tempo} and {first}, played by {played}",
        f"{_article(first)} {first} and {second} {noun} featuring {played}",
        f"{tempo} {noun} with {played}, {first} mood",
        f"{played} playing {phrase}, {tempo}, {first} and {second}",
        f"{phrase}, {first}, {tempo}, around {score.bpm} bpm, with {played}",
    )
    sentence = rng.choice(templates)
    return sentence[0].upper() + sentence[1:] + "."


def join_names(names: list[str]) -> str:
    """Return for example `solo piano`, or `violin, cello and harp`."""
    if len(names) == 1:
        return f"solo {names[0]}"
    return f"{', '.join(names[:-1])} and {names[-1]}"


def clip_metadata(
    style: Style,
    score: Score,
    *,
    name: str,
    window: tuple[float, float],
    sample_rate: int,
    extension: str,
) -> dict:
    """Return the metadata of a clip, written as JSON beside it.

    Args:
        style: The style of the piece.
        score: The piece.
        name: File name of the clip without its extension.
        window: Start and end of the clip in the piece, in seconds.
        sample_rate: Sample rate of the audio file, in hertz.
        extension: Extension of the audio file, without the dot.
    """
    start, end = window
    beats_per_second = score.bpm / 60
    instruments = instruments_between(score, start * beats_per_second, end * beats_per_second)
    keywords = random.Random(f"{name}/keywords").sample(style.keywords, 4)
    return {
        "key": score.key.name,
        "artist": ARTIST,
        "sample_rate": sample_rate,
        "file_extension": extension,
        "description": describe_clip(style, score, instruments, name),
        "keywords": ", ".join([score.moods[0], *keywords]),
        "duration": round(end - start, 4),
        "bpm": score.bpm,
        "genre": style.genre,
        "title": score.title,
        "name": name,
        "instrument": ", ".join(instruments),
        "moods": list(score.moods),
    }


def _article(word: str) -> str:
    return "an" if word[0] in "aeiou" else "a"
