"""Download of recorded music of free games: `python -m dataset.fetch_recorded OUT`.

The bundled tokenizer is fitted to it. This repository contains none of it; the packages come from
Debian (`apt-get download`, about 1.2 GB, Debian 12) and are unpacked, not installed. `OUT/egs/fit`
lists the music to fit to. Held-out music: `OUT/egs/held_out`, whole tracks of the same games, and
`OUT/egs/unseen`, other games.
"""

import argparse
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from audiocraft.data.manifest import AudioMeta, read_audio_meta, save_manifest

HELD_OUT_EVERY = 8  # every eighth track is held out, from the fourth on
SHORTEST = 30.0  # seconds; shorter tracks are jingles
# Tracks that `debian/copyright` puts under CC BY-SA, 3.0 or 4.0.
SUPERTUXKART = (
    "Boom_boom_boom", "Lava", "SkyVibe-HighFrequency", "Snowy", "West", "alien_signal", "bay",
    "celtic", "demonhill", "egypt", "farm", "garden", "hacienda", "jumping_to_the_stars_remake",
    "jumping_to_the_stars_remake_fast", "kart_grand_prix", "landing_in_gran_paradiso",
    "menutheme", "overworld", "ravenbridge_mansion", "ravenbridge_mansion_fast", "subsea",
    "valley", "win_theme", "xeon6",
)  # fmt: skip

# The albums that `license.txt` beside them puts under CC BY-SA 3.0 or later.
WARZONE = tuple(f"track{number}" for number in range(4, 28))


@dataclass(frozen=True)
class Source:
    """Music of one package."""

    package: str
    pattern: str  # of its tracks, below its unpacked folder
    licence: str
    fit: bool = True  # False: only for measuring
    tracks: tuple[str, ...] = ()  # stems of the tracks to use; empty selects all


SOURCES = [
    Source("flare-game", "**/music/*.ogg", "CC BY-SA 3.0 or later"),
    Source("singularity-music", "**/*.ogg", "CC BY-SA 3.0"),
    Source("supertuxkart-data", "**/data/music/*.ogg", "CC BY-SA", tracks=SUPERTUXKART),
    Source("unknown-horizons", "**/music/**/*.ogg", "CC BY-SA 3.0"),
    Source("warzone2100-music", "**/*.opus", "CC BY-SA 3.0 or later", tracks=WARZONE),
    Source("hyperrogue-music", "**/*.ogg", "GPL 2 or later", fit=False),
    Source("wesnoth-1.16-music", "**/*.ogg", "GPL 2 or later", fit=False),
]


def fetch(source: Source, folder: Path) -> Path:
    """Download and unpack a package unless it exists; returns its folder.

    Raises:
        RuntimeError: The download failed; contains the output of the package manager.
    """
    unpacked = folder / source.package
    if unpacked.is_dir():
        return unpacked
    folder.mkdir(parents=True, exist_ok=True)
    _run(["apt-get", "download", source.package], folder)
    archive = max(folder.glob(f"{source.package}_*.deb"))
    unfinished = folder / f".{source.package}.part"
    _run(["dpkg-deb", "-x", str(archive), str(unfinished)], folder)
    unfinished.rename(unpacked)
    archive.unlink()
    return unpacked


def _run(command: list[str], folder: Path) -> None:
    try:
        subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
    except FileNotFoundError:
        raise RuntimeError(f"{command[0]} is missing: this works on Debian and Ubuntu.") from None
    except subprocess.CalledProcessError as error:
        raise RuntimeError(
            f"`{' '.join(command)}` failed: {error.stderr.strip()} Package names are those of "
            "Debian 12; run `apt-get update`, or change SOURCES in dataset/fetch_recorded.py."
        ) from None


def describe_tracks(source: Source, unpacked: Path) -> list[AudioMeta]:
    """Return manifest entries of the tracks that are long enough, sorted by path."""
    paths = sorted(unpacked.glob(source.pattern))
    chosen = [path for path in paths if not source.tracks or path.stem in source.tracks]
    metas = [read_audio_meta(path.resolve()) for path in chosen]
    return [meta for meta in metas if meta.duration >= SHORTEST]


def split_tracks(source: Source, metas: list[AudioMeta]) -> dict[str, list[AudioMeta]]:
    """Assign each track to a manifest."""
    if not source.fit:
        return {"unseen": metas}
    held_out = metas[3::HELD_OUT_EVERY]
    return {"held_out": held_out, "fit": [meta for meta in metas if meta not in held_out]}


def main() -> None:
    parser = argparse.ArgumentParser(description="Fetch recorded music.")
    parser.add_argument("out", type=Path, help="folder for the music and its manifests")
    out = parser.parse_args().out.resolve()
    manifests: dict[str, list[AudioMeta]] = {"fit": [], "held_out": [], "unseen": []}
    for source in SOURCES:
        try:
            metas = describe_tracks(source, fetch(source, out))
        except RuntimeError as error:
            sys.exit(f"error: {error}")
        minutes = sum(meta.duration for meta in metas) / 60
        print(f"{source.package}: {len(metas)} tracks, {minutes:.0f} minutes, {source.licence}")
        for split, chosen in split_tracks(source, metas).items():
            manifests[split] += chosen
    for split, metas in manifests.items():
        save_manifest(out / "egs" / split / "data.jsonl", metas)
    print(f"Fit with {out}/egs/fit, measure with {out}/egs/held_out and {out}/egs/unseen.")


if __name__ == "__main__":
    main()
