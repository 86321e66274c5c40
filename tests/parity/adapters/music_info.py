"""Music metadata and the augmentation of descriptions against recorded values."""

import random

from audiocraft.data import music_info as ours
from audiocraft.data.music_info import MusicInfo
from audiocraft.data.text_augment import APPENDABLE, TextAugmentation, augment_description
from tests.parity.harness import adapter

READERS = {
    "get_bpm": ours.read_bpm,
    "get_musical_key": ours.read_key,
    "get_string": ours.read_string,
    "get_keyword": ours.read_keyword,
    "get_keyword_list": ours.read_keywords,
    "get_keyword_or_keyword_list": ours.read_keyword_or_keywords,
}

# The original's fields of one sample, in its order: it throws a die for each.
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
    """Ours gives the texts about music alone, and always as texts."""
    attributes = MusicInfo.from_dict(raw).to_condition_attributes()
    expected = {name: recorded["text"][name] for name in attributes.text}
    assert attributes.text == {k: None if v is None else str(v) for k, v in expected.items()}
    assert set(recorded["text"]) - set(attributes.text) <= {*BEFORE, "audio_tokens"}


def replay_draws(info, rng, merge_text_p, drop_desc_p, drop_other_p):
    """The recorded dice of Python's `random`, as decisions."""
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
    for row in meta["augment"]["rows"]:
        info = MusicInfo.from_dict(meta["augment"]["base"] | {"description": row["description"]})
        chances = {k: row[k] for k in ("merge_text_p", "drop_desc_p", "drop_other_p")}
        augmentation = replay_draws(info, random.Random(row["seed"]), **chances)
        assert augment_description(info, augmentation) == row["out"], row
