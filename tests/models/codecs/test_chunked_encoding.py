"""Chunked encoding of whole files, and the description of a tokenizer."""

import math
from dataclasses import replace

import pytest
import torch

from audiocraft.errors import ConfigError
from audiocraft.models import builders
from audiocraft.models.codecs.chunked_encoding import (
    describe_tokenizer,
    encode_chunked,
    encode_silence,
)
from audiocraft.models.codecs.spectral import SpectralTokenizer
from audiocraft.models.encodec import InterleaveStereoCompressionModel
from audiocraft.solvers.fit_spectral import fit_tokenizer
from tests.conftest import composed

from .test_spectral import QUICK, RATE, TINY, notes


@pytest.fixture(scope="module")
def spectral():
    tokenizer = SpectralTokenizer(**TINY).eval()
    fit_tokenizer(tokenizer, [notes(64)], QUICK)
    return tokenizer


def encodec_with(layers: int):
    """EnCodec with `layers` LSTM layers and codebooks fitted to its encoder output."""
    small = ["seanet.n_filters=4", "seanet.dimension=16", "rvq.bins=32", "rvq.n_q=2"]
    config = composed("solver=compression/encodec_musicgen_32khz", f"seanet.lstm={layers}", *small)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = builders.get_compression_model(config).eval()
    with torch.no_grad():
        model.quantizer.initialize(model.encoder(notes(1, 2.0, 32_000)))
    return model


@pytest.fixture(scope="module")
def encodec():
    return encodec_with(layers=2)


def music(seconds, rate=RATE):
    """A sequence of notes, `[1, T]`."""
    return notes(math.ceil(seconds), 1.0, rate, seed=3)[..., 0, :].flatten()[None][
        :, : int(seconds * rate)
    ]


def facts_of(model):
    return describe_tokenizer(model, "a name")


@pytest.mark.parametrize("seconds", [0.01, 0.5, 2.0, 2.01, 7.3])
@pytest.mark.parametrize("window", [0.1, 0.5, 2.0])
def test_spectral_chunked_encoding_equals_one_call(spectral, seconds, window):
    wav = music(seconds)
    codes = encode_chunked(spectral, facts_of(spectral), wav, window)
    assert torch.equal(codes, spectral.encode(wav[None])[0][0])


@pytest.mark.parametrize("stereo", [None, "codebooks", "timesteps"])
@pytest.mark.parametrize("layers", [0, 2])
def test_encodec_encodes_overlapping_chunks(layers, stereo):
    mono = model = encodec_with(layers)
    wav = music(5.03, 32_000)
    if stereo:
        model = InterleaveStereoCompressionModel(mono, per_timestep=stereo == "timesteps")
        wav = torch.cat([wav, wav.flip(1)])
    facts = facts_of(model)
    at_once = model.encode(wav[None])[0][0]
    codes = encode_chunked(model, facts, wav, chunk=2.0, context=0.5)
    assert codes.shape == at_once.shape
    same = float((codes == at_once).float().mean())
    assert same == 1 if layers == 0 else same > 0.95  # the state of a recurrent layer is lost
    bare = encode_chunked(model, facts, wav, chunk=2.0, context=0.0)
    assert same > float((bare == at_once).float().mean())


def test_window_not_longer_than_its_context_raises(encodec):
    with pytest.raises(ValueError, match=r"context=1\.0"):
        encode_chunked(encodec, facts_of(encodec), music(4.0, 32_000), chunk=2.0, context=1.0)


def test_encoded_silence_equals_encode_silence(spectral):
    facts = facts_of(spectral)
    silence = encode_chunked(spectral, facts, torch.zeros(1, 3 * RATE))
    assert silence[:, 75].tolist() == encode_silence(spectral, facts)


def test_renormalizing_codec_raises(encodec):
    model = builders.get_compression_model(
        composed("solver=compression/debug", "encodec.renormalize=true", "encodec.causal=false")
    ).eval()
    with pytest.raises(ConfigError, match="renormalize"):
        encode_chunked(model, facts_of(model), torch.randn(model.channels, model.sample_rate))


# Description and hash of a tokenizer.


def test_hash_depends_on_weights_and_settings_that_change_codes(spectral):
    facts = facts_of(spectral)
    again = SpectralTokenizer(**TINY).eval()
    assert facts_of(again).hash != facts.hash
    again.load_state_dict(spectral.state_dict())
    assert facts_of(again) == facts
    again.phase_iterations += 1  # only decodes otherwise
    assert facts_of(again).hash == facts.hash
    again.change_cost *= 2
    assert facts_of(again).hash != facts.hash


def test_hash_does_not_depend_on_state_dict_keys(encodec, monkeypatch):
    expected = facts_of(encodec)
    renamed = {f"new.{key}": value for key, value in encodec.state_dict().items()}
    monkeypatch.setattr(encodec, "state_dict", lambda: renamed)
    assert facts_of(encodec) == expected


def test_hash_does_not_depend_on_the_number_of_codebooks(spectral):
    facts = facts_of(spectral)
    wav = music(1.0)
    codes = encode_chunked(spectral, facts, wav)
    spectral.set_num_codebooks(2)
    fewer = facts_of(spectral)
    assert fewer == replace(facts, num_codebooks=2)
    assert torch.equal(encode_chunked(spectral, fewer, wav), codes[:2])
    spectral.set_num_codebooks(3)


def test_hash_differs_between_mono_and_both_stereo_layouts(encodec):
    models = [
        encodec,
        *(InterleaveStereoCompressionModel(encodec, per_timestep=p) for p in (False, True)),
    ]
    found = [facts_of(model) for model in models]
    assert len({facts.hash for facts in found}) == 3
    assert [facts.frames_per_cut for facts in found] == [1, 1, 2]
    assert len({facts.hop_length for facts in found}) == 1
