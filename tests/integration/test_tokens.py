"""Training on pre-encoded tokens: losses, interruption, another tokenizer."""

import json
from dataclasses import replace

import pytest

from audiocraft.data.tokens.format import read_header
from audiocraft.models.codecs.chunked_encoding import describe_tokenizer
from audiocraft.models.loaders import load_compression_model

from .conftest import SMALL, interrupted, run_training


@pytest.fixture(scope="module")
def job(encoded):
    """Without audio files: samples use the waveforms stored with the tokens."""
    return (*SMALL, f"cache.path={encoded}", f"datasource.generate={encoded}/valid")


@pytest.fixture(scope="module")
def trained(job, tmp_path_factory):
    return run_training(*job, outputs=tmp_path_factory.mktemp("outputs"))


def test_encoded_tokens_have_the_tokenizer_and_rate_of_the_run(encoded):
    tokenizer = load_compression_model("//bundled/mel_rvq_16khz")
    for split in ("train", "valid", "evaluate"):
        header = read_header(encoded / split)
        assert header.tokenizer == describe_tokenizer(tokenizer, "")
        assert header.wave_rate == 16_000  # the rate of MusiCNN
    assert not (encoded / "generate").exists()


def test_losses_of_training_on_tokens_are_close_to_those_on_audio(trained, finished):
    assert "Files: 80 train" in trained.output
    for ours, theirs in zip(trained.history, finished.history, strict=True):
        for stage in ("train", "valid"):
            assert ours[stage].keys() == theirs[stage].keys()
            assert ours[stage]["ce"] == pytest.approx(theirs[stage]["ce"], abs=0.1)
    assert list(trained.folder.glob("samples/2/text_and_style/*.style.wav"))


def test_an_interrupted_run_ends_like_an_uninterrupted_one(trained, job, tmp_path):
    assert interrupted("-m", "dora", "run", *job, outputs=tmp_path).returncode != 0
    assert run_training(*job, outputs=tmp_path).history == trained.history


def test_tokens_of_another_tokenizer_are_refused_with_both_hashes(encoded, tmp_path, refusal):
    folder = tmp_path / "train"
    folder.mkdir()
    for path in (encoded / "train").iterdir():
        (folder / path.name).symlink_to(path)
    header = read_header(folder)
    other = replace(header, tokenizer=replace(header.tokenizer, hash="0123456789abcdef"))
    (folder / "tokens.json").unlink()
    (folder / "tokens.json").write_text(other.dumps(), encoding="utf-8")
    message = refusal(*SMALL, f"datasource.train={folder}")
    assert "0123456789abcdef" in message
    assert json.loads(header.dumps())["tokenizer"]["hash"] in message
