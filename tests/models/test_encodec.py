import types

import encodec as encodec_package
import pytest
import torch
import transformers
from torch import nn

from audiocraft.models import codec_wrappers
from audiocraft.models.encodec import (
    DAC,
    EncodecModel,
    EncodecPackageCompressionModel,
    HFDacCompressionModel,
    HFEncodecCompressionModel,
    InterleaveStereoCompressionModel,
)
from audiocraft.models.encodec_import import native_encodec
from audiocraft.modules.seanet import SEANetDecoder, SEANetEncoder
from audiocraft.quantization import ResidualVectorQuantizer


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def tiny_codec(channels=1, renormalize=False, **rvq):
    """8 kHz, 8 samples per frame, 4 codebooks of 16 entries."""
    torch.manual_seed(0)
    seanet = {
        "channels": channels,
        "dimension": 8,
        "n_filters": 4,
        "n_residual_layers": 1,
        "ratios": [4, 2],
        "norm": "weight_norm",
        "lstm": 1,
    }
    rvq = {"n_q": 4, "bins": 16, "kmeans_init": False} | rvq
    return EncodecModel(
        SEANetEncoder(**seanet),
        SEANetDecoder(**seanet),
        ResidualVectorQuantizer(8, **rvq),
        frame_rate=1000,
        sample_rate=8000,
        channels=channels,
        renormalize=renormalize,
    ).eval()


def hf_network(**config):
    """A tiny EnCodec of transformers with random weights and codebooks."""
    torch.manual_seed(0)
    sizes = {
        "sampling_rate": 8000,
        "upsampling_ratios": [10, 8],
        "num_filters": 4,
        "hidden_size": 8,
        "codebook_size": 1024,
        "num_lstm_layers": 1,
        "target_bandwidths": [2.0, 4.0],
    }
    model = transformers.EncodecModel(transformers.EncodecConfig(**(sizes | config))).eval()
    for layer in model.quantizer.layers:
        layer.codebook.embed.normal_(std=0.3)
    return model


def package_network():
    """A tiny EnCodec of the `encodec` package."""
    torch.manual_seed(0)
    sizes = {"dimension": 8, "n_filters": 4, "ratios": [10, 8], "norm": "none", "lstm": 1}
    model = encodec_package.EncodecModel(
        encodec_package.modules.SEANetEncoder(**sizes),
        encodec_package.modules.SEANetDecoder(**sizes),
        encodec_package.quantization.ResidualVectorQuantizer(8, n_q=4, kmeans_init=False),
        target_bandwidths=[1.0, 2.0, 4.0],
        sample_rate=8000,
        channels=1,
    )
    return model.eval()


def dac_network():
    """A tiny DAC of transformers; one of its strides is odd."""
    torch.manual_seed(0)
    sizes = {
        "sampling_rate": 8000,
        "encoder_hidden_size": 4,
        "decoder_hidden_size": 16,
        "downsampling_ratios": [2, 5, 4],
        "n_codebooks": 4,
        "codebook_size": 16,
    }
    return transformers.DacModel(transformers.DacConfig(**sizes)).eval()


CODECS = {
    "native": tiny_codec,
    "renormalizing": lambda: tiny_codec(renormalize=True),
    "stereo": lambda: tiny_codec(channels=2),
    "transformers": lambda: HFEncodecCompressionModel(hf_network()),
    "DAC": lambda: HFDacCompressionModel(dac_network()),
    "package": lambda: EncodecPackageCompressionModel(package_network()),
    "by codebook": lambda: InterleaveStereoCompressionModel(tiny_codec(renormalize=True)),
    "by frame": lambda: InterleaveStereoCompressionModel(tiny_codec(), per_timestep=True),
}


@pytest.fixture(params=CODECS)
def codec(request):
    with torch.no_grad():
        yield CODECS[request.param]()


@pytest.mark.parametrize("length", [1, 5, 400, 1237])
def test_any_length_is_encoded_and_comes_back_whole(codec, length):
    x = 0.1 * torch.randn(2, codec.channels, length)
    samples_per_frame = codec.sample_rate / codec.frame_rate

    codes, scale = codec.encode(x)
    audio = codec.decode(codes, scale)

    assert codes.shape[:2] == (2, codec.num_codebooks)
    assert codes.dtype == torch.long
    assert 0 <= codes.min() <= codes.max() < codec.cardinality
    assert audio.shape[:2] == x.shape[:2]
    assert length <= audio.shape[2] == codes.shape[2] * samples_per_frame


def test_forward_is_encoding_then_decoding(codec):
    x = 0.1 * torch.randn(2, codec.channels, 403)

    result = codec(x)
    codes, scale = codec.encode(x)

    assert torch.equal(result.codes, codes)
    torch.testing.assert_close(result.x, codec.decode(codes, scale)[..., :403])
    assert result.penalty == 0
    bits = codec.num_codebooks * torch.tensor(codec.cardinality).log2()
    torch.testing.assert_close(result.bandwidth, bits * codec.frame_rate / 1000)


def test_decoding_is_deterministic(codec):
    codes, scale = codec.encode(0.1 * torch.randn(2, codec.channels, 800))

    assert torch.equal(codec.decode(codes, scale), codec.decode(codes, scale))
    assert codec.decode_latent(codes).shape[0] == 2


def test_fewer_codebooks_give_the_first_codes(codec):
    x = 0.1 * torch.randn(1, codec.channels, 800)
    everything, _ = codec.encode(x)

    for n in range(1, codec.total_codebooks + 1):
        codec.set_num_codebooks(n)
        codes, scale = codec.encode(x)
        assert codes.shape[1] == codec.num_codebooks
        assert torch.equal(codes, everything[:, : codec.num_codebooks])
        assert codec.decode(codes, scale).isfinite().all()


@pytest.mark.parametrize("beyond", [-1, 0, "total + 1"])
def test_a_number_of_codebooks_that_is_not_there_says_so(codec, beyond):
    n = codec.total_codebooks + 1 if beyond == "total + 1" else beyond

    with pytest.raises(ValueError, match=f"1 to {codec.total_codebooks}"):
        codec.set_num_codebooks(n)


@pytest.mark.parametrize("shape", [(1, 3, 80), (3, 80), (80,), (1, 1, 1, 80)])
def test_audio_of_another_shape_says_so(codec, shape):
    for read in (codec.encode, codec):
        with pytest.raises(ValueError, match=rf"\[B, {codec.channels}, T\]"):
            read(torch.zeros(shape))


def test_audio_without_a_sample_says_so(codec):
    with pytest.raises(ValueError, match="at least 1"):
        codec.encode(torch.zeros(1, codec.channels, 0))


def test_codes_of_another_shape_say_so(codec):
    with pytest.raises(ValueError, match=r"\[B, K, F\]"):
        codec.decode(torch.zeros(4, 10, dtype=torch.long))


def test_more_codes_than_codebooks_say_so(codec):
    with pytest.raises(ValueError, match="1 to"):
        codec.decode(torch.zeros(1, 34, 10, dtype=torch.long))


# The native model.


def test_training_learns_everything_and_gives_a_penalty():
    codec = tiny_codec(kmeans_init=True).train()
    before = codec.quantizer.codebooks[3].embed.clone()

    result = codec(torch.randn(3, 1, 400), rng=generator())
    (result.x.square().mean() + result.penalty).backward()

    assert all(p.grad is not None and p.grad.isfinite().all() for p in codec.parameters())
    assert result.penalty > 0
    assert not torch.equal(codec.quantizer.codebooks[3].embed, before)


def test_quantizer_dropout_is_drawn_from_the_generator_in_training_only():
    codec = tiny_codec(q_dropout=True)
    x, rng = torch.randn(1, 1, 80), generator()

    drawn = {codec.train()(x, rng=rng).codes.shape[1] for _ in range(40)}
    kept = {codec.eval()(x, rng=rng).codes.shape[1] for _ in range(5)}

    assert drawn == {1, 2, 3, 4}
    assert kept == {4}


def test_renormalizing_undoes_the_loudness():
    codec = tiny_codec(renormalize=True)
    x = 0.1 * torch.randn(2, 1, 400)
    louder = x * torch.tensor([1.0, 50.0])[:, None, None]

    (codes, scale), (codes_louder, scale_louder) = codec.encode(x), codec.encode(louder)

    assert torch.equal(codes, codes_louder)
    assert scale.shape == (2, 1)
    torch.testing.assert_close(scale_louder, scale * torch.tensor([[1.0], [50.0]]))
    assert codec.decode(*codec.encode(torch.zeros(1, 1, 80))).isfinite().all()


def test_a_causal_codec_refuses_to_renormalize():
    parts = tiny_codec()
    with pytest.raises(ValueError, match="renormalize"):
        EncodecModel(
            parts.encoder,
            parts.decoder,
            parts.quantizer,
            frame_rate=1000,
            sample_rate=8000,
            channels=1,
            causal=True,
            renormalize=True,
        )


# Codecs of other packages.


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"use_causal_conv": False, "use_conv_shortcut": False, "num_residual_layers": 2},
        {"use_causal_conv": False, "norm_type": "time_group_norm", "normalize": True},
        {"trim_right_ratio": 0.5, "pad_mode": "constant", "dilation_growth_rate": 3},
    ],
)
@torch.no_grad()
def test_the_native_model_equals_the_one_of_transformers(config):
    network = hf_network(**config)
    theirs, ours = HFEncodecCompressionModel(network), native_encodec(network)
    x = 0.1 * torch.randn(2, 1, 1237)

    (codes, scale), (our_codes, our_scale) = theirs.encode(x), ours.encode(x)

    assert torch.equal(our_codes, codes)
    if scale is not None:
        torch.testing.assert_close(our_scale, scale)
    torch.testing.assert_close(ours.decode(codes, scale), theirs.decode(codes, scale))
    for name in ("sample_rate", "frame_rate", "channels", "cardinality", "total_codebooks"):
        assert getattr(ours, name) == getattr(theirs, name)


@torch.no_grad()
def test_the_codec_of_the_package_agrees_with_the_package():
    network = package_network()
    codec = EncodecPackageCompressionModel(network)
    x = 0.1 * torch.randn(2, 1, 1237)

    ((codes, scale),) = network.encode(x)

    assert torch.equal(codec.encode(x)[0], codes)
    torch.testing.assert_close(codec.decode(codes), network.decode([(codes, scale)]))


def test_the_bandwidth_of_the_package_decides_how_many_codebooks_there_are():
    network = package_network()
    network.set_target_bandwidth(2.0)

    assert EncodecPackageCompressionModel(network).total_codebooks == 2


def test_a_codec_with_windows_is_refused():
    with pytest.raises(ValueError, match="windows"):
        HFEncodecCompressionModel(hf_network(chunk_length_s=1.0, overlap=0.01))
    with pytest.raises(ValueError, match="chunk"):
        native_encodec(hf_network(chunk_length_s=1.0, overlap=0.01))


def test_without_its_package_dac_says_what_to_install(monkeypatch):
    monkeypatch.setattr(codec_wrappers, "dac", None)

    with pytest.raises(ImportError, match="pip install descript-audio-codec"):
        DAC()


class FakeDAC(nn.Module):
    """The interface of `dac.DAC`: the sign of a frame's mean, 3 times; decodes a sample too few."""

    sample_rate, hop_length, codebook_size, n_codebooks = 800, 8, 2, 3

    def __init__(self):
        super().__init__()
        self.quantizer = types.SimpleNamespace(from_codes=lambda codes: (codes.float(), None, None))

    def encode(self, audio, n_quantizers=None):
        signs = (audio.unflatten(2, (-1, 8)).mean(dim=3) > 0).long()
        codes = signs.repeat(1, n_quantizers or 3, 1)
        return codes.float(), codes, None, None, None

    def decoder(self, latent):
        return latent.mean(dim=1, keepdim=True).repeat_interleave(8, dim=2)[..., :-1]


def test_dac_encodes_any_length_with_the_codebooks_in_use(monkeypatch):
    monkeypatch.setattr(codec_wrappers, "dac", types.ModuleType("dac"))
    codec = DAC(model=FakeDAC())
    codec.set_num_codebooks(2)

    codes, scale = codec.encode(torch.ones(1, 1, 21))

    assert (codec.frame_rate, codec.cardinality, codec.total_codebooks) == (100, 2, 3)
    assert scale is None
    assert codes.shape == (1, 2, 3)
    assert codec.decode(codes).shape == (1, 1, 24)


def leaves(network):
    """Layers with weights, in the order of the signal."""
    kinds = ("Conv1d", "ConvTranspose1d", "Embedding", "Snake1d")
    parts = (network.encoder, network.quantizer, network.decoder)
    return [layer for p in parts for layer in p.modules() if type(layer).__name__ in kinds]


@torch.no_grad()
def test_dac_of_its_package_and_of_transformers_are_the_same():
    dac = pytest.importorskip("dac", reason="needs descript-audio-codec", exc_type=ImportError)
    theirs = dac_network()
    config = theirs.config
    model = dac.DAC(
        encoder_dim=config.encoder_hidden_size,
        encoder_rates=list(config.downsampling_ratios),
        decoder_dim=config.decoder_hidden_size,
        decoder_rates=list(config.upsampling_ratios),
        n_codebooks=config.n_codebooks,
        codebook_size=config.codebook_size,
        sample_rate=config.sampling_rate,
    ).eval()
    for ours, other in zip(leaves(model), leaves(theirs), strict=True):
        if hasattr(ours, "weight_g"):
            nn.utils.remove_weight_norm(ours)
        other.load_state_dict(ours.state_dict())
    package, of_transformers = DAC(model=model), HFDacCompressionModel(theirs)
    x = 0.1 * torch.randn(2, 1, 1999)

    codes, _ = package.encode(x)

    assert torch.equal(codes, model.encode(model.preprocess(x, 8000))[1])
    assert torch.equal(codes, of_transformers.encode(x)[0])
    torch.testing.assert_close(package.decode(codes), of_transformers.decode(codes))
    package.set_num_codebooks(3)
    assert torch.equal(package.encode(x)[0], codes[:, :3])


# Stereo.


@pytest.mark.parametrize("per_timestep", [False, True])
@pytest.mark.parametrize("renormalize", [False, True])
@torch.no_grad()
def test_each_channel_is_coded_as_if_alone(per_timestep, renormalize):
    mono = tiny_codec(renormalize=renormalize)
    stereo = InterleaveStereoCompressionModel(mono, per_timestep)
    x = torch.randn(3, 2, 403) * torch.tensor([0.1, 0.7])[:, None]  # unequal loudness

    codes, scale = stereo.encode(x)
    audio = stereo.decode(codes, scale)

    for channel in range(2):
        own_codes, own_scale = mono.encode(x[:, channel : channel + 1])
        part = codes[:, :, channel::2] if per_timestep else codes[:, channel::2]
        assert torch.equal(part, own_codes)
        own_audio = mono.decode(own_codes, own_scale)
        torch.testing.assert_close(audio[:, channel : channel + 1], own_audio)


def test_interleaving_doubles_codebooks_or_frames():
    by_codebook = InterleaveStereoCompressionModel(tiny_codec())
    by_frame = InterleaveStereoCompressionModel(tiny_codec(), per_timestep=True)

    assert (by_codebook.num_codebooks, by_codebook.frame_rate) == (8, 1000)
    assert (by_frame.num_codebooks, by_frame.frame_rate) == (4, 2000)


def test_interleaving_refuses_a_stereo_codec():
    with pytest.raises(ValueError, match="mono"):
        InterleaveStereoCompressionModel(tiny_codec(channels=2))


@pytest.mark.parametrize("per_timestep", [False, True])
def test_codes_that_cannot_be_halved_say_so(per_timestep):
    stereo = InterleaveStereoCompressionModel(tiny_codec(), per_timestep)

    with pytest.raises(ValueError, match="even number"):
        stereo.decode(torch.zeros(1, 3, 5, dtype=torch.long))
