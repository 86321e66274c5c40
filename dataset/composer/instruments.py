"""General MIDI instruments of the styles, by the names that labels use."""

from dataclasses import dataclass

DRUM_CHANNEL = 9
DRUMS = {
    "kick": 36,
    "rim": 37,
    "snare": 38,
    "clap": 39,
    "brush": 40,
    "tom low": 45,
    "tom mid": 47,
    "tom high": 50,
    "hat": 42,
    "pedal": 44,
    "open": 46,
    "crash": 49,
    "ride": 51,
    "tambourine": 54,
    "conga": 63,
    "conga low": 64,
    "shaker": 70,
}


@dataclass(frozen=True)
class Instrument:
    """A program of the sound font and its natural range of pitches."""

    name: str
    program: int  # General MIDI, from 0; for drums the number of the kit
    low: int
    high: int
    gain: float = 1.0  # compensates the recording level of the sound font
    is_drums: bool = False


_PITCHED = (
    Instrument("piano", 0, 28, 96),
    Instrument("electric piano", 4, 36, 88),
    Instrument("clavinet", 7, 40, 84),
    Instrument("vibraphone", 11, 53, 89),
    Instrument("organ", 16, 40, 88, 0.8),
    Instrument("rock organ", 18, 40, 88, 0.8),
    Instrument("accordion", 21, 48, 91, 0.9),
    Instrument("harmonica", 22, 60, 88, 0.9),
    Instrument("nylon guitar", 24, 40, 79),
    Instrument("acoustic guitar", 25, 40, 79),
    Instrument("jazz guitar", 26, 40, 79),
    Instrument("clean electric guitar", 27, 40, 79),
    Instrument("muted guitar", 28, 40, 79),
    Instrument("overdriven guitar", 29, 40, 84, 0.8),
    Instrument("distorted guitar", 30, 40, 84, 0.75),
    Instrument("double bass", 32, 28, 57, 1.15),
    Instrument("electric bass", 33, 28, 57, 1.1),
    Instrument("picked bass", 34, 28, 57, 1.1),
    Instrument("slap bass", 36, 28, 60, 1.1),
    Instrument("synth bass", 38, 28, 60, 1.0),
    Instrument("fat synth bass", 39, 28, 60, 1.0),
    Instrument("violin", 40, 55, 93),
    Instrument("cello", 42, 36, 69),
    Instrument("contrabass", 43, 28, 55, 1.1),
    Instrument("pizzicato strings", 45, 36, 88),
    Instrument("harp", 46, 36, 96),
    Instrument("strings", 48, 36, 91),
    Instrument("trumpet", 56, 55, 84),
    Instrument("trombone", 57, 40, 72),
    Instrument("tuba", 58, 28, 55, 1.1),
    Instrument("muted trumpet", 59, 55, 84),
    Instrument("french horn", 60, 41, 74),
    Instrument("brass section", 61, 43, 82),
    Instrument("alto saxophone", 65, 50, 80),
    Instrument("tenor saxophone", 66, 44, 75),
    Instrument("oboe", 68, 58, 88),
    Instrument("clarinet", 71, 50, 86),
    Instrument("flute", 73, 60, 93),
    Instrument("square lead", 80, 36, 96, 0.75),
    Instrument("saw lead", 81, 36, 93, 0.75),
    Instrument("warm pad", 89, 40, 84, 0.9),
    Instrument("polysynth", 90, 40, 88, 0.9),
    Instrument("sweep pad", 95, 40, 84, 0.9),
    Instrument("banjo", 105, 48, 86),
    Instrument("fiddle", 110, 55, 88),
)
_KITS = tuple(
    Instrument(name, program, 35, 81, 1.0, is_drums=True)
    for name, program in (
        ("drums", 0),
        ("rock drums", 16),
        ("electronic drums", 24),
        ("drum machine", 25),
        ("jazz drums", 32),
        ("brushed drums", 40),
    )
)
INSTRUMENTS = {instrument.name: instrument for instrument in (*_PITCHED, *_KITS)}
