"""Chunked encoding: codes of whole files of any length, and the hash that identifies a tokenizer.

A file that fits into one chunk is encoded at once. Longer ones:

- `SpectralTokenizer`: latents are computed in chunks with all the neighbouring samples that their
  frames depend on; the codes are then chosen over the whole file. The result equals encoding it at
  once, up to rounding.
- Other codecs encode overlapping chunks, and frames near an artificial end are taken from the
  neighbouring chunk. Dependencies beyond `CONTEXT` are lost: none for convolutions, for a recurrent
  layer whatever it still remembers after that time.
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

CHUNK = 30.0  # seconds encoded at once
CONTEXT = 2.0  # seconds at each artificial end of a chunk whose frames are discarded


def describe_tokenizer(model: CompressionModel, name: str) -> TokenizerSpec:
    """Return the properties of a tokenizer that its tokens depend on, with a hash.

    The hash covers all weights and settings that influence codes. It covers neither the number of
    codebooks in use, since the first codes do not depend on later ones, nor the names of weights,
    which change between versions of a library.

    Args:
        model: The tokenizer, as it encodes.
        name: Name that it was loaded by.
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
        arguments = inner.constructor_arguments()
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
    """Return the tokens of silence, `[K]`: those in the middle of one silent second."""
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
    chunk: float = CHUNK,
    context: float = CONTEXT,
) -> Tensor:
    """Encode a file of any length.

    Args:
        model: The tokenizer.
        facts: Its properties, from `describe_tokenizer`.
        wav: The whole file, `[C, T]` at the tokenizer's rate, on its device.
        chunk: Seconds encoded at once.
        context: Seconds at each artificial end of a chunk whose frames are discarded.

    Returns:
        Codes, `[K, F]` with `F = facts.num_frames(T)`.

    Raises:
        ConfigError: The tokenizer renormalizes its input, or returns another number of frames.
        ValueError: A chunk is not longer than its two contexts.
    """
    hop = facts.hop_length
    total = -(-wav.shape[-1] // hop)  # counted, like all below, in positions where tokens are cut
    longest = max(1, round(chunk * facts.sample_rate / hop))
    if total <= longest:
        codes = _encode(model, wav)
    elif isinstance(model, SpectralTokenizer):
        codes = _encode_spectral(model, wav, longest)
    else:
        spare = round(context * facts.sample_rate / hop)
        if not 0 <= 2 * spare < longest:
            raise ValueError(f"chunk={chunk} s must be longer than twice context={context} s.")
        codes = _encode_chunks(model, wav, hop, longest, spare)
    if codes.shape[-1] != facts.num_frames(wav.shape[-1]):
        raise ConfigError(
            f"The tokenizer returns {codes.shape[-1]} frames for {wav.shape[-1]} samples instead "
            f"of {facts.num_frames(wav.shape[-1])}, so segments cannot be cut from its tokens. "
            "Train on audio: cache.path=null."
        )
    return codes


def _encode(model: CompressionModel, wav: Tensor) -> Tensor:
    codes, scale = model.encode(wav[None])
    if scale is not None:
        raise ConfigError(
            "The tokenizer renormalizes its input; the language model cannot predict the scale. "
            "Choose a compression_model_checkpoint with renormalize=false."
        )
    return codes[0]


def _encode_spectral(model: SpectralTokenizer, wav: Tensor, longest: int) -> Tensor:
    hop = model.hop_length
    reach = -(-model.stft.n_fft // hop)  # neighbouring frames that a frame depends on
    latents = []
    for first in range(0, -(-wav.shape[-1] // hop), longest):
        begin = max(0, first - reach)
        chunk = wav[None, :, begin * hop : (first + longest + reach) * hop]
        latent = model.latent(model.loudness(chunk))
        latents.append(latent[..., first - begin : first - begin + longest])
    return model.quantize(torch.cat(latents, dim=-1))[0]


def _encode_chunks(
    model: CompressionModel, wav: Tensor, hop: int, longest: int, spare: int
) -> Tensor:
    total = -(-wav.shape[-1] // hop)
    chunks = []
    for first in range(0, total, longest - 2 * spare):
        end = min(first + longest, total)
        codes = _encode(model, wav[:, first * hop : end * hop])
        per_cut = codes.shape[-1] // (end - first)
        begin = spare if first else 0
        stop = end - first - (spare if end < total else 0)
        chunks.append(codes[:, begin * per_cut : stop * per_cut])
        if end == total:
            break
    return torch.cat(chunks, dim=-1)
