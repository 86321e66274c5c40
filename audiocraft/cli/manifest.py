"""`audiocraft manifest`: write the manifest of a folder of audio."""

import logging
import typing as tp
from pathlib import Path

from ..data.io.files import check_writable
from ..data.manifest import MANIFEST_NAMES, find_audio_files, save_manifest
from ..data.resume_log import ResumeLog
from .output import print_line
from .parser import CommandParser


def get_parser() -> CommandParser:
    """The arguments of the command."""
    parser = CommandParser(
        "manifest",
        "Write the manifest of a folder of audio, or of a zip archive. Files that cannot be read "
        "are listed and left out.",
    )
    parser.add_argument("folder", help="folder of audio, searched at any depth")
    parser.add_argument("manifest", help="file to write, ending in .jsonl or .jsonl.gz")
    depth = parser.add_mutually_exclusive_group()
    depth.add_argument(
        "--minimal", action="store_true", default=True, help="read headers only (the default)"
    )
    depth.add_argument(
        "--complete", action="store_false", dest="minimal", help="also measure amplitudes: slow"
    )
    parser.add_argument("--resolve", action="store_true", help="write absolute paths")
    parser.add_argument("--workers", type=int, default=10, help="files read at the same time")
    return parser


def main(argv: tp.Sequence[str]) -> None:
    """Run the command."""
    logging.basicConfig(format="%(message)s")
    args = get_parser().parse_args(argv)
    out = Path(args.manifest)
    out = out / MANIFEST_NAMES[0] if out.is_dir() else out
    check_writable(out)
    settings = f"manifest minimal={args.minimal} resolve={args.resolve}"
    with ResumeLog(out, settings) as resume_log:
        metas = find_audio_files(
            args.folder,
            minimal=args.minimal,
            resolve=args.resolve,
            workers=max(1, args.workers),
            progress=True,
            resume_log=resume_log,
        )
        save_manifest(out, metas)
    hours = sum(meta.duration for meta in metas) / 3600
    print_line(f"{len(metas)} file{'s' * (len(metas) != 1)}, {hours:.2f} hours: {out}")
