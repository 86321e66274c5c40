"""`python -m audiocraft export`: formats, precision, and loading of exported models."""

import pytest
import torch
from omegaconf import OmegaConf

from audiocraft.cli.export import export_model
from audiocraft.cli.main import main
from audiocraft.errors import CheckpointError
from audiocraft.models import MusicGen, builders
from audiocraft.models.weights import hub
from audiocraft.utils.checkpoint_files import read_checkpoint_file

from ..conftest import composed

FORMATS = {"release": ".bin", "safetensors": ".safetensors"}


def same_model(exported, lm):
    model = MusicGen.get_pretrained(str(exported), device="cpu")
    codes = torch.arange(4 * 6).view(1, 4, 6)
    with torch.no_grad():
        torch.testing.assert_close(model.lm(codes, {}), lm(codes, {}), atol=0, rtol=0)
    return model


@pytest.fixture
def experiment(checkpoint, monkeypatch):
    """The tiny model as the experiment `abcd1234`, with the debug tokenizer."""
    folder = checkpoint.parent / "outputs" / "xps" / "abcd1234"
    folder.mkdir(parents=True)
    content = torch.load(checkpoint, weights_only=True)
    config = OmegaConf.create(content["xp.cfg"])
    config.compression_model_checkpoint = "//pretrained/debug_compression_model"
    path = folder / "checkpoint.th"
    torch.save(content | {"xp.cfg": OmegaConf.to_yaml(config)}, path)
    monkeypatch.setattr(hub.AudioCraftEnvironment, "get_dora_dir", lambda: folder.parents[1])
    return path


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("called", ["abcd1234", "//sig/abcd1234", "path", "folder"])
def test_an_exported_experiment_loads_under_any_name(
    called, kind, experiment, tiny_musicgen, tmp_path, capsys
):
    paths = {"path": str(experiment), "folder": str(experiment.parent)}
    main(["export", paths.get(called, called), str(tmp_path / "out"), "--format", kind])
    names = {f"state_dict{FORMATS[kind]}", f"compression_state_dict{FORMATS[kind]}"}
    assert {file.name for file in (tmp_path / "out").iterdir()} == names
    same_model(tmp_path / "out", tiny_musicgen.lm)
    assert f"MusicGen.get_pretrained('{tmp_path / 'out'}')" in capsys.readouterr().out


def test_the_bin_format_matches_the_original(experiment, tiny_musicgen, tmp_path):
    export_model("abcd1234", tmp_path, ".bin")
    content = torch.load(tmp_path / "state_dict.bin", weights_only=True)
    assert {"best_state", "xp.cfg", "version", "exported"} <= set(content)
    assert content["exported"] is True
    assert list(content["best_state"]) == list(tiny_musicgen.lm.state_dict())
    assert {v.dtype for v in content["best_state"].values()} == {torch.float32, torch.int64}
    assert "${transformer_lm.n_q}" in content["xp.cfg"]  # as text with interpolations
    reference = torch.load(tmp_path / "compression_state_dict.bin", weights_only=True)
    assert {"pretrained", "version", "exported"} <= set(reference)
    assert reference["pretrained"] == "//pretrained/debug_compression_model"


@pytest.mark.parametrize("kind", FORMATS)
def test_half_precision_halves_the_file_and_rounds_the_weights(
    kind, experiment, tiny_musicgen, tmp_path
):
    for folder, option in (("whole", []), ("half", ["--half"])):
        main(["export", "abcd1234", str(tmp_path / folder), "--format", kind, *option])
    whole, half = (
        read_checkpoint_file(tmp_path / folder / f"state_dict{FORMATS[kind]}").state
        for folder in ("whole", "half")
    )
    assert {v.dtype for v in half.values()} == {torch.float16, torch.int64}
    assert half.keys() == whole.keys()
    for name, value in whole.items():
        exact = (
            {"atol": 1e-3, "rtol": 1e-2} if name.endswith("embed_avg") else {"atol": 0, "rtol": 0}
        )
        torch.testing.assert_close(half[name], value.to(half[name].dtype), **exact)
    MusicGen.get_pretrained(str(tmp_path / "half")).generate([None])


def test_weights_too_large_for_half_precision_are_refused(experiment, tmp_path):
    content = torch.load(experiment, weights_only=True)
    name = next(key for key in content["best_state"]["model"] if key.endswith("linears.0.weight"))
    content["best_state"]["model"][name] *= 1e8
    torch.save(content, experiment)
    with pytest.raises(CheckpointError, match=r"linears.0.weight .* --half"):
        export_model("abcd1234", tmp_path / "out", ".bin", torch.float16)


def test_formats_can_be_converted_in_both_directions(experiment, tiny_musicgen, tmp_path):
    export_model("abcd1234", tmp_path / "a", ".bin")
    export_model(str(tmp_path / "a"), tmp_path / "b", ".safetensors")
    export_model(str(tmp_path / "b"), tmp_path / "c", ".bin")
    same_model(tmp_path / "c", tiny_musicgen.lm)
    first, last = (read_checkpoint_file(tmp_path / folder / "state_dict.bin") for folder in "ac")
    assert first.config == last.config
    torch.testing.assert_close(first.state, last.state, atol=0, rtol=0)


def test_a_custom_tokenizer_is_exported_with_its_weights(experiment, tmp_path):
    config = composed("solver=compression/debug", "sample_rate=32000", "rvq.n_q=4", "rvq.bins=400")
    tokenizer = builders.get_compression_model(config)
    content = {"best_state": {"model": tokenizer.state_dict()}, "xp.cfg": OmegaConf.to_yaml(config)}
    torch.save(content, tmp_path / "codec.th")
    trained = torch.load(experiment, weights_only=True)
    config = OmegaConf.create(trained["xp.cfg"])
    config.compression_model_checkpoint = str(tmp_path / "codec.th")
    torch.save(trained | {"xp.cfg": OmegaConf.to_yaml(config)}, experiment)

    export_model("abcd1234", tmp_path / "out", ".bin")
    (tmp_path / "codec.th").unlink()  # the folder is complete without it
    model = MusicGen.get_pretrained(str(tmp_path / "out"), device="cpu")
    torch.testing.assert_close(
        dict(model.compression_model.state_dict()), dict(tokenizer.state_dict())
    )


@pytest.mark.parametrize("suffix", FORMATS.values())
def test_a_tokenizer_can_be_exported_alone(suffix, tmp_path, capsys):
    config = composed("solver=compression/debug")
    tokenizer = builders.get_compression_model(config)
    content = {"best_state": {"model": tokenizer.state_dict()}, "xp.cfg": OmegaConf.to_yaml(config)}
    torch.save(content, tmp_path / "checkpoint.th")
    (file,) = export_model(str(tmp_path / "checkpoint.th"), tmp_path / "out", suffix)
    assert file.name == f"compression_state_dict{suffix}"
    torch.testing.assert_close(read_checkpoint_file(file).state, dict(tokenizer.state_dict()))


def test_an_export_of_another_format_in_the_folder_is_refused(experiment, tmp_path):
    export_model("abcd1234", tmp_path, ".safetensors")
    with pytest.raises(CheckpointError, match=r"state_dict\.safetensors belongs to another export"):
        export_model("abcd1234", tmp_path, ".bin")
    assert not (tmp_path / "state_dict.bin").exists()


def test_replacing_an_export_does_not_affect_loaded_models(experiment, tiny_musicgen, tmp_path):
    export_model("abcd1234", tmp_path, ".bin")
    model = same_model(tmp_path, tiny_musicgen.lm)  # maps the old file
    export_model("abcd1234", tmp_path, ".bin")
    assert model.generate_unconditional(1, seed=0).isfinite().all()
    assert not list(tmp_path.glob(".*.part"))


def test_a_folder_that_cannot_be_written_is_reported(experiment, tmp_path):
    (tmp_path / "out").write_text("a file")
    with pytest.raises(CheckpointError, match=r"state_dict\.bin cannot be written"):
        export_model("abcd1234", tmp_path / "out", ".bin")


def test_a_missing_experiment_is_an_error_without_a_traceback():
    with pytest.raises(SystemExit, match=r"error: .*Train that experiment first"):
        main(["export", "ffffffff", "out"])
