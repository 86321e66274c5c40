"""Inference leaves every tensor of a model bit-identical and its train/eval mode as found."""

import pytest
import torch

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
