"""Train, export, load: the same logits, in the original's layout and in safetensors, and back."""

import pytest
import torch
from omegaconf import OmegaConf

from audiocraft.models import MusicGen, builders
from audiocraft.utils.checkpoint_files import read_checkpoint_file

from .conftest import SMALL, command

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("commands")]


def logits(lm):
    with torch.no_grad():
        return lm(torch.arange(4 * 6).view(1, 4, 6), {})


@pytest.fixture
def trained(finished):
    """The language model of the finished experiment with its best weights, built by hand."""
    content = torch.load(finished.folder / "checkpoint.th", weights_only=True)
    lm = builders.get_lm_model(OmegaConf.create(content["xp.cfg"])).eval()
    lm.load_state_dict(content["best_state"]["model"])
    return lm


@pytest.mark.parametrize("kind", ["release", "safetensors"])
def test_what_was_trained_comes_back_from_its_export(kind, finished, trained, tmp_path):
    out = tmp_path / "exported"
    argv = ("export", finished.folder.name, str(out), "--format", kind)
    run = command("-m", "audiocraft", *argv, outputs=finished.outputs)
    assert run.returncode == 0, run.output

    model = MusicGen.get_pretrained(str(out), device="cpu")

    torch.testing.assert_close(logits(model.lm), logits(trained), atol=0, rtol=0)
    assert model.max_duration == 5.0
    model.set_generation_params(duration=0.5)
    assert model.generate(["calm piano"], seed=1).shape == (1, 1, 8000)


def test_an_export_can_be_trained_on(finished, tmp_path):
    out = tmp_path / "exported"
    command("-m", "audiocraft", "export", finished.folder.name, str(out), outputs=finished.outputs)
    best = read_checkpoint_file(finished.folder / "checkpoint.th").state
    more = [a for a in SMALL if not a.startswith("optim.epochs")] + ["optim.epochs=1", "optim.lr=0"]
    more += ["transformer_lm.emb_lr=0"]
    run = command("-m", "dora", "run", *more, f"continue_from={out}", outputs=tmp_path / "outputs")
    assert run.returncode == 0, run.output
    after = torch.load(run.folder / "checkpoint.th", weights_only=True)["model"]
    learnt = [key for key in best if "condition_provider" not in key]  # the bottleneck has averages
    for key in learnt:
        torch.testing.assert_close(after[key], best[key], atol=0, rtol=0)
