"""Encoding of a dataset: tokens, resuming, verification."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from audiocraft.cli import encode_dataset as encode_command
from audiocraft.data.audio import audio_read
from audiocraft.data.audio_utils import resample
from audiocraft.data.manifest import find_audio_files, save_manifest
from audiocraft.data.tokens.format import TokenFolder, read_header
from audiocraft.errors import AudiocraftError, ConfigError, ManifestError
from audiocraft.inference import encode_dataset as encoding_of_files
from audiocraft.inference.encode_dataset import EncodingParams, encode_dataset
from audiocraft.models.codecs.spectral import SpectralTokenizer
from audiocraft.models.loaders import load_compression_model
from audiocraft.solvers.fit_spectral import fit_tokenizer, save_tokenizer

from ..models.codecs.test_spectral import QUICK, RATE, TINY, notes

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def data_folder(tmp_path_factory):
    """Six stereo files with metadata, their manifest, and two tokenizers."""
    data_folder = tmp_path_factory.mktemp("music")
    for i in range(6):
        wav = notes(3 + i, 0.5, 16_000, seed=i).flatten()[: 8_000 * (i + 1) + 77 * i]
        stereo = np.stack([wav.numpy(), -0.4 * wav.numpy()], axis=1)
        soundfile.write(data_folder / f"{i}.wav", stereo, 16_000)
        (data_folder / f"{i}.json").write_text(json.dumps({"description": f"piece {i}"}))
    save_manifest(data_folder / "data.jsonl", find_audio_files(data_folder))
    for seed, name in enumerate(("tokenizer", "other")):
        tokenizer = SpectralTokenizer(**TINY)
        fit_tokenizer(tokenizer, [notes(64, seed=seed)], QUICK)
        save_tokenizer(tokenizer, data_folder / name)
    return data_folder


def metas_of(data_folder):
    return find_audio_files(data_folder)


def encoding(data_folder, **changes) -> EncodingParams:
    defaults = {"tokenizer": str(data_folder / "tokenizer"), "shard_minutes": 0.01, "workers": 1}
    return EncodingParams(**(defaults | changes))


def contents(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.fixture(scope="module")
def finished(data_folder):
    folder = data_folder / "finished"
    assert encode_dataset(metas_of(data_folder), folder, encoding(data_folder))
    return folder


def test_tokens_and_waveforms_match_the_files(data_folder, finished):
    tokenizer = load_compression_model(str(data_folder / "tokenizer"))
    tokens = TokenFolder(finished)
    assert tokens.header.num_shards > 2
    assert list(tokens.files) == metas_of(data_folder)
    for row, meta in enumerate(tokens.files):
        mono = resample(audio_read(meta.path)[0].mean(dim=0), 16_000, RATE)
        expected = tokenizer.encode(mono[None, None])[0][0].T
        np.testing.assert_array_equal(tokens.codes(row, 0, 10**6), expected)
        assert tokens.number("num_samples", row) == len(mono)
        np.testing.assert_allclose(tokens.wave(row, 0, 10**6), mono, atol=2**-16 + 1e-7)
        assert tokens.info(row) == {"description": f"piece {row}"}


def test_the_waveforms_can_be_lossless_or_absent(data_folder, tmp_path):
    exact = encoding(data_folder, wave_type="float32", wave_rate=5000)
    encode_dataset(metas_of(data_folder), tmp_path / "exact", exact)
    tokens = TokenFolder(tmp_path / "exact")
    mono = resample(audio_read(data_folder / "3.wav")[0].mean(dim=0), 16_000, RATE)
    assert torch.equal(torch.from_numpy(tokens.wave(3, 0, 10**6)), resample(mono, RATE, 5000))
    encode_dataset(metas_of(data_folder), tmp_path / "mute", encoding(data_folder, wave_rate=0))
    assert TokenFolder(tmp_path / "mute").header.wave_rate is None
    assert not list((tmp_path / "mute" / "shards").glob("*.wave"))


def test_several_machines_write_the_folder_of_one(data_folder, finished, tmp_path):
    folder = tmp_path / "parts"
    assert not encode_dataset(metas_of(data_folder), folder, encoding(data_folder), part=1, parts=2)
    with pytest.raises(ManifestError, match="is not complete"):
        TokenFolder(folder)
    assert encode_dataset(metas_of(data_folder), folder, encoding(data_folder), part=0, parts=2)
    assert contents(folder) == contents(finished)


@pytest.mark.integration
def test_several_processes_write_the_folder_of_one(data_folder, finished, tmp_path):
    assert encode_dataset(metas_of(data_folder), tmp_path / "out", encoding(data_folder, workers=2))
    assert contents(tmp_path / "out") == contents(finished)


def command(data_folder, folder, *more):
    argv = [
        str(data_folder / "data.jsonl"),
        str(folder),
        "--tokenizer",
        str(data_folder / "tokenizer"),
    ]
    return [*argv, "--shard_minutes", "0.01", "--workers", "2", *more]


@pytest.mark.parametrize(("gpus", "expected"), [(0, []), (1, [0] * 5), (2, [0, 1, 0, 1, 0])])
def test_processes_are_distributed_over_gpus(gpus, expected, monkeypatch):
    taken: list[int] = []
    monkeypatch.setattr(torch.cuda, "set_device", taken.append)
    monkeypatch.setattr(torch, "set_num_threads", lambda number: None)
    monkeypatch.setattr(signal, "signal", lambda number, handler: None)
    counter = multiprocessing.Value("i", 0)
    for _ in range(5):
        encoding_of_files._start_worker(counter, gpus)
    assert taken == expected


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT], ids=lambda s: s.name)
def test_a_killed_encoding_resumes_and_gives_the_same_folder(data_folder, tmp_path, how):
    """Killed after the first shard: finished shards are kept, all processes end."""
    metas = 20 * metas_of(data_folder)
    save_manifest(tmp_path / "many" / "data.jsonl", metas)
    folder = tmp_path / "out"
    argv = [str(tmp_path / "many"), *command(data_folder, folder)[1:]]
    run = subprocess.Popen(
        [sys.executable, "-m", "audiocraft", "encode-dataset", *argv],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    until = time.monotonic() + 300
    while not list(folder.glob("shards/*.jsonl")) and run.poll() is None:
        assert time.monotonic() < until
        time.sleep(0.002)
    children = [
        int(child)
        for task in Path(f"/proc/{run.pid}/task").glob("*/children")
        for child in task.read_text().split()
    ]
    run.send_signal(how)
    reported, _ = run.communicate()
    assert "Traceback" not in reported
    assert how is signal.SIGKILL or "resume" in reported
    kept = {p: p.stat().st_mtime_ns for p in folder.glob("shards/*.jsonl")}
    assert 0 < len(kept) < read_header(folder).num_shards
    while any(_is_running(child) for child in children):
        assert time.monotonic() < until, "a worker outlived its parent"
        time.sleep(0.05)

    encode_command.main([*argv, "--workers", "1"])
    assert {path: path.stat().st_mtime_ns for path in kept} == kept  # not rewritten
    assert encode_dataset(metas, tmp_path / "at_once", encoding(data_folder))
    assert contents(folder) == contents(tmp_path / "at_once")


def _is_running(pid):
    try:
        return (
            Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()[0]
            != "Z"
        )
    except FileNotFoundError:
        return False


def test_damaged_files_keep_their_row_without_tokens(data_folder, tmp_path):
    metas = metas_of(data_folder)
    metas[2].path = str(tmp_path / "gone.wav")
    (tmp_path / "4.wav").write_bytes(b"RIFF")
    metas[4].path = str(tmp_path / "4.wav")
    encode_dataset(metas, tmp_path / "out", encoding(data_folder))
    tokens = TokenFolder(tmp_path / "out")
    problems = [tokens.problem(row) for row in range(6)]
    assert [row for row in range(6) if problems[row]] == [2, 4]
    assert "gone.wav" in problems[2]
    assert "4.wav" in problems[4]
    assert tokens.info(2) is None
    assert [tokens.number("num_frames", row) > 0 for row in (2, 3, 4)] == [False, True, False]
    reported = encode_command.describe_folder(tmp_path / "out")
    assert f"Not encoded: {problems[2]}" in reported
    assert "2 files have no readable metadata" in reported


MISTAKES = {
    "an unknown type": ({"wave_type": "int8"}, "wave_type='int8'.*int16"),
    "an unknown kind of stereo": ({"stereo": "both"}, "stereo='both'.*codebooks"),
    "a shard of nothing": ({"shard_minutes": 0.0}, "shard_minutes must be positive"),
    "a negative rate": ({"wave_rate": -1}, "wave_rate must be at least 0"),
    "a tokenizer that is not there": ({"tokenizer": "/gone"}, "/gone"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_wrong_setting_is_refused_and_nothing_is_written(data_folder, tmp_path, mistake):
    changes, message = MISTAKES[mistake]
    with pytest.raises(AudiocraftError, match=message):
        encode_dataset(metas_of(data_folder), tmp_path / "out", encoding(data_folder, **changes))
    assert not (tmp_path / "out").exists()


def test_a_part_out_of_range_is_refused(data_folder, tmp_path):
    with pytest.raises(ConfigError, match=r"part=2 .*parts=2"):
        encode_dataset(metas_of(data_folder), tmp_path, encoding(data_folder), part=2, parts=2)


def test_a_folder_that_cannot_be_written_is_refused(data_folder, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ManifestError, match="cannot be written"):
        encode_dataset(metas_of(data_folder), tmp_path / "file" / "out", encoding(data_folder))


# The command.


def test_the_command_reports_results_and_next_steps(data_folder, tmp_path, capsys):
    encode_command.main(
        command(data_folder, tmp_path / "out", "--workers", "1", "--wave_rate", "4000")
    )
    reported = capsys.readouterr().out
    assert "6 files" in reported
    assert "3 x 32 tokens, 50 per second, waveforms at 4000 Hz" in reported
    assert f"datasource.train={tmp_path / 'out'}" in reported


def test_next_steps_name_the_split_of_the_manifest(finished):
    for manifest, split in (("egs/mine/valid", "valid"), ("egs/mine", "train")):
        advice = encode_command.describe_folder(finished, manifest)
        assert f"datasource.{split}={finished}" in advice


def test_a_folder_is_verified(data_folder, finished, capsys):
    encode_command.main([str(data_folder), str(finished), "--verify"])
    assert "2 files were encoded again and agree" in capsys.readouterr().out


def copied(finished, tmp_path) -> Path:
    for name, content in contents(finished).items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    return tmp_path


def test_only_the_damaged_shard_is_named_and_rewritten(data_folder, finished, tmp_path):
    folder = copied(finished, tmp_path)
    path = folder / "shards" / "00001.codes"
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    with pytest.raises(ManifestError, match=r"00001\.codes does not match"):
        encode_command.main([str(data_folder), str(folder), "--verify"])
    (folder / "shards" / "00001.jsonl").unlink()
    (folder / "SHA256SUMS").unlink()
    encode_command.main(command(data_folder, folder, "--workers", "1"))
    assert contents(folder) == contents(finished)


def test_verification_detects_changes_of_manifest_and_audio(data_folder, finished, tmp_path):
    metas = metas_of(data_folder)
    save_manifest(tmp_path / "data.jsonl", metas[1:])
    with pytest.raises(ManifestError, match="encoded from another manifest"):
        encode_command.main([str(tmp_path), str(finished), "--verify"])
    folder = copied(finished, tmp_path / "copy")
    silent = tmp_path / "0.wav"
    soundfile.write(silent, np.zeros((8_000, 2)), 16_000)
    original = Path(metas[0].path)
    kept = original.read_bytes()
    original.write_bytes(silent.read_bytes())
    try:
        with pytest.raises(ManifestError, match=r"% of the tokens of .*0\.wav agree"):
            encode_command.main([str(data_folder), str(folder), "--verify"])
    finally:
        original.write_bytes(kept)


def test_missing_audio_is_not_reported_as_damage(data_folder, finished, tmp_path, capsys):
    metas = metas_of(data_folder)
    for meta in metas:
        meta.path = f"/gone/{Path(meta.path).name}"
    save_manifest(tmp_path / "data.jsonl", metas)
    encode_command.main([str(tmp_path), str(finished), "--verify"])
    reported = capsys.readouterr().out
    assert "Not compared: There is no audio file /gone/0.wav" in reported
    assert "0 files were encoded again" in reported


def test_another_tokenizer_is_refused_with_both_hashes(data_folder, finished):
    other = ["--tokenizer", str(data_folder / "other")]
    with pytest.raises(ManifestError, match=r"by the tokenizer [0-9a-f]{16}, not [0-9a-f]{16}"):
        encode_command.main([str(data_folder), str(finished), *other])
    with pytest.raises(ManifestError, match=r"tokenizer [0-9a-f]{16} .* model's is [0-9a-f]{16}"):
        encode_command.main([str(data_folder), str(finished), "--verify", *other])


def test_a_tokenizer_is_required(data_folder, tmp_path, capsys):
    with pytest.raises(SystemExit):
        encode_command.main([str(data_folder), str(tmp_path / "out")])
    assert "--tokenizer" in capsys.readouterr().err
