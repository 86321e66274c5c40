"""Small tokenizers of the real architectures, with random weights."""

import encodec as encodec_package
import torch
import transformers

from audiocraft.models.encodec import EncodecModel
from audiocraft.modules.seanet import SEANetDecoder, SEANetEncoder
from audiocraft.quantization import ResidualVectorQuantizer


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
