"""Public-domain melodies, written out here as degrees of the scale.

A bar is separated by `|`; a note is `degree:beats` (`:1` may be left out). `,` behind a degree
is an octave lower, `'` an octave higher, `#` before it a semitone higher; `r` is a rest.
Chords are given per bar, as in a style's progressions.
"""

import re
from dataclasses import dataclass
from typing import NamedTuple

from .theory import SCALES


class TuneNote(NamedTuple):
    """One note of a tune."""

    start: float  # beats from the start of the tune
    length: float  # beats
    interval: int  # semitones above the tonic


@dataclass(frozen=True, kw_only=True)
class Tune:
    """A melody with its harmony, in the public domain."""

    title: str
    origin: str
    mode: str  # a name in SCALES
    beats_per_bar: int = 4
    melody: str
    chords: str
    styles: tuple[str, ...]  # styles that may arrange the tune

    @property
    def num_bars(self) -> int:
        return len(self.chords.split())

    def notes(self) -> list[TuneNote]:
        """Notes of the melody, in beats and in semitones above the tonic."""
        return parse_melody(self.melody, self.mode)


def parse_melody(text: str, mode: str) -> list[TuneNote]:
    """Parse a melody.

    Raises:
        ValueError: A note is not `degree:beats`.
    """
    scale, beat, notes = SCALES[mode], 0.0, []
    for word in text.replace("|", " ").split():
        match = re.fullmatch(r"(r|(#?)([1-8])([,']?))(?::([\d.]+))?", word)
        if match is None:
            raise ValueError(
                f"{word!r} is no note of a tune. Write for instance 5,:1.5 or #7 or r."
            )
        length = float(match[5] or 1)
        if match[1] != "r":
            octave, step = divmod(int(match[3]) - 1, 7)
            octave += {",": -1, "'": 1, "": 0}[match[4]]
            interval = scale[step] + 12 * octave + (match[2] == "#")
            notes.append(TuneNote(beat, length, interval))
        beat += length
    return notes


TUNES = (
    Tune(
        title="Ode to Joy",
        origin="Ludwig van Beethoven, 1824",
        mode="major",
        melody="3 3 4 5 | 5 4 3 2 | 1 1 2 3 | 3:1.5 2:.5 2:2 |"
        "3 3 4 5 | 5 4 3 2 | 1 1 2 3 | 2:1.5 1:.5 1:2",
        chords="I V I V I V I V7/I",
        styles=("piano", "strings", "chiptune", "reggae"),
    ),
    Tune(
        title="When the Saints Go Marching In",
        origin="traditional, 19th century",
        mode="major",
        melody="r 1 3 4 | 5:4 | r 1 3 4 | 5:4 | r 1 3 4 | 5:2 3:2 | 1:2 3:2 | 2:4 |"
        "r 3 3 2 | 1:3 1 | 3:2 5 5 | 4:4 | r:2 3 4 | 5:2 3:2 | 1:2 2:2 | 1:4",
        chords="I I I I I I I V7 I I I7 IV IV I V7 I",
        styles=("jazz", "bluegrass", "reggae"),
    ),
    Tune(
        title="Greensleeves",
        origin="traditional, 16th century",
        mode="minor",
        beats_per_bar=3,
        melody="3:2 4 | 5:1.5 6:.5 5 | 4:2 2 | 7,:1.5 1:.5 2 | 3:2 1 | 1:1.5 7,:.5 1 | 2:2 #7, |"
        "5,:2 1 | 3:2 4 | 5:1.5 6:.5 5 | 4:2 2 | 7,:1.5 1:.5 2 | 3:1.5 2:.5 1 | #7,:3 | 1:3 | 1:3",
        chords="i i bVII bVII i i V V i i bVII bVII i V7 i i",
        styles=("waltz",),
    ),
    Tune(
        title="Korobeiniki",
        origin="Russian folk song, 1861",
        mode="minor",
        melody="5 2:.5 3:.5 4 3:.5 2:.5 | 1 1:.5 3:.5 5 4:.5 3:.5 | 2:1.5 3:.5 4 5 | 3 1 1:2 |"
        "r:.5 4 6:.5 8 7:.5 6:.5 | 5:1.5 3:.5 5 4:.5 3:.5 | 2 2:.5 3:.5 4 5 | 3 1 1:2",
        chords="v i v i iv bIII v i",
        styles=("chiptune", "techno", "rock"),
    ),
    Tune(
        title="Oh! Susanna",
        origin="Stephen Foster, 1848",
        mode="major",
        melody="3 5 5:1.5 6:.5 | 5 3 1:1.5 2:.5 | 3 3 2 1 | 2:3 1:.5 2:.5 |"
        "3 5 5:1.5 6:.5 | 5 3 1:1.5 2:.5 | 3 3 2 2 | 1:4",
        chords="I I I V I I I/V I",
        styles=("bluegrass", "chiptune"),
    ),
    Tune(
        title="Amazing Grace",
        origin="the tune New Britain, 1829",
        mode="major",
        beats_per_bar=3,
        melody="1:2 3:.5 1:.5 | 3:2 2 | 1:2 6, | 5,:2 5, | 1:2 3:.5 1:.5 | 3:2 2 | 5:3 | 5:2 3 |"
        "5:2 3:.5 1:.5 | 3:2 2 | 1:2 6, | 5,:2 5, | 1:2 3:.5 1:.5 | 3:2 2 | 1:3 | 1:3",
        chords="I I IV I I I V V I I IV I I V I I",
        styles=("waltz",),
    ),
    Tune(
        title="Largo from the New World",
        origin="Antonín Dvořák, 1893",
        mode="major",
        melody="3:1.5 5:.5 5:2 | 3:1.5 2:.5 1:2 | 2 3 5 3 | 2:4 |"
        "3:1.5 5:.5 5:2 | 3:1.5 2:.5 1:2 | 2 3 2:1.5 1:.5 | 1:4",
        chords="I I V V I I V7 I",
        styles=("strings", "piano"),
    ),
    Tune(
        title="Canon",
        origin="Johann Pachelbel, about 1690",
        mode="major",
        melody="3':2 2':2 | 8:2 7:2 | 6:2 5:2 | 6:2 7:2 | 1 3 5 4 | 3 1 3 2 | 1 6, 1 5 | 4 6 5 4",
        chords="I/V vi/iii IV/I IV/V I/V vi/iii IV/I IV/V",
        styles=("strings", "piano"),
    ),
    Tune(
        title="Auld Lang Syne",
        origin="Scottish folk song, 1799",
        mode="major",
        melody="1:1.5 1:.5 1 3 | 2:1.5 1:.5 2 3 | 1:1.5 1:.5 3 5 | 6:3 6 |"
        "5:1.5 3:.5 3 1 | 2:1.5 1:.5 2 3 | 1:1.5 6,:.5 6, 5, | 1:4",
        chords="I V I IV I V IV/V I",
        styles=("bluegrass", "reggae", "piano"),
    ),
    Tune(
        title="Brother John",
        origin="French round, 18th century",
        mode="major",
        melody="1 2 3 1 | 1 2 3 1 | 3 4 5:2 | 3 4 5:2 | 5:.5 6:.5 5:.5 4:.5 3 1 |"
        "5:.5 6:.5 5:.5 4:.5 3 1 | 1 5, 1:2 | 1 5, 1:2",
        chords="I6 ii7/V7 I6 I6 I6 vi7 ii7/V7 I6",
        styles=("jazz",),
    ),
    Tune(
        title="Minuet in G",
        origin="Christian Petzold, about 1725",
        mode="major",
        beats_per_bar=3,
        melody="5 1:.5 2:.5 3:.5 4:.5 | 5 1 1 | 6 4:.5 5:.5 6:.5 7:.5 | 8 1 1 |"
        "4 5:.5 4:.5 3:.5 2:.5 | 3 4:.5 3:.5 2:.5 1:.5 | 7, 1:.5 2:.5 3:.5 1:.5 | 2:3",
        chords="I I IV I ii I V V",
        styles=("waltz",),
    ),
    Tune(
        title="Drunken Sailor",
        origin="sea shanty, 1820s",
        mode="dorian",
        melody="5 5:.5 5:.5 5 5:.5 5:.5 | 5 1 3 5 | 4 4:.5 4:.5 4 4:.5 4:.5 | 4 7, 2 4 |"
        "5 5:.5 5:.5 5 5:.5 5:.5 | 5 6 7 8 | 7 5 4 2 | 1:2 1:2",
        chords="i i bVII bVII i i bVII i",
        styles=("funk", "techno"),
    ),
)

TUNES_BY_TITLE = {tune.title: tune for tune in TUNES}


def tunes_of(style: str) -> list[Tune]:
    """Return the tunes of a style."""
    return [tune for tune in TUNES if style in tune.styles]
