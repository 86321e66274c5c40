"""Load time of a large manifest, and memory of each worker that uses it.

    python -m benchmarks.manifest --lines 1000000 --json FILE

The manifest is synthetic; no audio is read. A worker reads the entry of every tenth file and draws
a thousand samples. The measured memory is the one that a worker shares with no other process.
"""

import argparse
import json
import multiprocessing
import os
import tempfile
import time
import typing as tp
from pathlib import Path

from audiocraft.data.manifest import AudioMeta, load_manifest, save_manifest
from audiocraft.data.music_dataset import MusicDataset

METHODS = ("fork", "forkserver", "spawn")
DRAWS = 1000
OPTIONS: dict[str, tp.Any] = {"segment_duration": 10.0, "sample_rate": 32_000, "channels": 1}


def synthetic_entries(lines: int) -> tp.Iterator[AudioMeta]:
    """Yield synthetic entries with paths of typical length."""
    for i in range(lines):
        path = f"/data/music/label_{i % 97:03d}/artist_{i % 9973:05d}/album/track_{i:07d}.mp3"
        yield AudioMeta(path, 180.0 + i % 100 / 7, 44_100)


def unshared_megabytes() -> float:
    """Return the memory that this process shares with no other, in megabytes."""
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) / 1024
    return float("nan")


def work(dataset: MusicDataset, results: tp.Any) -> None:
    """Run a worker and put its growth of memory and its time per draw into `results`."""
    before = unshared_megabytes()
    for file in range(0, len(dataset.meta), 10):
        _ = dataset.meta[file].path
    began = time.perf_counter()
    for index in range(DRAWS):
        dataset.sampler.draw(1, index, dataset.sampler.generator(1, index))
    draw = (time.perf_counter() - began) / DRAWS
    results.put({"grown_mb": unshared_megabytes() - before, "draw_ms": 1000 * draw})


def measure(lines: int) -> dict[str, tp.Any]:
    """Measure loading, the shared table, and the workers of each start method."""
    report: dict[str, tp.Any] = {"lines": lines, "load_before": os.getloadavg()}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "data.jsonl"
        save_manifest(file, synthetic_entries(lines))
        report["file_mb"] = file.stat().st_size / 2**20
        began = time.perf_counter()
        metas = load_manifest(file)
        report["parse_s"] = time.perf_counter() - began
    began = time.perf_counter()
    dataset = MusicDataset(metas, **OPTIONS)
    report["table_s"] = time.perf_counter() - began
    report["table_mb"] = sum(array.nbytes for array in dataset.meta.arrays.values()) / 2**20
    del metas
    for method in METHODS:
        context: tp.Any = multiprocessing.get_context(method)
        results = context.Queue()
        process = context.Process(target=work, args=(dataset, results))
        process.start()
        report[method] = results.get()
        process.join()
    return report


def main(argv: tp.Sequence[str] | None = None) -> None:
    """Measure, print, and write JSON."""
    parser = argparse.ArgumentParser(
        "python -m benchmarks.manifest", description="Measure what a large manifest costs."
    )
    parser.add_argument("--lines", type=int, default=1_000_000, help="files in it (1000000)")
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    args = parser.parse_args(argv)
    report = measure(args.lines)
    parsed = f"{args.lines} files, {report['file_mb']:.0f} MB of JSON: {report['parse_s']:.1f} s"
    print(f"{parsed}; {report['table_mb']:.0f} MB of shared arrays: {report['table_s']:.1f} s more")
    for method in METHODS:
        grown, draw = report[method]["grown_mb"], report[method]["draw_ms"]
        print(f"a worker by {method:10}: {grown:5.1f} MB of its own, {draw:.3f} ms a weighted draw")
    if args.json:
        args.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
