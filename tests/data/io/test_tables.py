import json

import pytest

from audiocraft.data.io import tables
from audiocraft.data.io.tables import read_rows
from audiocraft.errors import ManifestError

pyarrow = pytest.importorskip("pyarrow")
pyarrow_parquet = pytest.importorskip("pyarrow.parquet")

ROWS = [{"path": "a.wav", "bpm": 120.5}, {"path": "b, c.wav", "bpm": None}]


def write(path, rows, metadata=None):
    """Write a table in the format of the suffix."""
    if path.suffix == ".csv":
        path.write_text('\ufeffpath,bpm\na.wav,120.5\n"b, c.wav",\n', encoding="utf-8")
    elif path.suffix == ".tsv":
        path.write_text("path\tbpm\na.wav\t120.5\nb, c.wav\t\n")
    elif path.suffix == ".jsonl":
        path.write_text("\n".join(json.dumps(row) for row in rows) + "\n\n")
    else:
        table = pyarrow.Table.from_pylist(rows).replace_schema_metadata(metadata)
        if path.suffix == ".parquet":
            pyarrow_parquet.write_table(table, path, row_group_size=1)
        else:
            with pyarrow.ipc.new_stream(path, table.schema) as stream:
                stream.write_table(table, max_chunksize=1)
    return path


@pytest.mark.parametrize("suffix", tables.SUFFIXES)
def test_rows_are_read_from_every_table_format(tmp_path, suffix):
    rows = list(read_rows(write(tmp_path / f"table{suffix}", ROWS)))
    assert [row["path"] for row in rows] == ["a.wav", "b, c.wav"]
    assert float(rows[0]["bpm"]) == 120.5
    assert not rows[1]["bpm"]


@pytest.mark.parametrize("suffix", [".parquet", ".arrow"])
def test_class_indices_are_replaced_by_class_names(tmp_path, suffix):
    noted = {"info": {"features": {"genre": {"names": ["rock", "folk"], "_type": "ClassLabel"}}}}
    rows = [{"genre": 1}, {"genre": 0}, {"genre": None}, {"genre": -1}]
    table = write(tmp_path / f"a{suffix}", rows, {"huggingface": json.dumps(noted)})
    assert [row["genre"] for row in read_rows(table)] == ["folk", "rock", None, -1]


@pytest.mark.parametrize("suffix", [".parquet", ".arrow"])
@pytest.mark.parametrize("metadata", [None, {"huggingface": "{"}, {"huggingface": "[1]"}])
def test_unusable_schema_metadata_is_ignored(tmp_path, suffix, metadata):
    table = write(tmp_path / f"a{suffix}", [{"genre": 1}], metadata)
    assert list(read_rows(table)) == [{"genre": 1}]


@pytest.mark.parametrize("suffix", tables.SUFFIXES)
@pytest.mark.parametrize(
    "content", [b"\x80\xfe\x00 no table \x80" * 20, b"PAR1" * 8], ids=["bytes", "text"]
)
def test_the_error_names_a_damaged_table(tmp_path, suffix, content):
    table = tmp_path / f"table{suffix}"
    table.write_bytes(content)
    if suffix in (".csv", ".tsv") and content.isascii():
        assert list(read_rows(table)) == []  # only a header line
        return
    with pytest.raises(ManifestError, match="table"):
        list(read_rows(table))


@pytest.mark.parametrize("line", ["a.wav", "a.wav,1,2"])
def test_the_error_names_a_row_of_wrong_length(tmp_path, line):
    (tmp_path / "a.csv").write_text(f"path,bpm\nb.wav,3\n{line}\n")
    with pytest.raises(ManifestError, match=r"a\.csv, line 3"):
        list(read_rows(tmp_path / "a.csv"))


def test_the_error_names_a_json_line_that_is_not_an_object(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"a": 1}\n[1]\n')
    with pytest.raises(ManifestError, match=r"a\.jsonl, line 2"):
        list(read_rows(tmp_path / "a.jsonl"))


def test_an_unsupported_table_lists_the_supported_formats(tmp_path):
    with pytest.raises(ManifestError, match=r"\.csv, \.tsv"):
        list(read_rows(tmp_path / "a.xlsx"))


def test_a_missing_pyarrow_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "pyarrow", None)
    with pytest.raises(ManifestError, match="pip install pyarrow"):
        list(read_rows(tmp_path / "a.parquet"))
