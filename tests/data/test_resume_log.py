import contextlib
import os

import pytest

from audiocraft.data.resume_log import ResumeLog


def interrupted(output, **answers):
    """A journal whose command was stopped after these answers."""
    with contextlib.suppress(KeyboardInterrupt), ResumeLog(output, "settings") as resume_log:
        for path, answer in answers.items():
            resume_log.add(path, answer)
        raise KeyboardInterrupt
    return resume_log


@pytest.fixture
def song(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "song").write_text("la")
    return tmp_path / "song"


def test_answers_outlive_an_interruption_and_are_gone_at_the_end(tmp_path, song):
    interrupted(tmp_path / "out.json", song={"duration": 1.5}, other=[1])
    with ResumeLog(tmp_path / "out.json", "settings") as resume_log:
        assert resume_log.find("song") == {"duration": 1.5}
        assert resume_log.find("other") == [1]
        assert resume_log.find("unknown") is None
        resume_log.add("more", 2)
    assert list(tmp_path.iterdir()) == [song]


def test_further_answers_are_added_to_earlier_ones(tmp_path, song):
    interrupted(tmp_path / "out", song=1)
    interrupted(tmp_path / "out", more=2)
    resume_log = ResumeLog(tmp_path / "out", "settings")
    assert (resume_log.find("song"), resume_log.find("more")) == (1, 2)


def test_a_file_that_changed_is_looked_at_again(tmp_path, song):
    interrupted(tmp_path / "out", song=1)
    song.write_text("la la la")
    assert ResumeLog(tmp_path / "out", "settings").find("song") is None
    interrupted(tmp_path / "out", song=2)
    os.utime(song, ns=(0, 0))
    assert ResumeLog(tmp_path / "out", "settings").find("song") is None


def test_other_settings_start_anew(tmp_path, song):
    interrupted(tmp_path / "out", song=1)
    assert ResumeLog(tmp_path / "out", "others").find("song") is None


@pytest.mark.parametrize("lost", [1, 5, 9])
def test_a_line_cut_short_costs_only_itself(tmp_path, song, lost):
    path = interrupted(tmp_path / "out", song=1, more=2).path
    path.write_bytes(path.read_bytes()[:-lost])
    interrupted(tmp_path / "out", third=3)
    resume_log = ResumeLog(tmp_path / "out", "settings")
    assert (resume_log.find("song"), resume_log.find("third")) == (1, 3)


def test_nothing_is_written_where_nothing_was_found_out(tmp_path):
    with pytest.raises(ValueError, match="no"), ResumeLog(tmp_path / "new/out"):
        raise ValueError("no")
    assert not list(tmp_path.iterdir())
