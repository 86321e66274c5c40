import gzip
import json

import pytest
import torch

from audiocraft.data.music_info import (
    APPENDABLE,
    MusicInfo,
    TextAugmentation,
    augment_description,
    draw_paraphrase,
    draw_text_augmentation,
    load_paraphrases,
    paraphrase,
)
from audiocraft.errors import ManifestError

INFO = MusicInfo(description="A song.", genre="rock", moods=["happy", "calm"], bpm=90.0)


def rng(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def drawn(merge_p, drop_p, keep_p, count=400) -> list[TextAugmentation]:
    generator = rng(0)
    return [draw_text_augmentation(merge_p, drop_p, keep_p, generator) for _ in range(count)]


def test_fields_follow_the_description_in_the_drawn_order():
    augmentation = TextAugmentation(True, False, ("moods", "key", "bpm"))
    assert augment_description(INFO, augmentation) == "A song. moods: happy, calm. bpm: 90.0"


def test_a_dropped_description_keeps_the_fields():
    assert augment_description(INFO, TextAugmentation(True, True, ("genre",))) == "genre: rock"
    assert augment_description(INFO, TextAugmentation(True, True, ())) is None


@pytest.mark.parametrize("description", ["smooth jazz", "smooth jazz.", "smooth jazz..."])
def test_a_description_without_other_fields_ends_with_one_dot(description):
    for appended in ((), ("genre",)):  # a field without value is not appended
        augmentation = TextAugmentation(merge=True, appended=appended)
        merged = augment_description(MusicInfo(description=description), augmentation)
        assert merged == "smooth jazz."


def test_without_merging_the_description_is_unchanged():
    assert augment_description(INFO, TextAugmentation(False, True, APPENDABLE)) == "A song."
    assert augment_description(MusicInfo(), TextAugmentation()) is None


@pytest.mark.parametrize("p", [0.0, 0.3, 1.0])
def test_events_occur_with_their_probabilities(p):
    samples = drawn(p, p, p)
    for chosen in (
        [sample.merge for sample in samples],
        [sample.drop_description for sample in samples],
        ["bpm" in sample.appended for sample in samples],
    ):
        assert sum(chosen) / len(chosen) == pytest.approx(p, abs=0.08)


def test_every_order_is_drawn():
    firsts = {sample.appended[0] for sample in drawn(1, 0, 1)}
    assert firsts == set(APPENDABLE)


def test_the_same_generator_state_gives_the_same_decisions():
    one, other = (draw_text_augmentation(0.5, 0.5, 0.5, rng(3)) for _ in range(2))
    assert one == other


def test_a_paraphrase_replaces_the_description():
    assert paraphrase(INFO, ["x", "y"], 0.0).description == "x"
    assert paraphrase(INFO, ["x", "y"], 0.999).description == "y"
    assert paraphrase(INFO, ["x", "y"], None) is INFO
    assert paraphrase(INFO, [], 0.5) is INFO


@pytest.mark.parametrize("p", [0.0, 0.4, 1.0])
def test_paraphrases_are_drawn_with_their_probability(p):
    generator = rng(0)
    taken = [draw_paraphrase(p, generator) is not None for _ in range(400)]
    assert sum(taken) / 400 == pytest.approx(p, abs=0.08)


def test_paraphrases_are_read_compressed_or_not(tmp_path):
    content = json.dumps({"a.wav": ["x"]}).encode()
    (tmp_path / "p.json").write_bytes(content)
    (tmp_path / "p.json.gz").write_bytes(gzip.compress(content))
    assert load_paraphrases(tmp_path / "p.json") == {"a.wav": ["x"]}
    assert load_paraphrases(tmp_path / "p.json.gz") == {"a.wav": ["x"]}


@pytest.mark.parametrize("content", ["", "[]", '{"a": "x"}', '{"a": [1]}', None])
def test_the_error_names_an_invalid_source(tmp_path, content):
    if content is not None:
        (tmp_path / "p.json").write_text(content)
    with pytest.raises(ManifestError, match=r"p\.json"):
        load_paraphrases(tmp_path / "p.json")
