"""Documented commands: all are valid, one of each kind is run (the others by `make test-slow`).

Valid means: make has the target, the program's own parser accepts the arguments, the settings of a
run compose. To run, a command is given other folders and settings that make it small.
"""

import argparse
import json
import re
import runpy
import shutil
import subprocess
import sys

import pytest

from audiocraft import train
from audiocraft.data.audio import audio_read, audio_write

from .conftest import QUICK, ROOT, SMALL, command
from .documented import PAGES, TRAINING, Command, documented

COMMANDS = documented()
SMALL_RUN = [override for override in QUICK if not override.startswith("solver=")]
LISTED = ("--dry_run", "--no_monitoring")
# Appended to commands of a kind, to shorten them.
SMALLER = {
    "dora grid": LISTED,  # submitted in test_slurm.py
    "audiocraft grid": LISTED[:1],  # run in test_experiments.py
    "benchmarks.data": ("--rounds", "1", "--seconds", "0.1", "--workers", "0"),
    "benchmarks.manifest": ("--lines", "1000"),
}
# Run by other tests, completely or with other arguments.
EXECUTED_ELSEWHERE = (
    *("make", "apt-get"),  # .ci/run
    *("audiocraft prepare", "audiocraft validate", "audiocraft manifest"),  # test_walkthrough.py
    *("demos.musicgen_style_app", "audiocraft demo"),  # tests/demos
    *("dataset.make_example", "dataset.make_labelled", "dataset.fetch_recorded"),  # tests/dataset
    *("benchmarks.startup", "benchmarks.long_pieces"),  # tests/benchmarks
    "audiocraft fit-tokenizer",  # tests/models
)
COLD = ("dora run", "audiocraft generate")  # nothing is imported beforehand


class ParsedError(BaseException):
    """Raised where a program has parsed its arguments."""


@pytest.fixture
def parse_only(monkeypatch):
    """A function that runs a Python program until it has parsed its arguments."""
    depth = 0

    def stopping(parse):
        def wrapper(*args, **kwargs):
            nonlocal depth
            depth += 1  # methods of argparse call each other
            try:
                parse(*args, **kwargs)
                if depth == 1:
                    raise ParsedError
                return parse(*args, **kwargs)
            finally:
                depth -= 1

        return wrapper

    for name in ("parse_args", "parse_intermixed_args", "parse_known_intermixed_args"):
        parse = getattr(argparse.ArgumentParser, name)
        monkeypatch.setattr(argparse.ArgumentParser, name, stopping(parse))

    def run(module: str, *arguments: str) -> None:
        monkeypatch.setattr(sys, "argv", [module, *arguments])
        for name in (module, f"{module}.__main__"):  # it is executed, not imported
            monkeypatch.delitem(sys.modules, name, raising=False)
        with pytest.raises(ParsedError):
            runpy.run_module(module, run_name="__main__", alter_sys=True)

    return run


@pytest.mark.parametrize("documented", COMMANDS, ids=lambda c: c.text)
def test_a_documented_command_is_valid(documented: Command, parse_only):
    kind, words = documented.kind, documented.words
    if kind == "make":
        subprocess.run(["make", "-n", *words[1:]], cwd=ROOT, check=True, capture_output=True)
    elif kind == "apt-get":
        packages = words[words.index("install") + 1 :]
        assert packages
        assert set(packages) <= set((ROOT / ".ci" / "run").read_text(encoding="utf-8").split())
    elif kind not in ("python train.py", "audiocraft.train"):
        program, module, *arguments = documented.arguments
        assert program == "-m", "how is this command parsed?"
        parse_only(module, *arguments)
    overrides = documented.overrides
    if kind == "make" and overrides:
        overrides = ["solver=musicgen/musicgen_style_tiny", *overrides]
    if kind in TRAINING or any(override.startswith("solver=") for override in overrides):
        train.main.resolve(overrides)


def is_small(documented: Command) -> bool:
    """Whether a command needs neither a model hub, a GPU, nor hours of music."""
    names = [word for word in documented.words if word.startswith("solver=")]
    return names in ([], ["solver=musicgen/musicgen_style_tiny"])


def executable() -> list:
    """Commands to execute; all but the first of each kind are slow, and so are benchmarks."""
    cases, kinds = [], set()
    for case in COMMANDS:
        if case.kind in EXECUTED_ELSEWHERE or not is_small(case) or "/tmp/mine" in case.text:
            continue
        if "/tmp/held_out" in case.text:  # hours of music
            continue
        is_slow = case.kind in kinds or case.kind.startswith("benchmarks")
        marks = [pytest.mark.slow] if is_slow else []
        kinds.add(case.kind)
        cases.append(pytest.param(case, marks=marks, id=case.text))
    return cases


@pytest.fixture(scope="module")
def generated_samples(tmp_path_factory):
    """Samples of the first command of docs/GENERATION.md, half a second each."""
    folder = tmp_path_factory.mktemp("groove")
    (case,) = [c for c in COMMANDS if "--out /tmp/groove" in c.text]
    run = command(*case.arguments, "--duration", "0.5", "--out", str(folder), outputs=folder)
    assert run.returncode == 0, run.output
    return folder


@pytest.fixture(scope="module")
def labelled_dataset(tmp_path_factory):
    """A dataset of two clips of each of two tracks of two styles."""
    folder, lines = tmp_path_factory.mktemp("labelled"), []
    for name in ("piano_01.mp3", "piano_02.ogg", "techno_01.mp3", "techno_02.ogg"):
        path = ROOT / "dataset" / "example" / name
        wav, rate = audio_read(path)
        for number, part in enumerate(wav.chunk(2, dim=-1)):
            half = audio_write(folder / f"{path.stem}_{number}", part, rate)
            shutil.copy(path.with_suffix(".json"), half.with_suffix(".json"))
            line = {"path": str(half), "duration": part.shape[-1] / rate, "sample_rate": rate}
            lines.append(json.dumps(line))
    (folder / "data.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return folder


# Folders that commands read, and the fixture that replaces each.
READ = {
    "/tmp/tokens": "encoded",
    "/tmp/groove": "generated_samples",
    "/tmp/music/egs/evaluate": "labelled_dataset",
    "/tmp/minutes": "minute",
}


def with_folders(documented: Command, request, tmp_path) -> list[str]:
    """Arguments of a command, with folders of this test instead of those under /tmp."""
    writes_tokens = "cache.write=true" in documented.text or "--tokenizer" in documented.text
    folders = {"/tmp/": f"{tmp_path}/new/"}
    for shown, fixture in READ.items():
        is_read = shown in documented.text and f"--out {shown}" not in documented.text
        if is_read and not (shown == "/tmp/tokens" and writes_tokens):
            folders[shown] = str(request.getfixturevalue(fixture))
    longest_first = sorted(folders, key=len, reverse=True)
    pattern = re.compile(f"(?:^|(?<==))({'|'.join(map(re.escape, longest_first))})")
    return [pattern.sub(lambda m: folders[m[1]], word) for word in documented.arguments]


def assert_half_a_second_of_music(folder) -> None:
    recipes = list(folder.glob("*.json"))
    assert recipes
    for recipe in recipes:
        wav, rate = audio_read(recipe.with_suffix(".wav"))
        assert wav.shape[-1] == rate // 2
        assert wav.abs().max() > 0.01


@pytest.mark.parametrize("documented", executable())
def test_a_documented_command_works(documented: Command, tmp_path, request):
    kind, outputs = documented.kind, tmp_path / "outputs"
    arguments = with_folders(documented, request, tmp_path)
    needs_experiment = "SIG" in documented.text or "execute_only=generate" in documented.text
    if needs_experiment:  # a copy: other tests read the original
        finished = request.getfixturevalue("finished")
        shutil.copytree(finished.outputs, outputs)
        arguments = [word.replace("SIG", finished.folder.name) for word in arguments]
    (tmp_path / "new").mkdir()
    is_new_music = kind == "audiocraft generate" and "--from-recipe" not in arguments
    if needs_experiment and kind in TRAINING:  # its settings
        arguments += [override for override in SMALL if not override.startswith("solver=")]
    elif kind in TRAINING:
        arguments += SMALL_RUN
    if is_new_music:
        arguments += ["--duration", "0.5", "--out", str(tmp_path / "music")]
    run = command(*arguments, *SMALLER.get(kind, ()), outputs=outputs, cold=kind in COLD)
    assert run.returncode == 0, run.output
    assert "Traceback" not in run.output
    if is_new_music:
        assert_half_a_second_of_music(tmp_path / "music")
    if "--from-recipe" in arguments:
        assert "bit for bit" in run.output


def test_python_code_of_the_readme_runs(tiny_musicgen, tmp_path, monkeypatch):
    page = PAGES[0].read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    names = []

    def get_pretrained(name, *args, **kwargs):
        names.append(name)
        return tiny_musicgen

    monkeypatch.setattr(type(tiny_musicgen), "get_pretrained", staticmethod(get_pretrained))
    (tmp_path / "assets").symlink_to(ROOT / "assets")
    monkeypatch.chdir(tmp_path)
    exec(compile(code.replace("duration=8", "duration=0.2"), "README.md", "exec"), {})
    assert names == ["facebook/musicgen-style"]
    assert len(list(tmp_path.glob("*.wav"))) == 3
