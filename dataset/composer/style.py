"""Styles, and the notation of their patterns.

A pattern is a string with one sign per step of the grid; spaces and bars (`|`) are
ignored. `.` is a rest and `-` holds the note before. The other signs start a note:

* chords, melody rhythms and drums: `X` accented, `x` normal, `o` soft;
* bass: `1 3 5 7` a chord tone, `8` the octave, `a` a scale step that leads to the next root;
* arpeggio: `0 1 2 …` the chord's pitches counted upwards from the lowest root.
"""

from dataclasses import dataclass
from typing import NamedTuple

KINDS = ("melody", "chords", "power", "arpeggio", "pad", "bass", "drums")


class Hit(NamedTuple):
    """One sign of a pattern."""

    start: float  # beats from the start of the pattern
    length: float  # beats
    sign: str


def parse_pattern(text: str, steps_per_beat: int) -> tuple[list[Hit], float]:
    """Return the hits of a pattern and its length in beats."""
    signs = text.replace(" ", "").replace("|", "")
    hits: list[Hit] = []
    step = 1 / steps_per_beat
    for index, sign in enumerate(signs):
        if sign == "-" and hits:
            hits[-1] = hits[-1]._replace(length=(index + 1) * step - hits[-1].start)
        elif sign not in ".-":
            hits.append(Hit(index * step, step, sign))
    return hits, len(signs) * step


@dataclass(frozen=True, kw_only=True)
class Line:
    """One line of a style: its kind of player and the values it is drawn from."""

    role: str  # names the line, once per style
    kind: str  # one of KINDS
    instruments: tuple[str, ...]  # one is drawn per piece; names in INSTRUMENTS
    patterns: tuple = ()  # strings; for drums, {drum: string}; a pad needs none
    presence_p: float = 1.0  # probability that the line plays in a piece at all
    low: int = 36  # the range that is drawn from, inside the instrument's own
    high: int = 84
    level: float = 1.0  # loudness relative to the other lines
    pan: int = 64  # 0 left, 64 middle, 127 right
    strum: float = 0.0  # seconds between the notes of one chord
    legato: float = 0.95  # share of the written length that sounds
    in_intro: bool = True
    motion: tuple[int, ...] = (-2, -1, -1, 1, 1, 2, 0, 3, -3)  # melody: steps of the scale
    steps_per_beat: int = 4

    def __post_init__(self):
        if self.kind not in KINDS:
            raise ValueError(f"The kind of line {self.role!r} is {self.kind!r}. Choose: {KINDS}.")


@dataclass(frozen=True, kw_only=True)
class Style:
    """Properties shared by the pieces of a style; values are drawn per piece."""

    name: str  # also the start of file names
    genre: str  # the label
    bpm: tuple[int, int]
    beats_per_bar: int = 4
    swing: float = 0.5  # where the off-beat eighth falls inside its beat; 2/3 is triplets
    progressions: dict[str, tuple[str, ...]]  # mode -> bars separated by spaces, `a/b` = half each
    lines: tuple[Line, ...]
    moods: tuple[str, ...]
    keywords: tuple[str, ...]
    phrases: tuple[str, ...]  # names of a piece in a sentence: "a swing tune"
    looseness: float = 0.008  # seconds, standard deviation of every attack
    fills: bool = True  # drums play a fill before the next section
    nouns: tuple[str, ...] = ("Morning",)  # for titles
