"""Melodies: phrases of four bars with a short motif, its answer, and a close.

Rhythms come from the style. Pitches are a random walk on the scale; on strong beats they move to
the nearest chord tone, so that the same motif fits different chords.
"""

import random

from .score import Note
from .style import Hit, parse_pattern
from .theory import ladder, nearest

PHRASE = ("motif", "answer", "motif", "close")


def play_melody(line, instrument, passage, rng) -> list[Note]:
    """Return a melody over a passage; phrases of four bars share their motif."""
    if passage.tune:
        return play_tune(line, instrument, passage)
    low, high = max(line.low, instrument.low), min(line.high, instrument.high)
    motifs = {name: _invent(line, rng) for name in ("motif", "answer", "close", "other close")}
    home = (low + high) / 2 + rng.uniform(-3, 3)
    position, notes = home, []
    bar_length = passage.beats_per_bar
    num_bars = round(passage.length / bar_length)
    for bar in range(num_bars):
        name = PHRASE[bar % 4]
        if name == "close" and bar + 1 == num_bars:
            name = "other close"
        if bar % 4 == 0:
            position = home
        bar_start = passage.start + bar * bar_length
        for hit, motion in motifs[name]:
            start = bar_start + hit.start
            chord = passage.chord_at(start)
            pitches = ladder(passage.key, chord, low, high)
            tones = [pitch for pitch in pitches if pitch % 12 in chord.pitch_classes]
            strong = hit.start % 2 < 1e-6 or hit.length >= 1.5
            index = pitches.index(nearest(position, pitches)) + motion
            index = min(max(index, 0), len(pitches) - 1)
            pitch = nearest(pitches[index], tones) if strong else pitches[index]
            position = pitch + 0.12 * (home - pitch)  # pulled to the centre, against drift
            velocity = {"X": 104, "x": 94, "o": 78}[hit.sign]
            notes.append(Note(start, hit.length * line.legato, pitch, velocity))
    return notes


def play_tune(line, instrument, passage) -> list[Note]:
    """Return the tune of the passage, in the octave that fits the instrument best."""
    low, high = max(line.low, instrument.low), min(line.high, instrument.high)
    intervals = [note.interval for note in passage.tune]
    middle = (low + high) / 2 - (min(intervals) + max(intervals)) / 2
    tonic = nearest(middle, [p for p in range(128) if p % 12 == passage.key.tonic])
    notes = []
    for note in passage.tune:
        pitch = tonic + note.interval
        pitch += 12 * (pitch < low) - 12 * (pitch > high)
        velocity = 100 if note.start % passage.beats_per_bar < 1e-6 else 90
        start = passage.start + note.start
        notes.append(Note(start, note.length * line.legato, pitch, velocity))
    return notes


def _invent(line, rng: random.Random) -> list[tuple[Hit, int]]:
    """Return one bar of rhythm, with a scale step before every note."""
    hits, _ = parse_pattern(rng.choice(line.patterns), line.steps_per_beat)
    return [(hit, rng.choice(line.motion)) for hit in hits]
