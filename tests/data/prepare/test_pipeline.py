import errno
import json
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
import soundfile

from audiocraft.cli import prepare as command
from audiocraft.data.audio import audio_info
from audiocraft.data.manifest import load_manifest
from audiocraft.data.music_dataset import MusicDataset
from audiocraft.data.prepare import pipeline as prepare
from audiocraft.errors import ManifestError

from ..conftest import RATE

ARTISTS = {"Ann": 4, "bob": 3, "Cem": 2, "Dan": 2, "Eve": 2, "Fay": 1}


def write_song(path, number: int, seconds: float = 1.0) -> None:
    """Write noise that is different for each number."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(number)
    envelope = np.repeat(rng.random(20), round(seconds * RATE / 20))
    soundfile.write(path, 0.3 * envelope * rng.standard_normal(len(envelope)), RATE)


@pytest.fixture
def songs(tmp_path):
    """A folder with songs of several artists and a table that lists them."""
    rows, number = ["path,artist,title,text,mode"], 0
    for artist, count in ARTISTS.items():
        for song in range(count):
            write_song(tmp_path / f"songs/{artist}/{song}.wav", number)
            name = artist.upper() if song % 2 else f" {artist} "  # spellings of one artist
            rows.append(f"{artist}/{song}.wav,{name},Song {song},text {number},{number % 5}")
            number += 1
    (tmp_path / "songs/list.csv").write_text("\n".join(rows))
    return tmp_path / "songs"


def prepare_splits(source, out, *options) -> dict[str, list[str]]:
    """Run the command; returns the files of each split."""
    command.main([str(source), str(out), "--workers", "0", *options])
    return {
        folder.name: [meta.path.removeprefix(f"{out}/") for meta in load_manifest(folder)]
        for folder in (Path(out) / "egs").iterdir()
    }


def test_a_table_becomes_audio_metadata_and_manifests(songs, tmp_path, capsys):
    splits = prepare_splits(songs / "list.csv", tmp_path / "out")
    assert splits.keys() == {"train", "valid", "evaluate", "generate"}
    paths = sorted(path for split in splits.values() for path in split)
    every = [f"audio/{a}/{song}.wav" for a, count in ARTISTS.items() for song in range(count)]
    assert paths == sorted(every)
    for path in paths:
        original = songs / path.removeprefix("audio/")
        assert (tmp_path / "out" / path).read_bytes() == original.read_bytes()
    metadata = json.loads((tmp_path / "out/audio/bob/1.json").read_text())
    assert metadata == {
        "key": "", "artist": "BOB", "description": "text 5", "keywords": "", "bpm": "",
        "genre": "", "title": "Song 1", "name": "1", "instrument": "", "moods": "",
        "sample_rate": RATE, "file_extension": "wav", "duration": 1.0,
    }  # fmt: skip
    out = capsys.readouterr().out
    assert "datasource.train=" in out
    assert f"{'train':10} {len(splits['train']):8}" in out


def test_a_prepared_folder_can_be_moved_and_trained_on(songs, tmp_path, monkeypatch):
    prepare_splits(songs / "list.csv", tmp_path / "out")
    (tmp_path / "out").rename(tmp_path / "moved")
    monkeypatch.chdir("/")
    dataset = MusicDataset.from_meta(
        tmp_path / "moved/egs/train", segment_duration=0.5, num_samples=20, channels=1
    )
    dataset.check()
    assert all(dataset[index][1].description for index in range(20))


def groups(splits: dict[str, list[str]], key) -> dict[str, set[str]]:
    """Splits that contain each group."""
    found: dict[str, set[str]] = {}
    for split, paths in splits.items():
        for path in paths:
            found.setdefault(key(Path(path)), set()).add(split)
    return found


@pytest.mark.parametrize("seed", range(4))
def test_no_artist_is_in_two_splits(songs, tmp_path, seed):
    splits = prepare_splits(songs / "list.csv", tmp_path / "out", "--seed", str(seed))
    assert all(len(s) == 1 for s in groups(splits, lambda path: path.parent.name).values())


def test_groups_can_be_pieces_folders_or_a_column(songs, tmp_path):
    by_piece = prepare_splits(songs / "list.csv", tmp_path / "piece", "--by", "piece")
    assert any(len(s) > 1 for s in groups(by_piece, lambda path: path.parent.name).values())
    by_folder = prepare_splits(songs / "list.csv", tmp_path / "folder", "--by", "folder")
    assert all(len(s) == 1 for s in groups(by_folder, lambda path: path.parent.name).values())
    by_column = prepare_splits(songs / "list.csv", tmp_path / "column", "--by", "mode")
    order = [f"{a}/{song}.wav" for a, count in ARTISTS.items() for song in range(count)]
    modes = groups(by_column, lambda path: order.index(f"{path.parent.name}/{path.name}") % 5)
    assert all(len(s) == 1 for s in modes.values())
    with pytest.raises(ManifestError, match=r"'color'.*artist, folder, mode"):
        prepare_splits(songs / "list.csv", tmp_path / "none", "--by", "color")


def test_copies_of_a_recording_share_a_split(tmp_path, capsys):
    for number in range(12):
        write_song(tmp_path / f"songs/{number}.wav", number)
        samples, _ = soundfile.read(tmp_path / f"songs/{number}.wav")
        soundfile.write(tmp_path / f"songs/copy_{number}.flac", samples, RATE)
        (tmp_path / f"songs/copy_{number}.txt").write_text(f"copy of {number}")
    splits = prepare_splits(tmp_path / "songs", tmp_path / "out", "--by", "piece", "--valid", "0.3")
    by_song = groups(splits, lambda path: path.stem.removeprefix("copy_"))
    assert all(len(s) == 1 for s in by_song.values())
    assert "12 contain the same music" in capsys.readouterr().out


def test_splits_are_reproducible_and_depend_on_the_seed(songs, tmp_path):
    first = prepare_splits(songs / "list.csv", tmp_path / "a", "--by", "piece")
    assert prepare_splits(songs / "list.csv", tmp_path / "b", "--by", "piece") == first
    assert prepare_splits(songs / "list.csv", tmp_path / "a", "--by", "piece") == first  # resumes
    assert (
        prepare_splits(songs / "list.csv", tmp_path / "c", "--by", "piece", "--seed", "1") != first
    )


def test_a_stopped_call_resumes(songs, tmp_path, monkeypatch):
    def stop(*args, **kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(prepare, "assign_splits", stop)
        with pytest.raises(KeyboardInterrupt):
            prepare_splits(songs / "list.csv", tmp_path / "out")
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.wav")}
    splits = prepare_splits(songs / "list.csv", tmp_path / "out")
    assert splits == prepare_splits(songs / "list.csv", tmp_path / "fresh")
    assert {path: path.stat().st_mtime_ns for path in times} == times
    assert not list((tmp_path / "out").glob(".*"))


def test_unreadable_files_are_skipped_and_reported(songs, tmp_path, capsys):
    (songs / "Ann/0.wav").write_text("no music")
    (songs / "Ann/1.wav").unlink()
    soundfile.write(songs / "Ann/2.wav", np.full(RATE, np.nan), RATE, "FLOAT")
    splits = prepare_splits(songs / "list.csv", tmp_path / "out")
    paths = [path for split in splits.values() for path in split]
    assert len(paths) == sum(ARTISTS.values()) - 3
    out = capsys.readouterr().out
    assert "3 left out" in out
    assert all(f"list.csv, row {row} (Ann/" in out for row in (1, 2, 3))


def test_colliding_names_get_a_number(tmp_path):
    for number, name in enumerate(("a.wav", "a.flac", "A.aiff", "b.wav")):
        write_song(tmp_path / "songs" / name, number)
    prepare_splits(tmp_path / "songs", tmp_path / "out")
    written = sorted(path.name for path in (tmp_path / "out/audio").iterdir())
    assert written == [
        "A.aiff", "A.json", "a_2.flac", "a_2.json", "a_3.json", "a_3.wav", "b.json", "b.wav",
    ]  # fmt: skip


def test_archive_members_are_extracted_by_base_name(tmp_path):
    write_song(tmp_path / "a.wav", 0)
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        for number in range(4):
            write_song(tmp_path / "a.wav", number)
            archive.write(tmp_path / "a.wav", f"../../{number}.wav")
    rows = [f"all.zip:../../{number}.wav" for number in range(4)]
    (tmp_path / "a.csv").write_text("\n".join(["path", *rows]))
    before = {path for path in tmp_path.parent.rglob("*") if (tmp_path / "out") not in path.parents}
    splits = prepare_splits(tmp_path / "a.csv", tmp_path / "out")
    assert len([path for split in splits.values() for path in split]) == 4
    after = {path for path in tmp_path.parent.rglob("*") if (tmp_path / "out") not in path.parents}
    assert after - before == {tmp_path / "out"}


def test_links_replace_copies(songs, tmp_path):
    prepare_splits(songs, tmp_path / "out", "--by", "folder", "--link")
    for path in songs.rglob("*.wav"):
        assert os.path.samefile(path, tmp_path / "out/audio" / path.relative_to(songs))
    prepare_splits(songs, tmp_path / "out", "--by", "folder", "--link")


def test_output_of_other_settings_is_not_overwritten(songs, tmp_path):
    prepare_splits(songs, tmp_path / "out", "--by", "folder")
    write_song(songs / "Ann/0.wav", 99)
    with pytest.raises(ManifestError, match=r"Ann/0\.wav exists"):
        prepare_splits(songs, tmp_path / "out", "--by", "folder")
    with pytest.raises(ManifestError, match="--valid"):
        prepare_splits(songs, tmp_path / "out", "--by", "folder", "--valid", "0")


def test_a_full_disk_stops_the_call(songs, tmp_path, monkeypatch):
    def fail(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("shutil.copyfileobj", fail)
    with pytest.raises(ManifestError, match=r"0\.wav cannot be written: No space left"):
        prepare_splits(songs / "list.csv", tmp_path / "out")


def test_the_output_must_not_be_inside_its_source(songs):
    with pytest.raises(ManifestError, match="is inside"):
        prepare_splits(songs, songs / "out")
    with pytest.raises(ManifestError, match="nowhere does not exist"):
        prepare_splits(songs / "nowhere", songs.parent / "out")


def test_loudness_and_silence_are_reported(songs, tmp_path, capsys):
    soundfile.write(songs / "Fay/0.wav", np.zeros(RATE), RATE)
    prepare_splits(songs, tmp_path / "out", "--by", "folder", "--report")
    report = json.loads((tmp_path / "out/report.json").read_text())
    by_path = {entry["path"]: entry for entry in report["files"]}
    assert by_path["audio/Fay/0.wav"]["silence"] == 1.0
    assert by_path["audio/Fay/0.wav"]["loudness"] is None
    assert -30 < by_path["audio/Ann/0.wav"]["loudness"] < -10
    out = capsys.readouterr().out
    assert "Loudness: median" in out
    assert "1 silent for more than 50% of their time" in out


def test_too_few_artists_are_reported(tmp_path):
    for number in range(5):
        write_song(tmp_path / f"songs/{number}.wav", number)
        (tmp_path / f"songs/{number}.json").write_text('{"artist": "Ann"}')
    with pytest.raises(ManifestError, match=r"1 group.*--by"):
        prepare_splits(tmp_path / "songs", tmp_path / "out")
    splits = prepare_splits(tmp_path / "songs", tmp_path / "out", "--by", "piece")
    assert sorted(len(paths) for paths in splits.values()) == [1, 1, 1, 2]
    assert audio_info(tmp_path / "out" / splits["train"][0]).duration == 1.0


@pytest.mark.parametrize("argument", ["text", "=text", "text="])
def test_a_column_is_given_as_a_field_and_a_name(songs, tmp_path, argument, capsys):
    with pytest.raises(SystemExit):
        prepare_splits(songs, tmp_path / "out", "--column", argument)
    assert "FIELD=NAME" in capsys.readouterr().err


def test_tracks_without_text_and_short_tracks_are_reported(tmp_path, capsys):
    for number, seconds in enumerate((0.5, 3.0, 3.0, 3.0, 3.0)):
        write_song(tmp_path / "songs" / f"{number}.wav", number, seconds)
    (tmp_path / "songs" / "1.txt").write_text("a calm tone")
    prepare_splits(tmp_path / "songs", tmp_path / "set", "--by", "piece")
    out = capsys.readouterr().out
    assert "4 of 5 have no description" in out
    assert f"1 shorter than 2 s:\n  {tmp_path}/songs/0.wav" in out
