"""Invalid files: errors name the file, and an epoch continues without them."""

import contextlib
import gzip
import io
import json
import logging
import os
import typing as tp
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from audiocraft.data.audio import audio_blocks, audio_info, audio_read
from audiocraft.data.audio_dataset import AudioDataset
from audiocraft.data.manifest import AudioMeta, find_audio_files, load_manifest, save_manifest
from audiocraft.data.music_dataset import MusicDataset
from audiocraft.data.prepare.statistics import compute_audio_statistics
from audiocraft.errors import AudiocraftError, AudioError, ManifestError

from .corpus import (
    FORMATS,
    NO_FILES,
    RATE,
    SECONDS,
    UNREADABLE,
    UNUSUAL,
    encoded,
    nonfinite_files,
    write_corpus,
)

FUZZ = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    write_corpus(folder)
    return folder


def read_functions(source) -> list[tp.Callable[[], tp.Any]]:
    return [
        lambda: audio_info(source),
        lambda: audio_read(source),
        lambda: audio_read(source, 0.4, 0.3, pad=True),
        lambda: list(audio_blocks(source)),
    ]


@pytest.mark.parametrize("name", UNREADABLE, ids=ascii)
def test_the_error_names_an_unreadable_file(corpus, name):
    for read in read_functions(f"{corpus}/{name}"):
        with pytest.raises(AudioError) as raised:
            read()
        assert name in str(raised.value)


@pytest.mark.parametrize("name", UNUSUAL, ids=ascii)
def test_the_decodable_part_of_an_unusual_file_is_read(corpus, name):
    path = f"{corpus}/{name}"
    wav, rate = audio_read(path, 0.05, 0.1)
    assert wav.shape[-1] == int(0.1 * rate)
    assert wav.isfinite().all()


def test_a_file_object_must_hold_bytes_and_be_seekable():
    with pytest.raises(AudioError, match="mode 'rb'"):
        audio_info(io.StringIO("text"))  # type: ignore[arg-type]
    read, _ = os.pipe()
    with open(read, "rb") as pipe, pytest.raises(AudioError, match="seekable"):
        audio_info(pipe)


def test_an_impossible_length_is_reported(corpus):
    with pytest.raises(AudioError, match=r"giant_length\.flac claims to last 1193 hours, in \d+ b"):
        audio_info(corpus / "giant_length.flac")


def test_a_playlist_opens_no_other_file(corpus):
    for name in ("playlist.mp3", "concat.mp3"):
        content = (corpus / name).read_bytes()
        assert b"good_0.wav" in content
        with pytest.raises(AudioError):
            audio_read(io.BytesIO(content))


def error_message_of(read: tp.Callable[[], tp.Any]) -> str | None:
    """Message of the `AudiocraftError` that `read` raises; `None` if it raises nothing."""
    try:
        read()
    except AudiocraftError as error:
        return str(error)
    return None


def mutated(content: bytes, changes: tp.Sequence[tuple[float, str, bytes]]) -> bytes:
    """Content with bytes overwritten, inserted or removed at relative positions."""
    for where, how, new in changes:
        at = int(where * len(content))
        removed = {"overwrite": len(new), "insert": 0, "remove": 50 * len(new)}[how]
        kept = b"" if how == "remove" else new
        content = content[:at] + kept + content[at + removed :]
    return content


SPECIAL = st.sampled_from([b"\xff" * 4, bytes(4), b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f"])
CHANGES = st.lists(
    st.tuples(
        st.floats(0, 1) | st.floats(0, 0.02),
        st.sampled_from(["overwrite", "insert", "remove"]),
        SPECIAL | st.binary(min_size=1, max_size=12),
    ),
    min_size=1,
    max_size=6,
)


@pytest.mark.parametrize("kind", FORMATS)
@given(changes=CHANGES, cut=st.none() | st.floats(0, 1))
@settings(FUZZ, max_examples=40)
def test_damaged_content_is_read_or_raises_an_audio_error(tmp_path, kind, changes, cut):
    content = mutated(encoded(kind), changes)
    path = tmp_path / f"fuzzed.{kind}"
    path.write_bytes(content if cut is None else content[: int(cut * len(content))])
    for read in [*read_functions(path), lambda: compute_audio_statistics(path)]:
        message = error_message_of(read)
        assert message is None or path.name in message


# JSON.

ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=6,
)
FIELDS = st.sampled_from(["path", "duration", "sample_rate", "weight", "amplitude", "info_path"])


@given(entry=ANY_JSON | st.dictionaries(FIELDS, ANY_JSON), cut=st.integers(0, 60))
@settings(FUZZ, max_examples=150)
def test_a_manifest_line_is_read_or_named_in_the_error(tmp_path, entry, cut):
    line = json.dumps(entry).encode()
    (tmp_path / "data.jsonl").write_bytes(line[: len(line) - cut % (len(line) + 1)])
    message = error_message_of(lambda: load_manifest(tmp_path))
    assert message is None or "data.jsonl" in message


@given(content=st.binary(max_size=200), cut=st.integers(1, 40))
@settings(FUZZ, max_examples=50)
def test_a_compressed_manifest_is_read_or_named_in_the_error(tmp_path, content, cut):
    for damage in (content, gzip.compress(content)[:-cut]):
        (tmp_path / "data.jsonl.gz").write_bytes(damage)
        with pytest.raises(ManifestError, match=r"data\.jsonl\.gz"):
            load_manifest(tmp_path)


SIDE = st.sampled_from(["key", "bpm", "moods", "keywords", "description", "instrument", "title"])


@given(entry=ANY_JSON | st.dictionaries(SIDE, ANY_JSON))
@settings(FUZZ, max_examples=100)
def test_metadata_of_any_type_is_read_or_ignored(tmp_path, caplog, entry):
    path = tmp_path / "a.wav"
    path.write_bytes(encoded("wav"))
    path.with_suffix(".json").write_text(json.dumps(entry))
    dataset = MusicDataset(
        [AudioMeta(str(path), SECONDS, RATE)], segment_duration=0.5, num_samples=1, channels=1
    )
    message = error_message_of(lambda: dataset[0])
    assert message is None or "a.json" in message
    if message is None:
        _, info = dataset[0]
        assert all(text is None or isinstance(text, str) for text in info.texts.values())


# Epochs.


def metas_of_corpus(corpus: Path) -> list[AudioMeta]:
    names = [
        *UNREADABLE,
        *UNUSUAL,
        *nonfinite_files(),
        *(f"good_{number}.wav" for number in range(4)),
    ]
    return [AudioMeta(f"{corpus}/{name}", SECONDS, RATE) for name in names]


class MessageFileHandler(logging.Handler):
    """Writes the log messages of data workers to a file."""

    def __init__(self, path: Path):
        super().__init__()
        self.path = path

    def emit(self, record: logging.LogRecord) -> None:
        with open(self.path, "a", encoding="utf-8", errors="backslashreplace") as file:
            file.write(ascii(record.getMessage()) + "\n")


@contextlib.contextmanager
def messages_written_to(path: Path) -> tp.Iterator[None]:
    logger, handler = logging.getLogger("audiocraft.data.audio_dataset"), MessageFileHandler(path)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


def state_of(folder: Path) -> dict[str, tuple[int, int]]:
    entries = sorted(folder.rglob("*"))
    return {ascii(str(e)): (e.lstat().st_size, e.lstat().st_mtime_ns) for e in entries}


@pytest.mark.parametrize("workers", [0, 2])
def test_an_epoch_over_damaged_files_completes_and_changes_no_state(
    corpus, tmp_path, monkeypatch, workers
):
    metas = metas_of_corpus(corpus)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    dataset = AudioDataset(
        metas,
        segment_duration=0.3,
        num_samples=4 * len(metas),
        sample_rate=8000,
        channels=1,
        permutation_on_files=True,
        sample_on_duration=False,
        sample_on_weight=False,
        max_read_retry=40,
        return_info=True,
    )
    before = state_of(corpus)
    loader = DataLoader(
        dataset, 8, num_workers=workers, collate_fn=dataset.collater, timeout=120 * (workers > 0)
    )
    with messages_written_to(tmp_path / "reported"):
        batches = list(loader)
    wavs = torch.cat([batch.wavs for batch in batches])
    infos = [info for batch in batches for info in batch.infos]
    assert wavs.shape == (4 * len(metas), 1, 2400)
    assert wavs.isfinite().all()
    files_read = {info.meta.path.removeprefix(f"{corpus}/") for info in infos}
    assert not files_read & {*UNREADABLE, *nonfinite_files()}
    assert files_read >= {*UNUSUAL, *(f"good_{number}.wav" for number in range(4))}
    reported = (tmp_path / "reported").read_text()
    for name in (*UNREADABLE, *nonfinite_files()):
        assert ascii(name)[1:-1] in reported
    assert state_of(corpus) == before
    assert not list((tmp_path / "here").iterdir())


def test_a_manifest_is_written_for_a_folder_of_damaged_files(corpus, tmp_path, caplog):
    metas = find_audio_files(corpus)
    save_manifest(tmp_path / "data.jsonl", metas)
    assert load_manifest(tmp_path) == metas
    listed = {meta.path.removeprefix(f"{corpus}/") for meta in metas}
    assert listed >= {f"good_{number}.wav" for number in range(4)}
    assert listed.isdisjoint({*UNREADABLE, *NO_FILES})
    named = {name for name in UNREADABLE if f"{corpus}/{name}" in caplog.text}
    assert named >= {"text.mp3", "pipe.wav", "device.wav", "nowhere.wav", "circle.wav"}


TRICKS = ["{}", "{}:x", "file:{}", "concat:{}", "| touch {}.made", "{}\0", "{}/../.."]


@pytest.mark.parametrize("trick", [*TRICKS, "http://127.0.0.1:9/a.mp3"])
def test_files_listed_in_a_manifest_are_only_read(tmp_path, trick):
    target = tmp_path / "precious.txt"
    target.write_text("do not touch")
    save_manifest(tmp_path / "data.jsonl", [AudioMeta(trick.format(target), 1.0, RATE)])
    before = state_of(tmp_path)
    (meta,) = load_manifest(tmp_path)
    for read in read_functions(meta.path):
        with pytest.raises(AudioError):
            read()
    assert state_of(tmp_path) == before
    assert target.read_text() == "do not touch"
