import json
import zipfile

import pytest
import torch

from audiocraft.data.audio_dataset import SegmentInfo
from audiocraft.data.conditions import wav_condition
from audiocraft.data.manifest import AudioMeta
from audiocraft.data.music_info import (
    READERS,
    MusicInfo,
    load_music_info,
    normalize,
    read_bpm,
    read_key,
    read_keywords,
    read_string,
)
from audiocraft.errors import ManifestError

from .conftest import write_track

EMPTY = dict.fromkeys(READERS)


@pytest.mark.parametrize("nothing", [None, "", "None", "  ", float("nan")])
@pytest.mark.parametrize("name", READERS)
def test_values_without_content_are_none(name, nothing):
    assert READERS[name](nothing) is None


def test_spellings_of_a_field_are_normalized():
    for spelling in ("Happy, Calm", "happy calm", ["HAPPY ", "calm"], " happy,,calm "):
        assert read_keywords(spelling) == ["happy", "calm"]
    for spelling in ("C Major", " c major "):
        assert read_key(spelling) == "c major"
    for spelling in ("120", 120, 120.0, " 120 "):
        assert read_bpm(spelling) == 120.0


@pytest.mark.parametrize("value", ["fast", "inf", [120, 130], {}, "nan"])
def test_a_tempo_that_is_not_a_number_is_none(value):
    assert read_bpm(value) is None


@pytest.mark.parametrize("missing", [None, "", " ", "None", float("nan"), [], [""], [None]])
def test_missing_values_have_one_form(missing):
    assert normalize(missing) is None
    assert all(read(missing) is None for read in READERS.values())


def test_lists_are_joined_for_text_fields():
    assert read_string(["Ann"]) == read_string("Ann") == "Ann"
    assert read_string(["rock", None, " pop "]) == "rock, pop"
    assert read_bpm(["120"]) == 120.0


def test_unpaired_surrogates_are_replaced():
    assert read_string("a \ud83c song") == "a \ufffd song"


def test_numbers_are_read_from_text():
    assert read_string(1984) == "1984"


def test_all_fields_are_optional_and_others_are_ignored():
    info = MusicInfo.from_dict({"tempo": "x", "genre": " Rock"})
    assert info.texts == EMPTY | {"genre": "rock"}


def test_an_info_extends_a_segment():
    segment = SegmentInfo(meta=AudioMeta("a.wav", 3.0, 8000), seek_time=1.0, n_frames=5)
    info = MusicInfo.from_dict({"bpm": 90}, segment)
    assert (info.meta, info.seek_time, info.n_frames) == (segment.meta, 1.0, 5)


def test_conditions_are_texts_and_the_waveform():
    clip = wav_condition(torch.zeros(1, 10), 8000)
    raw = {"description": "Calm.", "moods": ["a", "b c"], "bpm": 90}
    info = MusicInfo.from_dict(raw, self_wav=clip)
    attributes = info.to_condition_attributes()
    assert attributes.text == EMPTY | {"description": "Calm.", "moods": "a b c", "bpm": "90.0"}
    assert attributes.wav == {"self_wav": clip}
    assert MusicInfo().to_condition_attributes().wav == {}


# From files.


def test_metadata_is_beside_the_audio_or_at_info_path(tmp_path):
    meta = write_track(tmp_path / "a.wav", title="One")
    assert load_music_info(meta).title == "One"
    (tmp_path / "other.json").write_text(json.dumps({"title": "Two"}))
    meta.info_path = str(tmp_path / "other.json")
    assert load_music_info(meta).title == "Two"


def test_metadata_is_read_from_an_archive(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("x/song.json", json.dumps({"title": "One"}))
    meta = AudioMeta(f"{tmp_path}/a.zip:x/song.mp3", 1.0, 8000)
    assert load_music_info(meta).title == "One"


def test_missing_metadata_names_the_expected_file(tmp_path):
    meta = AudioMeta(str(tmp_path / "a.wav"), 1.0, 8000)
    with pytest.raises(ManifestError, match=r"a\.wav is missing.*a\.json.*info_path"):
        load_music_info(meta)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[1]",
        b"null",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"title": [["a"]]}',
        b'{"name": {}}',
    ],
)
def test_the_error_names_metadata_that_is_not_an_object(tmp_path, content):
    meta = write_track(tmp_path / "a.wav")
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(ManifestError, match=r"a\.json"):
        load_music_info(meta)


def test_a_required_field_must_exist_but_may_be_null(tmp_path):
    meta = write_track(tmp_path / "a.wav", genre=None)
    assert load_music_info(meta, ["description", "genre"]).genre is None
    with pytest.raises(ManifestError, match=r"a\.json has no field 'bpm'.*null"):
        load_music_info(meta, ["bpm"])
