"""Scores: a piece as notes, and its MIDI file."""

from dataclasses import dataclass

import mido

from .instruments import DRUM_CHANNEL, Instrument
from .theory import Chord, Key

TICKS_PER_BEAT = 480


@dataclass(frozen=True, order=True)
class Note:
    """One note; times count in beats from the start of the piece."""

    start: float
    length: float
    pitch: int
    velocity: int  # 1…127


@dataclass(frozen=True)
class Part:
    """The notes of one instrument."""

    role: str
    instrument: Instrument
    notes: tuple[Note, ...]  # by start
    volume: int  # 0…127, MIDI controller 7
    pan: int  # 0 left … 127 right, MIDI controller 10


@dataclass(frozen=True)
class Score:
    """A whole piece with its notes, chords and properties."""

    style: str
    seed: int
    title: str
    key: Key
    bpm: int
    beats_per_bar: int
    chords: tuple[tuple[float, Chord], ...]  # (beat on which it starts, chord)
    moods: tuple[str, ...]
    parts: tuple[Part, ...]
    num_bars: int
    first_full_bar: int  # the introduction is over: every part may play from here
    last_full_bar: int  # the ending starts here

    @property
    def seconds_per_bar(self) -> float:
        return self.beats_per_bar * 60 / self.bpm

    def chord_at(self, beat: float) -> Chord:
        """Return the chord at a beat."""
        return next(chord for start, chord in reversed(self.chords) if start <= beat + 1e-6)


def to_midi(score: Score) -> mido.MidiFile:
    """Return a type 1 MIDI file: the tempo track, then one track per part."""
    midi = mido.MidiFile(type=1, ticks_per_beat=TICKS_PER_BEAT)
    midi.tracks.append(
        mido.MidiTrack(
            [
                mido.MetaMessage("set_tempo", tempo=mido.bpm2tempo(score.bpm)),
                mido.MetaMessage("time_signature", numerator=score.beats_per_bar, denominator=4),
            ]
        )
    )
    free_channels = [channel for channel in range(16) if channel != DRUM_CHANNEL]
    for part in score.parts:
        channel = DRUM_CHANNEL if part.instrument.is_drums else free_channels.pop(0)
        midi.tracks.append(_track(part, channel))
    return midi


def _track(part: Part, channel: int) -> mido.MidiTrack:
    events = []  # (tick, 0 for the end of a note and 1 for its start, message)
    for note in part.notes:
        start = round(note.start * TICKS_PER_BEAT)
        end = max(start + 1, round((note.start + note.length) * TICKS_PER_BEAT))
        on = mido.Message("note_on", channel=channel, note=note.pitch, velocity=note.velocity)
        off = mido.Message("note_off", channel=channel, note=note.pitch, velocity=0)
        events += [(start, 1, on), (end, 0, off)]
    track = mido.MidiTrack(
        [
            mido.Message("program_change", channel=channel, program=part.instrument.program),
            mido.Message("control_change", channel=channel, control=7, value=part.volume),
            mido.Message("control_change", channel=channel, control=10, value=part.pan),
            mido.Message("control_change", channel=channel, control=91, value=45),  # reverb
        ]
    )
    now = 0
    for tick, _, message in sorted(events, key=lambda event: event[:2]):
        track.append(message.copy(time=tick - now))
        now = tick
    return track
