"""Arranger: composes a piece from a style and a seed (key, tempo, form, lines, notes).

Each choice has its own random generator, named after the choice. A repeated section is therefore
the same music, and a new line in a style does not change the other lines.
"""

import random
from typing import NamedTuple

from .instruments import INSTRUMENTS, Instrument
from .players import Passage, play
from .score import Note, Part, Score
from .style import Line, Style
from .theory import SCALES, Chord, Key, parse_chord
from .titles import draw_title
from .tunes import Tune

INTENSITIES = {"intro": 0.82, "A": 0.94, "B": 1.0, "outro": 0.85}


class Section(NamedTuple):
    label: str  # a key of INTENSITIES
    first_bar: int
    num_bars: int


def compose(style: Style, seed: int, seconds: float = 45.0, tune: Tune | None = None) -> Score:
    """Compose one piece, or arrange a public-domain tune.

    Args:
        style: Style of the piece.
        seed: Seed of the piece. Equal style and seed give equal notes.
        seconds: Approximate length; the piece ends with a whole section.
        tune: Melody and chords of the first theme.

    Raises:
        ValueError: The style is not among those of the tune.
    """
    if tune and style.name not in tune.styles:
        raise ValueError(
            f"{tune.title!r} does not suit the style {style.name!r}. "
            f"Choose one of: {', '.join(tune.styles)}."
        )
    rng = _generator(style, seed, "piece")
    mode = rng.choice(sorted(style.progressions))
    key = Key(rng.randrange(12), tune.mode if tune else mode)
    bpm = rng.randint(*style.bpm)
    sections = plan_form(style.beats_per_bar * 60 / bpm, seconds, tune)
    chords = lay_chords(style, key, sections, tune, _generator(style, seed, "chords"))
    passages = [
        _passage(style, key, bpm, sections, chords, tune, index) for index in range(len(sections))
    ]
    parts = []
    for line, instrument in choose_band(style, tune, _generator(style, seed, "band")):
        notes = []
        for section, passage in zip(sections, passages, strict=True):
            if section.label == "intro" and not line.in_intro:
                continue
            source = _generator(style, seed, f"{line.role}/{_theme(section)}")
            played = (
                _final_chord(line, instrument, passage, source)
                if section.label == "outro"
                else play(line, instrument, passage, source)
            )
            notes += [_scaled(note, INTENSITIES[section.label]) for note in played]
        humanised = humanise(notes, style, bpm, _generator(style, seed, f"{line.role}/hands"))
        volume = min(127, round(92 * line.level * instrument.gain))
        parts.append(Part(line.role, instrument, humanised, volume, line.pan))
    return Score(
        style=style.name,
        seed=seed,
        title=f"{tune.title}, arr. No. {seed}"
        if tune
        else draw_title(style.nouns, seed, _generator(style, seed, "title")),
        key=key,
        bpm=bpm,
        beats_per_bar=style.beats_per_bar,
        chords=tuple((start, chord) for start, _, chord in chords),
        moods=tuple(rng.sample(style.moods, 2)),
        parts=tuple(parts),
        num_bars=sections[-1].first_bar + sections[-1].num_bars,
        first_full_bar=sections[1].first_bar,
        last_full_bar=sections[-1].first_bar,
    )


def plan_form(seconds_per_bar: float, seconds: float, tune: Tune | None = None) -> list[Section]:
    """Return the sections: introduction, A B A B … of about 15 seconds each, final chord."""
    num_bars = 4
    while num_bars * seconds_per_bar < 11:
        num_bars *= 2
    lengths: dict[str, int] = {"A": tune.num_bars if tune else num_bars, "B": num_bars}
    labels: list[str] = ["A", "B"] * max(
        1, round(seconds / (sum(lengths.values()) * seconds_per_bar))
    )
    sections = [Section("intro", 0, num_bars // 2)]
    for label in labels:
        last = sections[-1]
        sections.append(Section(label, last.first_bar + last.num_bars, lengths[label]))
    last = sections[-1]
    return [*sections, Section("outro", last.first_bar + last.num_bars, 2)]


def lay_chords(
    style: Style, key: Key, sections: list[Section], tune: Tune | None, rng: random.Random
) -> list[tuple[float, float, Chord]]:
    """Return the chords as (start, length, chord): one progression per theme, repeated."""
    options = style.progressions[key.mode]
    first, second = rng.sample(options, 2)
    themes: dict[str, str] = {"A": tune.chords if tune else first, "B": second}
    beats = style.beats_per_bar
    home = "I" if 4 in SCALES[key.mode] else "i"
    laid = []
    for section in sections:
        bars = themes[_theme(section)].split()
        for bar in range(section.num_bars):
            text = home if section.label == "outro" else bars[bar % len(bars)]
            numerals = text.split("/")
            length = beats / len(numerals)
            for index, numeral in enumerate(numerals):
                start = (section.first_bar + bar) * beats + index * length
                laid.append((start, length, parse_chord(numeral, key)))
    return laid


def choose_band(
    style: Style, tune: Tune | None, rng: random.Random
) -> list[tuple[Line, Instrument]]:
    """Draw the lines of this piece, with different instruments where possible."""
    band, taken = [], set()
    for line in style.lines:
        present = rng.random() < line.presence_p
        free = [name for name in line.instruments if name not in taken] or line.instruments
        name = rng.choice(free)
        if present or (tune and line.kind == "melody"):
            taken.add(name)
            band.append((line, INSTRUMENTS[name]))
    return band


def humanise(notes: list[Note], style: Style, bpm: int, rng: random.Random) -> tuple[Note, ...]:
    """Apply swing to off-beats, and random variation to attacks."""
    beats_per_second = bpm / 60
    played = []
    for note in sorted(notes):
        start = _swung(note.start, style.swing)
        start += min(3.0, max(-3.0, rng.gauss(0, 1))) * style.looseness * beats_per_second
        velocity = round(note.velocity + rng.gauss(0, 4))
        played.append(Note(max(0.0, start), note.length, note.pitch, min(127, max(20, velocity))))
    return tuple(sorted(played))


def _swung(beat: float, swing: float) -> float:
    whole, part = divmod(beat, 1)
    if part < 0.5:
        return whole + part * 2 * swing
    return whole + swing + (part - 0.5) * 2 * (1 - swing)


def _theme(section: Section) -> str:
    """Return the theme of a section; introductions and endings use the first one."""
    return "B" if section.label == "B" else "A"


def _passage(style, key, bpm, sections, chords, tune, index) -> Passage:
    section = sections[index]
    start = float(section.first_bar * style.beats_per_bar)
    length = float(section.num_bars * style.beats_per_bar)
    inside = tuple(chord for chord in chords if start <= chord[0] < start + length)
    after = [chord for chord in chords if chord[0] >= start + length]
    return Passage(
        key=key,
        start=start,
        length=length,
        beats_per_bar=style.beats_per_bar,
        bpm=bpm,
        chords=inside,
        next_chord=after[0][2] if after else inside[-1][2],
        with_fill=style.fills and section.label != "outro",
        tune=tuple(tune.notes()) if tune and section.label == "A" else (),
    )


def _final_chord(line, instrument, passage, rng) -> list[Note]:
    """Return the first notes of a line in the ending, held until they have decayed."""
    first = play(line, instrument, passage, rng)
    onset = [note for note in first if note.start < passage.start + 0.1]
    held = passage.length if line.kind != "drums" else 0.1
    return [Note(note.start, held, note.pitch, note.velocity) for note in onset]


def _scaled(note: Note, intensity: float) -> Note:
    return Note(note.start, note.length, note.pitch, round(note.velocity * intensity))


def _generator(style: Style, seed: int, purpose: str) -> random.Random:
    return random.Random(f"{style.name}/{seed}/{purpose}")
