"""Ingest: groups of tracks and file names."""

import os
import unicodedata

import pytest

from audiocraft.data.io.files import save_json
from audiocraft.data.prepare.ingest import AudioFolder, group_of
from audiocraft.data.prepare.sources import Track


def track(name="a.wav", audio=b"RIFF", **fields) -> Track:
    return Track(origin="source", name=name, audio=audio, fields=fields, row={}, ignored=[])


@pytest.mark.parametrize(
    "spelling",
    [
        unicodedata.normalize("NFD", "Beyoncé"),
        " BEYONCÉ  ",
        "Beyoncé feat. Jay",
        "Beyoncé (ft. Jay)",
        "Beyoncé featuring Jay",
        ["Beyoncé"],
    ],
)
def test_spellings_of_an_artist_form_one_group(spelling):
    assert group_of(track(artist=spelling), "artist") == group_of(track(artist="Beyoncé"), "artist")


@pytest.mark.parametrize(
    "other", ["Feat", "Little Feat", "Beyoncé Jay", "Soft Machine", "Daft Punk"]
)
def test_other_artists_are_other_groups(other):
    group = group_of(track(artist=other), "artist")
    assert group == f"artist {other.lower()}"


def test_the_former_spelling_of_a_track_group_is_accepted():
    song = track(artist="Ann", title="Song")
    assert group_of(song, "piece") == group_of(song, "track") == "piece ann: song"


@pytest.mark.parametrize("length", [240, 251, 255])
def test_names_of_the_maximum_length_are_written(tmp_path, length):
    folder = AudioFolder(tmp_path, link=False, by="artist")
    names = ["é" * ((length - 4) // 2) + ".wav", "é" * ((length - 4) // 2 - 1) + "e.wav"]
    for name in names:
        added = folder.add(track(name=name))
        path = tmp_path / added.name
        assert path.read_bytes() == b"RIFF"
        save_json(path.with_suffix(".json"), {})
        assert len(os.fsencode(path.with_suffix(".json").name)) <= 255
    assert len(list(tmp_path.iterdir())) == 4


def test_names_that_differ_in_their_unicode_form_get_a_number(tmp_path):
    folder = AudioFolder(tmp_path, link=False, by="artist")
    first = folder.add(track(name="é.wav")).name
    second = folder.add(track(name=unicodedata.normalize("NFD", "é.wav"))).name
    assert second == unicodedata.normalize("NFD", "é") + "_2.wav"
    assert first == "é.wav"
