import json
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader

from audiocraft.data.music_dataset import MusicDataset
from audiocraft.errors import AudioError, ConfigError, ManifestError

from .conftest import RATE, write_track


def make(metas, **kwargs) -> MusicDataset:
    defaults = {"segment_duration": 1.0, "num_samples": 12, "sample_rate": RATE, "channels": 1}
    return MusicDataset(metas, **(defaults | kwargs))


def test_a_sample_is_a_waveform_with_its_metadata(tracks):
    wav, info = make(tracks)[0]
    assert info.description == Path(info.meta.path).stem
    assert info.genre == "rock"
    clip = info.self_wav
    assert torch.equal(clip.wav[0], wav)
    assert clip.length.tolist() == [info.n_frames]
    assert (clip.sample_rate, clip.path) == ([RATE], [info.meta.path])
    assert clip.seek_time == [info.seek_time]


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.filterwarnings("ignore:This DataLoader will create")
def test_style_clips_share_the_memory_of_the_waveforms(tracks, num_workers):
    dataset = make(tracks)
    loader = DataLoader(dataset, 4, collate_fn=dataset.collater, num_workers=num_workers)
    for batch in loader:
        assert torch.equal(batch.style_clips.wav, batch.wavs)
        assert batch.style_clips.wav.data_ptr() == batch.wavs.data_ptr()


def test_descriptions_depend_only_on_the_epoch(tracks):
    kwargs = {"merge_text_p": 1.0, "drop_desc_p": 0.5, "drop_other_p": 0.5}

    def descriptions(epoch, **more):
        dataset = make(tracks, **kwargs, **more)
        dataset.set_epoch(epoch)
        return [dataset[i][1].description for i in range(12)]

    assert len(set(descriptions(1))) > 4
    assert descriptions(1) == descriptions(1)
    assert descriptions(1) != descriptions(2)
    assert descriptions(1, shuffle=False) == descriptions(2, shuffle=False)


@pytest.mark.parametrize("key", [lambda meta: meta.path, lambda meta: Path(meta.path).stem])
def test_paraphrases_are_found_by_path_or_name(tracks, tmp_path, key):
    (tmp_path / "p.json").write_text(json.dumps({key(meta): ["other"] for meta in tracks}))
    dataset = make(tracks, paraphrase_source=str(tmp_path / "p.json"), paraphrase_p=1.0)
    assert {dataset[i][1].description for i in range(12)} == {"other"}


def test_a_track_without_usable_metadata_is_skipped_and_reported(tracks, tmp_path, caplog):
    (tmp_path / "0.json").write_text("{}")
    dataset = make(tracks, info_fields_required=["description"])
    paths = {dataset[i][1].meta.path for i in range(12)}
    assert paths == {meta.path for meta in tracks[1:]}
    assert "0.json has no field 'description'" in caplog.text


@pytest.mark.parametrize("content", ["[]", "{", "null", '{"description": {}}', "\x00"])
def test_the_check_warns_of_damaged_metadata_and_fails_if_all_is(tracks, tmp_path, caplog, content):
    dataset = make(tracks, info_fields_required=["description"])
    (tmp_path / "2.json").write_text(content)
    dataset.check()
    assert "2.json" in caplog.text
    for number in range(4):
        (tmp_path / f"{number}.json").write_text(content)
    with pytest.raises(ManifestError, match=r"None of 4 JSON files can be read.*0\.json"):
        dataset.check()


@pytest.mark.parametrize("content", ["{}", None])
def test_the_check_fails_on_missing_metadata(tracks, tmp_path, content):
    dataset = make(tracks, info_fields_required=["description"])
    dataset.check()
    (tmp_path / "2.json").unlink()
    if content is not None:
        (tmp_path / "2.json").write_text(content)
    with pytest.raises(ManifestError, match=r"2\.json"):
        dataset.check()


def test_the_check_warns_of_a_damaged_file_and_fails_if_all_are(tmp_path, caplog):
    metas = [write_track(tmp_path / f"{i}.wav") for i in range(3)]
    (tmp_path / "1.wav").write_bytes(b"")
    make(metas).check()
    assert "1.wav" in caplog.text
    for meta in metas:
        Path(meta.path).write_bytes(b"")
    with pytest.raises(AudioError, match="None of 3 files"):
        make(metas).check()


def test_a_music_dataset_needs_return_info(tracks):
    with pytest.raises(ConfigError, match="return_info"):
        make(tracks, return_info=False)
