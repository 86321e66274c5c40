"""Codes of any length to audio, a window at a time, so that memory does not grow with the piece.

A codec hears only so far: with enough frames on both sides, a window decodes to what the whole
would give there. Windows overlap by twice that context and change hands in the middle of it, by a
short linear cross-fade: it leaves equal signals untouched and hides the rest of a memory that has
no end, such as that of an LSTM.
"""

import torch
from torch import Tensor

from .base import WINDOW, CompressionModel, even_frame_count

CONTEXT = 3.0  # seconds; further than the phases of the bundled tokenizer spread (2.1)
FADE = 0.05  # seconds


def decode_chunked(codec: CompressionModel, codes: Tensor) -> Tensor:
    """Decode codes of any length.

    Args:
        codec: Its `decode` is never given more than `WINDOW` and two contexts.
        codes: `[B, K, F]`; of up to `WINDOW` seconds and somewhat more they are decoded at once.

    Returns:
        Audio, `[B, C, T]`.
    """
    num_frames = codes.shape[-1]
    starts, length = windows_of(num_frames, codec.frame_rate)
    if len(starts) == 1:
        return codec.decode(codes, None)
    hop = samples_per_frame(codec)
    ramp = torch.linspace(0, 1, int(FADE * codec.sample_rate), device=codes.device)
    first = codec.decode(codes[..., :length], None)
    wav = first.new_empty(*first.shape[:2], num_frames * hop)
    wav[..., : first.shape[-1]] = first
    for start in starts[1:]:
        window = codec.decode(codes[..., start : start + length], None)
        # So far `wav` ends with the context of the window before, which goes on beyond its seam.
        boundary = boundary_of(start, codec)
        begin, end = boundary - len(ramp) // 2, boundary - len(ramp) // 2 + len(ramp)
        window = window[..., begin - start * hop :]
        fresh = window[..., : len(ramp)]
        wav[..., begin:end] = torch.lerp(wav[..., begin:end], fresh, ramp.to(fresh))
        wav[..., end : begin + window.shape[-1]] = window[..., len(ramp) :]
    return wav


def decoding_boundaries(codec: CompressionModel, num_frames: int) -> list[int]:
    """The samples at which `decode_chunked` changes from one window to the next."""
    starts, _ = windows_of(num_frames, codec.frame_rate)
    return [boundary_of(start, codec) for start in starts[1:]]


def windows_of(num_frames: int, frame_rate: float) -> tuple[range, int]:
    """The first frames of the windows of a piece, and how many frames a window has at most."""
    stride, overlap = (
        even_frame_count(WINDOW, frame_rate),
        2 * even_frame_count(CONTEXT, frame_rate),
    )
    return range(0, max(1, num_frames - overlap), stride), stride + overlap


def boundary_of(start: int, codec: CompressionModel) -> int:
    """The sample at which the window that starts at a frame takes over."""
    return (start + even_frame_count(CONTEXT, codec.frame_rate)) * samples_per_frame(codec)


def samples_per_frame(codec: CompressionModel) -> int:
    """Samples that one frame decodes to."""
    return round(codec.sample_rate / codec.frame_rate)
