"""Makes the bundled example music: `python -m dataset.make_example`, from the repository root.

The same code gives the same notes, labels and manifests. Samples may differ in the last bits
with another version of fluidsynth, and encoded bytes with another version of the encoders
(ogg files carry a random serial number even with the same one).
"""

import argparse
import json
from multiprocessing import Pool
from pathlib import Path

from .clips import PiecePlan, make_piece, write_manifests
from .composer import STYLES

AUDIO = Path("dataset/example")
MANIFESTS = Path("egs/example")
PIECES_PER_STYLE = 11
HELD_OUT = {1: "generate", 2: "evaluate", 3: "valid"}  # piece number -> split; others train
# Below 64 kb/s (stereo) and 56 kb/s (mono) a 44.1 kHz mp3 has no room to note its exact length.
MP3_40, MP3_56, MP3_64 = 0.97, 0.915, 0.885
LOSSLESS = {"piano": "wav", "waltz": "wav", "strings": "flac", "chiptune": "flac"}
STEREO_OGG = ("jazz", "rock", "techno", "funk")
README = Path("dataset/README.md")
LICENCE = "CC0-1.0"
TABLE_HEADING = "## Licence of each file"


def plan_piece(style: str, number: int) -> PiecePlan:
    """Length and format of one bundled piece; numbers count from 1."""
    audio = {"extension": "ogg", "compression": 0.99}  # about 45 kb/s
    seconds = 9.0 + (number * 7 % 5) * 0.5
    if number == 1:
        audio = {"extension": "mp3", "compression": MP3_64, "sample_rate": 44100, "channels": 2}
        seconds = 9.0
    elif number in (4, 5, 8):
        audio = {"extension": "mp3", "compression": MP3_40}
    elif number == 6:
        audio = {"extension": "mp3", "compression": MP3_56, "sample_rate": 44100}
    elif number == PIECES_PER_STYLE and style in LOSSLESS:
        audio, seconds = {"extension": LOSSLESS[style]}, 8.0
    elif number == 10 and style in STEREO_OGG:
        audio |= {"sample_rate": 44100, "channels": 2}
    return PiecePlan(
        style=style,
        seed=number,
        split=HELD_OUT.get(number, "train"),
        seconds=seconds,
        **audio,
    )


def _make(plan: PiecePlan) -> tuple[PiecePlan, list[dict]]:
    return plan, make_piece(plan, AUDIO)


def write_licences(clips: list[Path]) -> None:
    """Replace the table at the end of the README: one line per file."""
    lines = ["| file | title | genre | licence |", "| --- | --- | --- | --- |"]
    for clip in clips:
        info = json.loads(clip.with_suffix(".json").read_text())
        lines.append(f"| `{clip.name}` | {info['title']} | {info['genre']} | {LICENCE} |")
    kept = README.read_text().split(TABLE_HEADING)[0]
    README.write_text(f"{kept}{TABLE_HEADING}\n\n" + "\n".join(lines) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description="Make the bundled example music.")
    parser.add_argument("--workers", type=int, default=1, help="processes that render")
    args = parser.parse_args()
    plans = [plan_piece(s, n) for s in STYLES for n in range(1, PIECES_PER_STYLE + 1)]
    with Pool(args.workers) as pool:
        made = pool.map(_make, plans, chunksize=1)
    write_manifests(MANIFESTS, made)
    write_licences([path for path in sorted(AUDIO.iterdir()) if path.suffix != ".json"])
    megabytes = sum(path.stat().st_size for path in AUDIO.iterdir()) / 1e6
    minutes = sum(entry["duration"] for _, entries in made for entry in entries) / 60
    print(f"{len(plans)} clips, {minutes:.1f} minutes, {megabytes:.2f} MB in {AUDIO}.")


if __name__ == "__main__":
    main()
