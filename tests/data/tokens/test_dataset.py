import math
from dataclasses import replace
from pathlib import Path

import pytest
import soundfile
import torch
from omegaconf import OmegaConf
from torch.utils.data import DataLoader

from audiocraft.data import loaders
from audiocraft.data.loaders import get_audio_datasets
from audiocraft.data.manifest import AudioMeta, save_manifest
from audiocraft.data.music_dataset import MusicDataset
from audiocraft.data.tokens.dataset import TokenAudioDataset, TokenDataset
from audiocraft.errors import AudioError, ConfigError, ManifestError

from ..conftest import RATE, write_track
from ..token_folders import FACTS, HOP, SILENCE, write_tokens

SEGMENT = 1.0
FRAMES = math.ceil(SEGMENT * RATE / HOP)


@pytest.fixture
def music(tmp_path) -> list[AudioMeta]:
    """Files whose length is not a multiple of a frame; the manifest has exact durations."""
    metas = []
    for i, seconds in enumerate((1.013, 2.5, 0.707, 4.0)):
        meta = write_track(tmp_path / f"{i}.wav", seconds, genre="rock", bpm="90")
        meta.duration = soundfile.info(meta.path).duration
        metas.append(meta)
    return metas


@pytest.fixture
def folder(tmp_path, music):
    write_tokens(tmp_path / "tokens", music)
    return tmp_path / "tokens"


OPTIONS = {
    "segment_duration": SEGMENT,
    "num_samples": 40,
    "sample_rate": RATE,
    "channels": 1,
    "merge_text_p": 0.5,
    "drop_other_p": 0.5,
}


def tokens_of(folder, **changes) -> TokenDataset:
    return TokenDataset(folder, **(OPTIONS | changes))


SEMANTICS = {
    "by duration": {},
    "uniformly": {"sample_on_duration": False, "sample_on_weight": False},
    "permuted": {
        "sample_on_duration": False,
        "sample_on_weight": False,
        "permutation_on_files": True,
    },
    "another seed": {"shuffle_seed": 5},
    "not shuffled": {"shuffle": False},
    "little inside": {"min_segment_ratio": 0.1},
    "all inside": {"min_segment_ratio": 1.0},
    "without padding": {"pad": False},
    "long files only": {"min_audio_duration": 1.0},
    "whole files": {"segment_duration": None},
}


@pytest.mark.parametrize("damaged", [False, True])
@pytest.mark.parametrize("name", SEMANTICS)
def test_segments_match_those_of_the_audio_within_a_frame(tmp_path, music, name, damaged):
    if damaged:
        Path(music[1].path).write_bytes(b"")
    folder = tmp_path / "tokens"
    write_tokens(folder, music)
    audio = MusicDataset(music, **(OPTIONS | SEMANTICS[name]))
    tokens = tokens_of(folder, **SEMANTICS[name])
    assert len(tokens) == len(audio)
    for epoch in (1, 2):
        audio.set_epoch(epoch)
        tokens.set_epoch(epoch)
        for index in range(len(audio)):
            (wav, audio_info), (codes, info) = audio[index], tokens[index]
            assert info.meta == audio_info.meta
            assert info.description == audio_info.description  # drawn with the same generator
            assert info.seek_time == math.floor(audio_info.seek_time * FACTS.frame_rate) / 50
            later = audio_info.seek_time - info.seek_time
            assert 0 <= later < 1 / FACTS.frame_rate
            assert 0 <= info.n_frames - audio_info.n_frames <= math.ceil(later * RATE)
            assert codes.shape[-1] == math.ceil(info.total_frames / HOP)
            if tokens.pad and tokens.segment_duration:
                assert codes.shape[-1] == math.ceil(wav.shape[-1] / HOP) == FRAMES


def test_tokens_and_waveform_are_aligned(folder, music):
    dataset = tokens_of(folder)
    for codes, info in (dataset[i] for i in range(len(dataset))):
        start = round(info.seek_time * FACTS.frame_rate)
        real = math.ceil(info.n_frames / HOP)
        file = music.index(info.meta)
        assert codes[:, :real].T.tolist() == [[f, file, 2 * f] for f in range(start, start + real)]
        assert codes[:, real:].T.tolist() == [SILENCE] * (FRAMES - real)

        clip = info.self_wav
        whole, _ = soundfile.read(info.meta.path, dtype="float32")
        expected = torch.from_numpy(whole[start * HOP : start * HOP + RATE])
        assert torch.equal(clip.wav[0, 0, : int(clip.length)], expected)
        assert clip.wav.shape == (1, 1, RATE)
        assert not clip.wav[..., int(clip.length) :].any()
        assert int(clip.length) == info.n_frames == len(expected)
        assert (clip.sample_rate, clip.seek_time) == ([RATE], [info.seek_time])


def test_waveforms_may_have_the_feature_extractor_sample_rate(tmp_path, music):
    write_tokens(tmp_path / "tokens", music, wave_rate=RATE // 2)
    dataset = tokens_of(tmp_path / "tokens")
    _, info = dataset[0]
    assert info.self_wav.sample_rate == [RATE // 2]
    assert info.self_wav.wav.shape == (1, 1, RATE // 2)
    assert int(info.self_wav.length) == info.n_frames // 2
    whole, _ = soundfile.read(info.meta.path, dtype="float32")
    start = round(info.seek_time * RATE)
    expected = whole[start : start + info.n_frames][::2][: info.n_frames // 2]
    assert info.self_wav.wav[0, 0, : len(expected)].tolist() == expected.tolist()


def test_fewer_codebooks_can_be_loaded(folder):
    all_of_them, some = tokens_of(folder), tokens_of(folder, num_codebooks=2)
    assert torch.equal(some[3][0], all_of_them[3][0][:2])


def test_segments_start_at_multiples_of_frames_per_cut(tmp_path, music):
    facts = replace(FACTS, frame_rate=100.0, frames_per_cut=2)
    write_tokens(tmp_path / "tokens", music, tokenizer=facts)
    dataset = tokens_of(tmp_path / "tokens")
    for index in range(len(dataset)):
        codes, info = dataset[index]
        assert round(info.seek_time * 100, 6) % 2 == 0
        assert codes.shape[-1] == 2 * FRAMES


@pytest.mark.parametrize("num_workers", [0, 1, 2])
@pytest.mark.filterwarnings("ignore:This DataLoader will create")
def test_batches_do_not_depend_on_workers(folder, num_workers):
    dataset = tokens_of(folder)
    loader = DataLoader(dataset, 8, num_workers=num_workers, collate_fn=dataset.collater)
    expected = [dataset[i] for i in range(len(dataset))]
    found = [item for b in loader for item in zip(b.codes, b.style_clips.wav, b.infos)]
    for (codes, wav, info), (own_codes, own_info) in zip(found, expected, strict=True):
        assert torch.equal(codes, own_codes)
        assert torch.equal(wav, own_info.self_wav.wav[0])
        assert info.seek_time == own_info.seek_time


def test_batches_are_padded_to_the_longest_segment(folder, music):
    dataset = tokens_of(folder, segment_duration=None)
    batch = dataset.collater([dataset[0], dataset[3]])
    assert batch.codes.shape == (2, 3, 200)
    assert batch.codes[0, :, 51:].T.tolist() == [SILENCE] * (200 - 51)
    assert batch.style_clips.wav.shape == (2, 1, 4 * RATE)
    assert int(batch.style_clips.length[0]) == round(1.013 * RATE)


def test_waveforms_are_optional(tmp_path, music):
    write_tokens(tmp_path / "mute", music, wave_rate=None)
    dataset = tokens_of(tmp_path / "mute", load_wav=False)
    batch = dataset.collater([dataset[0], dataset[1]])
    assert batch.codes.shape == (2, 3, FRAMES)
    assert batch.style_clips is None
    with pytest.raises(ManifestError, match="encoded without waveforms"):
        tokens_of(tmp_path / "mute")


def test_segments_for_generation_are_read_from_audio(folder):
    audio, tokens = TokenAudioDataset(folder, **OPTIONS), tokens_of(folder)
    for index in range(10):
        (wav, info), (_, expected) = audio[index], tokens[index]
        assert torch.equal(wav, expected.self_wav.wav[0])
        assert info.n_frames == expected.n_frames
    batch = audio.collater([audio[i] for i in range(3)])
    assert batch.wavs.shape == (3, 1, RATE)
    assert torch.equal(batch.style_clips.wav, batch.wavs)


def test_damaged_files_are_reported_and_only_damaged_files_raise(tmp_path, music, caplog):
    for meta in music[:2]:
        Path(meta.path).write_bytes(b"")
    write_tokens(tmp_path / "some", music)
    tokens_of(tmp_path / "some").check()
    assert "2 of 4 files could not be encoded" in caplog.text
    for meta in music:
        Path(meta.path).write_bytes(b"")
    write_tokens(tmp_path / "none", music)
    with pytest.raises(AudioError, match=r"4 of 4 files could not.*0\.wav is damaged"):
        tokens_of(tmp_path / "none").check()


def test_files_without_metadata_are_reported_and_all_missing_raises(tmp_path, music, caplog):
    Path(music[0].path).with_suffix(".json").unlink()
    write_tokens(tmp_path / "some", music)
    dataset = tokens_of(tmp_path / "some")
    dataset.check()
    assert "0.wav had no readable metadata" in caplog.text
    assert {dataset[i][1].meta.path for i in range(40)} == {meta.path for meta in music[1:]}
    for meta in music[1:]:
        Path(meta.path).with_suffix(".json").unlink()
    write_tokens(tmp_path / "none", music)
    with pytest.raises(ManifestError, match=r"None of 4 .*0\.wav had no readable metadata"):
        tokens_of(tmp_path / "none").check()


# From a configuration.


@pytest.fixture
def config(tmp_path, music, folder):
    save_manifest(tmp_path / "egs/data.jsonl", music)
    return OmegaConf.create(
        {
            "solver": "musicgen",
            "seed": 1,
            "sample_rate": RATE,
            "channels": 1,
            "conditioners": {"description": {"model": "lut"}, "self_wav": {"model": "style"}},
            "datasource": {
                "train": str(folder),
                "valid": str(tmp_path / "egs"),
                "evaluate": None,
                "generate": str(folder),
            },
            "cache": {"path": None, "write": False},
            "dataset": {
                "batch_size": 2,
                "num_workers": 0,
                "segment_duration": SEGMENT,
                "num_samples": 8,
                "train": {"shuffle": True},
            },
            "optim": {"updates_per_epoch": None},
        }
    )


def built(config, tokenizer=FACTS):
    return get_audio_datasets(config, tokenizer=tokenizer)


def test_tokens_and_audio_can_be_mixed(config):
    batches = {split: next(iter(loader)) for split, loader in built(config).items()}
    assert batches["train"].codes.shape == (2, 3, FRAMES)
    assert batches["train"].codes.dtype == torch.int64
    assert batches["valid"].wavs.shape == batches["generate"].wavs.shape == (2, 1, RATE)
    assert batches["train"].style_clips is not None


@pytest.mark.parametrize("rank", [0, 1])
def test_an_epoch_of_tokens_resumes_at_any_batch(config, rank):
    loader = get_audio_datasets(config, rank=rank, world_size=2, tokenizer=FACTS)["train"]
    loader.dataset.set_epoch(2)
    whole = [batch.codes for batch in loader]
    loader.sampler.start_at(3)
    rest = [batch.codes for batch in loader]
    assert len(rest) == 1
    assert torch.equal(rest[0], whole[3])


def test_a_text_only_model_gets_no_waveforms(config):
    del config.conditioners.self_wav
    assert next(iter(built(config)["train"])).style_clips is None


def test_only_the_codebooks_of_the_model_are_loaded(config):
    codes = next(iter(built(config, replace(FACTS, num_codebooks=2))["train"])).codes
    assert codes.shape == (2, 2, FRAMES)


def test_cached_tokens_replace_the_audio(config, tmp_path, folder):
    config.cache.path = str(tmp_path)
    config.datasource.train = config.datasource.generate = config.datasource.valid
    with pytest.raises(ManifestError, match=r"train: cache\.path=.*cache\.write=true"):
        built(config)
    for split in ("train", "valid"):
        (tmp_path / split).symlink_to(folder)
    batches = {split: next(iter(loader)) for split, loader in built(config).items()}
    assert batches["train"].codes.shape == batches["valid"].codes.shape == (2, 3, FRAMES)
    assert batches["generate"].wavs.shape == (2, 1, RATE)
    config.cache.write = True  # encoding reads the audio
    assert next(iter(built(config)["train"])).wavs.shape == (2, 1, RATE)


def test_tokens_of_another_tokenizer_are_refused(config):
    with pytest.raises(ManifestError, match=r"datasource\.train: .* aaaa .* bbbb "):
        built(config, replace(FACTS, hash="bbbb"))


def test_a_tokenizer_cannot_be_trained_on_tokens(config):
    config.solver = "compression"
    with pytest.raises(ConfigError, match="solver=compression trains on audio"):
        built(config)


def test_a_condition_field_missing_from_tokens_is_refused(config):
    config.conditioners = {"moods": {"model": "lut"}}
    with pytest.raises(ManifestError, match=r"train: .*0\.wav has no field 'moods'"):
        built(config)


def test_an_unknown_key_is_named_for_tokens(config):
    config.dataset.train.speed = 2
    with pytest.raises(ConfigError, match=r"dataset\.train has 'speed'"):
        built(config)


@pytest.mark.integration
@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_spawned_workers_map_the_same_tokens(config, method, monkeypatch):
    monkeypatch.setattr(loaders, "num_cpus", lambda: 1)
    expected = [batch.codes for batch in built(config)["train"]]
    config.dataset.num_workers = 1
    loader = built(config)["train"]
    loader.multiprocessing_context = method
    assert all(torch.equal(b.codes, own) for b, own in zip(loader, expected, strict=True))
