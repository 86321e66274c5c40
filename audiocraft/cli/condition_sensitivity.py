"""`python -m audiocraft sensitivity`: does a model listen to clips and read texts?"""

import json
import typing as tp
from pathlib import Path

from tqdm import tqdm

from ..data.audio import audio_read
from ..data.audio_utils import convert_audio
from ..data.manifest import load_manifest
from ..data.music_info import load_music_info
from ..errors import ConfigError
from ..metrics.condition_sensitivity import (
    COMPARISONS,
    ConditionSensitivity,
    LabelledClip,
    measure_condition_sensitivity,
)
from ..models.musicgen import MusicGen
from .parser import CommandParser


def main(argv: tp.Sequence[str]) -> int:
    """Measure how much less surprised a model is by held-out music when told the right things."""
    parser = CommandParser("condition-sensitivity", main.__doc__)
    parser.add_argument("model", help="any name that get_pretrained takes")
    parser.add_argument("manifest", nargs="+", help="held-out music, several clips of every piece")
    parser.add_argument("--style-field", default="genre", help="metadata that says what is alike")
    parser.add_argument("--piece-field", default="title", help="metadata that names the piece")
    parser.add_argument("--excerpt", type=float, default=3.0, help="seconds of the excerpts [3]")
    parser.add_argument("--draws", type=int, default=2, help="excerpts of each kind per target [2]")
    parser.add_argument("--seconds", type=float, help="count only the first ones of every target")
    parser.add_argument("--seed", type=int, default=0, help="of the draws [0]")
    parser.add_argument("--device", help="cuda, mps or cpu [the best there is]")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    args = parser.parse_args(argv)
    model = MusicGen.get_pretrained(args.model, device=args.device)
    clips = [
        clip
        for manifest in args.manifest
        for clip in load_clips(manifest, model, args.style_field, args.piece_field)
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
    report = describe(sensitivity)
    print(f"{len(clips)} targets of {len(set(sensitivity.tracks))} pieces, nat per token:")
    for name, (mean, low, high) in report["conditions"].items():
        print(f"  {name:12} {mean:.4f}  [{low:.4f}, {high:.4f}]")
    for question in report["questions"]:
        mean, low, high = question["difference"]
        verdict = "apart" if question["apart"] else "not apart"
        print(f"  {question['asked']:26} {mean:+.4f}  [{low:+.4f}, {high:+.4f}]  {verdict}")
    if args.json is not None:
        args.json.write_text(json.dumps(report, indent=2) + "\n")
    return 0


def load_clips(
    manifest: str, model: MusicGen, style_field: str, piece_field: str
) -> list[LabelledClip]:
    """The clips of a manifest with their labels, as long as the model's window.

    Raises:
        ManifestError: The manifest cannot be used.
        ConfigError: A clip lacks a label.
    """
    clips = []
    for meta in load_manifest(manifest):
        texts = load_music_info(meta).texts
        for name in (style_field, piece_field, "description"):
            if not texts.get(name):
                raise ConfigError(f"{meta.path} has no {name} in its metadata.")
        wav, rate = audio_read(meta.path, 0.0, model.max_duration)
        clips.append(
            LabelledClip(
                name=Path(meta.path).stem,
                track=f"{texts[style_field]}: {texts[piece_field]}",
                style=tp.cast(str, texts[style_field]),
                text=tp.cast(str, texts["description"]),
                wav=convert_audio(wav, rate, model.sample_rate, model.audio_channels),
            )
        )
    return clips


def describe(sensitivity: ConditionSensitivity) -> dict[str, tp.Any]:
    """Means, differences and intervals as plain values."""
    return {
        "targets": len(sensitivity.tracks),
        "pieces": len(set(sensitivity.tracks)),
        "conditions": {
            name: list(sensitivity.condition_interval(name)) for name in sensitivity.conditions
        },
        "questions": [
            {
                "asked": f"{less} < {more}",
                "difference": list(sensitivity.difference(less, more)),
                "apart": sensitivity.is_lower(less, more),
            }
            for less, more in COMPARISONS
        ],
    }
