"""Every command in the README and in docs/ works as it stands, or with small overrides appended.

A command that is not in the table fails: whoever writes one says here how it is tried.
"""

import json
import re
import shlex
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from audiocraft.data.audio import audio_read, audio_write

from .conftest import ROOT, SMALL, command

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "dataset" / "README.md"]
TINY = [override for override in SMALL if not override.startswith("solver=")]
ONE_EPOCH = [o for o in TINY if not o.startswith("optim.epochs")] + ["optim.epochs=1"]


@dataclass(frozen=True)
class Try:
    """How a documented command is tried."""

    append: tuple[str, ...] = ()  # overrides after the command
    parse_only: bool = False  # `make -n`: targets that would recurse or run long
    compose_only: bool = False  # `dora info` in place of `dora run`: wants a hub or a GPU
    signature: bool = False  # SIG stands for the signature of a finished experiment
    epochs: bool = False  # trains: appended overrides make it small
    names_only: bool = False  # installs something of the system: .ci/run does it
    help_only: bool = False  # renders music (tests/dataset does it) or serves (tests/demos does)
    folder: bool = False  # writes a folder under /tmp: here one of the test; no overrides
    walked: bool = False  # a step on the way of docs/DATASETS.md: test_walkthrough.py
    writes_tokens: bool = False  # to /tmp/tokens: here into a folder of the test
    reads_tokens: bool = False  # from there: here what another test has encoded
    benchmark: bool = False  # measures: here for a moment
    generates: bool = False  # music: here half a second of it, into a folder of the test
    recreates: bool = False  # from the recipe of a command that generates
    steers: bool = False  # measures on labelled music: here on a few clips


GROOVE = (
    'python -m audiocraft generate --text "a funky groove with slap bass" '
    "--style assets/electronic.mp3 --duration 20 --count 4 --seed 7 --out /tmp/groove"
)
COMMANDS = {
    "make install": Try(parse_only=True),
    "make train": Try(parse_only=True),
    "make train ARGS='optim.epochs=20 dataset.batch_size=16'": Try(parse_only=True),
    "make test": Try(parse_only=True),
    "dora info solver=musicgen/musicgen_style_tiny": Try(),
    "dora run solver=musicgen/musicgen_style_tiny": Try(epochs=True),
    "dora run --clear solver=musicgen/musicgen_style_tiny": Try(epochs=True),
    "python train.py solver=musicgen/musicgen_style_tiny": Try(epochs=True),
    "python -m audiocraft.train solver=musicgen/musicgen_style_tiny": Try(epochs=True),
    "dora run solver=musicgen/musicgen_style_tiny execute_only=generate": Try(signature=True),
    "dora run solver=musicgen/musicgen_style_tiny logging.log_wandb=true wandb.mode=offline": Try(
        epochs=True
    ),
    "dora run solver=musicgen/musicgen_style_tiny continue_from=//sig/SIG optim.lr=1e-4 "
    "transformer_lm.emb_lr=null": Try(epochs=True, signature=True),
    "dora run -d --ddp_workers=2 solver=musicgen/musicgen_style_tiny device=cpu": Try(epochs=True),
    "torchrun --nproc_per_node 2 train.py solver=musicgen/musicgen_style_tiny device=cpu": Try(
        epochs=True
    ),
    "dora run solver=musicgen/musicgen_style_32khz dset=audio/example "
    "model/lm/model_scale=medium": Try(compose_only=True),
    "dora run solver=musicgen/musicgen_style_32khz model/lm/model_scale=medium "
    "conditioner=style2music continue_from=//pretrained/facebook/musicgen-style": Try(
        compose_only=True
    ),
    "dora run solver=musicgen/musicgen_style_32khz model/lm/model_scale=medium "
    "conditioner=style2music continue_from=//sig/SIG": Try(compose_only=True),
    "dora run solver=musicgen/musicgen_style_32khz model/lm/model_scale=medium "
    "conditioner=style2music continue_from=/checkpoints/mine/checkpoint.th": Try(compose_only=True),
    "dora run solver=musicgen/musicgen_style_32khz model/lm/model_scale=medium "
    "conditioner=style2music continue_from=//pretrained/facebook/musicgen-style preset=16gb "
    "dset=audio/example": Try(compose_only=True),
    "dora run solver=musicgen/musicgen_style_tiny continue_from=//bundled/musicgen_style_tiny "
    "continue_from_config=inherit preset=cpu optim.lr=1e-3 transformer_lm.emb_lr=null": Try(
        epochs=True
    ),
    "dora run solver=musicgen/musicgen_style_tiny continue_from=//bundled/musicgen_style_tiny "
    "continue_from_config=inherit lora.use=true lora.rank=8 optim.lr=1e-2": Try(epochs=True),
    "dora run solver=musicgen/musicgen_style_tiny continue_from=//bundled/musicgen_style_tiny "
    "continue_from_config=inherit execute_only=valid": Try(epochs=True),
    "dora run solver=musicgen/musicgen_style_tiny continue_from=//sig/SIG "
    "continue_from_config=inherit transformer_lm.emb_lr=null": Try(epochs=True, signature=True),
    "apt-get install fluidsynth fluid-soundfont-gm": Try(names_only=True),
    "python -m audiocraft prepare dataset/example /tmp/mine --by piece --report": Try(walked=True),
    "python -m audiocraft validate /tmp/mine/egs/train /tmp/mine/egs/valid "
    "--json /tmp/mine/problems.json": Try(walked=True),
    "dora run solver=musicgen/musicgen_style_tiny datasource.train=/tmp/mine/egs/train "
    "datasource.valid=/tmp/mine/egs/valid datasource.evaluate=/tmp/mine/egs/evaluate "
    "datasource.generate=/tmp/mine/egs/generate": Try(walked=True),
    "python -m audiocraft prepare songs/songs.csv /tmp/songs --by artist "
    "--column description=caption": Try(walked=True),
    "python -m audiocraft prepare songs/hub /tmp/hub --by piece --seed 1 --valid 0.2 "
    "--generate 0": Try(walked=True),
    "python -m audiocraft manifest dataset/example egs/mine/data.jsonl.gz": Try(walked=True),
    "python -m dataset.make_labelled /tmp/music --hours 0.1 --seed 0": Try(help_only=True),
    "python -m dataset.make_example --workers 2": Try(help_only=True),
    "python -m dataset.make_labelled OUT --hours 2 --workers 2": Try(help_only=True),
    "dora grid musicgen.musicgen_style_32khz --dry_run --init": Try(),
    "python -m audiocraft export SIG /tmp/exported": Try(signature=True, folder=True),
    "python -m audiocraft export SIG /tmp/exported_safetensors --format safetensors": Try(
        signature=True, folder=True
    ),
    "python -m audiocraft encode-dataset egs/example/train /tmp/tokens/train "
    "--tokenizer //bundled/mel_rvq_16khz": Try(writes_tokens=True),
    "python -m audiocraft encode-dataset egs/example/train /tmp/tokens/train --verify": Try(
        reads_tokens=True
    ),
    "dora run solver=musicgen/musicgen_style_tiny datasource.train=/tmp/tokens/train": Try(
        epochs=True, reads_tokens=True
    ),
    "dora run solver=musicgen/musicgen_style_tiny cache.path=/tmp/tokens cache.write=true": Try(
        epochs=True, writes_tokens=True
    ),
    "dora run solver=musicgen/musicgen_style_tiny cache.path=/tmp/tokens": Try(
        epochs=True, reads_tokens=True
    ),
    "python -m benchmarks.data --folder /tmp/minutes --segment 10": Try(benchmark=True),
    "python -m benchmarks.manifest --lines 1000000": Try(benchmark=True),
    "python -m benchmarks.startup --rounds 5": Try(help_only=True),  # tests/benchmarks
    "python -m benchmarks.long_pieces --minutes 5": Try(help_only=True),  # tests/benchmarks
    # Submitted by test_slurm.py, run by test_experiments.py: here they are only listed.
    "dora grid musicgen.musicgen_style_tiny": Try(append=("--dry_run", "--no_monitoring")),
    "python -m audiocraft grid musicgen.musicgen_style_tiny --local --parallel 2": Try(
        append=("--dry_run",)
    ),
    "python -m audiocraft doctor solver=musicgen/musicgen_style_tiny": Try(),
    "make slurm": Try(parse_only=True),
    'python -m audiocraft generate --text "a calm solo piano" --count 2 --seed 7': Try(
        generates=True
    ),
    "python -m audiocraft generate --style assets/electronic.mp3 --duration 20 --out techno": Try(
        generates=True
    ),
    'python -m audiocraft generate --text "a string orchestra" --style assets/electronic.mp3 '
    "--text-weight 6 --out both": Try(generates=True),
    GROOVE: Try(generates=True),
    "python -m audiocraft generate --prompts egs/example/prompts.csv --out /tmp/many": Try(
        generates=True
    ),
    "python -m audiocraft generate --from-recipe "
    "/tmp/groove/001_a-funky-groove-with-slap-bass_1.json --out /tmp/again": Try(recreates=True),
    "python -m audiocraft steering //bundled/musicgen_style_tiny /tmp/music/egs/evaluate "
    "--json /tmp/steering.json": Try(steers=True),
    "python -m demos.musicgen_style_app": Try(help_only=True),
    "python -m demos.musicgen_style_app --inbrowser --model //bundled/musicgen_style_tiny": Try(
        help_only=True
    ),
    "python -m demos.musicgen_style_app --listen 0.0.0.0 --server_port 8080 --username ada "
    "--password lovelace": Try(help_only=True),
}


def commands_of(page: Path):
    """Commands of a page's shell blocks, without comments."""
    for block in re.findall(r"```shell\n(.*?)```", page.read_text(), re.DOTALL):
        for line in block.splitlines():
            text = re.sub(r"\s+#.*", "", line).strip()
            if text:
                yield text


@pytest.mark.parametrize("text", sorted({text for page in PAGES for text in commands_of(page)}))
def test_every_documented_command_is_tried_somewhere(text):
    assert text in COMMANDS, "add it to the table, and say how it is tried"


@pytest.fixture(scope="module")
def groove(tmp_path_factory) -> Path:
    """What the page's first command makes, of half a second."""
    folder = tmp_path_factory.mktemp("groove")
    words = [*shlex.split(GROOVE)[1:], "--duration", "0.5", "--out", str(folder)]
    run = command(*words, outputs=folder)
    assert run.returncode == 0, run.output
    return folder


@pytest.fixture
def labelled(tmp_path) -> Path:
    """Two clips of two pieces of two styles."""
    lines = []
    for path in (
        ROOT / "dataset" / "example" / name
        for name in ("piano_01.mp3", "piano_02.ogg", "techno_01.mp3", "techno_02.ogg")
    ):
        wav, rate = audio_read(path)
        for number, part in enumerate(wav.chunk(2, dim=-1)):
            half = audio_write(tmp_path / f"{path.stem}_{number}", part, rate)
            shutil.copy(path.with_suffix(".json"), half.with_suffix(".json"))
            line = {"path": str(half), "duration": part.shape[-1] / rate, "sample_rate": rate}
            lines.append(json.dumps(line))
    (tmp_path / "data.jsonl").write_text("\n".join(lines))
    return tmp_path


@pytest.mark.slow
@pytest.mark.xdist_group("commands")
@pytest.mark.parametrize("text", sorted(text for text, how in COMMANDS.items() if not how.walked))
def test_a_documented_command_works(text, finished, tmp_path, request):
    how = COMMANDS[text]
    words = shlex.split(text)
    if how.parse_only:
        subprocess.run(["make", "-n", *words[1:]], cwd=ROOT, check=True, capture_output=True)
        return
    if how.names_only:
        packages = words[words.index("install") + 1 :]
        assert all(name in (ROOT / ".ci" / "run").read_text() for name in packages)
        return
    if how.help_only:
        run = command(*words[1:3], "--help", outputs=tmp_path)
        flags = [word for word in words if word.startswith("--")]
        assert run.returncode == 0
        assert all(flag in run.output for flag in flags)
        return
    if how.writes_tokens or how.reads_tokens:
        folder = request.getfixturevalue("encoded") if how.reads_tokens else tmp_path
        words = [word.replace("/tmp/tokens", str(folder)) for word in words]
    if how.benchmark:
        small = {"/tmp/minutes": str(request.getfixturevalue("minute")), "1000000": "1000"}
        words = [small.get(word, word) for word in words]
        if "--folder" in words:
            words += ["--rounds", "1", "--seconds", "0.1", "--workers", "0"]
    if how.generates:
        words += ["--duration", "0.5", "--out", str(tmp_path / "music")]
    if how.recreates:
        places = {
            "/tmp/groove": str(request.getfixturevalue("groove")),
            "/tmp/again": str(tmp_path),
        }
        for place, here in places.items():
            words = [word.replace(place, here) for word in words]
    if how.steers:
        places = {"/tmp/music/egs/evaluate": str(request.getfixturevalue("labelled"))}
        words = [places.get(word, word.replace("/tmp/", f"{tmp_path}/")) for word in words]
    outputs = tmp_path / "outputs"
    if how.signature:  # a copy: others look at the original
        shutil.copytree(finished.outputs, outputs)
    if how.signature:
        words = [word.replace("SIG", finished.folder.name) for word in words]
    if how.folder:
        words = [word.replace("/tmp/", f"{tmp_path}/") for word in words]
    if how.compose_only:
        words = [word if word != "run" else "info" for word in words]
    module = {"dora": "dora", "torchrun": "torch.distributed.run"}.get(words[0])
    words = ["-m", module, *words[1:]] if module else words[1:]
    small = ONE_EPOCH if how.epochs else TINY if how.signature and not how.folder else []
    run = command(*words, *small, *how.append, outputs=outputs)
    assert run.returncode == 0, run.output
    assert "Traceback" not in run.output
    if how.generates:
        recipes = list((tmp_path / "music").glob("*.json"))
        assert recipes
        for recipe in recipes:
            wav, rate = audio_read(recipe.with_suffix(".wav"))
            assert wav.shape[-1] == rate // 2
            assert wav.abs().max() > 0.01
    if how.recreates:
        assert "the same music, bit for bit" in run.output


def test_the_python_of_the_readme_runs(tiny_musicgen, tmp_path, monkeypatch):
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    asked_for = []

    def get_pretrained(name, *args, **kwargs):
        asked_for.append(name)
        return tiny_musicgen

    monkeypatch.setattr(type(tiny_musicgen), "get_pretrained", staticmethod(get_pretrained))
    (tmp_path / "assets").symlink_to(ROOT / "assets")
    monkeypatch.chdir(tmp_path)
    exec(compile(code.replace("duration=8", "duration=0.2"), "README.md", "exec"), {})
    assert asked_for == ["facebook/musicgen-style"]
    assert len(list(tmp_path.glob("*.wav"))) == 3
