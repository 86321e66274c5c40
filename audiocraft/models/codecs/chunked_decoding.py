"""Chunked decoding: codes of any length to audio, in memory that does not grow with the length.

The receptive field of a decoder is limited, so that a chunk with enough context on both sides
decodes to the same audio as the whole sequence. Consecutive chunks overlap by twice that context;
in the middle of the overlap, a short linear cross-fade leads from one to the next. It does not
change equal signals and hides the remaining difference of layers with an unlimited receptive
field, such as an LSTM.
"""

import torch
from torch import Tensor

from .base import WINDOW, CompressionModel, even_frame_count

CONTEXT = 3.0  # seconds; phases of the bundled tokenizer differ for up to 2.1
FADE = 0.05  # seconds


def decode_chunked(codec: CompressionModel, codes: Tensor) -> Tensor:
    """Decode codes of any length.

    Args:
        codec: Its `decode` gets at most `WINDOW` and two contexts at once.
        codes: `[B, K, F]`.

    Returns:
        Audio, `[B, C, T]`.
    """
    num_frames = codes.shape[-1]
    starts, length = chunks_of(num_frames, codec.frame_rate)
    if len(starts) == 1:
        return codec.decode(codes, None)
    hop = samples_per_frame(codec)
    ramp = torch.linspace(0, 1, int(FADE * codec.sample_rate), device=codes.device)
    first = codec.decode(codes[..., :length], None)
    wav = first.new_empty(*first.shape[:2], num_frames * hop)
    wav[..., : first.shape[-1]] = first
    for start in starts[1:]:
        chunk = codec.decode(codes[..., start : start + length], None)
        boundary = boundary_of(start, codec)
        begin, end = boundary - len(ramp) // 2, boundary - len(ramp) // 2 + len(ramp)
        chunk = chunk[..., begin - start * hop :]
        faded_in = chunk[..., : len(ramp)]
        wav[..., begin:end] = torch.lerp(wav[..., begin:end], faded_in, ramp.to(faded_in))
        wav[..., end : begin + chunk.shape[-1]] = chunk[..., len(ramp) :]
    return wav


def decoding_boundaries(codec: CompressionModel, num_frames: int) -> list[int]:
    """Return the chunk boundaries of `decode_chunked`, in samples."""
    starts, _ = chunks_of(num_frames, codec.frame_rate)
    return [boundary_of(start, codec) for start in starts[1:]]


def chunks_of(num_frames: int, frame_rate: float) -> tuple[range, int]:
    """Return the first frame of each chunk, and the largest number of frames in a chunk."""
    stride = even_frame_count(WINDOW, frame_rate)
    overlap = 2 * even_frame_count(CONTEXT, frame_rate)
    return range(0, max(1, num_frames - overlap), stride), stride + overlap


def boundary_of(start: int, codec: CompressionModel) -> int:
    """Return the sample from which on the chunk that starts at frame `start` is used."""
    return (start + even_frame_count(CONTEXT, codec.frame_rate)) * samples_per_frame(codec)


def samples_per_frame(codec: CompressionModel) -> int:
    """Return the number of samples that one frame decodes to."""
    return round(codec.sample_rate / codec.frame_rate)
