import json

import av
import pytest

from audiocraft.data.music_info import MusicInfo
from audiocraft.data.prepare.sources import Track, read_tracks
from audiocraft.errors import ManifestError

from ..conftest import write_tone
from ..corpus import encoded

pyarrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")


def tracks_of(source, **columns) -> list[Track]:
    """Tracks of a source; fails if one has a problem."""
    found = list(read_tracks(source, columns))
    assert all(isinstance(track, Track) for track in found), found
    return found  # type: ignore[return-value]


def problems(source, **columns) -> list[str]:
    found = read_tracks(source, columns)
    return [str(entry) for entry in found if isinstance(entry, ManifestError)]


# Folders.


def test_metadata_of_a_folder_comes_from_text_json_and_tags(tmp_path):
    for name in ("b/text.wav", "json.wav", "both.wav", "nothing.wav"):
        write_tone(tmp_path / name)
    (tmp_path / "b/text.txt").write_text("\ufeffA slow waltz.\n", encoding="utf-8")
    (tmp_path / "json.json").write_text(json.dumps({"genre": "folk", "bpm": 90, "other": {}}))
    (tmp_path / "both.json").write_text(json.dumps({"description": "old", "artist": "Ann"}))
    (tmp_path / "both.txt").write_bytes("Caf\xe9".encode("latin-1"))
    found = {track.name: track for track in tracks_of(tmp_path)}
    assert list(found) == ["b/text.wav", "both.wav", "json.wav", "nothing.wav"]
    assert found["b/text.wav"].fields == {"description": "A slow waltz."}
    assert found["json.wav"].fields == {"genre": "folk", "bpm": 90}
    assert found["both.wav"].fields == {"description": "Café", "artist": "Ann"}
    assert found["nothing.wav"].fields == {}
    assert [track.row["folder"] for track in found.values()] == ["b", "", "", ""]


@pytest.mark.parametrize("kind", ["mp3", "ogg", "flac"])
def test_tags_in_audio_files_are_read(tmp_path, kind):
    (tmp_path / "plain").write_bytes(encoded(kind))
    source = av.open(str(tmp_path / "plain"))
    (tmp_path / "music").mkdir()
    tags = {"title": "Été", "artist": "Ann", "genre": "Folk", "comment": "no"}
    with source, av.open(str(tmp_path / f"music/a.{kind}"), "w", format=kind) as target:
        target.metadata.update(tags)
        stream = target.add_stream_from_template(source.streams.audio[0])
        for packet in source.demux(source.streams.audio[0]):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    (track,) = tracks_of(tmp_path / "music")
    assert track.fields == {"title": "Été", "artist": "Ann", "genre": "Folk"}


@pytest.mark.parametrize("content", ["{", "[1]", "[" * 100_000])
def test_unusable_metadata_is_a_problem_of_one_track(tmp_path, content):
    for name in "abc":
        write_tone(tmp_path / f"{name}.wav")
    (tmp_path / "b.json").write_text(content)
    (message,) = problems(tmp_path)
    assert "/b." in message
    assert len(list(read_tracks(tmp_path, {}))) == 3


UNUSUAL = {
    "title": 1984,
    "artist": ["Ann"],
    "genre": ["rock", "pop"],
    "bpm": "90",
    "moods": ["calm", None],
    "key": float("nan"),
    "keywords": "",
    "name": None,
    "instrument": {"a": 1},
}
EXPECTED = {"title": 1984, "artist": "Ann", "genre": "rock, pop", "bpm": "90", "moods": ["calm"]}


@pytest.mark.parametrize("kind", ["json", "jsonl", "parquet"])
def test_unusual_values_are_normalized_from_every_source(tmp_path, kind):
    write_tone(tmp_path / "a.wav")
    source = tmp_path
    if kind == "json":
        (tmp_path / "a.json").write_text(json.dumps(UNUSUAL))
    else:
        source = tmp_path / f"table.{kind}"
        row = UNUSUAL | {"audio": "a.wav"}
        if kind == "jsonl":
            source.write_text(json.dumps(row))
        else:
            parquet.write_table(pyarrow.Table.from_pylist([row]), source)
    (track,) = tracks_of(source)
    assert track.fields == EXPECTED
    (reason,) = track.ignored
    assert "a.wav" in reason
    assert "instrument must be a text" in reason
    info = MusicInfo.from_dict(track.fields)
    assert (info.title, info.genre, info.bpm, info.moods) == ("1984", "rock, pop", 90.0, ["calm"])


def test_an_empty_folder_raises_an_error_with_what_is_missing(tmp_path):
    with pytest.raises(ManifestError, match="neither audio files nor a table"):
        list(read_tracks(tmp_path, {}))


# Tables.


def test_columns_are_detected_by_name(tmp_path):
    (tmp_path / "a.csv").write_text(
        "File Name,Caption,Artist_Name,Tempo,tags,extra\n"
        'x/1.wav,A tune,Ann,90,"calm, slow",7\n/abs/2.wav,,,,,\n'
    )
    first, second = tracks_of(tmp_path / "a.csv")
    assert (first.audio, first.name) == (f"{tmp_path}/x/1.wav", "x/1.wav")
    assert first.fields == {
        "description": "A tune", "artist": "Ann", "bpm": "90", "keywords": "calm, slow",
    }  # fmt: skip
    assert first.row["extra"] == "7"
    assert (second.audio, second.name, second.fields) == ("/abs/2.wav", "2.wav", {})


def test_columns_can_be_selected(tmp_path):
    (tmp_path / "a.csv").write_text("path,text,better\na.wav,poor,rich\n")
    assert tracks_of(tmp_path / "a.csv", description="better")[0].fields == {"description": "rich"}
    with pytest.raises(ManifestError, match=r"no column 'none'.*path, text, better"):
        tracks_of(tmp_path / "a.csv", description="none")
    with pytest.raises(ManifestError, match="--column colour"):
        tracks_of(tmp_path / "a.csv", colour="text")


def test_a_table_without_audio_lists_its_columns(tmp_path):
    (tmp_path / "a.csv").write_text("sound,text\na.wav,b\n")
    with pytest.raises(ManifestError, match=r"--column audio=NAME.*sound, text"):
        tracks_of(tmp_path / "a.csv")
    assert tracks_of(tmp_path / "a.csv", audio="sound")[0].name == "a.wav"


def test_each_unusable_row_is_one_problem(tmp_path):
    rows = [
        {"audio": "good.wav"},
        {"audio": None},
        {"audio": "https://example.org/a.mp3"},
        {"audio": 7},
    ]
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    messages = problems(tmp_path / "a.jsonl")
    assert [f"row {n}" in text for n, text in zip((2, 3, 4), messages, strict=True)] == [True] * 3
    assert "Download it first" in messages[1]


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("../../../etc/passwd.wav", "etc/passwd.wav"),
        ("/etc/passwd.wav", "passwd.wav"),
        ("a/./b/..//c.wav", "a/b/c.wav"),
        ("..\\..\\c.wav", "c.wav"),
        (".hidden/.x.wav", "hidden/x.wav"),
        ("..", "audio"),
    ],
)
def test_names_do_not_escape_the_output_folder(tmp_path, path, name):
    (tmp_path / "a.jsonl").write_text(json.dumps({"path": path}))
    (track,) = tracks_of(tmp_path / "a.jsonl")
    assert track.name == name


def test_a_table_in_a_folder_takes_precedence_over_its_files(tmp_path):
    write_tone(tmp_path / "train/a.wav")
    write_tone(tmp_path / "train/unlisted.wav")
    (tmp_path / "train/metadata.csv").write_text("file_name,text\na.wav,A tune\n")
    (track,) = tracks_of(tmp_path)
    assert track.audio == f"{tmp_path}/train/a.wav"
    assert track.fields == {"description": "A tune"}


# Hugging Face datasets.

SOUNDS = [
    {"audio": {"bytes": encoded("flac"), "path": None}, "text": "one", "moods": ["calm", "", None]},
    {"audio": {"bytes": encoded("m4a"), "path": "/cache/b.mp4"}, "text": "two", "moods": []},
    {"audio": {"bytes": None, "path": "c.wav"}, "text": None, "moods": None},
    {"audio": {"bytes": encoded("mp3"), "path": "d.mp3"}, "text": "four", "moods": None},
]


def save_to_disk(folder, rows):
    """Write the files that `Dataset.save_to_disk` writes."""
    folder.mkdir(parents=True)
    table = pyarrow.Table.from_pylist(rows)
    with pyarrow.ipc.new_stream(folder / "data-00000-of-00001.arrow", table.schema) as stream:
        stream.write_table(table)
    files = [{"filename": "data-00000-of-00001.arrow"}]
    (folder / "state.json").write_text(json.dumps({"_data_files": files, "_split": "train"}))
    (folder / "dataset_info.json").write_text("{}")


def check_sounds(found: list[Track], stem: str, folder) -> None:
    names = [f"{stem}_000001.flac", "b.mp4.m4a", "c.wav", "d.mp3"]
    assert [track.name for track in found] == names
    assert found[0].audio == SOUNDS[0]["audio"]["bytes"]
    assert found[2].audio == f"{folder}/c.wav"
    assert found[0].fields == {"description": "one", "moods": ["calm"]}
    assert found[1].fields == {"description": "two"}


def test_a_saved_dataset_is_read(tmp_path):
    save_to_disk(tmp_path / "set", SOUNDS)
    check_sounds(tracks_of(tmp_path / "set"), "data-00000-of-00001", tmp_path / "set")


def test_all_splits_of_a_saved_dataset_are_read(tmp_path):
    for split in ("train", "test"):
        save_to_disk(tmp_path / "set" / split, SOUNDS)
    (tmp_path / "set/dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    assert len(tracks_of(tmp_path / "set")) == 2 * len(SOUNDS)


def test_a_downloaded_dataset_is_read(tmp_path):
    (tmp_path / "data").mkdir()
    table = pyarrow.Table.from_pylist(SOUNDS)
    parquet.write_table(table, tmp_path / "data/train-00000-of-00001.parquet")
    check_sounds(tracks_of(tmp_path), "train-00000-of-00001", tmp_path / "data")


def test_paths_in_a_saved_state_do_not_escape_the_dataset(tmp_path):
    save_to_disk(tmp_path / "set", SOUNDS)
    state = {"_data_files": [{"filename": "../../elsewhere.arrow"}]}
    (tmp_path / "set/state.json").write_text(json.dumps(state))
    with pytest.raises(ManifestError, match=r"set/elsewhere\.arrow"):
        tracks_of(tmp_path / "set")
    (tmp_path / "set/state.json").write_text("[]")
    with pytest.raises(ManifestError, match=r"state\.json"):
        tracks_of(tmp_path / "set")
