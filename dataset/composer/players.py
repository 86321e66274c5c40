"""Players: each kind of line converts chords and a pattern to notes.

Every player has the same signature, `(line, instrument, passage, rng) -> notes`, and its notes
depend on one passage (a section of the piece) only.
"""

import random
from dataclasses import dataclass

from .instruments import DRUMS, Instrument
from .melody import play_melody
from .score import Note
from .style import Hit, Line, parse_pattern
from .theory import Chord, Key, ladder, lowest_root, nearest, pitches_of, voice
from .tunes import TuneNote

VELOCITIES = {"X": 104, "x": 88, "o": 60}


@dataclass(frozen=True)
class Passage:
    """A section of a piece for one call of a player; beats count from the start of the piece."""

    key: Key
    start: float
    length: float
    beats_per_bar: int
    bpm: int
    chords: tuple[tuple[float, float, Chord], ...]  # (start, length, chord), without gaps
    next_chord: Chord  # first chord after the passage
    with_fill: bool
    tune: tuple[TuneNote, ...] = ()  # melody to play instead of a generated one

    @property
    def end(self) -> float:
        return self.start + self.length

    def chord_at(self, beat: float) -> Chord:
        return next(chord for start, _, chord in reversed(self.chords) if start <= beat + 1e-6)

    def chord_after(self, beat: float) -> Chord:
        """Return the chord after the one at a beat."""
        later = [chord for start, _, chord in self.chords if start > beat + 1e-6]
        return later[0] if later else self.next_chord


def play(line: Line, instrument: Instrument, passage: Passage, rng: random.Random) -> list[Note]:
    """Return the notes of one line in one passage."""
    return PLAYERS[line.kind](line, instrument, passage, rng)


def repeat(pattern: str, line: Line, passage: Passage) -> list[Hit]:
    """Return the pattern repeated over the passage, in beats of the piece."""
    hits, length = parse_pattern(pattern, line.steps_per_beat)
    repeats = int(passage.length / length + 0.999)
    moved = (
        Hit(passage.start + count * length + hit.start, hit.length, hit.sign)
        for count in range(repeats)
        for hit in hits
    )
    return [hit for hit in moved if hit.start < passage.end - 1e-6]


def compass(line: Line, instrument: Instrument) -> tuple[int, int]:
    """Return the lowest and highest pitch of a line on its instrument."""
    return max(line.low, instrument.low), min(line.high, instrument.high)


def play_chords(line, instrument, passage, rng) -> list[Note]:
    low, high = compass(line, instrument)
    middle, notes = (low + high) / 2, []
    near = middle
    for hit in repeat(rng.choice(line.patterns), line, passage):
        chord = passage.chord_at(hit.start)
        voicing = voice(chord, low, high, near)
        near = 0.7 * sum(voicing) / len(voicing) + 0.3 * middle
        notes += _strum(line, passage, hit, voicing)
    return notes


def play_power(line, instrument, passage, rng) -> list[Note]:
    """Play root, fifth and octave (power chords)."""
    low, _ = compass(line, instrument)
    notes = []
    for hit in repeat(rng.choice(line.patterns), line, passage):
        root = lowest_root(passage.chord_at(hit.start), low)
        notes += _strum(line, passage, hit, (root, root + 7, root + 12))
    return notes


def _strum(line: Line, passage: Passage, hit: Hit, voicing: tuple[int, ...]) -> list[Note]:
    beats_between = line.strum * passage.bpm / 60
    order = voicing if hit.sign != "o" else voicing[::-1]  # soft strokes come from below
    return [
        Note(
            hit.start + index * beats_between,
            max(0.05, hit.length * line.legato - index * beats_between),
            pitch,
            VELOCITIES[hit.sign],
        )
        for index, pitch in enumerate(order)
    ]


def play_arpeggio(line, instrument, passage, rng) -> list[Note]:
    low, high = compass(line, instrument)
    notes = []
    for hit in repeat(rng.choice(line.patterns), line, passage):
        pitches = pitches_of(passage.chord_at(hit.start), low, high)
        pitch = pitches[min(int(hit.sign), len(pitches) - 1)]
        on_beat = hit.start % 1 < 1e-6
        notes.append(Note(hit.start, hit.length * line.legato, pitch, 88 if on_beat else 76))
    return notes


def play_pad(line, instrument, passage, rng) -> list[Note]:
    low, high = compass(line, instrument)
    near, notes = (low + high) / 2, []
    for start, length, chord in passage.chords:
        voicing = voice(chord, low, high, near)
        near = sum(voicing) / len(voicing)
        notes += [Note(start, length * line.legato, pitch, 72) for pitch in voicing]
    return notes


def play_bass(line, instrument, passage, rng) -> list[Note]:
    low, high = compass(line, instrument)
    notes = []
    for hit in repeat(rng.choice(line.patterns), line, passage):
        chord = passage.chord_at(hit.start)
        root = lowest_root(chord, low)
        if hit.sign == "a":
            goal = lowest_root(passage.chord_after(hit.start), low)
            steps = [pitch for pitch in ladder(passage.key, chord, low, high) if pitch != goal]
            pitch = nearest(goal + rng.choice((-2, 1.5)), steps)
        elif hit.sign == "8":
            pitch = root + 12
        else:
            degree = {"1": 0, "3": 1, "5": 2, "7": 3}[hit.sign]
            tones = chord.intervals if len(chord.intervals) > 2 else (0, *chord.intervals)
            pitch = root + tones[min(degree, len(tones) - 1)] % 12
        pitch -= 12 * (pitch > high)
        accent = 8 if hit.start % passage.beats_per_bar < 1e-6 else 0
        notes.append(Note(hit.start, hit.length * line.legato, pitch, 90 + accent))
    return notes


def play_drums(line, instrument, passage, rng) -> list[Note]:
    """Play a pattern of several drums; the last beat may be a fill before the next section."""
    groove = rng.choice(line.patterns)
    fill_start = passage.end - 1 if passage.with_fill else passage.end
    notes = [
        Note(hit.start, 0.1, DRUMS[drum], VELOCITIES[hit.sign])
        for drum, pattern in groove.items()
        for hit in repeat(pattern, line, passage)
        if hit.start < fill_start - 1e-6 or drum in ("hat", "ride", "shaker")
    ]
    if passage.with_fill:
        drums = rng.choice(
            (
                ("snare",) * 4,
                ("snare", "snare", "tom high", "tom low"),
                ("tom high", "tom mid", "tom mid", "tom low"),
            )
        )
        notes += [
            Note(fill_start + index / 4, 0.1, DRUMS[drum], 80 + 7 * index)
            for index, drum in enumerate(drums)
        ]
        notes.append(Note(passage.start, 0.5, DRUMS["crash"], 84))
    return notes


PLAYERS = {
    "melody": play_melody,
    "chords": play_chords,
    "power": play_power,
    "arpeggio": play_arpeggio,
    "pad": play_pad,
    "bass": play_bass,
    "drums": play_drums,
}
