"""The main job through its real door: it trains, is heard, goes on, and tells mistakes plainly."""

import json
import shutil

import pytest
import soundfile
import torch

from .conftest import SMALL, command, interrupted

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("commands")]
MODES = ("text", "style", "text_and_style")


def test_it_ends_with_checkpoints_history_and_logs(finished):
    assert finished.returncode == 0, finished.output
    names = {path.name for path in finished.folder.iterdir()}
    assert {"checkpoint.th", "history.json", "tensorboard", "samples"} <= names
    assert len(finished.history) == 2
    assert list((finished.folder / "tensorboard").glob("events.*"))


def test_the_last_lines_say_where_everything_is(finished):
    end = finished.output[-2000:]
    assert str(finished.folder / "samples") in end
    assert str(finished.folder / "checkpoint.th") in end
    assert "Try next" in end
    assert "ln(1024) = 6.931" in end


@pytest.mark.parametrize("mode", MODES)
def test_samples_of_every_kind_have_audio_recipe_and_picture(finished, mode):
    folder = finished.folder / "samples" / "2" / mode
    (recipe_file,) = folder.glob("*.json")
    recipe = json.loads(recipe_file.read_text())
    wav, sample_rate = soundfile.read(folder / recipe["audio"])
    assert sample_rate == 16000
    assert len(wav) == 16000
    assert recipe_file.with_suffix(".png").exists()
    assert recipe["mode"] == mode
    assert (recipe["description"] is None) == (mode == "style")
    style = recipe_file.with_name(f"{recipe_file.stem}.style.wav")
    assert style.exists() == ("style" in mode)
    assert (recipe["excerpt_start"] is None) == (mode == "text")


def test_the_second_run_resumes_and_has_nothing_left_to_do(finished):
    before = (finished.folder / "checkpoint.th").read_bytes()
    again = command("-m", "dora", "run", *SMALL, outputs=finished.outputs)
    assert again.returncode == 0, again.output
    assert "All 2 epochs are done" in again.output
    assert (finished.folder / "checkpoint.th").read_bytes() == before
    assert len(again.history) == 2


def test_an_interrupted_run_ends_like_one_that_was_not(finished, tmp_path):
    """Ctrl-C in the second epoch, then the same command: the same weights and history."""
    short = interrupted("-m", "dora", "run", *SMALL, outputs=tmp_path)
    assert short.returncode == 130, short.output
    assert "The same command goes on from here" in short.output
    assert len(short.history) == 1
    rest = command("-m", "dora", "run", *SMALL, outputs=tmp_path)
    assert rest.returncode == 0, rest.output
    assert rest.history == finished.history
    ours, theirs = (
        torch.load(run.folder / "checkpoint.th", weights_only=True)["model"]
        for run in (rest, finished)
    )
    for key, value in ours.items():
        assert torch.equal(value, theirs[key]), key


def test_the_same_seed_gives_the_same_history(finished, tmp_path):
    again = command("train.py", *SMALL, outputs=tmp_path)
    assert again.history == finished.history
    assert again.folder.name == finished.folder.name


def test_another_seed_gives_another_history(finished, tmp_path):
    other = command("-m", "audiocraft.train", *SMALL, "seed=1", outputs=tmp_path)
    assert other.returncode == 0, other.output
    assert other.history != finished.history


def test_all_doors_agree_on_the_signature(finished, tmp_path):
    info = command("-m", "dora", "info", *SMALL, outputs=tmp_path)
    assert finished.folder.name in info.output


def test_a_trained_model_can_be_used_by_its_signature(finished, tmp_path):
    script = (
        "from audiocraft.models import MusicGen;"
        f"m = MusicGen.get_pretrained('//sig/{finished.folder.name}', device='cpu');"
        "m.set_generation_params(duration=0.5);"
        "print('SHAPE', list(m.generate(['calm piano'], seed=1).shape))"
    )
    run = command("-c", script, outputs=finished.outputs)
    assert "SHAPE [1, 1, 8000]" in run.output, run.output


def test_listening_again_needs_no_training(finished):
    run = command("-m", "dora", "run", *SMALL, "execute_only=generate", outputs=finished.outputs)
    assert run.returncode == 0, run.output
    assert (finished.folder / "samples" / "3" / "style").is_dir()
    shutil.rmtree(finished.folder / "samples" / "3")


def test_wandb_is_one_flag_away(tmp_path):
    one = [a for a in SMALL if not a.startswith("optim.epochs")] + ["optim.epochs=1"]
    run = command("-m", "dora", "run", *one, "logging.log_wandb=true", outputs=tmp_path)
    assert run.returncode == 0, run.output
    assert list(run.folder.glob("wandb/offline-run-*/*.wandb"))


MISTAKES = {
    "a missing manifest": (["datasource.train=egs/nowhere"], "egs/nowhere"),
    "another number of codebooks": (["transformer_lm.n_q=2"], "transformer_lm.n_q is 2"),
    "another codebook size": (["transformer_lm.card=400"], "transformer_lm.card is 400"),
    "an unknown key": (["optim.speed=3"], "speed"),
    "a batch that does not divide": (["dataset.batch_size=0"], "batch_size"),
    "an unknown tokenizer": (
        ["compression_model_checkpoint=//bundled/nothing"],
        "mel_rvq_16khz",
    ),
    "a batch that does not divide into pieces": (["optim.accumulate=3"], "such as 3"),
    "no override": (["epochs"], "key=value"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_told_in_a_sentence_before_training(mistake, tmp_path):
    overrides, named = MISTAKES[mistake]
    run = command("-m", "dora", "run", *SMALL, *overrides, outputs=tmp_path)
    assert run.returncode != 0
    assert named in run.output
    assert "Traceback" not in run.output, run.output
    assert not list(tmp_path.glob("xps/*/checkpoint.th"))


def test_the_traceback_is_one_variable_away(tmp_path):
    run = command(
        "-m", "dora", "run", *SMALL, "transformer_lm.n_q=2", outputs=tmp_path, HYDRA_FULL_ERROR="1"
    )
    assert "Traceback" in run.output
