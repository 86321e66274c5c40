"""Tokens of whole files, of any length, and what identifies the tokenizer that makes them.

A file that fits into one window is encoded at once. Longer ones:

- `SpectralTokenizer`: frames are computed window by window, each with the neighbours that its
  frames look at; the codes are then chosen over the whole file. They are those of encoding it at
  once but for the rounding of floating point numbers.
- Any other codec is given windows that overlap, and the frames next to a window's artificial ends
  are taken from its neighbour. What a frame owes to sound further away than `CONTEXT` is lost: for
  convolutions nothing, for a recurrent layer what it still remembers after that time.
"""

import hashlib
import json

import torch
from torch import Tensor

from ...data.tokens.format import TokenizerSpec
from ...errors import ConfigError
from ..encodec import InterleaveStereoCompressionModel
from .base import CompressionModel
from .spectral import SpectralTokenizer

WINDOW = 30.0  # seconds
CONTEXT = 2.0  # seconds of a window at each artificial end whose frames are not taken


def describe_tokenizer(model: CompressionModel, name: str) -> TokenizerSpec:
    """What tokens of a model depend on.

    The hash covers all weights and whatever else decides about codes. It does not cover how many
    codebooks are in use, since the first ones are the same however many follow, nor what weights
    are called, which changes with the version of a library.

    Args:
        model: The tokenizer, as it encodes.
        name: Where it was loaded from.
    """
    interleaved = isinstance(model, InterleaveStereoCompressionModel)
    per_timestep = interleaved and model.per_timestep
    inner = model.model if interleaved else model
    facts = {
        "kind": type(inner).__name__,
        "sample_rate": model.sample_rate,
        "frame_rate": model.frame_rate,
        "channels": model.channels,
        "interleaved": interleaved,
        "per_timestep": per_timestep,
    }
    if isinstance(inner, SpectralTokenizer):
        arguments = inner.arguments()
        facts |= {key: arguments[key] for key in arguments if key != "phase_iterations"}
    weights = sorted(_hash_of(value) for value in inner.state_dict().values())
    digest = hashlib.sha256(json.dumps([facts, weights], sort_keys=True).encode())
    return TokenizerSpec(
        hash=digest.hexdigest()[:16],
        name=name,
        sample_rate=model.sample_rate,
        frame_rate=model.frame_rate,
        channels=model.channels,
        cardinality=model.cardinality,
        num_codebooks=model.num_codebooks,
        frames_per_cut=2 if per_timestep else 1,
    )


def _hash_of(value: Tensor) -> str:
    digest = hashlib.sha256(f"{value.dtype} {list(value.shape)}".encode())
    digest.update(value.cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def encode_silence(model: CompressionModel, facts: TokenizerSpec) -> list[int]:
    """The tokens of silence, `[K]`: those in the middle of a second of it."""
    device = next(iter(model.state_dict().values())).device
    codes = encode_chunked(
        model, facts, torch.zeros(facts.channels, facts.sample_rate, device=device)
    )
    return codes[:, codes.shape[-1] // 2].tolist()


@torch.no_grad()
def encode_chunked(
    model: CompressionModel,
    facts: TokenizerSpec,
    wav: Tensor,
    window: float = WINDOW,
    context: float = CONTEXT,
) -> Tensor:
    """Encode a file.

    Args:
        model: The tokenizer.
        facts: Of the same tokenizer.
        wav: All of the file, `[C, T]` at the tokenizer's rate, on its device.
        window: Seconds encoded at once.
        context: Seconds by which windows reach over what is taken from them.

    Returns:
        Codes, `[K, F]` with `F = facts.num_frames(T)`.

    Raises:
        ConfigError: The tokenizer rescales what it reads, or gives another number of frames.
        ValueError: A window has no room for its context.
    """
    hop = facts.hop_length
    total = -(-wav.shape[-1] // hop)  # in places where tokens may be cut, as all that follows
    longest = max(1, round(window * facts.sample_rate / hop))
    if total <= longest:
        codes = _encode(model, wav)
    elif isinstance(model, SpectralTokenizer):
        codes = _encode_spectral(model, wav, longest)
    else:
        spare = round(context * facts.sample_rate / hop)
        if not 0 <= 2 * spare < longest:
            raise ValueError(f"A window of {window} s has no room for {context} s at both ends.")
        codes = _encode_windows(model, wav, hop, longest, spare)
    if codes.shape[-1] != facts.num_frames(wav.shape[-1]):
        raise ConfigError(
            f"The tokenizer gives {codes.shape[-1]} frames for {wav.shape[-1]} samples instead of "
            f"{facts.num_frames(wav.shape[-1])}: its tokens cannot be cut at fixed places."
        )
    return codes


def _encode(model: CompressionModel, wav: Tensor) -> Tensor:
    codes, scale = model.encode(wav[None])
    if scale is not None:
        raise ConfigError("The tokenizer rescales its input, which the model cannot learn.")
    return codes[0]


def _encode_spectral(model: SpectralTokenizer, wav: Tensor, longest: int) -> Tensor:
    hop = model.hop_length
    reach = -(-model.stft.n_fft // hop)  # frames next to a window that its own ones look at
    latents = []
    for first in range(0, -(-wav.shape[-1] // hop), longest):
        begin = max(0, first - reach)
        piece = wav[None, :, begin * hop : (first + longest + reach) * hop]
        latent = model.latent(model.loudness(piece))
        latents.append(latent[..., first - begin : first - begin + longest])
    return model.quantize(torch.cat(latents, dim=-1))[0]


def _encode_windows(
    model: CompressionModel, wav: Tensor, hop: int, longest: int, spare: int
) -> Tensor:
    total = -(-wav.shape[-1] // hop)
    pieces = []
    for first in range(0, total, longest - 2 * spare):
        end = min(first + longest, total)
        codes = _encode(model, wav[:, first * hop : end * hop])
        per_cut = codes.shape[-1] // (end - first)
        begin = spare if first else 0
        stop = end - first - (spare if end < total else 0)
        pieces.append(codes[:, begin * per_cut : stop * per_cut])
        if end == total:
            break
    return torch.cat(pieces, dim=-1)
