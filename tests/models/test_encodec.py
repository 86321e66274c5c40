import pytest
import torch

from audiocraft.models.encodec import (
    EncodecModel,
    EncodecPackageCompressionModel,
    HFDacCompressionModel,
    HFEncodecCompressionModel,
    InterleaveStereoCompressionModel,
)
from audiocraft.models.weights.encodec_conversion import native_encodec

from .tiny_codecs import dac_network, hf_network, package_network, tiny_codec


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


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
def test_any_length_is_encoded_and_decoded_without_truncation(codec, length):
    x = 0.1 * torch.randn(2, codec.channels, length)
    samples_per_frame = codec.sample_rate / codec.frame_rate

    codes, scale = codec.encode(x)
    audio = codec.decode(codes, scale)

    assert codes.shape[:2] == (2, codec.num_codebooks)
    assert codes.dtype == torch.long
    assert 0 <= codes.min() <= codes.max() < codec.cardinality
    assert audio.shape[:2] == x.shape[:2]
    assert length <= audio.shape[2] == codes.shape[2] * samples_per_frame


def test_forward_equals_encode_then_decode(codec):
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


def test_fewer_codebooks_return_the_first_codes(codec):
    x = 0.1 * torch.randn(1, codec.channels, 800)
    everything, _ = codec.encode(x)

    for n in range(1, codec.total_codebooks + 1):
        codec.set_num_codebooks(n)
        codes, scale = codec.encode(x)
        assert codes.shape[1] == codec.num_codebooks
        assert torch.equal(codes, everything[:, : codec.num_codebooks])
        assert codec.decode(codes, scale).isfinite().all()


@pytest.mark.parametrize("beyond", [-1, 0, "total + 1"])
def test_unavailable_number_of_codebooks_raises(codec, beyond):
    n = codec.total_codebooks + 1 if beyond == "total + 1" else beyond

    with pytest.raises(ValueError, match=f"1 to {codec.total_codebooks}"):
        codec.set_num_codebooks(n)


@pytest.mark.parametrize("shape", [(1, 3, 80), (3, 80), (80,), (1, 1, 1, 80)])
def test_audio_of_another_shape_raises(codec, shape):
    for read in (codec.encode, codec):
        with pytest.raises(ValueError, match=rf"\[B, {codec.channels}, T\]"):
            read(torch.zeros(shape))


def test_empty_audio_raises(codec):
    with pytest.raises(ValueError, match="at least 1"):
        codec.encode(torch.zeros(1, codec.channels, 0))


def test_codes_of_another_shape_raise(codec):
    with pytest.raises(ValueError, match=r"\[B, K, F\]"):
        codec.decode(torch.zeros(4, 10, dtype=torch.long))


def test_more_codes_than_codebooks_raise(codec):
    with pytest.raises(ValueError, match="1 to"):
        codec.decode(torch.zeros(1, 34, 10, dtype=torch.long))


# The native model.


def test_training_has_gradients_everywhere_and_a_penalty():
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


def test_renormalization_restores_loudness():
    codec = tiny_codec(renormalize=True)
    x = 0.1 * torch.randn(2, 1, 400)
    louder = x * torch.tensor([1.0, 50.0])[:, None, None]

    (codes, scale), (codes_louder, scale_louder) = codec.encode(x), codec.encode(louder)

    assert torch.equal(codes, codes_louder)
    assert scale.shape == (2, 1)
    torch.testing.assert_close(scale_louder, scale * torch.tensor([[1.0], [50.0]]))
    assert codec.decode(*codec.encode(torch.zeros(1, 1, 80))).isfinite().all()


def test_renormalizing_causal_codec_raises():
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
def test_native_encodec_equals_transformers_encodec(config):
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
def test_encodec_package_wrapper_agrees_with_the_package():
    network = package_network()
    codec = EncodecPackageCompressionModel(network)
    x = 0.1 * torch.randn(2, 1, 1237)

    ((codes, scale),) = network.encode(x)

    assert torch.equal(codec.encode(x)[0], codes)
    torch.testing.assert_close(codec.decode(codes), network.decode([(codes, scale)]))


def test_package_bandwidth_sets_the_number_of_codebooks():
    network = package_network()
    network.set_target_bandwidth(2.0)

    assert EncodecPackageCompressionModel(network).total_codebooks == 2


def test_windowed_codec_raises():
    with pytest.raises(ValueError, match="windows"):
        HFEncodecCompressionModel(hf_network(chunk_length_s=1.0, overlap=0.01))
    with pytest.raises(ValueError, match="chunk"):
        native_encodec(hf_network(chunk_length_s=1.0, overlap=0.01))


# Stereo.


@pytest.mark.parametrize("per_timestep", [False, True])
@pytest.mark.parametrize("renormalize", [False, True])
@torch.no_grad()
def test_channels_are_encoded_independently(per_timestep, renormalize):
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


def test_interleaving_a_stereo_codec_raises():
    with pytest.raises(ValueError, match="mono"):
        InterleaveStereoCompressionModel(tiny_codec(channels=2))


@pytest.mark.parametrize("per_timestep", [False, True])
def test_odd_number_of_interleaved_codes_raises(per_timestep):
    stereo = InterleaveStereoCompressionModel(tiny_codec(), per_timestep)

    with pytest.raises(ValueError, match="even number"):
        stereo.decode(torch.zeros(1, 3, 5, dtype=torch.long))
