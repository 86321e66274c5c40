"""`audiocraft condition-sensitivity`: cross entropies of held-out music under all conditions."""

import json
import typing as tp
from pathlib import Path

from tqdm import tqdm

from ..data.audio import audio_read
from ..data.audio_utils import convert_audio
from ..data.manifest import load_manifest
from ..data.music_info import load_music_info
from ..errors import ConfigError
from ..inference.output_folder import check_writable_file
from ..metrics.condition_sensitivity import (
    COMPARISONS,
    ConditionSensitivity,
    LabelledClip,
    measure_condition_sensitivity,
)
from ..models.musicgen import MusicGen
from ..utils.atomic_write import write_text
from .output import print_line
from .parser import CommandParser


def get_parser() -> CommandParser:
    """Return the parser of the command."""
    parser = CommandParser(
        "condition-sensitivity", main.__doc__, aliases={"--piece-field": "--track-field"}
    )
    parser.add_argument("model", help="hub id, //sig/SIG, //bundled/NAME or a folder")
    parser.add_argument("manifest", nargs="+", help="held-out music, several clips of every track")
    parser.add_argument("--style-field", default="genre", help="metadata field of the style")
    parser.add_argument("--track-field", default="title", help="metadata field of the track")
    parser.add_argument("--excerpt", type=float, default=3.0, help="seconds of the style excerpts")
    parser.add_argument("--draws", type=int, default=2, help="excerpts of each kind per target")
    parser.add_argument("--seconds", type=float, help="count only the start of every target")
    parser.add_argument("--seed", type=int, default=0, help="of the draws")
    parser.add_argument("--device", help="cuda, mps or cpu [default: the fastest available]")
    parser.add_argument("--json", type=Path, help="also write the results to this file")
    return parser


def main(argv: tp.Sequence[str]) -> int:
    """Measure how much style and text conditions lower the cross entropy of held-out music."""
    args = get_parser().parse_args(argv)
    if args.draws < 1:
        raise ConfigError(f"--draws must be at least 1 but is {args.draws}.")
    if args.json is not None:
        check_writable_file(args.json)
    model = MusicGen.get_pretrained(args.model, device=args.device)
    clips = [
        clip
        for manifest in args.manifest
        for clip in load_clips(manifest, model, args.style_field, args.track_field)
    ]
    sensitivity = measure_condition_sensitivity(
        model,
        clips,
        excerpt=args.excerpt,
        draws=args.draws,
        seconds=args.seconds,
        seed=args.seed,
        progress=tqdm,
    )
    report = build_report(sensitivity)
    print_report(report)
    if args.json is not None:
        write_text(args.json, json.dumps(report, indent=2) + "\n")
    return 0


def print_report(report: dict[str, tp.Any]) -> None:
    """Print means and differences with their 95 % intervals."""
    print_line(f"{report['targets']} targets of {report['pieces']} tracks, nats per token:")
    for name, (mean, low, high) in report["conditions"].items():
        print_line(f"  {name:12} {mean:.4f}  [{low:.4f}, {high:.4f}]")
    for row in report["questions"]:
        mean, low, high = row["difference"]
        verdict = "disjoint" if row["apart"] else "overlapping"
        print_line(f"  {row['asked']:26} {mean:+.4f}  [{low:+.4f}, {high:+.4f}]  {verdict}")


def load_clips(
    manifest: str, model: MusicGen, style_field: str, track_field: str
) -> list[LabelledClip]:
    """Load the clips of a manifest with their labels, cut to the model's window.

    Raises:
        ManifestError: The manifest cannot be used.
        ConfigError: A clip lacks a label.
    """
    clips = []
    for meta in load_manifest(manifest):
        texts = load_music_info(meta).texts
        for name in (style_field, track_field, "description"):
            if not texts.get(name):
                raise ConfigError(f"{meta.path} has no {name} in its metadata.")
        wav, rate = audio_read(meta.path, 0.0, model.max_duration)
        clips.append(
            LabelledClip(
                name=Path(meta.path).stem,
                track=f"{texts[style_field]}: {texts[track_field]}",
                style=tp.cast(str, texts[style_field]),
                text=tp.cast(str, texts["description"]),
                wav=convert_audio(wav, rate, model.sample_rate, model.audio_channels),
            )
        )
    return clips


def build_report(sensitivity: ConditionSensitivity) -> dict[str, tp.Any]:
    """Return means, differences and intervals as plain values, under the keys of the JSON file."""
    return {
        "targets": len(sensitivity.tracks),
        "pieces": len(set(sensitivity.tracks)),
        "conditions": {
            name: list(sensitivity.condition_interval(name)) for name in sensitivity.conditions
        },
        "questions": [
            {
                "asked": f"{lower} < {higher}",
                "difference": list(sensitivity.difference(lower, higher)),
                "apart": sensitivity.is_lower(lower, higher),
            }
            for lower, higher in COMPARISONS
        ],
    }
