"""Pretrained networks: found offline, loaded on first use, without remote code."""

import logging
import warnings
from pathlib import Path

import pytest
import torch
import transformers
from omegaconf import OmegaConf
from safetensors.torch import load_file, save_file

import audiocraft
from audiocraft.errors import CheckpointError, ConfigError
from audiocraft.models import MusicGen, builders, loaders
from audiocraft.models.weights import pretrained
from audiocraft.modules.conditioners import MertFeatures, PretrainedText, build_hubert
from audiocraft.modules.conditioners.mert import MERT_CONFIG, OLD_NAMES

from ...conftest import composed
from ...tiny_t5 import write_vocabulary

RATE = 32000
TINY_MERT = MERT_CONFIG | {
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "conv_dim": [8] * 7,
    "num_conv_pos_embeddings": 8,
}


@pytest.fixture
def mert(monkeypatch):
    """A small MERT with random weights."""
    torch.manual_seed(0)
    network = build_hubert(TINY_MERT).eval()
    monkeypatch.setattr(pretrained, "build_hubert", lambda: build_hubert(TINY_MERT))
    return network


def old_names(state):
    for old, new in OLD_NAMES.items():
        state = {key.replace(new, old): value for key, value in state.items()}
    return state


@pytest.mark.parametrize("spelled", [dict, old_names], ids=["new names", "old names"])
@pytest.mark.parametrize("filename", ["model.safetensors", "pytorch_model.bin"])
def test_mert_loads_in_both_formats_and_key_spellings(mert, filename, spelled, offline):
    file = offline.place(pretrained.MERT, filename)
    state = {key: value.contiguous() for key, value in spelled(mert.state_dict()).items()}
    (save_file if filename.endswith("safetensors") else torch.save)(state, file)
    wav = torch.randn(1, 4000)
    with torch.no_grad():
        loaded = MertFeatures(pretrained.load_mert).features(wav)
        torch.testing.assert_close(loaded, mert(wav).last_hidden_state)


def test_mert_loads_from_weights_alone(mert, offline):
    file = offline.place(pretrained.MERT, "pytorch_model.bin")
    torch.save(mert.state_dict(), file)
    # Reading these files would run code of the repository or fail.
    offline.place(pretrained.MERT, "config.json", b'{"auto_map": {"AutoModel": "x.X"}}')
    offline.place(pretrained.MERT, "modeling_MERT.py", b"raise SystemExit")
    pretrained.load_mert()


def test_remote_code_is_never_enabled():
    files = list(Path(audiocraft.__file__).parent.rglob("*.py"))
    assert files
    assert not [path for path in files if "trust_remote_code" in path.read_text()]


def test_offline_error_names_the_folder_of_mert(offline):
    with pytest.raises(CheckpointError, match=r"put pytorch_model\.bin or model\.safetensors into"):
        pretrained.load_mert()


def test_mert_licence_is_logged_once(mert, offline, caplog):
    torch.save(mert.state_dict(), offline.place(pretrained.MERT, "pytorch_model.bin"))
    pretrained.warn_mert_licence.cache_clear()
    with caplog.at_level(logging.WARNING):
        pretrained.load_mert()
        pretrained.load_mert()
    assert [record.message.count("CC-BY-NC") for record in caplog.records] == [1]


# T5 and EnCodec through transformers.


@pytest.fixture(scope="module")
def t5_folder(tmp_path_factory):
    """A tiny T5 with random weights in the file layout of the hub."""
    folder = tmp_path_factory.mktemp("t5")
    write_vocabulary(folder)
    tokenizer = transformers.T5Tokenizer.from_pretrained(folder, extra_ids=0)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    sizes = {"d_model": 768, "d_kv": 4, "d_ff": 8, "num_layers": 1, "num_heads": 2}
    config = transformers.T5Config(vocab_size=len(tokenizer), **sizes)
    transformers.T5EncoderModel(config).save_pretrained(folder)
    return folder


@pytest.fixture
def with_t5(offline, t5_folder):
    """The cache with manually placed files of `t5-base`."""
    for file in t5_folder.iterdir():
        offline.place("t5-base", file.name, file.read_bytes())
    return offline


def test_t5_loads_from_manually_placed_files(with_t5, t5_folder, capfd):
    loaded = pretrained.load_t5("t5-base")
    assert not "".join(capfd.readouterr())  # no second progress bar
    tokens = loaded.tokenizer(["calm piano"], return_tensors="pt")
    with torch.no_grad():
        hidden = loaded(tokens["input_ids"], tokens["attention_mask"])
        own = transformers.T5EncoderModel.from_pretrained(t5_folder)
        torch.testing.assert_close(hidden, own(tokens["input_ids"]).last_hidden_state)
    assert 2 not in tokens["input_ids"]  # no unknown words


def test_hub_is_requested_only_for_files_missing_from_the_cache(offline, t5_folder):
    def needs_hub(name, cache_dir, local_files_only):
        return not local_files_only

    for file in t5_folder.iterdir():
        assert pretrained.load_from_hub(needs_hub, "t5-base", pretrained.T5_FILES)
        offline.add("t5-base", file.name, file)
    assert not pretrained.load_from_hub(needs_hub, "t5-base", pretrained.T5_FILES)


def test_fine_tuned_t5_is_a_separate_copy(with_t5):
    config = composed(
        "solver=musicgen/musicgen_base_32khz",
        "transformer_lm.num_layers=1",
        "conditioners.description.t5.finetune=true",
    )
    with torch.device("meta"):
        lm = builders.get_lm_model(config)
    assert lm.linears[0].weight.is_meta
    t5 = lm.condition_provider.conditioners["description"].t5
    assert not any(weight.is_meta for weight in t5.parameters())


def test_offline_error_names_the_folder_of_t5(offline):
    with pytest.raises(CheckpointError) as caught:
        pretrained.load_t5("t5-base")
    for filename in ("config.json", "model.safetensors", "spiece.model", "HF_HUB_OFFLINE"):
        assert filename in str(caught.value)
    assert str(offline.folder / "t5-base") in str(caught.value)


@pytest.mark.parametrize("lacking", ["config.json", "model.safetensors"])
def test_incomplete_t5_folder_raises(with_t5, lacking):
    (with_t5.folder / "t5-base" / lacking).unlink()
    with pytest.raises(CheckpointError, match=rf"t5-base has no {lacking}"):
        pretrained.load_t5("t5-base")


def test_truncated_t5_file_raises(with_t5):
    path = with_t5.folder / "t5-base" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(CheckpointError, match="t5-base cannot be read"):
        pretrained.load_t5("t5-base")


def test_missing_t5_weights_raise(with_t5):
    path = with_t5.folder / "t5-base" / "model.safetensors"
    state = load_file(path)
    del state["encoder.final_layer_norm.weight"]
    save_file(state, path, metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"1 weights .*final_layer_norm"):
        pretrained.load_t5("t5-base")


def test_t5_without_vocabulary_raises(offline, t5_folder):
    for file in t5_folder.iterdir():
        if file.name not in ("spiece.model", "tokenizer.json"):
            offline.add("t5-base", file.name, file)
    config = composed("solver=musicgen/musicgen_base_32khz", "transformer_lm.num_layers=1")
    with torch.device("meta"):
        lm = builders.get_lm_model(config)
    with pytest.raises(CheckpointError, match=r"4 tokens .* spiece\.model"):
        lm.condition_provider.conditioners["description"].prepare(["calm piano"])


@pytest.fixture
def encodec_of_transformers():
    config = transformers.EncodecConfig(
        target_bandwidths=[1.5, 3.0],
        sampling_rate=24000,
        num_filters=4,
        hidden_size=16,
        codebook_size=1024,
        codebook_dim=16,
        upsampling_ratios=[8, 5, 4, 2],
        num_lstm_layers=1,
    )
    torch.manual_seed(0)
    return transformers.EncodecModel(config).eval()


@pytest.mark.parametrize("called", ["hub id", "folder"])
def test_transformers_encodec_loads_by_hub_id_and_folder(
    called, encodec_of_transformers, offline, tmp_path
):
    folder = offline.folder / "facebook" / "encodec_24khz" if called == "hub id" else tmp_path / "e"
    encodec_of_transformers.save_pretrained(folder)
    name = "//pretrained/facebook/encodec_24khz" if called == "hub id" else str(folder)
    loaded = loaders.load_compression_model(name)
    assert (loaded.sample_rate, loaded.frame_rate, loaded.total_codebooks) == (24000, 75, 4)
    wav = torch.randn(1, 1, 2400)
    codes, _ = loaded.encode(wav)
    theirs = encodec_of_transformers.encode(wav, bandwidth=3.0).audio_codes[0]
    assert torch.equal(codes, theirs)


@pytest.mark.parametrize("called", ["hub id", "folder"])
def test_transformers_dac_loads_by_hub_id_and_folder(called, offline, tmp_path):
    sizes = {"encoder_hidden_size": 4, "decoder_hidden_size": 16, "downsampling_ratios": [8, 8]}
    dac = transformers.DacModel(transformers.DacConfig(**sizes, n_codebooks=4)).eval()
    folder = offline.folder / "descript" / "dac_16khz" if called == "hub id" else tmp_path / "d"
    dac.save_pretrained(folder)
    name = "//pretrained/descript/dac_16khz" if called == "hub id" else str(folder)
    loaded = loaders.load_compression_model(name)
    assert (loaded.sample_rate, loaded.frame_rate, loaded.total_codebooks) == (16000, 250, 4)
    wav = torch.randn(1, 1, 640)
    assert torch.equal(loaded.encode(wav)[0], dac.encode(wav).audio_codes)


def test_transformers_model_that_is_not_a_codec_raises(t5_folder):
    with pytest.raises(CheckpointError, match=r"t5.*encodec, dac"):
        loaders.load_compression_model(str(t5_folder))


def test_offline_error_names_the_folder_of_encodec(offline):
    with pytest.raises(CheckpointError, match=r"config\.json and model\.safetensors or"):
        loaders.load_compression_model("facebook/encodec_32khz")


# Tokenizers downloaded by other packages.


def test_package_encodec_loads_from_manually_placed_file(offline, monkeypatch):
    encodec = pretrained.encodec.EncodecModel
    torch.manual_seed(0)
    with warnings.catch_warnings(action="ignore"):  # its weight norm is an old function
        random = encodec.encodec_model_24khz(pretrained=False)
    file = offline.place("encodec", pretrained.ENCODEC_24KHZ)
    torch.save(random.state_dict(), file)
    monkeypatch.setattr("encodec.model._check_checksum", lambda path, checksum: None)
    loaded = loaders.load_compression_model("//pretrained/encodec_24khz")
    assert (loaded.sample_rate, loaded.frame_rate, loaded.total_codebooks) == (24000, 75, 32)
    wav = torch.randn(1, 1, 960)
    random.set_target_bandwidth(24.0)
    with torch.no_grad():
        assert torch.equal(loaded.encode(wav)[0], random.encode(wav)[0][0])


def test_offline_error_names_the_folder_of_package_encodec(offline, monkeypatch):
    def out_of_reach(*args, **kwargs):
        raise OSError("no route")

    monkeypatch.setattr("torch.hub.load_state_dict_from_url", out_of_reach)
    with pytest.raises(CheckpointError, match=rf"Put {pretrained.ENCODEC_24KHZ} into .*encodec/"):
        loaders.load_compression_model("//pretrained/encodec_24khz")


def test_missing_dac_extra_raises_with_install_hint(monkeypatch):
    monkeypatch.setattr("audiocraft.models.codecs.wrappers.dac", None)
    with pytest.raises(ConfigError, match="//pretrained/descript/dac_44khz is the same"):
        loaders.load_compression_model("//pretrained/dac_44khz")


# Loading on first use.


@pytest.fixture
def style_model(offline, monkeypatch):
    """The released configuration with one small layer; MERT and T5 are not loaded yet."""
    config = composed(
        "solver=musicgen/musicgen_style_32khz",
        "transformer_lm={dim: 32, num_heads: 2, num_layers: 1, card: 400}",
    )
    config = OmegaConf.create(OmegaConf.to_container(config, resolve=True))
    loaded = []

    def load_mert():
        loaded.append("mert")
        return build_hubert(TINY_MERT)

    def load_t5(name):
        loaded.append(name)
        return PretrainedText(*t5)

    words = {"calm": 1, "piano": 2}

    class Tokenizer:
        def __len__(self):
            return 100

        def __call__(self, texts, return_tensors, padding):
            ids = torch.tensor([[words.get(word, 3) for word in text.split()] for text in texts])
            return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}

    sizes = {"d_model": 768, "d_kv": 4, "d_ff": 8, "num_layers": 1, "num_heads": 2}
    t5 = Tokenizer(), transformers.T5EncoderModel(transformers.T5Config(vocab_size=100, **sizes))
    monkeypatch.setattr(builders, "load_mert", load_mert)
    monkeypatch.setattr(builders, "load_t5", load_t5)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        lm = builders.get_lm_model(config)
        lm.condition_provider.conditioners["self_wav"].rvq.initialize(torch.randn(1, 512, 1100))
    model = MusicGen("style", builders.get_debug_compression_model(), lm, max_duration=2.0)
    model.set_generation_params(duration=0.1)
    return model, loaded


def test_mert_and_t5_load_on_first_use(style_model):
    model, loaded = style_model
    model.generate_unconditional(1, seed=0)
    assert loaded == []
    model.generate(["calm piano"], seed=0)
    assert loaded == ["t5-base"]
    model.generate_with_style([None], torch.zeros(1, 4 * RATE), RATE, seed=0)
    assert loaded == ["t5-base", "mert"]
    model.generate_with_style(["calm piano"], torch.zeros(1, 4 * RATE), RATE, seed=0)
    assert loaded == ["t5-base", "mert"]
