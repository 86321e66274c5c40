"""Inference leaves every tensor of a model bit-identical and its train/eval mode as found."""

import pytest
import torch

from audiocraft.models.encodec import EncodecModel
from audiocraft.modules import SEANetDecoder, SEANetEncoder
from audiocraft.quantization import ResidualVectorQuantizer

CLIP = torch.sin(torch.arange(64_000) / 20)[None]

CALLS = {
    "generate": lambda model: model.generate(["calm"], seed=1),
    "generate_unconditional": lambda model: model.generate_unconditional(1, seed=1),
    "generate_with_style": lambda model: model.generate_with_style(["calm"], CLIP, 32_000, seed=1),
    "generate_continuation": lambda model: model.generate_continuation(
        CLIP[:, :6_400], 32_000, ["calm"], seed=1
    ),
    "encode": lambda model: model.compression_model.encode(CLIP[None])[0],
    "decode": lambda model: model.decode(torch.zeros(1, 4, 10, dtype=torch.long)),
}


def parts(model):
    return {"lm": model.lm, "compression_model": model.compression_model}


def tensors(model):
    return {
        f"{name}.{key}": value.clone()
        for name, part in parts(model).items()
        for key, value in part.state_dict(keep_vars=False).items()
    }


def modes(model):
    return [module.training for part in parts(model).values() for module in part.modules()]


@pytest.mark.parametrize("call", CALLS)
def test_inference_changes_neither_tensors_nor_modes_nor_depends_on_them(tiny_musicgen, call):
    expected = CALLS[call](tiny_musicgen)
    tiny_musicgen.lm.train()
    tiny_musicgen.lm.transformer.layers[0].eval()
    tiny_musicgen.compression_model.train()
    before, modes_before = tensors(tiny_musicgen), modes(tiny_musicgen)
    for part in parts(tiny_musicgen).values():
        assert part.training
    assert torch.equal(CALLS[call](tiny_musicgen), expected)
    assert modes(tiny_musicgen) == modes_before
    assert all(torch.equal(before[key], value) for key, value in tensors(tiny_musicgen).items())


def test_encoding_with_spectral_norm_in_training_mode_changes_no_buffer():
    seanet = {"dimension": 8, "n_filters": 2, "ratios": [4, 2], "norm": "spectral_norm"}
    encoder, decoder = SEANetEncoder(**seanet), SEANetDecoder(**seanet)
    quantizer = ResidualVectorQuantizer(dimension=8, n_q=2, bins=4)
    codec = EncodecModel(
        encoder, decoder, quantizer, frame_rate=4000, sample_rate=32_000, channels=1
    ).train()
    before = {key: value.clone() for key, value in codec.state_dict().items()}
    codec.encode(CLIP[None])
    assert all(torch.equal(before[key], value) for key, value in codec.state_dict().items())
    assert all(module.training for module in codec.modules())
