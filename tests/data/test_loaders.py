from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from audiocraft.data import loaders
from audiocraft.data.loaders import get_audio_datasets
from audiocraft.data.manifest import save_manifest
from audiocraft.data.music_dataset import MusicDataset
from audiocraft.errors import AudioError, ConfigError, ManifestError

from .conftest import RATE, write_track


@pytest.fixture
def config(tracks, tmp_path):
    """A small configuration with four tracks."""
    save_manifest(tmp_path / "egs/data.jsonl", tracks)
    source = str(tmp_path / "egs")
    return OmegaConf.create(
        {
            "solver": "musicgen",
            "seed": 1,
            "sample_rate": RATE,
            "channels": 1,
            "conditioners": {"description": {"model": "lut"}, "self_wav": {"model": "style"}},
            "datasource": {
                "max_sample_rate": 44100,
                "max_channels": 2,
                "train": source,
                "valid": source,
                "evaluate": source,
                "generate": None,
            },
            "dataset": {
                "batch_size": 4,
                "num_workers": 0,
                "segment_duration": 1.0,
                "num_samples": None,
                "shuffle": False,
                "train": {"num_samples": 14, "shuffle": True, "merge_text_p": 0.5},
                "valid": {"num_samples": 6},
                "evaluate": {"num_samples": 3, "batch_size": 2},
            },
            "optim": {"updates_per_epoch": None},
            "evaluate": {"num_workers": 5},
        }
    )


def change(config, **changes):
    for key, value in changes.items():
        OmegaConf.update(config, key.replace("__", "."), value)
    return config


def test_there_is_a_loader_per_split_that_has_a_source(config):
    built = get_audio_datasets(config)
    assert list(built) == ["train", "valid", "evaluate"]
    batch = next(iter(built["train"]))
    assert batch.wavs.shape == (4, 1, RATE)
    assert batch.condition_attributes()[0].wav["self_wav"].length.tolist() == [RATE]


def test_settings_of_a_split_take_precedence(config):
    built = get_audio_datasets(config)
    assert {split: len(loader) for split, loader in built.items()} == {
        "train": 3,  # the incomplete batch is dropped
        "valid": 2,
        "evaluate": 2,
    }
    assert [len(batch) for batch in built["valid"]] == [4, 2]
    assert built["train"].dataset.sampler.shuffle
    assert not built["valid"].dataset.sampler.shuffle
    assert [len(batch) for batch in built["evaluate"]] == [2, 1]


def test_an_epoch_has_as_many_batches_as_updates(config):
    built = get_audio_datasets(change(config, optim__updates_per_epoch=2))
    assert len(list(built["train"])) == len(built["train"]) == 2
    assert len(built["valid"]) == 2


def test_too_few_samples_for_an_epoch_are_reported(config, caplog):
    get_audio_datasets(change(config, optim__updates_per_epoch=3))
    assert not caplog.text
    get_audio_datasets(change(config, optim__updates_per_epoch=50))
    assert "3 updates instead of optim.updates_per_epoch=50" in caplog.text


def test_tokenizers_are_trained_on_waveforms_only(config):
    del config.dataset.train.merge_text_p
    built = get_audio_datasets(change(config, solver="compression"))
    assert not isinstance(built["train"].dataset, MusicDataset)
    assert next(iter(built["train"])).wavs.shape == (4, 1, RATE)


def batches_of(config, rank, world_size, split="train"):
    loader = get_audio_datasets(config, rank=rank, world_size=world_size)[split]
    loader.dataset.set_epoch(1)
    return [batch.wavs for batch in loader]


@pytest.mark.parametrize("split", ["train", "valid"])
@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.filterwarnings("ignore:This DataLoader will create")
def test_several_processes_share_the_batches_of_one(config, split, num_workers, monkeypatch):
    monkeypatch.setattr(loaders, "num_cpus", lambda: 2)
    change(config, dataset__num_workers=num_workers)
    alone = batches_of(config, 0, 1, split)
    shared = [batches_of(config, rank, 2, split) for rank in range(2)]
    for batch, *parts in zip(alone, *shared, strict=True):
        assert torch.equal(batch, torch.cat(parts))


def test_loading_does_not_change_the_global_generators(config):
    torch.manual_seed(0)
    before = torch.get_rng_state()
    for loader in get_audio_datasets(config).values():
        list(loader)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("num_workers", [0, 1, 2])
@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.filterwarnings("ignore:This DataLoader will create")
def test_an_epoch_resumes_at_any_batch(config, num_workers, rank, monkeypatch):
    monkeypatch.setattr(loaders, "num_cpus", lambda: 2)
    change(config, dataset__num_workers=num_workers, dataset__batch_size=2)
    loader = get_audio_datasets(config, rank=rank, world_size=2, splits=["train"])["train"]

    def epoch(number):
        loader.dataset.set_epoch(number)
        return [(batch.wavs, [info.description for info in batch.infos]) for batch in loader]

    whole, following = epoch(3), epoch(4)
    loader.sampler.start_at(4)
    assert len(loader) == 3
    rest = epoch(3)
    assert len(rest) == 3
    assert len(loader) == len(whole) == 7
    for (wavs, texts), (expected, expected_texts) in zip(rest, whole[4:]):
        assert torch.equal(wavs, expected)
        assert texts == expected_texts
    again = epoch(4)  # only the next epoch is shortened
    assert all(torch.equal(a, b) for (a, _), (b, _) in zip(again, following, strict=True))


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
@pytest.mark.integration
def test_batches_do_not_depend_on_the_worker_start_method(config, method, monkeypatch):
    monkeypatch.setattr(loaders, "num_cpus", lambda: 1)
    expected = batches_of(config, 0, 1)
    loader = get_audio_datasets(change(config, dataset__num_workers=1))["train"]
    loader.multiprocessing_context = method
    loader.dataset.set_epoch(1)
    assert all(torch.equal(b.wavs, own) for b, own in zip(loader, expected, strict=True))


def test_the_style_clips_of_an_audio_batch_are_its_waveforms(config):
    change(config, dataset__num_workers=1)
    batch = next(iter(get_audio_datasets(change(config, dataset__batch_size=6))["train"]))
    assert batch.style_clips.wav.data_ptr() == batch.wavs.data_ptr()
    assert batch.style_clips.length.tolist() == batch.num_samples
    assert [info.self_wav for info in batch.infos] == [None] * 6


def test_the_number_of_workers_is_limited_by_the_cpus(config, monkeypatch):
    monkeypatch.setattr(loaders, "num_cpus", lambda: 1)
    built = get_audio_datasets(change(config, dataset__num_workers=10, evaluate__num_workers=0))
    assert built["train"].num_workers == 1
    assert built["evaluate"].num_workers == 0


MISTAKES = {
    "no source": ({"datasource__train": None}, ConfigError, r"datasource\.train is not set"),
    "a missing manifest": ({"datasource__valid": "egs/no"}, ManifestError, r"valid: .*egs/no"),
    "a batch of nothing": ({"dataset__batch_size": 0}, ConfigError, "at least 1 but is 0"),
    "no batch size": ({"dataset__batch_size": None}, ConfigError, "batch_size.*None"),
    "fewer samples than a batch": ({"dataset__batch_size": 40}, ConfigError, "num_samples is 14"),
    "an epoch of no updates": ({"optim__updates_per_epoch": 0}, ConfigError, "updates_per_epoch=0"),
    "a rate too high": ({"sample_rate": 48000}, ConfigError, "48000.*max_sample_rate=44100"),
    "too many channels": ({"channels": 4}, ConfigError, "max_channels=2"),
    "an unknown key": ({"dataset__valid__speed": 2}, ConfigError, r"dataset\.valid has 'speed'"),
    "a ratio above one": ({"dataset__min_segment_ratio": 2}, ConfigError, "min_segment_ratio"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_wrong_setting_is_refused_before_files_are_read(config, mistake):
    changes, kind, message = MISTAKES[mistake]
    with pytest.raises(kind, match=message):
        get_audio_datasets(change(config, **changes))


def test_an_indivisible_batch_size_suggests_a_divisible_one(config):
    change(config, dataset__batch_size=6)
    with pytest.raises(ConfigError, match=r"is 6, .* by 4 processes.*such as 8"):
        get_audio_datasets(config, world_size=4)


def test_evaluation_needs_no_training_data(config):
    change(config, datasource__train=None)
    config.execute_only = "evaluate"
    assert list(get_audio_datasets(config)) == ["valid", "evaluate"]


def test_a_missing_field_of_a_condition_is_refused(config, tmp_path):
    (tmp_path / "1.json").write_text('{"genre": "rock"}')
    with pytest.raises(ManifestError, match=r"train: .*1\.json has no field 'description'"):
        get_audio_datasets(config)
    config.conditioners = {"genre": {"model": "lut"}}
    get_audio_datasets(config)


def test_a_split_of_unreadable_files_stops_the_run(config, tracks):
    for meta in tracks:
        Path(meta.path).write_bytes(b"")
    with pytest.raises(AudioError, match=r"datasource\.train: None of 4 files"):
        get_audio_datasets(config)


def test_one_damaged_file_does_not_stop_the_run(config, tmp_path):
    write_track(tmp_path / "extra.wav")
    (tmp_path / "2.wav").write_bytes(b"")
    for loader in get_audio_datasets(config).values():
        assert all("2.wav" not in info.meta.path for batch in loader for info in batch.infos)
