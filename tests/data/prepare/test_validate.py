import json
import shutil

import numpy as np
import pytest
import soundfile

from audiocraft.cli import validate
from audiocraft.data.manifest import AudioMeta, find_audio_files, save_manifest
from audiocraft.data.prepare import statistics as inspection
from audiocraft.data.prepare.statistics import compute_audio_statistics

from ..conftest import RATE, tone, write_tone, write_track
from ..corpus import encoded


@pytest.fixture
def music(tmp_path):
    """A folder with a manifest and one file with each kind of problem."""
    folder = tmp_path / "music"
    for number in range(3):
        samples = tone(2.0, 300.0 + 100 * number) * np.hanning(2 * RATE)[:, None]
        (folder).mkdir(exist_ok=True)
        soundfile.write(folder / f"good_{number}.wav", samples, RATE)
    write_tone(folder / "short.wav", 0.5)
    soundfile.write(folder / "silent.wav", np.zeros(2 * RATE), RATE)
    soundfile.write(folder / "clipped.wav", np.clip(tone(2.0, 555.0) * 20, -1, 1), RATE, "FLOAT")
    soundfile.write(folder / "twin.flac", soundfile.read(folder / "good_1.wav")[0], RATE)
    (folder / "flac_inside.wav").write_bytes(encoded("flac"))
    write_tone(folder / "damaged.wav", 2.0)
    save_manifest(tmp_path / "egs/data.jsonl", find_audio_files(folder))
    (folder / "damaged.wav").write_text("no music")
    return tmp_path


EXPECTED = {
    "unreadable": ["damaged.wav"],
    "short": ["short.wav"],
    "silent": ["silent.wav"],
    "clipped": ["clipped.wav"],
    "duplicated": ["twin.flac"],
    "mislabelled": ["flac_inside.wav"],
}


def run(*argv) -> int:
    return validate.main([*(str(arg) for arg in argv), "--workers", "0"])


def report(folder, *options) -> dict:
    """The `--json` report on the manifest in a folder: files by kind of problem."""
    run(folder / "egs", "--json", folder / "report.json", *options)
    return json.loads((folder / "report.json").read_text())


def kinds(report: dict) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for problem in report["problems"]:
        found.setdefault(problem["kind"], []).append(problem["path"].rpartition("/")[2])
    return found


def test_every_kind_of_problem_is_reported_and_no_file_changed(music, capsys):
    before = {path: path.stat().st_mtime_ns for path in music.rglob("*")}
    found = report(music)
    assert kinds(found) == EXPECTED
    assert found["files"] == 9
    assert found["counts"] == dict.fromkeys(EXPECTED, 1)
    out = capsys.readouterr().out
    for kind, (name,) in EXPECTED.items():
        assert f"{kind}: " in out
        assert name in out
    assert "9 files" in out
    assert "6 with problems" in out
    (music / "report.json").unlink()
    assert {path: path.stat().st_mtime_ns for path in music.rglob("*")} == before


def test_the_exit_status_is_nonzero_with_problems(music, tmp_path):
    assert run(music / "egs") == 1
    assert run(music / "egs", "--tolerate", *EXPECTED) == 0
    assert run(music / "egs", "--tolerate", "short") == 1
    assert run(tmp_path / "nowhere") == 2
    save_manifest(tmp_path / "sane.jsonl", [AudioMeta(f"{music}/music/good_0.wav", 2.0, RATE)])
    assert run(tmp_path / "sane.jsonl") == 0


def test_limits_can_be_set(music):
    found = kinds(report(music, "--min-duration", "3", "--max-silence", "1", "--max-clipped", "1"))
    assert len(found["short"]) == 8
    assert found.keys() == {"short", "unreadable", "duplicated", "mislabelled"}


def test_duplicates_across_manifests_are_reported(music):
    folder = music / "music"
    for split, name in (("train", "good_0.wav"), ("valid", "copy.wav")):
        if split == "valid":
            shutil.copy(folder / "good_0.wav", folder / name)
        save_manifest(music / split / "data.jsonl", [AudioMeta(str(folder / name), 2.0, RATE)])
    assert run(music / "train") == run(music / "valid") == 0
    assert run(music / "train", music / "valid") == 1


def test_a_file_that_is_listed_twice_is_reported(music, capsys):
    meta = AudioMeta(str(music / "music/good_0.wav"), 2.0, RATE)
    save_manifest(music / "twice.jsonl", [meta, meta])
    assert run(music / "twice.jsonl") == 1
    assert "listed more than once" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("meta", "detail"),
    [
        (AudioMeta("a.wav", 9.0, RATE), "has 9.00 s in the manifest but lasts 2.00 s"),
        (AudioMeta("a.wav", float("nan"), RATE), "has nan s in the manifest"),
        (AudioMeta("a.wav", 2.0, 44100), "has 44100 Hz in the manifest but 8000 Hz"),
        (AudioMeta("a.wav", 2.0, RATE, info_path="none.json"), "none.json does not exist"),
    ],
)
def test_a_manifest_that_disagrees_with_its_files_is_reported(
    tmp_path, monkeypatch, capsys, meta, detail
):
    monkeypatch.chdir(tmp_path)
    write_tone(tmp_path / "a.wav", 2.0)
    save_manifest("data.jsonl", [meta])
    assert run("data.jsonl") == 1
    assert detail in capsys.readouterr().out


@pytest.mark.parametrize("content", [None, "[]", "{", '{"description": {}}'])
def test_metadata_is_checked_if_present(tmp_path, content):
    metas = [write_track(tmp_path / f"{name}.wav", seconds=s) for name, s in (("a", 2), ("b", 3))]
    if content is None:
        (tmp_path / "b.json").unlink()
    else:
        (tmp_path / "b.json").write_text(content)
    save_manifest(tmp_path / "egs/data.jsonl", metas)
    assert kinds(report(tmp_path)) == {"mislabelled": ["b.wav"]}


def test_long_lists_are_truncated_in_the_table_only(tmp_path, capsys):
    metas = [AudioMeta(f"/missing/{number}.wav", 1.0, RATE) for number in range(30)]
    save_manifest(tmp_path / "egs/data.jsonl", metas)
    assert len(report(tmp_path)["problems"]) == 30
    assert "and 10 more" in capsys.readouterr().out


def test_a_stopped_command_resumes(music, monkeypatch, capsys):
    def stop(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(validate, "find_problems", stop)
        assert run(music / "egs", "--json", music / "report.json") == 130
        assert "resumes" in capsys.readouterr().out
    inspected = []

    def inspect(path, **options):
        inspected.append(path.rpartition("/")[2])
        return compute_audio_statistics(path, **options)

    monkeypatch.setattr(inspection, "compute_audio_statistics", inspect)
    assert kinds(report(music)) == EXPECTED
    assert inspected == ["damaged.wav"]  # unreadable files are read again
    assert not (music / ".report.json.resume").exists()
