"""Commands of docs/DATASETS.md, run in order in one folder."""

import csv
import json
import re

import pytest

from .conftest import QUICK, ROOT, Run, command
from .documented import Command, commands_of

pyarrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")
PAGE = ROOT / "docs" / "DATASETS.md"
KINDS = ("audiocraft prepare", "audiocraft validate", "audiocraft manifest")
WALKED = [case for case in commands_of(PAGE) if case.kind in KINDS or "/tmp/mine" in case.text]


def write_inputs(folder) -> None:
    """Write `songs/songs.csv` and `songs/hub`, which the page requires."""
    (folder / "songs" / "hub").mkdir(parents=True)
    paths = sorted((ROOT / "dataset" / "example").glob("*_0[1-3].mp3"))
    rows = [
        {"path": str(path), "caption": f"Song {path.stem}", "artist": path.stem[:4], "title": i}
        for i, path in enumerate(paths)
    ]
    with open(folder / "songs" / "songs.csv", "w", encoding="utf-8", newline="") as file:
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


def run_documented(case: Command, folder) -> Run:
    """Run a command of the page, with its paths below a folder."""
    words = case.arguments
    for shown, real in (
        (r"(^|=)/tmp/", rf"\1{folder}/"),
        (r"^egs/mine", f"{folder}/egs"),
        (r"^songs/", f"{folder}/songs/"),
    ):
        words = [re.sub(shown, real, word) for word in words]
    if case.kind == "dora run":
        words += [override for override in QUICK if not override.startswith("solver=")]
    if case.kind == "audiocraft prepare":
        words += ["--workers", "0"]  # speed does not matter
    return command(*words, outputs=folder / "outputs")


def test_the_documented_commands_prepare_a_folder_and_train(tmp_path):
    write_inputs(tmp_path)
    printed = {}
    for case in WALKED:
        run = run_documented(case, tmp_path)
        assert run.returncode == 0, run.output
        assert "Traceback" not in run.output
        printed[case] = run.output
    shown = [
        line for line in PAGE.read_text().splitlines() if line.startswith(("train  ", "valid  "))
    ]
    assert shown
    assert all(line in printed[WALKED[0]] for line in shown)  # the page quotes the output
    assert json.loads((tmp_path / "mine/problems.json").read_text())["problems"] == []
    (experiment,) = (tmp_path / "outputs/xps").iterdir()
    assert json.loads((experiment / "history.json").read_text())[0]["train"]["ce"] > 0
    assert {path.name for path in (tmp_path / "hub/egs").iterdir()} == {
        "train",
        "valid",
        "evaluate",
    }
    assert (tmp_path / "egs/data.jsonl.gz").is_file()
