"""Command `audiocraft fit-tokenizer`: fit a spectral tokenizer to music and evaluate it."""

import argparse
import json
import time
import typing as tp
from dataclasses import asdict, fields
from pathlib import Path

from ..errors import ConfigError
from ..models.codecs.spectral import SpectralTokenizer
from ..solvers.fit_spectral import (
    FitOptions,
    draw_excerpts,
    evaluate_tokenizer,
    excerpts_to_measure,
    fit_tokenizer,
    load_tokenizer,
    save_tokenizer,
)
from ..utils.atomic_write import write_text
from .parser import CommandParser

REPORT_FILE = "measured.json"
OPTION_HELP = {
    "hours": "hours of excerpts, drawn equally from each manifest",
    "excerpt": "duration of an excerpt, in seconds",
    "iterations": "iterations of k-means per codebook",
    "rounds": "rounds of joint refinement of all codebooks",
    "ridge": "regularization of least squares, relative to the mean variance",
    "measured": "excerpts of each manifest that is evaluated",
    "seed": "seed of excerpts and k-means",
}


def parse_args(argv: tp.Sequence[str] | None) -> argparse.Namespace:
    parser = CommandParser("fit-tokenizer", "Fit a spectral tokenizer to music and evaluate it.")
    parser.add_argument("manifests", nargs="+", help="manifests of music to fit to")
    parser.add_argument("out", type=Path, help="folder to write")
    parser.add_argument(
        "--measure", nargs="*", default=[], metavar="MANIFEST", help="held-out music to evaluate on"
    )
    parser.add_argument("--measure-only", action="store_true", help="evaluate the tokenizer in OUT")
    for option in fields(FitOptions):
        parser.add_argument(
            f"--{option.name}",
            type=type(option.default),
            default=option.default,
            help=OPTION_HELP[option.name],
        )
    return parser.parse_args(argv)


def main(argv: tp.Sequence[str] | None = None) -> None:
    """Fit, save, evaluate."""
    args = parse_args(argv)
    options = FitOptions(
        **{option.name: getattr(args, option.name) for option in fields(FitOptions)}
    )
    report_file = args.out / REPORT_FILE
    if not args.measure_only:
        report = fit_and_save(args.manifests, args.out, options)
    elif report_file.is_file():
        report = json.loads(report_file.read_text(encoding="utf-8"))
    else:
        raise ConfigError(
            f"{args.out} contains no fitted tokenizer. Omit --measure-only to fit one."
        )
    tokenizer = load_tokenizer(args.out)
    report["measured"] = {
        manifest: evaluate_tokenizer(tokenizer, excerpts_to_measure(manifest, tokenizer, options))
        for manifest in args.measure
    }
    write_text(report_file, json.dumps(report, indent=2) + "\n")
    print(f"Tokenizer: {args.out}\nFit and evaluation: {report_file}")


def fit_and_save(manifests: tp.Sequence[str], out: Path, options: FitOptions) -> dict[str, tp.Any]:
    """Fit a tokenizer of the default size and write it; returns the report of the fit."""
    started = time.monotonic()
    tokenizer = SpectralTokenizer().eval()
    num = round(options.hours * 3600 / options.excerpt)
    excerpts = draw_excerpts(manifests, num, options.excerpt, tokenizer.sample_rate, options.seed)
    fit_tokenizer(tokenizer, excerpts, options)
    save_tokenizer(tokenizer, out)
    seconds = round(time.monotonic() - started)
    return {"fitted_to": list(manifests), "recipe": asdict(options), "fit_seconds": seconds}


if __name__ == "__main__":
    main()
