"""`audiocraft generate`: files with recipes, batches, resuming, outputs, errors."""

import json
import logging
import os
import shutil
import subprocess
import sys
import zipfile

import pytest
import soundfile

from audiocraft.cli.generate import progress_bar
from audiocraft.cli.main import main
from audiocraft.models import MusicGen

from ..inference.conftest import clip

SHORT = ["--duration", "0.4", "--excerpt-length", "1.5", "--model", "tiny"]

__all__ = ["clip"]  # fixture


@pytest.fixture(autouse=True)
def loaded(tiny_musicgen, monkeypatch, tmp_path):
    """Loads the tiny model for every name; returns the requested names."""
    names = []

    def load(name, **kwargs):
        names.append(name)
        return tiny_musicgen

    monkeypatch.setattr(MusicGen, "get_pretrained", staticmethod(load))
    monkeypatch.chdir(tmp_path)
    return names


def generate(*words: str) -> None:
    main(["generate", *SHORT, *words])


def recipes_in(folder) -> dict[str, dict]:
    return {path.stem: json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))}


def test_text_and_style_generate_variations_with_recipes_and_pictures(tmp_path, clip, capsys):
    generate(
        *("--text", "Disco beat", "--style", clip, "--count", "3", "--seed", "7"),
        *("--out", "folder", "--pictures", "--guidance", "2", "--text-weight", "6"),
    )
    recipes = recipes_in(tmp_path / "folder")
    assert list(recipes) == [f"001_disco-beat_{k}" for k in (1, 2, 3)]
    assert [r["request"]["seed"] for r in recipes.values()] == [7, 8, 9]
    for name, recipe in recipes.items():
        sound, rate = soundfile.read(tmp_path / "folder" / recipe["audio"])
        assert (len(sound), rate) == (20 * 640, 32000)
        assert abs(sound).max() > 0.01
        assert (tmp_path / "folder" / f"{name}.png").stat().st_size > 1000
        assert recipe["request"]["text_weight"] == 6
        assert 0 <= recipe["request"]["excerpt_start"] <= 1.5
    assert "folder/001_disco-beat_1.wav  (seed 7)" in capsys.readouterr().out


@pytest.mark.parametrize("style", [True, False])
def test_style_options_without_a_clip_are_reported(style, clip, capsys):
    generate("--text", "waltz", "--text-weight", "3", *(["--style", clip] if style else []))
    reported = "no effect: --text-weight, --excerpt-length.\n" in capsys.readouterr().out
    assert reported is not style


def test_a_recipe_reproduces_its_file(tmp_path, clip, capsys):
    generate("--text", "waltz", "--style", clip, "--count", "2", "--seed", "3", "--out", "a")
    main(["generate", "--from-recipe", "a/001_waltz_2.json", "--out", "b"])
    assert "bit for bit" in capsys.readouterr().out
    first, second = ((tmp_path / f / "001_waltz_2.wav").read_bytes() for f in "ab")
    assert first == second


def test_options_beside_a_recipe_are_refused(tmp_path, loaded):
    generate("--text", "waltz", "--seed", "3", "--out", "a")
    again = ["generate", "--from-recipe", "a/001_waltz.json", "--out", "b"]
    loaded.clear()
    mixed = ["--text", "polka", "--duration", "2", "--seed", "4", "--count", "2", "--top-k", "5"]
    names = "--text, --duration, --top-k, --count, --seed, only --style, --model, --device"
    with pytest.raises(SystemExit, match=f"takes no {names}, --out, --format, --pictures"):
        main([*again, *mixed])
    for words in (["--prompts", "p.csv"], ["--batch-size", "2"], ["--overwrite"]):
        with pytest.raises(SystemExit, match=f"takes no {words[0]}, only"):
            main([*again, *words])
    assert loaded == []
    main([*again, "--model", "tiny", "--device", "cpu", "--format", "flac", "--pictures"])
    assert {path.suffix for path in (tmp_path / "b").iterdir()} == {".flac", ".json", ".png"}


def test_a_recipe_with_a_moved_clip_accepts_a_new_path(tmp_path, clip):
    generate("--style", clip, "--seed", "3", "--out", "a")
    moved = (tmp_path / "clip.wav").rename(tmp_path / "moved.wav")
    with pytest.raises(SystemExit, match=r"clip.wav.*--style"):
        main(["generate", "--from-recipe", "a/001_clip.json", "--out", "b"])
    main(["generate", "--from-recipe", "a/001_clip.json", "--style", str(moved), "--out", "b"])


def test_a_recipe_that_is_not_reproduced_is_reported(tmp_path, capsys):
    generate("--text", "waltz", "--seed", "3", "--out", "a")
    path = tmp_path / "a" / "001_waltz.json"
    path.write_text(path.read_text().replace('"waveform_sha256": "', '"waveform_sha256": "0'))
    with pytest.raises(SystemExit) as end:
        main(["generate", "--from-recipe", str(path), "--out", "b"])
    assert end.value.code == 1
    assert "not identical" in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["jsonl", "csv"])
def test_a_table_of_prompts_is_generated(kind, tmp_path, clip):
    rows = [
        {"text": "disco beat", "seed": 5},
        {"text": "waltz", "style": "clip.wav", "count": 2, "style_detail": 1},
        {"style": "clip.wav", "name": "only style", "excerpt_start": 0.5},
    ]
    table = tmp_path / f"prompts.{kind}"
    if kind == "jsonl":
        table.write_text("\n".join(map(json.dumps, rows)))
    else:
        columns = ["text", "style", "seed", "count", "style_detail", "name", "excerpt_start"]
        lines = [",".join(str(row.get(c, "")) for c in columns) for row in rows]
        table.write_text("\n".join([",".join(columns), *lines]))
    generate("--prompts", str(table), "--seed", "40", "--out", "folder")
    recipes = recipes_in(tmp_path / "folder")
    assert list(recipes) == ["001_disco-beat", "002_waltz_1", "002_waltz_2", "003_only-style"]
    assert [r["request"]["seed"] for r in recipes.values()] == [5, 41, 42, 43]
    assert recipes["002_waltz_1"]["request"]["style_detail"] == 1
    assert recipes["003_only-style"]["request"]["excerpt_start"] == 0.5
    assert recipes["001_disco-beat"]["request"]["style"] is None


def test_repeating_a_command_generates_only_missing_samples(tmp_path, capsys, monkeypatch):
    command = ["--text", "waltz", "--count", "3", "--seed", "1", "--out", "folder"]
    generate(*command)
    before = {path: path.read_bytes() for path in (tmp_path / "folder").iterdir()}
    (tmp_path / "folder" / "001_waltz_2.wav").unlink()
    (tmp_path / "folder" / "001_waltz_3.json").unlink()
    generate(*command)
    assert "1 of 3 are in folder already" in capsys.readouterr().out
    after = {path: path.read_bytes() for path in (tmp_path / "folder").iterdir()}
    wavs = {path for path in before if path.suffix == ".wav"}
    assert {path: after[path] for path in wavs} == {path: before[path] for path in wavs}


def test_existing_samples_are_kept_without_a_seed(tmp_path, capsys):
    generate("--text", "waltz", "--out", "folder")
    generate("--text", "waltz", "--out", "folder")
    assert "1 of 1 are in folder already" in capsys.readouterr().out


def test_another_format_or_a_picture_reuses_the_sample(tmp_path, capsys):
    folder, command = tmp_path / "folder", ["--text", "waltz", "--count", "2", "--out", "folder"]
    generate(*command)
    before, wav = recipes_in(folder), (folder / "001_waltz_1.wav").read_bytes()
    generate(*command, "--format", "flac")
    assert "already" not in capsys.readouterr().out
    after = recipes_in(folder)
    for name, recipe in before.items():
        assert after[name] == recipe | {"audio": f"{name}.flac"}
        assert (folder / f"{name}.flac").exists()
    assert (folder / "001_waltz_1.wav").read_bytes() == wav
    (folder / "001_waltz_1.wav").unlink()
    generate(*command, "--format", "flac", "--pictures")
    assert len(list(folder.glob("*.png"))) == 2
    assert recipes_in(folder) == after
    capsys.readouterr()
    generate(*command, "--format", "flac", "--pictures")
    assert "2 of 2 are in folder already" in capsys.readouterr().out


def test_samples_of_other_requests_are_not_overwritten(tmp_path):
    generate("--text", "waltz", "--seed", "1", "--out", "folder")
    with pytest.raises(SystemExit, match=r"its temperature is 1.0, not 0.5.*--overwrite"):
        generate("--text", "waltz", "--seed", "1", "--temperature", "0.5", "--out", "folder")
    generate("--text", "waltz", "--seed", "2", "--out", "folder", "--overwrite")
    assert recipes_in(tmp_path / "folder")["001_waltz"]["request"]["seed"] == 2


def test_log_messages_do_not_break_the_progress_bar(capsys):
    with progress_bar(2.0) as bar:
        bar.update(1)
        logging.getLogger("audiocraft").warning("The licence is another.")
    assert "\rThe licence is another.\n" in capsys.readouterr().err


def test_an_interrupt_keeps_finished_samples(tmp_path, tiny_musicgen, monkeypatch, capsys):
    real, calls = tiny_musicgen.generate, []

    def interrupted(*args, **kwargs):
        calls.append(args)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*args, **kwargs)

    monkeypatch.setattr(tiny_musicgen, "generate", interrupted)
    command = ["--text", "a", "--count", "3", "--seed", "1", "--batch-size", "1", "--out", "f"]
    with pytest.raises(SystemExit) as end:
        generate(*command)
    assert end.value.code == 130
    assert "the same command resumes" in capsys.readouterr().out
    assert list(recipes_in(tmp_path / "f")) == ["001_a_1"]
    generate(*command)
    assert len(recipes_in(tmp_path / "f")) == 3


def test_a_full_disk_is_reported_and_samples_are_kept(tmp_path, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device", "folder/x.wav")

    monkeypatch.setattr("audiocraft.cli.generate.write_sample", full)
    with pytest.raises(SystemExit, match=r"x.wav cannot be written: No space.*resumes"):
        generate("--text", "waltz", "--out", "folder")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--style", "gone.wav"], r"001_gone: .*gone.wav"),
        (["--prompts", "gone.csv"], r"gone.csv"),
        (["--count", "0"], r"at least 1"),
        (["--batch-size", "0"], r"at least 1"),
        (["--out", "clip.wav"], r"clip.wav is a file"),
        (["--duration", "0"], r"duration"),
        (["--duration", "0.001"], r"001_free: duration=0.001 s .* 0.02 s"),
        (["--seed", "99999999999999999999"], r"seed must be from 0 to 4611686018427387903"),
        (["--seed", "-1"], r"seed must be from 0"),
        (["--seed", str(2**62 - 2), "--count", "3"], r"but is 4611686018427387904"),
        (["--text", "x" * 10_000], r"10,000 characters"),
        (["--style-detail", "7", "--style", "clip.wav"], r"style_detail is 7"),
    ],
)
def test_errors_are_one_sentence(words, message, clip):
    with pytest.raises(SystemExit, match=message):
        generate(*words)


def test_an_invalid_row_is_named_before_generation(tmp_path):
    (tmp_path / "p.jsonl").write_text('{"text": "a"}\n{"text": "b", "tempo": 3}\n')
    with pytest.raises(SystemExit, match=r"p.jsonl, prompt 2: 'tempo' is unknown.*count, name\."):
        generate("--prompts", "p.jsonl", "--out", "folder")
    (tmp_path / "p.jsonl").write_text('{"text": "a", "name": "x"}\n{"name": "x", "count": 0}\n')
    with pytest.raises(SystemExit, match=r"prompt 2: count must be"):
        generate("--prompts", "p.jsonl", "--out", "folder")
    assert not (tmp_path / "folder").exists()


@pytest.mark.parametrize(
    ("name", "content"), [("p.csv", ""), ("p.csv", "text,seed\n"), ("p.jsonl", "\n")]
)
def test_a_table_without_prompts_is_refused(name, content, tmp_path, loaded):
    (tmp_path / name).write_text(content)
    with pytest.raises(SystemExit, match=f"{name} contains no prompts"):
        generate("--prompts", name)
    assert loaded == []


# Cells of a table.


def test_unambiguous_cells_are_converted(tmp_path):
    rows = [{"name": 1, "count": "2", "seed": 5.0, "text": 808}, {"text": "b", "count": None}]
    (tmp_path / "p.jsonl").write_text("\n".join(map(json.dumps, rows)))
    generate("--prompts", "p.jsonl", "--seed", "9", "--out", "folder")
    recipes = recipes_in(tmp_path / "folder")
    assert list(recipes) == ["001_1_1", "001_1_2", "002_b"]
    assert [r["request"]["seed"] for r in recipes.values()] == [5, 6, 11]
    assert recipes["001_1_1"]["request"]["text"] == "808"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ('{"count": Infinity}', "count must be a whole number but is inf"),
        ('{"count": 2.5}', "count must be a whole number but is 2.5"),
        ('{"count": true}', "count must be a whole number but is True"),
        ('{"count": "many"}', "count must be a whole number but is 'many'"),
        ('{"name": ["a"]}', r"name must be text but is \['a'\]"),
        ('{"style": 5}', "There is no audio file"),
        ('{"duration": -Infinity}', "duration must be a finite number but is -inf"),
    ],
)
def test_the_error_names_an_invalid_cell(row, message, tmp_path, loaded):
    (tmp_path / "p.jsonl").write_text('{"text": "a"}\n' + row)
    with pytest.raises(SystemExit, match=message):
        generate("--prompts", "p.jsonl")
    assert loaded == []


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-8"])
def test_an_excel_csv_is_read(encoding, tmp_path):
    (tmp_path / "p.csv").write_text("name,text\na,Größe\n", encoding=encoding)
    generate("--prompts", "p.csv", "--out", "folder")
    assert recipes_in(tmp_path / "folder")["001_a"]["request"]["text"] == "Größe"


def test_the_error_names_a_line_in_another_encoding(tmp_path, loaded):
    (tmp_path / "p.csv").write_text("text\nwaltz\nGröße\n", encoding="cp1252")
    with pytest.raises(SystemExit, match=r"p.csv, line 3, is not UTF-8: 'Gr.*CSV UTF-8"):
        generate("--prompts", "p.csv")
    assert loaded == []


# Outputs and inputs.


def test_a_single_sample_is_written_to_a_file(tmp_path, capsys):
    command = ["--text", "waltz", "--seed", "1", "-o", "new/my.waltz.flac"]
    generate(*command)
    assert {p.name for p in (tmp_path / "new").iterdir()} == {"my.waltz.flac", "my.waltz.json"}
    generate(*command)
    assert "1 of 1 are in new already" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="recipe of another sample"):
        generate("--text", "polka", "-o", "new/my.waltz.flac")
    generate("--text", "polka", "--output", "new/my.waltz.flac", "--overwrite")
    main(["generate", "--from-recipe", "new/my.waltz.json", "-o", "again.wav"])
    assert soundfile.info("again.wav").samplerate == 32000


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--out", "clip.wav/sub"], "clip.wav"),
        (["--out", "/proc/nothing"], "/proc/nothing"),
        (["-o", "clip.wav/a.wav"], "clip.wav"),
        (["-o", "clip.wav"], "clip.wav exists"),
        (["-o", "."], "is a folder"),
        (["-o", "a.txt"], r"a.txt must end in one of: .wav"),
        (["-o", "a.wav", "--format", "mp3"], "must end in one of: .mp3"),
        (["-o", "a.wav", "--count", "2"], "--out FOLDER"),
        (["-o", "a.wav", "--out", "b"], "exclude each other"),
        (["--style", "gone.zip:a.mp3"], "There is no audio file gone.zip:a.mp3"),
        (["--style", "clip.wav\0"], "NUL"),
    ],
)
def test_outputs_and_clips_are_checked_before_the_model_is_loaded(words, message, clip, loaded):
    with pytest.raises(SystemExit, match=message):
        generate("--text", "waltz", *words)
    assert loaded == []


def test_a_clip_in_a_zip_archive_is_used(tmp_path, clip):
    with zipfile.ZipFile("music.zip", "w") as archive:
        archive.write(clip, "a.wav")
    generate("--style", "music.zip:a.wav", "--seed", "1", "--out", "zipped")
    generate("--style", clip, "--seed", "1", "--out", "plain")
    (zipped,), (plain,) = (recipes_in(tmp_path / folder).values() for folder in ("zipped", "plain"))
    for key in ("style_sha256", "waveform_sha256"):
        assert zipped[key] == plain[key]


def test_a_clip_whose_name_is_not_utf_8_is_used(tmp_path, clip, capsys):
    name = os.fsdecode(b"caf\xe9.wav")
    shutil.copy(clip, name)
    generate("--style", name, "--text", "half an emoji \ud83c", "--seed", "1", "--out", "a")
    (recipe,) = recipes_in(tmp_path / "a").values()
    assert recipe["request"]["style"] == name
    main(["generate", "--from-recipe", "a/001_half-an-emoji.json", "--out", "b"])
    assert "bit for bit" in capsys.readouterr().out


def test_a_closed_pipe_does_not_stop_generation(tmp_path, monkeypatch):
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w", encoding="utf-8") as closed:
        monkeypatch.setattr("sys.stdout", closed)
        generate("--text", "waltz", "--count", "2", "--batch-size", "1", "--out", "folder")
    assert len(recipes_in(tmp_path / "folder")) == 2


def test_a_picture_that_cannot_be_drawn_is_a_warning(tmp_path, monkeypatch, caplog):
    def fail(*args):
        raise RuntimeError("no font")

    monkeypatch.setattr("audiocraft.inference.sample_generator.plot_audio", fail)
    generate("--text", "$a$ {x} %s <b> [/]", "--pictures", "--out", "folder")
    assert len(recipes_in(tmp_path / "folder")) == 1
    assert len(caplog.records) == 1


@pytest.mark.slow
def test_without_utf_8_samples_and_recipes_are_written(tmp_path, clip):
    """In a process with an ASCII locale."""
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    name = b"caf\xe9.wav"
    shutil.copy(clip, os.fsdecode(name))
    command = [sys.executable, "-m", "audiocraft", "generate", "--duration", "0.2", "--out", "a"]
    run = subprocess.run(
        [*command, "--text", "Größe 🎷".encode(), "--style", name, "--pictures"],
        env=os.environ | ascii_only,
        capture_output=True,
    )
    assert run.returncode == 0, run.stderr.decode()
    (recipe,) = recipes_in(tmp_path / "a").values()
    assert recipe["request"]["text"] == "Größe 🎷"
    assert recipe["request"]["style"] == os.fsdecode(name)
    assert len(list((tmp_path / "a").iterdir())) == 3
