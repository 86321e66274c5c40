import subprocess

import pytest

from audiocraft.data.manifest import AudioMeta
from dataset import fetch_recorded
from dataset.fetch_recorded import SOURCES, Source, fetch, split_tracks

TRACKS = [AudioMeta(f"{i:02d}.ogg", 60.0, 44100) for i in range(30)]


def test_fit_and_held_out_tracks_are_disjoint():
    splits = split_tracks(Source("p", "*", "free"), TRACKS)
    assert not {m.path for m in splits["fit"]} & {m.path for m in splits["held_out"]}
    assert len(splits["fit"]) + len(splits["held_out"]) == len(TRACKS)
    assert 2 <= len(splits["held_out"]) <= 5


def test_some_packages_are_only_evaluated():
    assert split_tracks(Source("p", "*", "free", fit=False), TRACKS) == {"unseen": TRACKS}
    assert {source.fit for source in SOURCES} == {True, False}


def test_music_used_for_fitting_has_a_share_alike_licence():
    assert all("CC BY-SA" in source.licence for source in SOURCES if source.fit)


def test_a_fetched_package_is_reused(tmp_path, monkeypatch):
    (tmp_path / "p").mkdir()
    monkeypatch.setattr(subprocess, "run", lambda *args, **kwargs: pytest.fail("fetched again"))
    assert fetch(Source("p", "*", "free"), tmp_path) == tmp_path / "p"


def test_a_missing_package_manager_is_one_sentence(tmp_path, monkeypatch):
    def missing(command, **kwargs):
        raise FileNotFoundError(command[0])

    monkeypatch.setattr(fetch_recorded.subprocess, "run", missing)
    with pytest.raises(RuntimeError, match="apt-get is missing"):
        fetch(Source("p", "*", "free"), tmp_path)
