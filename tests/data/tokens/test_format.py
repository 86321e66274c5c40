import pickle
import shutil
import subprocess
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audiocraft.data.manifest import AudioMeta
from audiocraft.data.meta_table import MetaTable
from audiocraft.data.tokens import format as token_cache
from audiocraft.data.tokens.format import (
    TokenFolder,
    TokenFolderHeader,
    check_tokenizer,
    is_token_folder,
    missing_shards,
    read_header,
)
from audiocraft.data.tokens.writer import (
    EncodedFile,
    finish_folder,
    split_into_shards,
    start_folder,
    verify_folder,
    write_shard,
)
from audiocraft.errors import ManifestError

from ..token_folders import FACTS, K, encoded, header_of, write_tokens


@pytest.fixture
def folder(tmp_path, tracks):
    write_tokens(tmp_path / "tokens", tracks)
    return tmp_path / "tokens"


@settings(deadline=None)
@given(
    lengths=st.lists(st.integers(0, 30), min_size=1, max_size=8),
    shard_seconds=st.floats(0.01, 40),
    wave_type=st.sampled_from(["int16", "float32"]),
    cardinality=st.sampled_from([1024, 2**15, 2**15 + 1]),
    data=st.data(),
)
def test_every_written_segment_is_read_back(
    lengths, shard_seconds, wave_type, cardinality, data, tmp_path_factory
):
    folder = tmp_path_factory.mktemp("tokens") / "out"
    rng = np.random.default_rng(0)
    files = [
        EncodedFile(
            rng.integers(0, cardinality, (n, K)),
            rng.integers(-(2**15), 2**15, 5 * n) / (1 if wave_type == "int16" else 2**15),
            160 * n,
            {"description": "x" * n} if n % 2 else None,
            None if n else "damaged",
        )
        for n in lengths
    ]
    metas = [AudioMeta(f"{i}.wav", float(n), 8000) for i, n in enumerate(lengths)]
    ends = split_into_shards(np.array([m.duration for m in metas]), shard_seconds)
    assert ends[-1] == len(metas)
    facts = replace(FACTS, cardinality=cardinality)
    header = header_of(metas, tokenizer=facts, wave_type=wave_type, shard_ends=ends)
    start_folder(folder, header)
    for shard in range(header.num_shards):
        write_shard(folder, header, shard, [files[n] for n in header.files_of(shard)])
    assert finish_folder(folder, header, metas)

    tokens = TokenFolder(folder)
    tokens.check_sizes()
    assert verify_folder(folder) == []
    assert read_header(folder) == header
    assert list(tokens.files) == metas
    scale = 2**15 if wave_type == "int16" else 1
    for row, file in enumerate(files):
        start = data.draw(st.integers(0, len(file.codes)))
        stop = data.draw(st.integers(start, 40))
        np.testing.assert_array_equal(tokens.codes(row, start, stop), file.codes[start:stop])
        wave = file.wave[5 * start : 5 * stop].astype(np.float32) / scale
        np.testing.assert_array_equal(tokens.wave(row, 5 * start, 5 * stop), wave)
        assert (tokens.info(row), tokens.problem(row)) == (file.info, file.problem)


def test_checksums_agree_with_the_standard_tool(folder):
    if not shutil.which("sha256sum"):
        pytest.skip("no sha256sum")
    run = subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=folder, capture_output=True)
    assert run.returncode == 0
    listed = {line.partition(":")[0] for line in run.stdout.decode().splitlines()}
    assert listed | {"SHA256SUMS"} == {
        str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()
    }


def test_a_changed_byte_is_detected_and_its_file_named(folder):
    for path in [p for p in folder.rglob("*") if p.is_file() and p.name != "SHA256SUMS"]:
        content = path.read_bytes()
        changed = bytearray(content)
        changed[len(changed) // 2] ^= 1
        path.write_bytes(changed)
        try:
            problems = verify_folder(folder)
        except ManifestError as error:
            problems = [str(error)]
        assert any(path.name in problem for problem in problems), path
        path.write_bytes(content)
    assert verify_folder(folder) == []


def test_tokens_out_of_range_are_detected(tmp_path, tracks):
    facts = replace(FACTS, cardinality=50)  # codes are at most 99
    write_tokens(tmp_path / "tokens", tracks, tokenizer=facts)
    assert "00000.codes has codes out of range" in verify_folder(tmp_path / "tokens")[0]


@pytest.mark.parametrize("kind", ["codes", "wave"])
@pytest.mark.parametrize("damage", ["short", "gone"])
def test_a_truncated_shard_is_reported_before_mapping(folder, kind, damage):
    path = folder / "shards" / f"00001.{kind}"
    content = path.read_bytes()
    path.unlink()
    if damage == "short":
        path.write_bytes(content[:-2])
    tokens = TokenFolder(folder)
    for look in (tokens.check_sizes, lambda: getattr(tokens, kind)(2, 0, 1)):
        with pytest.raises(ManifestError, match=rf"00001\.{kind} has \d+ bytes instead of \d+"):
            look()
    getattr(tokens, kind)(0, 0, 1)


def test_an_unfinished_folder_reports_its_progress(tmp_path, tracks):
    folder, header = tmp_path / "tokens", header_of(tracks)
    start_folder(folder, header)
    assert is_token_folder(folder)
    assert missing_shards(folder, header) == [0, 1]
    write_shard(folder, header, 1, [encoded(n, tracks[n]) for n in header.files_of(1)])
    assert not finish_folder(folder, header, MetaTable.of(tracks))
    with pytest.raises(ManifestError, match="1 of 2 shards are missing"):
        TokenFolder(folder)


def test_a_failed_shard_leaves_no_files(tmp_path, tracks):
    folder, header = tmp_path / "tokens", header_of(tracks)
    start_folder(folder, header)

    def files():
        yield encoded(0, tracks[0])
        raise OSError("No space left on device")

    with pytest.raises(OSError, match="No space"):
        write_shard(folder, header, 0, files())
    assert list((folder / "shards").iterdir()) == []


OTHERS = {
    "another tokenizer": ({"tokenizer": replace(FACTS, hash="bbbb")}, "tokenizer aaaa, not bbbb"),
    "another manifest": ({"manifest_hash": "0"}, "from the manifest .*, not 0"),
    "another rate of waveforms": ({"wave_rate": 4000}, "with wave_rate 8000, not 4000"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_a_folder_of_other_settings_is_not_resumed(folder, tracks, name):
    changes, message = OTHERS[name]
    with pytest.raises(ManifestError, match=message):
        start_folder(folder, header_of(tracks, **changes))
    start_folder(folder, header_of(tracks, tokenizer=replace(FACTS, name="moved/elsewhere")))


def test_a_folder_with_other_files_is_not_changed(tmp_path, tracks):
    (tmp_path / "music.txt").write_text("mine")
    with pytest.raises(ManifestError, match="contains other files"):
        start_folder(tmp_path, header_of(tracks))


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"version": 1}', b"\xff"])
def test_the_error_names_a_damaged_header(folder, content):
    (folder / "tokens.json").write_bytes(content)
    with pytest.raises(ManifestError, match=r"tokens\.json"):
        TokenFolder(folder)


def test_an_unsupported_format_version_is_refused(folder):
    path = folder / "tokens.json"
    path.write_text(path.read_text().replace('"version": 1', '"version": 9'))
    with pytest.raises(ManifestError, match="version 9; supported: 1"):
        TokenFolder(folder)


def test_the_number_of_open_shards_is_limited(tmp_path, monkeypatch, tracks):
    monkeypatch.setattr(token_cache, "MAPPED_SHARDS", 2)
    write_tokens(tmp_path / "tokens", tracks, shard_ends=[1, 2, 3, 4])
    tokens = TokenFolder(tmp_path / "tokens")
    for row in (0, 1, 2, 3, 0, 2):
        assert tokens.codes(row, 3, 4).tolist() == [[3, row, 6]]
        assert len(tokens._maps) <= 2
    again = pickle.loads(pickle.dumps(tokens))
    assert again.codes(2, 3, 4).tolist() == [[3, 2, 6]]


# Comparison of tokenizers.


def header(**changes) -> TokenFolderHeader:
    return header_of([AudioMeta("a.wav", 1.0, 8000)], tokenizer=replace(FACTS, **changes))


def test_tokens_of_the_same_tokenizer_are_accepted_from_any_path():
    check_tokenizer("f", header(name="elsewhere"), FACTS)
    check_tokenizer("f", header(num_codebooks=K + 1), FACTS)


REFUSED = {
    "hash": ({"hash": "bbbb"}, r"tokenizer bbbb .*the model's is aaaa"),
    "sample rate": ({"sample_rate": 16000}, r"aaaa \(.*16000 Hz\).* aaaa \(.*8000 Hz\)"),
    "codebooks": ({"num_codebooks": 2}, "has 2 codebooks, but the model 3"),
    "frame rate": ({"frame_rate": 25.0}, "frame_rate=25.0.*frame_rate=50.0"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_tokens_of_another_tokenizer_are_refused_naming_both(name):
    changes, message = REFUSED[name]
    with pytest.raises(ManifestError, match=message):
        check_tokenizer("folder", header(**changes), FACTS)
