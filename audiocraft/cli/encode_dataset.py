"""`audiocraft encode-dataset`: encode a data set to tokens, or verify one."""

import argparse
import shlex
import typing as tp
from dataclasses import fields
from pathlib import Path

import numpy as np

from ..data.loaders import load_audio_manifest
from ..data.meta_table import MetaTable
from ..data.tokens.format import TokenFolder, check_tokenizer, read_header
from ..data.tokens.writer import hash_of_manifest, verify_folder
from ..environment import AudioCraftEnvironment
from ..errors import ManifestError
from ..inference.encode_dataset import EncodingParams, encode_dataset, encode_file
from ..models.codecs.chunked_encoding import describe_tokenizer
from ..utils.device import resolve_device
from ..utils.hydra_quoting import override
from .parser import CommandParser

EXPECTED_AGREEMENT = 0.99  # of codes; devices and versions of PyTorch round differently
SPLITS = ("train", "valid", "evaluate", "generate")


def get_parser() -> CommandParser:
    """The arguments of the command."""
    parser = CommandParser(
        "encode-dataset", "Encode a data set to tokens, once. A stopped command resumes."
    )
    parser.add_argument("manifest", help="the audio: a manifest, or the folder that holds it")
    parser.add_argument("out", type=Path, help="folder to write, for datasource.train and others")
    parser.add_argument(
        "--tokenizer", help="//pretrained/HUB_ID | //bundled/NAME | //sig/SIG | path"
    )
    parser.add_argument("--num-codebooks", type=int, help="codebooks kept [default: all]")
    parser.add_argument(
        "--stereo",
        choices=("codebooks", "timesteps"),
        help="encode left and right with a mono tokenizer; as interleave_stereo_codebooks is set",
    )
    parser.add_argument(
        "--wave-rate",
        type=int,
        help="sample rate, in Hz, of the waveforms kept for the style conditioner: that of its "
        "feature extractor, such as 24000 for MERT [default: the tokenizer's]",
    )
    parser.add_argument(
        "--no-wave", action="store_true", help="keep no waveforms: for text conditioning alone"
    )
    parser.add_argument("--wave-type", default="int16", help="int16 | float32")
    parser.add_argument(
        "--shard-minutes", type=float, default=60.0, help="minutes of audio per shard"
    )
    parser.add_argument(
        "--workers", type=int, help="processes [default: one per CPU, at most 4 per GPU]"
    )
    parser.add_argument("--device", default="auto", help="auto | cpu | cuda")
    parser.add_argument("--part", type=int, default=0, help="part that this machine writes, from 0")
    parser.add_argument("--parts", type=int, default=1, help="number of parts")
    parser.add_argument(
        "--verify", action="store_true", help="check a finished folder instead of writing one"
    )
    parser.add_argument(
        "--verify-files", type=int, default=2, help="files that --verify encodes again"
    )
    return parser


def main(argv: tp.Sequence[str]) -> None:
    """Run the command."""
    parser = get_parser()
    args = parser.parse_args(argv)
    if args.tokenizer is None and not args.verify:
        parser.error("--tokenizer is required: the name of the model that encodes")
    source = AudioCraftEnvironment.resolve_source_path(args.manifest)
    metas = MetaTable.of(load_audio_manifest(source))
    if args.verify:
        verify(metas, args)
        return
    if args.no_wave:
        args.wave_rate = 0
    encoding = EncodingParams(**{f.name: getattr(args, f.name) for f in fields(EncodingParams)})
    if encode_dataset(metas, args.out, encoding, args.part, args.parts, progress=True):
        print(describe_folder(args.out, args.manifest))
    else:
        print(f"{args.out} holds the shards of part {args.part} of {args.parts}.")


def describe_folder(folder: Path, manifest: str = "") -> str:
    """Describe a finished folder, and the setting that selects it.

    Args:
        folder: Token data set.
        manifest: Its source, whose path may name a split.
    """
    tokens = TokenFolder(folder)
    arrays, facts = tokens.files.arrays, tokens.header.tokenizer
    hours = arrays["num_samples"].sum() / facts.sample_rate / 3600
    size = sum(int(arrays[f"shard_{kind}_bytes"].sum()) for kind in ("codes", "wave"))
    wave = (
        f"waveforms at {tokens.header.wave_rate} Hz" if tokens.header.wave_rate else "no waveform"
    )
    damaged = np.flatnonzero(arrays["num_samples"] == 0)
    unlabelled = int((np.diff(arrays["info_ends"], prepend=0) == 1).sum())
    lines = [
        f"{folder}: {len(tokens.files)} files, {hours:.2f} hours as {facts.num_codebooks} x "
        f"{facts.cardinality} tokens, {facts.frame_rate:g} per second, {wave}, {size / 1e6:.1f} MB."
    ]
    for row in damaged[:10]:
        lines.append(f"Not encoded: {tokens.problem(int(row))}")
    if len(damaged) > 10:
        lines.append(f"Not encoded: {len(damaged) - 10} more.")
    if unlabelled:
        lines.append(f"{unlabelled} files have no readable metadata: training skips them.")
    split = next((name for name in SPLITS if name in Path(manifest).parts), "train")
    setting = shlex.quote(override(f"datasource.{split}", str(folder.absolute())))
    lines.append(f"To use it: {setting}")
    return "\n".join(lines)


def verify(metas: MetaTable, args: argparse.Namespace) -> None:
    """Check the checksums of a folder, and encode some of its files again.

    Raises:
        ManifestError: The folder is damaged or belongs to another manifest.
    """
    header = read_header(args.out)
    problems = verify_folder(args.out, args.workers or 2)
    if hash_of_manifest(metas) != header.manifest_hash:
        problems.append(f"It was encoded from another manifest than {args.manifest}.")
    compared = 0
    if not problems and args.verify_files > 0:
        compared, differences = encode_again(metas, args)
        problems += differences
    if problems:
        shards = "shards/NUMBER.jsonl of each damaged shard and SHA256SUMS"
        listed = "\n  ".join(problems)
        raise ManifestError(
            f"{args.out} is damaged:\n  {listed}\nDelete {shards}, and encode again with the same "
            "command: only missing shards are written."
        )
    print(f"{args.out} is intact; {compared} files were encoded again and agree.")


def encode_again(metas: MetaTable, args: argparse.Namespace) -> tuple[int, list[str]]:
    """Encode some files again; returns their number and a description of each difference."""
    tokens = TokenFolder(args.out)
    facts = tokens.header.tokenizer
    stereo = None
    if facts.channels == 2 and args.stereo is None:
        stereo = "timesteps" if facts.frames_per_cut == 2 else "codebooks"
    encoding = EncodingParams(
        tokenizer=args.tokenizer or facts.name,
        num_codebooks=args.num_codebooks,
        stereo=args.stereo or stereo,
    )
    device = resolve_device(args.device)
    model = encoding.load(device)
    check_tokenizer(args.out, tokens.header, describe_tokenizer(model, encoding.tokenizer))
    rows = np.linspace(0, len(metas) - 1, min(args.verify_files, len(metas))).astype(int).tolist()
    compared, problems = 0, []
    for row in dict.fromkeys(rows):
        again = encode_file(model, device, tokens.header, metas[row])
        written = tokens.codes(row, 0, tokens.number("num_frames", row))
        if again.problem is not None:
            print(f"Not compared: {again.problem}")
            continue
        compared += 1
        if again.codes.shape != written.shape:
            problems.append(f"{metas[row].path} has {len(again.codes)} frames, not {len(written)}.")
        elif np.mean(again.codes == written) < EXPECTED_AGREEMENT:
            share = np.mean(again.codes == written)
            problems.append(f"Only {share:.1%} of the tokens of {metas[row].path} agree.")
    return compared, problems
