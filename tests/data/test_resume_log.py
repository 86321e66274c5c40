import contextlib
import os

import pytest

from audiocraft.data.resume_log import ResumeLog


def interrupted(output, **results):
    """A resume log whose command was interrupted after these results."""
    with contextlib.suppress(KeyboardInterrupt), ResumeLog(output, "settings") as resume_log:
        for path, result in results.items():
            resume_log.add(path, result)
        raise KeyboardInterrupt
    return resume_log


@pytest.fixture
def song(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "song").write_text("la")
    return tmp_path / "song"


def test_results_are_kept_after_an_interrupt_and_deleted_at_the_end(tmp_path, song):
    interrupted(tmp_path / "out.json", song={"duration": 1.5}, other=[1])
    with ResumeLog(tmp_path / "out.json", "settings") as resume_log:
        assert resume_log.find("song") == {"duration": 1.5}
        assert resume_log.find("other") == [1]
        assert resume_log.find("unknown") is None
        resume_log.add("more", 2)
    assert list(tmp_path.iterdir()) == [song]


def test_new_results_are_appended(tmp_path, song):
    interrupted(tmp_path / "out", song=1)
    interrupted(tmp_path / "out", more=2)
    resume_log = ResumeLog(tmp_path / "out", "settings")
    assert (resume_log.find("song"), resume_log.find("more")) == (1, 2)


def test_results_of_a_changed_file_are_discarded(tmp_path, song):
    interrupted(tmp_path / "out", song=1)
    song.write_text("la la la")
    assert ResumeLog(tmp_path / "out", "settings").find("song") is None
    interrupted(tmp_path / "out", song=2)
    os.utime(song, ns=(0, 0))
    assert ResumeLog(tmp_path / "out", "settings").find("song") is None


def test_results_of_other_settings_are_discarded(tmp_path, song):
    interrupted(tmp_path / "out", song=1)
    assert ResumeLog(tmp_path / "out", "others").find("song") is None


@pytest.mark.parametrize("lost", [1, 5, 9])
def test_a_truncated_line_is_skipped(tmp_path, song, lost):
    path = interrupted(tmp_path / "out", song=1, more=2).path
    path.write_bytes(path.read_bytes()[:-lost])
    interrupted(tmp_path / "out", third=3)
    resume_log = ResumeLog(tmp_path / "out", "settings")
    assert (resume_log.find("song"), resume_log.find("third")) == (1, 3)


def test_no_log_is_written_without_results(tmp_path):
    with pytest.raises(ValueError, match="no"), ResumeLog(tmp_path / "new/out"):
        raise ValueError("no")
    assert not list(tmp_path.iterdir())
