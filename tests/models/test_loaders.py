"""Model loaders: names, configuration, precision and tokenizers of saved models."""

import pytest
import torch
from omegaconf import OmegaConf
from safetensors.torch import save_file

from audiocraft.errors import CheckpointError, ConfigError
from audiocraft.models import MusicGen, builders, loaders
from audiocraft.models.encodec import EncodecModel
from audiocraft.models.weights import hub
from audiocraft.utils import export

from ..conftest import composed

HUB_ID = "facebook/musicgen-style"


def logits(lm):
    codes = torch.arange(4 * 6).view(1, 4, 6)
    with torch.no_grad():
        return lm(codes, {}).float()


def rewrite(path, change):
    """Change the configuration in a file."""
    content = torch.load(path, weights_only=True)
    config = OmegaConf.create(content["xp.cfg"])
    change(config)
    torch.save(content | {"xp.cfg": OmegaConf.to_yaml(config)}, path)


def write_tokenizer(path, config=None):
    """A native EnCodec with weights of its own; returns the model."""
    config = config or composed("solver=compression/debug")
    model = builders.get_compression_model(config).eval()
    content = {"best_state": model.state_dict(), "xp.cfg": OmegaConf.to_yaml(config)}
    torch.save(content, path)
    return model


# Model names.


def test_training_checkpoint_loads_as_a_model(tiny_musicgen, checkpoint):
    torch.testing.assert_close(
        logits(loaders.load_lm_model(str(checkpoint))), logits(tiny_musicgen.lm)
    )


def test_tokenizer_is_found_beside_the_model_file(exported):
    model = MusicGen.get_pretrained(str(exported / "state_dict.bin"), device="cpu")
    assert model.compression_model.cardinality == 400


def test_experiment_loads_by_signature(tiny_musicgen, checkpoint, monkeypatch):
    folder = checkpoint.parent / "outputs" / "xps" / "abcd1234"
    folder.mkdir(parents=True)
    checkpoint.rename(folder / "checkpoint.th")
    monkeypatch.setattr(hub.AudioCraftEnvironment, "get_dora_dir", lambda: folder.parents[1])
    lm = loaders.load_lm_model("//sig/abcd1234")
    torch.testing.assert_close(logits(lm), logits(tiny_musicgen.lm))


def test_hub_id_loads_from_the_cache(tiny_musicgen, exported, offline):
    for file in exported.iterdir():
        offline.add(HUB_ID, file.name, file)
    for name in (HUB_ID, f"//pretrained/{HUB_ID}"):
        model = MusicGen.get_pretrained(name, device="cpu")
        torch.testing.assert_close(logits(model.lm), logits(tiny_musicgen.lm))


def test_hub_id_loads_from_manually_placed_files(tiny_musicgen, exported, offline):
    for file in exported.iterdir():
        offline.place(HUB_ID, file.name, file.read_bytes())
    model = MusicGen.get_pretrained(HUB_ID, device="cpu")
    torch.testing.assert_close(logits(model.lm), logits(tiny_musicgen.lm))


def test_offline_error_names_all_files_of_a_model(offline):
    with pytest.raises(CheckpointError) as caught:
        MusicGen.get_pretrained(HUB_ID, device="cpu")
    for filename in ("state_dict.bin", "compression_state_dict.bin", str(offline.folder / HUB_ID)):
        assert filename in str(caught.value)


def test_missing_tokenizer_raises_instead_of_using_another(exported, offline):
    offline.add(HUB_ID, "state_dict.bin", exported / "state_dict.bin")
    with pytest.raises(CheckpointError, match=r"put compression_state_dict\.bin"):
        MusicGen.get_pretrained(HUB_ID, device="cpu")


def test_folder_without_a_model_lists_the_expected_files(tmp_path):
    with pytest.raises(CheckpointError, match=r"state_dict\.bin"):
        loaders.load_lm_model(str(tmp_path))


# Configuration.


def test_exported_model_has_its_max_duration(tiny_config, exported):
    model = MusicGen.get_pretrained(str(exported), device="cpu")
    assert model.max_duration == tiny_config.dataset.segment_duration
    assert (model.sample_rate, model.frame_rate) == (32000, 50)


def test_unknown_keys_log_one_warning(tiny_musicgen, exported, caplog):
    def change(config):
        OmegaConf.update(config, "transformer_lm.speed", 3, force_add=True)
        OmegaConf.update(config, "conditioners.self_wav.style.volume", 1, force_add=True)
        OmegaConf.update(config, "conditioners.self_wav.note", "x", force_add=True)
        OmegaConf.update(config, "codebooks_pattern.delay.beat", 1, force_add=True)
        OmegaConf.update(config, "transformer_lm.custom", False, force_add=True)  # retired

    rewrite(exported / "state_dict.bin", change)
    lm = loaders.load_lm_model(str(exported))
    torch.testing.assert_close(logits(lm), logits(tiny_musicgen.lm))
    (record,) = [r for r in caplog.records if r.levelname == "WARNING"]
    for key in ("transformer_lm.speed", "style.volume", "self_wav.note", "codebooks_pattern.delay"):
        assert key in record.message
    assert "custom" not in record.message


def test_missing_keys_take_their_default(tiny_musicgen, exported, caplog):
    def change(config):
        for key in ("lm_model", "classifier_free_guidance", "attribute_dropout", "tokens"):
            del config[key]
        for key in ("past_context", "qk_layer_norm_cross", "kv_repeat", "xpos"):
            del config.transformer_lm[key]
        del config.conditioners.self_wav.style["compute_mask"]

    rewrite(exported / "state_dict.bin", change)
    lm = loaders.load_lm_model(str(exported))
    torch.testing.assert_close(logits(lm), logits(tiny_musicgen.lm))
    assert not caplog.records


def test_missing_required_setting_is_named(exported):
    rewrite(exported / "state_dict.bin", lambda config: config.transformer_lm.pop("num_heads"))
    with pytest.raises(ValueError, match=r"transformer_lm\.num_heads"):
        loaders.load_lm_model(str(exported))


def test_unresolvable_environment_references_are_ignored(exported, monkeypatch):
    monkeypatch.delenv("NOBODY_SETS_THIS", raising=False)

    def change(config):
        config.dora.dir = "/home/${oc.env:NOBODY_SETS_THIS}"
        config.conditioners.self_wav.style.encodec_checkpoint = "${oc.env:NOBODY_SETS_THIS}/x.th"

    rewrite(exported / "state_dict.bin", change)
    loaders.load_lm_model(str(exported))


def test_weights_without_config_load_as_state_dict_only(tiny_musicgen, tmp_path):
    weights = {key: value + 1 for key, value in tiny_musicgen.lm.state_dict().items()}
    torch.save({"best_state": {"model": weights}}, tmp_path / "mine.th")
    with pytest.raises(CheckpointError, match=r"transformer_lm.* continue_from"):
        loaders.load_lm_model(str(tmp_path / "mine.th"))
    loaders.load_lm_weights(tiny_musicgen.lm, str(tmp_path / "mine.th"))
    torch.testing.assert_close(tiny_musicgen.lm.state_dict(), weights)


def test_mismatching_weights_raise_with_the_difference(tiny_musicgen, checkpoint):
    state = torch.load(checkpoint, weights_only=True)
    state["best_state"]["model"].pop("out_norm.weight")
    torch.save(state, checkpoint)
    with pytest.raises(CheckpointError, match=r"1 missing: out_norm\.weight"):
        loaders.load_lm_weights(tiny_musicgen.lm, str(checkpoint))


# Precision and memory.


def test_no_parameter_stays_on_the_meta_device(exported):
    lm = loaders.load_lm_model(str(exported))
    tensors = [*lm.state_dict().values(), *lm.buffers(), *lm.parameters()]
    assert not any(tensor.is_meta for tensor in tensors)
    assert not any(tensor.requires_grad for tensor in tensors)


def test_weights_keep_file_precision_by_default(exported):
    path = exported / "state_dict.bin"
    content = torch.load(path, weights_only=True)
    content["best_state"] = {
        key: value.half() if value.is_floating_point() else value
        for key, value in content["best_state"].items()
    }
    torch.save(content, path)

    as_they_are = loaders.load_lm_model(str(exported))
    assert {p.dtype for p in as_they_are.parameters()} == {torch.float16}
    assert {p.dtype for p in as_they_are.to(torch.bfloat16).parameters()} == {torch.bfloat16}
    model = MusicGen.get_pretrained(str(exported), device="cpu")
    assert {p.dtype for p in model.lm.parameters()} == {torch.float32}
    assert model.generate_unconditional(1, seed=0).isfinite().all()


def test_half_precision_keeps_the_bottleneck_in_float32(tiny_musicgen, exported):
    lm = loaders.load_lm_model(str(exported), dtype=torch.float16)
    assert lm.emb[0].weight.dtype == torch.float16
    provider = lm.condition_provider
    torch.testing.assert_close(
        dict(provider.state_dict()), dict(tiny_musicgen.lm.condition_provider.state_dict())
    )


@pytest.mark.parametrize("dtype", [torch.bfloat16, "bfloat16"])
def test_dtype_can_be_a_name(dtype, exported):
    model = MusicGen.get_pretrained(str(exported), device="cpu", dtype=dtype)
    assert model.lm.emb[0].weight.dtype == torch.bfloat16


def test_unknown_dtype_raises(exported):
    with pytest.raises(ConfigError, match=r"dtype='half'.* float32, float16"):
        MusicGen.get_pretrained(str(exported), device="cpu", dtype="half")


# Tokenizers.


def test_bundled_tokenizer_loads():
    tokenizer = loaders.load_compression_model("//bundled/mel_rvq_16khz")
    assert (tokenizer.sample_rate, tokenizer.frame_rate) == (16000, 50)
    assert (tokenizer.num_codebooks, tokenizer.cardinality) == (4, 1024)
    fewer = loaders.load_compression_model("//bundled/mel_rvq_16khz", num_codebooks=2)
    assert fewer.num_codebooks == 2


def test_native_encodec_round_trip(tmp_path):
    saved = write_tokenizer(tmp_path / "compression_state_dict.bin")
    loaded = loaders.load_compression_model(str(tmp_path))
    assert isinstance(loaded, EncodecModel)
    wav = torch.randn(1, 1, 3200, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        codes, _ = saved.encode(wav)
        torch.testing.assert_close(loaded.encode(wav)[0], codes)
        torch.testing.assert_close(loaded.decode(codes), saved.decode(codes))


def test_trained_tokenizer_loads_from_its_checkpoint(tmp_path):
    saved = write_tokenizer(tmp_path / "checkpoint.th")
    loaded = loaders.load_compression_model(str(tmp_path / "checkpoint.th"))
    torch.testing.assert_close(dict(loaded.state_dict()), dict(saved.state_dict()))


def test_tokenizer_reference_is_followed(tmp_path):
    write_tokenizer(tmp_path / "a.bin")
    export.export_pretrained_compression_model(str(tmp_path / "a.bin"), tmp_path / "b.bin")
    assert loaders.load_compression_model(str(tmp_path / "b.bin")).sample_rate == 16000


def test_number_of_codebooks_comes_from_the_configuration(exported):
    rewrite(
        exported / "state_dict.bin",
        lambda config: OmegaConf.update(config, "compression_model_n_q", 3, force_add=True),
    )
    with pytest.raises(CheckpointError, match=r"4 codebooks .* 3"):
        MusicGen.get_pretrained(str(exported), device="cpu")


def test_configuration_wraps_mono_tokenizer_as_stereo(exported):
    rewrite(
        exported / "state_dict.bin",
        lambda config: config.interleave_stereo_codebooks.update(use=True),
    )
    model = MusicGen.get_pretrained(str(exported), device="cpu")
    assert model.audio_channels == 2
    assert model.compression_model.num_codebooks == 8


def test_mono_tokenizer_is_wrapped_as_stereo():
    stereo = loaders.load_compression_model(
        "//bundled/mel_rvq_16khz", interleave={"use": True, "per_timestep": False}
    )
    assert stereo.channels == 2
    assert stereo.num_codebooks == 8


def test_style_model_can_use_a_tokenizer_as_feature_extractor(tiny_config, tmp_path):
    write_tokenizer(tmp_path / "codec.bin")
    config = OmegaConf.create(OmegaConf.to_container(tiny_config, resolve=True))
    style = config.conditioners.self_wav.style
    style.update(model_name="encodec", encodec_checkpoint=str(tmp_path / "codec.bin"))
    with torch.random.fork_rng():
        lm = builders.get_lm_model(config, loaders.load_compression_model)
    content = {"best_state": lm.state_dict(), "xp.cfg": OmegaConf.to_yaml(config)}
    torch.save(content, tmp_path / "lm.bin")
    loaded = loaders.load_lm_model(str(tmp_path / "lm.bin"))
    feature_extractor = loaded.condition_provider.conditioners["self_wav"].feature_extractor
    assert feature_extractor.features(torch.zeros(1, 16000)).shape == (1, 50, 3)


def test_tokenizer_with_too_few_entries_raises(exported):
    config = composed("solver=compression/debug", "rvq.n_q=4", "rvq.bins=300")
    write_tokenizer(exported / "compression_state_dict.bin", config)
    with pytest.raises(CheckpointError, match=r"400 entries .* 300"):
        MusicGen.get_pretrained(str(exported), device="cpu")


def test_loading_a_tokenizer_reference_as_lm_raises(exported, tiny_musicgen):
    reference = str(exported / "compression_state_dict.bin")
    with pytest.raises(CheckpointError, match="reference to the tokenizer"):
        loaders.load_lm_model(reference)
    with pytest.raises(CheckpointError, match="reference to the tokenizer"):
        loaders.load_lm_weights(tiny_musicgen.lm, reference)


def test_loading_an_lm_as_tokenizer_raises(checkpoint):
    with pytest.raises(CheckpointError, match="a language model, not a native EnCodec"):
        loaders.load_compression_model(str(checkpoint))


def test_transformers_folder_raises_with_the_expected_file(tmp_path):
    save_file({"decoder.model.decoder.x": torch.zeros(1)}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"format of transformers.* the state_dict\.bin"):
        loaders.load_lm_model(str(tmp_path))


def test_loading_a_tokenizer_as_lm_raises(tmp_path):
    write_tokenizer(tmp_path / "c.bin")
    with pytest.raises(CheckpointError, match="a native EnCodec, not a language model"):
        loaders.load_lm_model(str(tmp_path / "c.bin"))
