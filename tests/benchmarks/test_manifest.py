import json

import pytest

from benchmarks import manifest


@pytest.mark.slow
def test_every_start_method_is_measured(tmp_path, capsys):
    manifest.main(["--lines", "2000", "--json", str(tmp_path / "figures.json")])
    report = json.loads((tmp_path / "figures.json").read_text())
    assert report["lines"] == 2000
    printed = capsys.readouterr().out
    for method in ("fork", "forkserver", "spawn"):
        assert report[method]["grown_mb"] < 50
        assert report[method]["draw_ms"] > 0
        assert method in printed
