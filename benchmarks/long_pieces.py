"""Cost of samples far longer than the model's window, and continuity at their chunk boundaries.

    python -m benchmarks.long_pieces --minutes 5

Language model and tokenizer are timed separately. The tokens are then decoded again in separate
processes, in chunks and in one call, whose memory is measured.
"""

import argparse
import contextlib
import json
import multiprocessing
import resource
import threading
import time
import typing as tp
from pathlib import Path

import torch
from torch import Tensor

from audiocraft.models.codecs.chunked_decoding import decode_chunked, decoding_boundaries
from audiocraft.models.generation.windows import window_boundaries
from audiocraft.models.loaders import load_compression_model
from audiocraft.models.musicgen import MusicGen
from audiocraft.signal.chunk_boundaries import BoundaryMeasurements, measure_boundaries

MODEL = "//bundled/musicgen_style_tiny"


def measured_boundaries(model: MusicGen, wav: Tensor) -> dict[str, BoundaryMeasurements]:
    """Measure the chunk boundaries of a sample `[C, T]` that the model has just generated.

    Returns the measurements of the windows of the language model and of the tokenizer, by name.
    """
    hop = round(model.sample_rate / model.frame_rate)
    frames = window_boundaries(model.generation_params, model.frame_rate, model.max_duration)
    places = {
        "language model": [frame * hop for frame in frames],
        "tokenizer": decoding_boundaries(model.compression_model, wav.shape[-1] // hop),
    }
    return {
        name: measure_boundaries(wav, model.sample_rate, boundaries)
        for name, boundaries in places.items()
    }


def decoding_memory(name: str, codes: Tensor, at_once: bool) -> float:
    """Return the peak memory of decoding `[B, K, F]`, beyond the tokenizer, in megabytes.

    Args:
        name: Name of the model or of its tokenizer.
        codes: Codes to decode.
        at_once: Whether to decode in one call instead of in chunks.
    """
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        return pool.apply(_decode, (name, codes.numpy(), at_once))


def _decode(name: str, codes: tp.Any, at_once: bool) -> float:
    codec = load_compression_model(name, torch.device("cpu")).eval()
    tokens = torch.from_numpy(codes)
    with torch.inference_mode():
        codec.decode(tokens[..., :50])  # memory of the first call
        with record_memory() as samples:
            codec.decode(tokens) if at_once else decode_chunked(codec, tokens)
    return max(samples) - samples[0]


@contextlib.contextmanager
def record_memory() -> tp.Iterator[list[float]]:
    """Record the resident memory of this process in megabytes, every few milliseconds."""
    samples = [resident_megabytes()]
    done = threading.Event()

    def record() -> None:
        while not done.wait(0.002):
            samples.append(resident_megabytes())

    thread = threading.Thread(target=record)
    thread.start()
    try:
        yield samples
    finally:
        done.set()
        thread.join()


def resident_megabytes() -> float:
    """Return the resident memory of this process, in megabytes."""
    pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1])
    return pages * resource.getpagesize() / 2**20


def measure(name: str, minutes: float) -> dict[str, tp.Any]:
    """Generate and decode a sample; measure time, chunk boundaries and memory."""
    model = MusicGen.get_pretrained(name, device="cpu")
    model.set_generation_params(duration=60 * minutes)
    began = time.perf_counter()
    wav, codes = model.generate(["calm piano"], return_tokens=True, seed=0)
    total = time.perf_counter() - began
    began = time.perf_counter()
    model.decode(codes)
    decode = time.perf_counter() - began
    report: dict[str, tp.Any] = {"generate_s": total - decode, "decode_s": decode, "boundaries": {}}
    for kind, boundaries in measured_boundaries(model, wav[0]).items():
        report["boundaries"][kind] = {
            "count": len(boundaries.steps),
            "jump_db": float(boundaries.jumps_db.median()),
            "jump_db_elsewhere": float(boundaries.jumps_db_elsewhere.median()),
            "step": float(boundaries.steps.median()),
            "step_elsewhere": float(boundaries.steps_elsewhere.median()),
        }
    report["waveform_mb"] = wav.nbytes / 2**20
    report["windows_mb"] = decoding_memory(name, codes, at_once=False)
    report["at_once_mb"] = decoding_memory(name, codes, at_once=True)
    return report


def main(argv: tp.Sequence[str] | None = None) -> None:
    """Measure, print, and write JSON."""
    parser = argparse.ArgumentParser(
        "python -m benchmarks.long_pieces", description="Measure the cost of a long sample."
    )
    parser.add_argument("--minutes", type=float, default=5.0, help="of music (5)")
    parser.add_argument("--model", default=MODEL, help=f"model ({MODEL})")
    parser.add_argument("--json", type=Path, help="output file")
    args = parser.parse_args(argv)
    report = measure(args.model, args.minutes)
    print(f"tokens {report['generate_s']:.1f} s, decoding {report['decode_s']:.1f} s")
    for kind, row in report["boundaries"].items():
        print(
            f"{row['count']} chunk boundaries of the {kind}: "
            f"level changes by {row['jump_db']:.2f} dB "
            f"(elsewhere {row['jump_db_elsewhere']:.2f}), largest step {row['step']:.3f} "
            f"(elsewhere {row['step_elsewhere']:.3f})"
        )
    print(
        f"memory of decoding: {report['windows_mb']:.0f} MB in windows, "
        f"{report['at_once_mb']:.0f} MB at once; the waveform has {report['waveform_mb']:.1f} MB"
    )
    if args.json:
        args.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
