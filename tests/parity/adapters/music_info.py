"""Replays music metadata and the augmentation of descriptions."""

import random
import tempfile
from pathlib import Path

import pytest
import torch

from audiocraft.data import music_info as ours
from audiocraft.data.conditions import wav_condition
from audiocraft.data.manifest import AudioMeta
from audiocraft.data.music_info import APPENDABLE, MusicInfo, TextAugmentation, augment_description
from audiocraft.errors import ManifestError

from ..harness import adapter

READERS = {
    "get_bpm": ours.read_bpm,
    "get_musical_key": ours.read_key,
    "get_string": ours.read_string,
    "get_keyword": ours.read_keyword,
    "get_keyword_list": ours.read_keywords,
    "get_keyword_or_keyword_list": ours.read_keyword_or_keywords,
}

# Fields of a sample in the order of the original, which draws once for each.
BEFORE = ("meta", "seek_time", "n_frames", "total_frames", "sample_rate", "channels")
FIELDS = (*BEFORE, "audio_tokens", *ours.READERS, "self_wav", "joint_embed")


def check_readers(recorded):
    for name, pairs in recorded.items():
        if name != "comment":
            for given, expected in pairs:
                if name == "get_keyword_list" and given is None:
                    given = float("nan")
                assert READERS[name](given) == expected, (name, given)


def check_conditions(recorded, raw):
    """Our conditions contain only musical attributes, always as text."""
    (name,) = recorded["wav"]
    info = MusicInfo.from_dict(raw, **{name: wav_condition(torch.zeros(1, 4), 8000)})
    attributes = info.to_condition_attributes()
    assert list(attributes.wav) == recorded["wav"]
    expected = {name: recorded["text"][name] for name in attributes.text}
    assert attributes.text == {k: None if v is None else str(v) for k, v in expected.items()}
    assert set(recorded["text"]) - set(attributes.text) <= {*BEFORE, "audio_tokens"}


def check_missing(recorded):
    """The original raised for any missing field; ours only for a required one."""
    assert recorded.startswith("KeyError")
    assert not any(MusicInfo.from_dict({}).texts.values())
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "a.json").write_text("{}", encoding="utf-8")
        with pytest.raises(ManifestError, match="no field 'title'"):
            ours.load_music_info(AudioMeta(f"{folder}/a.wav", 1.0, 8000), required=["title"])


def replay_draws(info, rng, merge_text_p, drop_desc_p, drop_other_p):
    """Return the decisions of the recorded draws of Python's `random`."""
    if not rng.uniform(0, 1) < merge_text_p:
        return TextAugmentation()
    kept = [name for name in FIELDS if rng.uniform(0, 1) < drop_other_p]
    appended = [name for name in kept if name in APPENDABLE and getattr(info, name) is not None]
    rng.shuffle(appended)
    drop = info.description is not None and rng.uniform(0, 1) < drop_desc_p
    return TextAugmentation(True, drop, tuple(appended))


@adapter("music_info")
def check(case, call):
    meta = case.meta
    check_readers(meta["preprocess"])
    parsed = MusicInfo.from_dict(meta["from_dict"]["raw"])
    for name, expected in meta["from_dict"]["parsed"].items():
        assert getattr(parsed, name) == expected, name
    check_conditions(meta["to_condition_attributes"], meta["from_dict"]["raw"])
    check_missing(meta["missing_required"])
    for row in meta["augment"]["rows"]:
        info = MusicInfo.from_dict(meta["augment"]["base"] | {"description": row["description"]})
        chances = {k: row[k] for k in ("merge_text_p", "drop_desc_p", "drop_other_p")}
        augmentation = replay_draws(info, random.Random(row["seed"]), **chances)
        assert augment_description(info, augmentation) == row["out"], row
