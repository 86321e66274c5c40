import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from torch.utils.data import DataLoader

from audiocraft.data.audio_dataset import AudioDataset, main
from audiocraft.data.manifest import AudioMeta, load_manifest
from audiocraft.errors import AudioError, ManifestError

from .conftest import RATE, write_tone


def make(metas, **kwargs) -> AudioDataset:
    defaults = {
        "segment_duration": 2.0,
        "num_samples": 12,
        "sample_rate": RATE,
        "channels": 1,
        "return_info": True,
    }
    return AudioDataset(metas, **(defaults | kwargs))


def test_a_segment_equals_its_part_of_the_file(tones):
    for wav, info in (make(tones)[i] for i in range(12)):
        whole, _ = soundfile.read(info.meta.path, dtype="float32")
        start = int(info.seek_time * RATE + 1e-6)
        expected = whole[start : start + 2 * RATE]
        np.testing.assert_array_equal(wav[0, : info.n_frames], expected)
        assert info.n_frames == len(expected)
        assert not wav[0, info.n_frames :].any()
        assert wav.shape == (1, info.total_frames) == (1, 2 * RATE)
        assert (info.sample_rate, info.channels) == (RATE, 1)


def test_sample_rate_and_channels_are_converted(tmp_path):
    metas = [
        write_tone(tmp_path / "a.wav", rate=44100, channels=2),
        write_tone(tmp_path / "b.flac", rate=16000),
        write_tone(tmp_path / "c.ogg", rate=22050, channels=2),
    ]
    dataset = make(metas, sample_rate=16000, channels=2, segment_duration=1.0)
    batch = dataset.collater([dataset[i] for i in range(12)])
    assert batch.wavs.shape == (12, 2, 16000)
    assert {info.meta.path for info in batch.infos} == {meta.path for meta in metas}


@pytest.mark.parametrize("num_workers", [0, 1, 2])
@pytest.mark.filterwarnings("ignore:This DataLoader will create")
def test_segments_do_not_depend_on_workers_and_follow_the_epoch(tones, num_workers):
    dataset = make(tones)
    loader = DataLoader(
        dataset,
        4,
        num_workers=num_workers,
        collate_fn=dataset.collater,
        persistent_workers=num_workers > 0,
    )
    for epoch in (1, 2, 1):
        dataset.set_epoch(epoch)
        wavs = torch.cat([batch.wavs for batch in loader])
        expected = make(tones)
        expected.set_epoch(epoch)
        assert torch.equal(wavs, torch.stack([expected[i][0] for i in range(12)]))


def test_whole_files_are_padded_to_the_longest(tones):
    dataset = make(tones, segment_duration=None)
    assert len(dataset) == 4
    batch = dataset.collater([dataset[0], dataset[3]])
    assert batch.wavs.shape == (2, 1, 8 * RATE)
    assert batch.num_samples == [RATE, 8 * RATE]


def test_segments_need_not_be_padded(tones):
    dataset = make(tones[:1], pad=False)
    wav, info = dataset[0]
    assert wav.shape[-1] == info.n_frames == info.total_frames < 2 * RATE


def test_without_info_there_are_only_waveforms(tones):
    dataset = make(tones, return_info=False)
    assert dataset[0].shape == (1, 2 * RATE)
    assert dataset.collater([dataset[0], dataset[1]]).wavs.shape == (2, 1, 2 * RATE)


def test_without_audio_nothing_is_read(tones):
    loud, silent = make(tones), make(tones, load_wav=False)
    metas = [AudioMeta("/gone.wav", meta.duration, RATE) for meta in tones]
    gone = make(metas, load_wav=False)
    for i in range(12):
        wav, info = silent[i]
        assert not wav.any()
        assert wav.shape == loud[i][0].shape
        assert (info.seek_time, info.meta) == (loud[i][1].seek_time, loud[i][1].meta)
        assert abs(info.n_frames - loud[i][1].n_frames) <= 1
        assert gone[i][1].seek_time == info.seek_time


def test_files_outside_the_duration_limits_are_skipped(tones):
    dataset = make(tones, min_audio_duration=2.0, max_audio_duration=4.0)
    assert [meta.duration for meta in dataset.meta] == [2.0, 4.0]
    with pytest.raises(ManifestError, match=r"min_audio_duration"):
        make(tones, min_audio_duration=9.0)


@pytest.mark.parametrize("duration", [0.0, -1.0, float("nan"), float("inf")])
def test_files_of_invalid_duration_are_skipped_with_a_warning(tones, duration, caplog):
    dataset = make([*tones, AudioMeta("/odd.wav", duration, RATE)])
    assert len(dataset.meta) == 4
    assert "/odd.wav" in caplog.text


def damage(meta: AudioMeta, how: str) -> None:
    if how == "empty":
        Path(meta.path).write_bytes(b"")
    elif how == "not finite":
        soundfile.write(meta.path, np.full(RATE, np.nan), RATE, subtype="FLOAT")
    else:
        meta.path = "/missing.wav"


@pytest.mark.parametrize("how", ["empty", "not finite", "missing"])
def test_a_damaged_file_is_reported_once_and_replaced(tones, how, caplog):
    damage(tones[3], how)
    for dataset in (make(tones), make(tones, segment_duration=None)):
        caplog.clear()
        for epoch in (1, 2):
            dataset.set_epoch(epoch)
            paths = [dataset[i][1].meta.path for i in range(len(dataset))]
            assert len(paths) == len(dataset)
            assert tones[3].path not in paths
        assert caplog.text.count(f"Skipping {tones[3].path}") == 1


def test_draws_from_a_truncated_file_do_not_depend_on_earlier_draws(tones):
    """Reading fails only near the end; a draw must not depend on earlier draws."""
    path = Path(tones[3].path)
    path.write_bytes(path.read_bytes()[:64_000])  # of 128 kB
    forwards, backwards = make(tones), make(tones)
    there = [forwards[i][1] for i in range(12)]
    back = [backwards[i][1] for i in reversed(range(12))]
    assert there == back[::-1]
    assert tones[3].path in {info.meta.path for info in there}


def test_too_many_damaged_files_in_a_row_raise_an_error(tones):
    for meta in tones:
        damage(meta, "empty")
    with pytest.raises(AudioError, match=r"10 files in a row.*\.wav"):
        make(tones)[0]


def test_the_check_warns_of_damaged_files_and_fails_if_all_are(tones, caplog):
    dataset = make(tones)
    dataset.check()
    assert not caplog.text
    damage(tones[0], "empty")
    dataset.check()
    assert tones[0].path in caplog.text
    for meta in tones:
        damage(meta, "missing")
    with pytest.raises(AudioError, match=r"None of 4 files.*missing\.wav"):
        make(tones).check()


def test_an_index_out_of_range_ends_the_iteration(tones):
    assert len(list(make(tones))) == 12
    with pytest.raises(IndexError):
        make(tones)[12]


# The command.


def test_the_command_writes_a_manifest(tones, tmp_path, capsys):
    main([str(tmp_path), str(tmp_path / "egs/x/data.jsonl.gz"), "--workers", "2"])
    assert "4 files" in capsys.readouterr().out
    assert load_manifest(tmp_path / "egs/x") == tones


def test_the_command_measures_amplitudes_on_request(tones, tmp_path):
    main([str(tmp_path), str(tmp_path / "all.jsonl"), "--complete", "--resolve"])
    for line in (tmp_path / "all.jsonl").read_text().splitlines():
        assert json.loads(line)["amplitude"] > 0.3


def test_errors_of_the_command_are_one_sentence(tmp_path):
    with pytest.raises(SystemExit, match="readable"):
        main([str(tmp_path), str(tmp_path / "data.jsonl")])
    assert not (tmp_path / "data.jsonl").exists()
