"""Scales, chords and voicings.

Pitches are MIDI numbers (60 is middle C), pitch classes are pitches modulo 12. Chords are
written as roman numerals over the major scale of the tonic, so that a minor key reads
`i bVI bIII bVII`: capital for a major third, small for a minor one.
"""

import re
from dataclasses import dataclass
from typing import NamedTuple

MAJOR_TONICS = ("C", "Db", "D", "Eb", "E", "F", "F#", "G", "Ab", "A", "Bb", "B")
MINOR_TONICS = ("C", "C#", "D", "Eb", "E", "F", "F#", "G", "G#", "A", "Bb", "B")
SCALES = {
    "major": (0, 2, 4, 5, 7, 9, 11),
    "mixolydian": (0, 2, 4, 5, 7, 9, 10),
    "minor": (0, 2, 3, 5, 7, 8, 10),
    "dorian": (0, 2, 3, 5, 7, 9, 10),
}
MAJOR_CHORDS = {
    "": (0, 4, 7),
    "6": (0, 4, 7, 9),
    "7": (0, 4, 7, 10),
    "9": (0, 4, 7, 10, 14),
    "add9": (0, 4, 7, 14),
    "maj7": (0, 4, 7, 11),
    "sus4": (0, 5, 7),
}
MINOR_CHORDS = {
    "": (0, 3, 7),
    "6": (0, 3, 7, 9),
    "7": (0, 3, 7, 10),
    "9": (0, 3, 7, 10, 14),
    "add9": (0, 3, 7, 14),
    "7b5": (0, 3, 6, 10),
}
NUMERALS = {"I": 0, "II": 2, "III": 4, "IV": 5, "V": 7, "VI": 9, "VII": 11}


@dataclass(frozen=True)
class Key:
    """A tonic and the scale on it."""

    tonic: int  # pitch class
    mode: str  # a name in SCALES

    @property
    def pitch_classes(self) -> frozenset[int]:
        return frozenset((self.tonic + step) % 12 for step in SCALES[self.mode])

    @property
    def name(self) -> str:
        """Display name, for example `D minor`. Modes are named by their third."""
        if 4 in SCALES[self.mode]:
            return f"{MAJOR_TONICS[self.tonic]} major"
        return f"{MINOR_TONICS[self.tonic]} minor"


class Chord(NamedTuple):
    """A chord in a key."""

    root: int  # pitch class
    intervals: tuple[int, ...]  # semitones above the root, ascending

    @property
    def pitch_classes(self) -> frozenset[int]:
        return frozenset((self.root + interval) % 12 for interval in self.intervals)


def parse_chord(numeral: str, key: Key) -> Chord:
    """Read a roman numeral such as `bVII`, `ii7` or `V7`.

    Raises:
        ValueError: The numeral or its quality is unknown.
    """
    match = re.fullmatch(r"([b#]?)([IV]+|[iv]+)(.*)", numeral)
    if match is None or match[2].upper() not in NUMERALS:
        raise ValueError(f"{numeral!r} is no chord. Write a roman numeral, such as bVII or ii7.")
    qualities = MINOR_CHORDS if match[2].islower() else MAJOR_CHORDS
    if match[3] not in qualities:
        raise ValueError(
            f"{numeral!r} is no chord. After {match[2]} comes one of: {', '.join(qualities)}."
        )
    shift = {"b": -1, "#": 1, "": 0}[match[1]]
    root = (key.tonic + NUMERALS[match[2].upper()] + shift) % 12
    return Chord(root, qualities[match[3]])


def ladder(key: Key, chord: Chord, low: int, high: int) -> list[int]:
    """Return all pitches in [low, high] that a melody may use over a chord, ascending.

    These are the scale of the key and the tones of the chord. Where a chord tone is not in the
    scale (the leading tone of a minor key), scale tones a semitone away from it are omitted.
    """
    outside = chord.pitch_classes - key.pitch_classes
    beside = {(tone + step) % 12 for tone in outside for step in (-1, 1)}
    allowed = (key.pitch_classes - beside) | chord.pitch_classes
    return [pitch for pitch in range(low, high + 1) if pitch % 12 in allowed]


def nearest(pitch: float, pitches: list[int]) -> int:
    """Return the nearest of some pitches; the lower one of two equally near."""
    return min(pitches, key=lambda candidate: (abs(candidate - pitch), candidate))


def pitches_of(chord: Chord, low: int, high: int) -> list[int]:
    """Return all chord tones in [low, high], ascending from the lowest root that fits."""
    start = low + (chord.root - low) % 12
    return [pitch for pitch in range(start, high + 1) if pitch % 12 in chord.pitch_classes]


def lowest_root(chord: Chord, low: int) -> int:
    """Return the root at or above a pitch."""
    return low + (chord.root - low) % 12


def voice(chord: Chord, low: int, high: int, near: float) -> tuple[int, ...]:
    """Return a close voicing in [low, high] whose middle is as near as possible to a pitch.

    A pitch near the previous voicing minimizes the motion of the voices.
    """
    classes = sorted(chord.pitch_classes)
    voicings = []
    for bottom in range(low, high + 1):
        if bottom % 12 in chord.pitch_classes:
            voicing = sorted(bottom + (tone - bottom) % 12 for tone in classes)
            if voicing[-1] <= high:
                voicings.append(tuple(voicing))
    if not voicings:
        raise ValueError(f"No voicing of {chord} fits in the range {low}…{high}; widen the range.")
    return min(voicings, key=lambda voicing: (abs(sum(voicing) / len(voicing) - near), voicing))
