"""Command that creates labelled music: `python -m dataset.make_labelled OUT --hours 2`.

`OUT/audio` contains clips with their JSON, `OUT/egs/{train,valid,evaluate,generate}` manifests with
absolute paths. All clips of a piece are in one split, and no piece is one of the bundled ones.
A second call with the same options creates only missing pieces.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import soundfile

from .clips import SPLITS, PiecePlan, make_piece, manifest_entry, write_manifests
from .composer import STYLES, tunes_of
from .render import Encoding, RenderError, sound_font

SEEDS_PER_SET = 100_000  # piece numbers of one set; those below are the bundled pieces'


def plan_set(
    *, hours: float, seed: int, clip: PiecePlan, held_out: float = 0.05
) -> list[PiecePlan]:
    """Return the plans of all pieces; every style has the same number of pieces.

    Args:
        hours: Minimum duration of the audio. More is created where a style would otherwise have
            fewer than four pieces, one for each split.
        seed: Seed of the pieces.
        clip: Length, number per piece and format of the clips.
        held_out: Share of the pieces of each style in `valid`, and also in `evaluate`, at least
            one piece each. `generate` gets one piece per style. Public-domain tunes are used in
            `train` only, so that no two splits share a melody.
    """
    pieces = hours * 3600 / (clip.seconds * clip.num_clips * len(STYLES))
    per_style = max(len(SPLITS), int(pieces + 0.999))
    share = max(1, round(held_out * per_style))
    splits = ["generate"] + ["valid"] * share + ["evaluate"] * share
    splits += ["train"] * (per_style - len(splits))
    first = SEEDS_PER_SET * (seed + 1)
    return [
        replace(clip, style=style, seed=first + number, split=split, tune=_tune(style, number))
        if split == "train"
        else replace(clip, style=style, seed=first + number, split=split)
        for number, split in enumerate(splits)
        for style in STYLES
    ]


def _tune(style: str, number: int) -> str | None:
    """Return the tune of a piece: every sixth training piece has one, if the style has tunes."""
    tunes = tunes_of(style)
    if number % 6 or not tunes:
        return None
    return tunes[number // 6 % len(tunes)].title


def make_or_reuse(plan: PiecePlan, folder: Path) -> tuple[PiecePlan, list[dict]]:
    """Create a piece, unless an earlier call has finished it."""
    paths = [folder / f"{name}.{plan.encoding.extension}" for name in plan.names]
    if all(path.with_suffix(".json").is_file() for path in paths):  # JSON is written last
        found = [(path, soundfile.info(path)) for path in paths]
        return plan, [manifest_entry(path, i.duration, i.samplerate) for path, i in found]
    return plan, make_piece(plan, folder)


def parse_args(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Make labelled music.")
    parser.add_argument("out", type=Path, help="folder for audio, JSON and manifests")
    parser.add_argument("--hours", type=float, default=2.0, help="hours of audio")
    parser.add_argument("--seed", type=int, default=0, help="other seeds give other pieces")
    parser.add_argument("--workers", type=int, default=1, help="processes that render")
    parser.add_argument("--clip-seconds", "--clip_seconds", type=float, default=15.0)
    parser.add_argument("--clips-per-piece", "--clips_per_piece", type=int, default=2)
    parser.add_argument("--extension", choices=("wav", "flac", "ogg", "mp3"), default="ogg")
    parser.add_argument("--sample-rate", "--sample_rate", type=int, default=32000, help="hertz")
    parser.add_argument("--channels", type=int, choices=(1, 2), default=1)
    parser.add_argument(
        "--held-out", "--held_out", type=float, default=0.05, help="share of valid = evaluate"
    )
    return parser.parse_args(arguments)


def plan_from(args: argparse.Namespace) -> list[PiecePlan]:
    """Return the plans defined by the command line."""
    clip = PiecePlan(
        style="",
        seed=0,
        split="train",
        seconds=args.clip_seconds,
        num_clips=args.clips_per_piece,
        encoding=Encoding(
            extension=args.extension,
            sample_rate=args.sample_rate,
            channels=args.channels,
        ),
    )
    return plan_set(hours=args.hours, seed=args.seed, clip=clip, held_out=args.held_out)


def main() -> None:
    args = parse_args()
    try:
        sound_font()
    except RenderError as error:
        sys.exit(str(error))
    plans = plan_from(args)
    out = args.out.resolve()
    made = []
    with get_context("spawn").Pool(args.workers) as pool:
        work = partial(make_or_reuse, folder=out / "audio")
        for count, piece in enumerate(pool.imap(work, plans), start=1):
            made.append(piece)
            print(f"\r{count} of {len(plans)} pieces", end="", flush=True)
    write_manifests(out / "egs", made)
    (out / "options.json").write_text(
        json.dumps(vars(args), indent=2, default=str) + "\n", encoding="utf-8"
    )
    hours = sum(entry["duration"] for _, entries in made for entry in entries) / 3600
    print(f"\n{hours:.2f} hours of {len(STYLES)} styles. Train with the manifests in {out}/egs.")


if __name__ == "__main__":
    main()
