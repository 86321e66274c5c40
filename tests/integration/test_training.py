"""Training run: results, samples, resumption, wrong settings."""

import json
import shutil

import pytest
import soundfile
import torch

from .conftest import NO_SAMPLES, QUICK, SMALL, command, interrupted, run_training

MODES = ("text", "style", "text_and_style")


def test_a_run_writes_checkpoints_history_and_logs(finished):
    assert finished.returncode == 0, finished.output
    names = {path.name for path in finished.folder.iterdir()}
    assert {"checkpoint.th", "history.json", "tensorboard", "samples"} <= names
    assert len(finished.history) == 2
    assert list((finished.folder / "tensorboard").glob("events.*"))


def test_the_last_log_lines_name_results_and_next_steps(finished):
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


def test_a_finished_run_resumes_without_training(finished):
    before = (finished.folder / "checkpoint.th").read_bytes()
    again = run_training(*SMALL, outputs=finished.outputs)
    assert "All 2 epochs are done" in again.output
    assert (finished.folder / "checkpoint.th").read_bytes() == before
    assert len(again.history) == 2


def test_an_interrupted_run_ends_like_an_uninterrupted_one(finished, tmp_path):
    """SIGINT in the second epoch, then the same command: same weights and history."""
    short = interrupted("-m", "dora", "run", *SMALL, outputs=tmp_path)
    assert short.returncode == 130, short.output
    assert len(short.history) == 1
    rest = run_training(*SMALL, outputs=tmp_path)
    assert rest.history == finished.history
    ours, theirs = (
        torch.load(run.folder / "checkpoint.th", weights_only=True)["model"]
        for run in (rest, finished)
    )
    for key, value in ours.items():
        assert torch.equal(value, theirs[key]), key


@pytest.mark.slow
def test_the_same_seed_gives_the_same_history_in_another_process(finished, tmp_path):
    again = command("train.py", *SMALL, "generate.every=null", outputs=tmp_path, cold=True)
    assert again.returncode == 0, again.output
    for ours, theirs in zip(again.history, finished.history, strict=True):
        assert ours == {stage: theirs[stage] for stage in ours}
        assert {"train", "valid"} <= ours.keys()
    assert again.folder.name == finished.folder.name


def test_the_history_depends_on_the_seed(finished, tmp_path):
    job = ("-m", "audiocraft.train", *SMALL, *NO_SAMPLES, "seed=1")
    other = command(*job, outputs=tmp_path)
    assert other.returncode == 0, other.output
    assert other.history[0]["train"]["ce"] != finished.history[0]["train"]["ce"]


def test_dora_info_shows_the_signature(finished, tmp_path):
    info = command("-m", "dora", "info", *SMALL, outputs=tmp_path)
    assert finished.folder.name in info.output


def test_a_trained_model_can_be_used_by_its_signature(finished):
    script = (
        "from audiocraft.models import MusicGen;"
        f"m = MusicGen.get_pretrained('//sig/{finished.folder.name}', device='cpu');"
        "m.set_generation_params(duration=0.5);"
        "print('SHAPE', list(m.generate(['calm piano'], seed=1).shape))"
    )
    run = command("-c", script, outputs=finished.outputs)
    assert "SHAPE [1, 1, 8000]" in run.output, run.output


def test_samples_can_be_generated_again_without_training(finished):
    run_training(*SMALL, "execute_only=generate", outputs=finished.outputs)
    assert (finished.folder / "samples" / "3" / "style").is_dir()
    shutil.rmtree(finished.folder / "samples" / "3")


@pytest.mark.slow
def test_wandb_is_enabled_by_one_setting(tmp_path):
    run = run_training(*QUICK, "logging.log_wandb=true", outputs=tmp_path)
    assert list(run.folder.glob("wandb/offline-run-*/*.wandb"))


MISTAKES = {
    "a missing manifest": (["datasource.train=egs/nowhere"], "egs/nowhere"),
    "another number of codebooks": (["transformer_lm.n_q=2"], "transformer_lm.n_q"),
    "another codebook size": (["transformer_lm.card=400"], "transformer_lm.card"),
    "an unknown key": (["optim.speed=3"], "speed"),
    "an empty batch": (["dataset.batch_size=0"], "batch_size"),
    "an unknown tokenizer": (
        ["compression_model_checkpoint=//bundled/nothing"],
        "mel_rvq_16khz",
    ),
    "a batch that does not divide into micro-batches": (["optim.accumulate=3"], "optim.accumulate"),
    "not an override": (["epochs"], "key=value"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_wrong_setting_is_refused_before_training(mistake, refusal):
    overrides, named = MISTAKES[mistake]
    assert named in refusal(*SMALL, *overrides)


def test_an_error_is_one_sentence_with_a_nonzero_status(tmp_path):
    run = command("-m", "dora", "run", *SMALL, "transformer_lm.n_q=2", outputs=tmp_path)
    assert run.returncode == 1
    assert "error: transformer_lm.n_q" in run.output
    assert "Traceback" not in run.output
    assert not list(tmp_path.glob("xps/*/checkpoint.th"))


def test_an_environment_variable_enables_the_traceback(tmp_path):
    run = command(
        "-m", "dora", "run", *SMALL, "transformer_lm.n_q=2", outputs=tmp_path, HYDRA_FULL_ERROR="1"
    )
    assert "Traceback" in run.output
