"""DAC codecs: of the `dac` package and of transformers."""

import types

import pytest
import torch
from torch import nn

from audiocraft.models.codecs import wrappers as codec_wrappers
from audiocraft.models.encodec import DAC, HFDacCompressionModel

from .tiny_codecs import dac_network


def test_missing_dac_package_raises_with_install_hint(monkeypatch):
    monkeypatch.setattr(codec_wrappers, "dac", None)

    with pytest.raises(ImportError, match="pip install descript-audio-codec"):
        DAC()


class FakeDAC(nn.Module):
    """Stub of `dac.DAC`: 3 codebooks, the sign of each frame mean; decodes one sample less."""

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


def test_dac_encodes_any_length_with_the_selected_codebooks(monkeypatch):
    monkeypatch.setattr(codec_wrappers, "dac", types.ModuleType("dac"))
    codec = DAC(model=FakeDAC())
    codec.set_num_codebooks(2)

    codes, scale = codec.encode(torch.ones(1, 1, 21))

    assert (codec.frame_rate, codec.cardinality, codec.total_codebooks) == (100, 2, 3)
    assert scale is None
    assert codes.shape == (1, 2, 3)
    assert codec.decode(codes).shape == (1, 1, 24)


def leaves(network):
    """Layers with weights, in signal order."""
    kinds = ("Conv1d", "ConvTranspose1d", "Embedding", "Snake1d")
    parts = (network.encoder, network.quantizer, network.decoder)
    return [layer for p in parts for layer in p.modules() if type(layer).__name__ in kinds]


@pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated:FutureWarning")
@torch.no_grad()
def test_dac_package_and_transformers_dac_agree():
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
