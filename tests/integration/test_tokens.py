"""The style model learns from tokens: through the real door, killed, on several processes."""

import json
from dataclasses import replace

import pytest

from audiocraft.data.tokens.format import read_header
from audiocraft.models.codecs.chunked_encoding import describe_tokenizer
from audiocraft.models.loaders import load_compression_model

from .conftest import SMALL, command, interrupted

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("commands")]


@pytest.fixture(scope="module")
def argv(encoded):
    """Without any audio: what is heard at the end comes from the waveforms beside the tokens."""
    sources = [f"cache.path={encoded}", f"datasource.generate={encoded}/valid"]
    return ["-m", "dora", "run", *SMALL, *sources]


@pytest.fixture(scope="module")
def trained(argv, tmp_path_factory):
    return command(*argv, outputs=tmp_path_factory.mktemp("outputs"))


def test_a_run_writes_what_it_will_read(encoded):
    tokenizer = load_compression_model("//bundled/mel_rvq_16khz")
    for split in ("train", "valid", "evaluate"):
        header = read_header(encoded / split)
        assert header.tokenizer == describe_tokenizer(tokenizer, "")
        assert header.wave_rate == 16_000  # what MusiCNN hears
    assert not (encoded / "generate").exists()


def test_the_style_model_learns_from_tokens_about_what_it_learns_from_audio(trained, finished):
    assert trained.returncode == 0, trained.output
    assert "Files: 80 train" in trained.output
    for ours, theirs in zip(trained.history, finished.history, strict=True):
        for stage in ("train", "valid"):
            assert ours[stage].keys() == theirs[stage].keys()
            assert ours[stage]["ce"] == pytest.approx(theirs[stage]["ce"], abs=0.1)
    assert list(trained.folder.glob("samples/2/text_and_style/*.style.wav"))


def test_it_goes_on_after_an_interruption_as_if_there_had_been_none(trained, argv, tmp_path):
    assert interrupted(*argv, outputs=tmp_path).returncode != 0
    resumed = command(*argv, outputs=tmp_path)
    assert resumed.returncode == 0, resumed.output
    assert resumed.history == trained.history


def test_tokens_of_another_tokenizer_stop_the_run_with_both_hashes(encoded, tmp_path):
    folder = tmp_path / "train"
    folder.mkdir()
    for path in (encoded / "train").iterdir():
        (folder / path.name).symlink_to(path)
    header = read_header(folder)
    other = replace(header, tokenizer=replace(header.tokenizer, hash="0123456789abcdef"))
    (folder / "tokens.json").unlink()
    (folder / "tokens.json").write_text(other.dumps())
    run = command("-m", "dora", "run", *SMALL, f"datasource.train={folder}", outputs=tmp_path)
    assert run.returncode == 1
    (told,) = [line for line in run.output.splitlines() if line.startswith("error: ")]
    assert "0123456789abcdef" in told
    assert json.loads(header.dumps())["tokenizer"]["hash"] in told
    assert "Traceback" not in run.output
