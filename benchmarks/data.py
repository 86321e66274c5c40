"""Throughput of the data pipeline, from file to batch.

    python -m benchmarks.data --folder F --segment 10 --json FILE

The folder contains audio in any of the formats, preferably files of about a minute; an empty or
missing folder is filled with the bundled music in four formats. Each format is measured separately,
then the tokens of the first one, alone and with the waveform for the style conditioner. Data sets
are measured in alternating rounds, so that other load affects all of them equally, and medians are
reported. CPU time per segment of all processes is reported as well, since it depends less on the
load of the machine.
"""

import argparse
import json
import multiprocessing
import os
import platform
import statistics
import tempfile
import time
import typing as tp
from dataclasses import replace
from pathlib import Path

import torch
from torch.utils.data import DataLoader
from tqdm import tqdm

from audiocraft.data.audio import audio_read, audio_write
from audiocraft.data.audio_utils import convert_audio
from audiocraft.data.loaders import num_cpus
from audiocraft.data.manifest import AudioMeta, find_audio_files, load_manifest
from audiocraft.data.music_dataset import MusicDataset
from audiocraft.data.sampler import ShardedSampler
from audiocraft.data.tokens.dataset import TokenDataset
from audiocraft.inference.encode_dataset import EncodingParams, encode_dataset

ROOT = Path(__file__).parents[1]
FORMATS = ("wav", "flac", "mp3", "ogg")
FILES, SECONDS, RATE = 8, 60, 44_100  # of the files written to an empty folder
INFO = {
    "title": "A piece",
    "artist": "An artist",
    "key": "A minor",
    "bpm": "90",
    "genre": "waltz",
    "moods": ["gentle"],
    "keywords": "waltz, accordion",
    "description": "A slow waltz on the accordion",
    "name": "piece",
    "instrument": "accordion",
}
TICKS = os.sysconf("SC_CLK_TCK")


def fill(folder: Path) -> None:
    """Write `FILES` files of the bundled music, 44.1 kHz stereo, in every format."""
    metas = load_manifest(ROOT / "egs" / "example")
    rng = torch.Generator().manual_seed(0)
    for number in tqdm(range(FILES), desc=f"writing {folder}"):
        order = torch.randperm(len(metas), generator=rng).tolist()
        read = (convert_audio(*audio_read(metas[i].path), RATE, 2) for i in order[:10])
        wav = torch.cat(list(read), dim=1)[:, : SECONDS * RATE]
        for name in FORMATS:
            path = audio_write(folder / name / f"{number}", wav, RATE, name)
            path.with_suffix(".json").write_text(json.dumps(INFO), encoding="utf-8")


def with_metadata(metas: list[AudioMeta], folder: Path) -> list[AudioMeta]:
    """Assign a shared JSON file in `folder` to files without metadata."""
    shared = folder / "info.json"
    shared.write_text(json.dumps(INFO), encoding="utf-8")
    return [
        m if Path(m.path).with_suffix(".json").is_file() else replace(m, info_path=str(shared))
        for m in metas
    ]


def contenders(args: argparse.Namespace, scratch: Path) -> dict[str, MusicDataset]:
    """Return the data sets to measure, by name."""
    metas = with_metadata(find_audio_files(args.folder), scratch)
    by_format: dict[str, list[AudioMeta]] = {}
    for meta in metas:
        by_format.setdefault(Path(meta.path).suffix[1:].lower(), []).append(meta)
    options: dict[str, tp.Any] = {
        "segment_duration": args.segment,
        "num_samples": 10**7,
        "sample_on_duration": False,
        "sample_on_weight": False,
        "min_segment_ratio": 0.8,
        "merge_text_p": 0.25,
        "drop_desc_p": 0.5,
        "drop_other_p": 0.5,
        "info_fields_required": ["description"],
    }
    datasets: dict[str, MusicDataset] = {
        name: MusicDataset(files, sample_rate=args.sample_rate, channels=1, **options)
        for name, files in sorted(by_format.items(), key=lambda item: _place(item[0]))
    }
    if args.tokenizer:
        first = datasets[next(iter(datasets))].meta
        encode_dataset(
            first, scratch / "tokens", EncodingParams(tokenizer=args.tokenizer), progress=True
        )
        for name, load_wav in (("tokens and text", False), ("tokens, text and waveform", True)):
            datasets[name] = TokenDataset(scratch / "tokens", load_wav=load_wav, **options)
    return datasets


def _place(name: str) -> int:
    return FORMATS.index(name) if name in FORMATS else len(FORMATS)


class Contender:
    """A data set that is read continuously by its own workers."""

    def __init__(self, dataset: MusicDataset, batch_size: int, workers: int):
        sampler = ShardedSampler(len(dataset), batch_size)
        loader = DataLoader(
            dataset, batch_size, sampler=sampler, num_workers=workers, collate_fn=dataset.collater
        )
        self.ready = 2 * workers + 1  # batches that may be prefetched before the measurement
        self.batches = iter(loader)
        self.speeds: list[float] = []  # segments per second
        self.cpu: list[float] = []  # milliseconds per segment

    def measure(self, seconds: float) -> None:
        """Measure reading for `seconds` and append the results."""
        for _ in range(self.ready):
            next(self.batches)
        began, cpu, count = time.perf_counter(), cpu_seconds(), 0
        while time.perf_counter() < began + seconds:
            count += len(next(self.batches))
        self.speeds.append(count / (time.perf_counter() - began))
        self.cpu.append(1000 * (cpu_seconds() - cpu) / count)


def cpu_seconds() -> float:
    """Return the CPU time of this process and its children, in seconds."""
    total = time.process_time()
    for child in multiprocessing.active_children():
        stat = Path(f"/proc/{child.pid}/stat")
        if stat.exists():
            user, system = stat.read_text(encoding="utf-8").rsplit(")", 1)[1].split()[11:13]
            total += (int(user) + int(system)) / TICKS
    return total


def parse_args(argv: tp.Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "python -m benchmarks.data", description="Measure how fast segments of music are read."
    )
    parser.add_argument("--folder", type=Path, required=True, help="music; filled where empty")
    parser.add_argument("--segment", type=float, default=10.0, help="seconds of a segment (10)")
    parser.add_argument("--workers", type=int, help="processes that read (one per CPU)")
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    parser.add_argument("--sample_rate", type=int, default=32_000, help="Hz of the audio (32000)")
    parser.add_argument("--batch_size", type=int, default=16, help="segments of a batch (16)")
    parser.add_argument("--rounds", type=int, default=5, help="measurements of each (5)")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each measurement (5)")
    parser.add_argument(
        "--tokenizer", default="//bundled/mel_rvq_16khz", help="of the tokens; '' measures none"
    )
    return parser.parse_args(argv)


def main(argv: tp.Sequence[str] | None = None) -> None:
    """Measure, print a table, and write JSON."""
    args = parse_args(argv)
    torch.set_num_threads(1)
    workers = num_cpus() if args.workers is None else args.workers
    if not args.folder.is_dir() or not any(args.folder.iterdir()):
        fill(args.folder)
    machine = {
        "cpus": num_cpus(),
        "processor": platform.processor() or platform.machine(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "load_before": os.getloadavg(),
    }
    with tempfile.TemporaryDirectory() as scratch:
        datasets = contenders(args, Path(scratch))
        running = {n: Contender(d, args.batch_size, workers) for n, d in datasets.items()}
        for _ in tqdm(range(args.rounds), desc="rounds"):
            for contender in running.values():
                contender.measure(args.seconds)
        results = {
            name: {
                "segments_per_second": statistics.median(contender.speeds),
                "cpu_ms_per_segment": statistics.median(contender.cpu),
                "all_segments_per_second": contender.speeds,
            }
            for name, contender in running.items()
        }
        running.clear()
    machine["load_after"] = os.getloadavg()
    print(f"{'':28}{'segments/s':>12}{'CPU ms each':>14}")
    for name, result in results.items():
        speed, cpu = result["segments_per_second"], result["cpu_ms_per_segment"]
        print(f"{name:28}{speed:12.1f}{cpu:14.2f}")
    if args.json:
        settings = vars(args) | {"folder": str(args.folder), "json": None, "workers": workers}
        report = {"machine": machine, "settings": settings, "results": results}
        args.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
