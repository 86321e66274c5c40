"""Layouts of files: ours are exported in the original's, and the original's are read."""

import tempfile
from pathlib import Path

import torch
from omegaconf import OmegaConf

from audiocraft.utils import export
from audiocraft.utils.packages import read_package
from tests.parity.harness import adapter, assert_close

WEIGHTS = {"emb.0.weight": torch.arange(6.0).view(2, 3)}


def training_checkpoint(keys, folder):
    """A file with the recorded keys, its configuration pickled as the original pickles it."""
    content = {key: {} for key in keys}
    content["history"] = [{"valid": {"ce": 1.0}}]
    content["xp.cfg"] = OmegaConf.create({"sample_rate": 32000, "solver": "musicgen"})
    content["xp.sig"] = "abcd1234"
    content["best_state"] = {"model": WEIGHTS}
    content["model"] = {"emb.0.weight": torch.zeros(2, 3)}
    torch.save(content, folder / "checkpoint.th")
    return folder / "checkpoint.th"


def same_layout(path, recorded):
    content = torch.load(path, weights_only=True)
    assert set(content) == {key for key in recorded if not key.startswith("keys of")}
    for key, described in recorded.items():
        if described == "builtins.str":
            assert isinstance(content[key], str)
        if described == "bool True":
            assert content[key] is True
    if "best_state" in content:
        assert_close(content["best_state"]["emb.0.weight"], WEIGHTS["emb.0.weight"])


@adapter("checkpoint_formats")
def check(case, call):
    trained = [key for key in case.meta if key.startswith("solver_checkpoint")]
    assert trained
    for key in trained:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            checkpoint = training_checkpoint(case.meta[key], folder)
            package = read_package(checkpoint)
            assert package.config.sample_rate == 32000
            assert_close(package.state["emb.0.weight"], WEIGHTS["emb.0.weight"])
            for kind, write in (
                ("export_lm", export.export_lm),
                ("export_encodec", export.export_encodec),
            ):
                same_layout(write(checkpoint, folder / f"{kind}.bin"), case.meta[kind])
            reference = export.export_pretrained_compression_model("a/b", folder / "c.bin")
            same_layout(reference, case.meta["export_pretrained_compression_model"])
