"""Command that creates the bundled example music, run at the repository root.

    python -m dataset.make_example

The same code gives the same notes, labels and manifests. Samples may differ in the last bits
with another version of fluidsynth, and encoded bytes with another version of the encoders
(ogg files carry a random serial number even with the same one).
"""

import argparse
import json
import shutil
import sys
import tempfile
from multiprocessing import get_context
from pathlib import Path

from .clips import PiecePlan, make_piece, write_manifests
from .composer import STYLES
from .render import Encoding, RenderError, sound_font

AUDIO = Path("dataset/example")
MANIFESTS = Path("egs/example")
README = Path("dataset/README.md")
ELECTRONIC = Path("assets/electronic.mp3")
LICENCE = "CC0-1.0"
TABLE_HEADING = "## Licence of each file\n"

PIECES_PER_STYLE = 11
HELD_OUT = {1: "generate", 2: "evaluate", 3: "valid"}  # piece number -> split; others train
OGG = Encoding(extension="ogg", compression=0.99)  # about 45 kb/s
OGG_STEREO = Encoding(extension="ogg", compression=0.99, sample_rate=44100, channels=2)
MP3 = Encoding(extension="mp3", compression=0.97)  # 40 kb/s
# Below 56 kb/s (mono) and 64 kb/s (stereo) a 44.1 kHz mp3 has no space to store its exact length.
MP3_44 = Encoding(extension="mp3", compression=0.915, sample_rate=44100)
MP3_STEREO = Encoding(extension="mp3", compression=0.885, sample_rate=44100, channels=2)
MP3_128 = Encoding(extension="mp3", compression=0.667, sample_rate=44100, channels=2)
LOSSLESS = {"piano": "wav", "waltz": "flac", "strings": "flac", "jazz": "flac"}
STEREO_OGG = ("rock", "techno", "funk", "bluegrass")
# Each tune once, and for training only: no melody is in two splits.
TUNES = {
    ("piano", 7): "Canon",
    ("strings", 7): "Ode to Joy",
    ("strings", 9): "Largo from the New World",
    ("bluegrass", 7): "Oh! Susanna",
    ("waltz", 5): "Amazing Grace",
    ("waltz", 7): "Greensleeves",
    ("waltz", 9): "Minuet in G",
    ("jazz", 5): "Brother John",
    ("jazz", 7): "When the Saints Go Marching In",
    ("reggae", 7): "Auld Lang Syne",
    ("techno", 7): "Drunken Sailor",
    ("chiptune", 7): "Korobeiniki",
}


def plan_piece(style: str, number: int) -> PiecePlan:
    """Return the plan of one bundled piece; numbers count from 1."""
    encoding = OGG
    tune = TUNES.get((style, number))
    seconds = 14.0 if tune else 8.5 + (number * 7 % 5) * 0.5
    if number == 1:
        encoding, seconds = MP3_STEREO, 9.0
    elif number in (4, 5, 8):
        encoding = MP3
    elif number == 6:
        encoding = MP3_44
    elif number == 10 and style in STEREO_OGG:
        encoding = OGG_STEREO
    elif number == 11 and style in LOSSLESS:
        encoding, seconds = Encoding(extension=LOSSLESS[style]), 8.0
    split = HELD_OUT.get(number, "train")
    return PiecePlan(
        style=style, seed=number, split=split, seconds=seconds, tune=tune, encoding=encoding
    )


def make_electronic(path: Path) -> None:
    """Create the electronic clip of the examples: a separate piece, in no manifest."""
    plan = PiecePlan(style="techno", seed=0, split="generate", seconds=16.0, encoding=MP3_128)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        [entry] = make_piece(plan, Path(folder))
        path.write_bytes(Path(entry["path"]).read_bytes())


def write_licences(clips: list[Path]) -> None:
    """Replace the table at the end of the README: one line per file."""
    lines = ["| file | title | genre | licence |", "| --- | --- | --- | --- |"]
    for clip in clips:
        info = json.loads(clip.with_suffix(".json").read_text(encoding="utf-8"))
        lines.append(f"| `{clip.name}` | {info['title']} | {info['genre']} | {LICENCE} |")
    lines.append(f"| `{ELECTRONIC.as_posix()}` | Yellow Circuit No. 0 | electronic | {LICENCE} |")
    kept = README.read_text(encoding="utf-8").split(TABLE_HEADING)[0]
    README.write_text(f"{kept}{TABLE_HEADING}\n" + "\n".join(lines) + "\n", encoding="utf-8")


def _make(plan: PiecePlan) -> tuple[PiecePlan, list[dict]]:
    return plan, make_piece(plan, AUDIO)


def main() -> None:
    parser = argparse.ArgumentParser(description="Make the bundled example music.")
    parser.add_argument("--workers", type=int, default=1, help="processes that render")
    args = parser.parse_args()
    try:
        sound_font()
    except RenderError as error:
        sys.exit(str(error))
    shutil.rmtree(AUDIO, ignore_errors=True)
    plans = [plan_piece(s, n) for s in STYLES for n in range(1, PIECES_PER_STYLE + 1)]
    with get_context("spawn").Pool(args.workers) as pool:
        made = pool.map(_make, plans, chunksize=1)
    make_electronic(ELECTRONIC)
    write_manifests(MANIFESTS, made)
    write_licences([path for path in sorted(AUDIO.iterdir()) if path.suffix != ".json"])
    megabytes = sum(path.stat().st_size for path in AUDIO.iterdir()) / 1e6
    minutes = sum(entry["duration"] for _, entries in made for entry in entries) / 60
    print(f"{len(plans)} clips, {minutes:.1f} minutes, {megabytes:.2f} MB in {AUDIO}.")


if __name__ == "__main__":
    main()
