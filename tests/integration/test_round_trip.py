"""Train, export, load: the same logits, in the original's layout and in safetensors, and back."""

import pytest
import torch
from omegaconf import OmegaConf

from audiocraft.models import MusicGen, builders
from audiocraft.utils.checkpoint_files import read_checkpoint_file

from .conftest import QUICK, command, run_training


def logits(lm):
    with torch.no_grad():
        return lm(torch.arange(4 * 6).view(1, 4, 6), {})


@pytest.fixture
def trained(finished):
    """Language model of the finished experiment with its best weights."""
    content = torch.load(finished.folder / "checkpoint.th", weights_only=True)
    lm = builders.get_lm_model(OmegaConf.create(content["xp.cfg"])).eval()
    lm.load_state_dict(content["best_state"]["model"])
    return lm


@pytest.mark.parametrize("kind", ["release", "safetensors"])
def test_an_exported_model_gives_the_same_logits(kind, finished, trained, tmp_path):
    out = tmp_path / "exported"
    argv = ("export", finished.folder.name, str(out), "--format", kind)
    run = command("-m", "audiocraft", *argv, outputs=finished.outputs)
    assert run.returncode == 0, run.output

    model = MusicGen.get_pretrained(str(out), device="cpu")

    torch.testing.assert_close(logits(model.lm), logits(trained), atol=0, rtol=0)
    assert model.max_duration == 5.0
    model.set_generation_params(duration=0.5)
    assert model.generate(["calm piano"], seed=1).shape == (1, 1, 8000)


def test_a_run_can_start_from_an_export(finished, tmp_path):
    out = tmp_path / "exported"
    command("-m", "audiocraft", "export", finished.folder.name, str(out), outputs=finished.outputs)
    best = read_checkpoint_file(finished.folder / "checkpoint.th").state
    job = (*QUICK, "optim.lr=0", "transformer_lm.emb_lr=0", f"continue_from={out}")
    run = run_training(*job, outputs=tmp_path / "outputs")
    after = torch.load(run.folder / "checkpoint.th", weights_only=True)["model"]
    # The codebooks of the style conditioner are running averages.
    trained = [key for key in best if "condition_provider" not in key]
    for key in trained:
        torch.testing.assert_close(after[key], best[key], atol=0, rtol=0)
