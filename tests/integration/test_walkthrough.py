"""docs/DATASETS.md, from its first command to its last, in one folder."""

import csv
import json
import shlex

import pytest

from .conftest import ROOT, Run, command
from .test_documented_commands import COMMANDS, ONE_EPOCH, Try, commands_of

pyarrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")
PAGE = ROOT / "docs" / "DATASETS.md"
WALKED = [text for text in commands_of(PAGE) if COMMANDS.get(text, Try()).walked]


def lay_out(folder) -> None:
    """`songs/songs.csv` and `songs/hub`, which the page takes for granted."""
    (folder / "songs" / "hub").mkdir(parents=True)
    paths = sorted((ROOT / "dataset" / "example").glob("*_0[1-3].mp3"))
    rows = [
        {"path": str(path), "caption": f"Song {path.stem}", "artist": path.stem[:4], "title": i}
        for i, path in enumerate(paths)
    ]
    with open(folder / "songs" / "songs.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    sounds = [
        {
            "audio": {"bytes": path.read_bytes(), "path": path.name},
            "text": path.stem,
            "title": path.stem,
        }
        for path in paths
    ]
    table = pyarrow.Table.from_pylist(sounds)
    parquet.write_table(table, folder / "songs/hub/train-00000-of-00001.parquet")


def walk(text: str, folder) -> Run:
    """Run a command of the page with its paths in a folder."""
    for shown, real in (
        ("/tmp/", f"{folder}/"),
        ("egs/mine", f"{folder}/egs"),
        (" songs/", f" {folder}/songs/"),
    ):
        text = text.replace(shown, real)
    words = shlex.split(text)
    small = ONE_EPOCH if words[0] == "dora" else []
    small += ["--workers", "0"] if "prepare" in words else []  # no need to be fast
    words = ["-m", *words] if words[0] == "dora" else words[1:]
    return command(*words, *small, outputs=folder / "outputs")


@pytest.mark.slow
@pytest.mark.xdist_group("commands")
def test_the_way_from_a_folder_to_a_first_training_step(tmp_path):
    lay_out(tmp_path)
    printed = {}
    for text in WALKED:
        run = walk(text, tmp_path)
        assert run.returncode == 0, run.output
        assert "Traceback" not in run.output
        printed[text] = run.output
    shown = [
        line for line in PAGE.read_text().splitlines() if line.startswith(("train  ", "valid  "))
    ]
    assert shown
    assert all(line in printed[WALKED[0]] for line in shown)  # the page shows what is printed
    assert json.loads((tmp_path / "mine/problems.json").read_text())["problems"] == []
    (experiment,) = (tmp_path / "outputs/xps").iterdir()
    assert json.loads((experiment / "history.json").read_text())[0]["train"]["ce"] > 0
    assert {path.name for path in (tmp_path / "hub/egs").iterdir()} == {
        "train",
        "valid",
        "evaluate",
    }
    assert (tmp_path / "egs/data.jsonl.gz").is_file()
