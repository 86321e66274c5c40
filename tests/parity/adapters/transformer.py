"""Replays the streaming transformer: one full pass, and the same steps in chunks."""

import torch

from audiocraft.modules.transformer import StreamingTransformer, sin_embedding

from ..harness import adapter, assert_close


@adapter("transformer")
def check(case, call):
    inputs, outputs = case.inputs(call), case.outputs(call)
    if call["name"].startswith("sin_embedding"):
        positions = inputs["positions"][..., 0]
        assert_close(sin_embedding(positions, **call["args"]), outputs["emb"])
        return
    model = StreamingTransformer(**call["args"]).eval()
    model.load_state_dict(case.state(call["state_prefix"]))
    x, source = inputs["x"], inputs.get("cross_attention_src")
    with torch.no_grad():
        assert_close(model(x, source), outputs["full"])
        for name, expected in outputs.items():
            if name != "full":
                assert_close(stream(model, x, source, chunk_sizes_of(name, x.shape[1])), expected)
        if call["args"].get("causal", True):  # also where the original could not stream
            assert_close(stream(model, x, source, [2, 1, 4]), outputs["full"])


def chunk_sizes_of(name, num_steps):
    if name.startswith("stream"):
        return [int(name.removeprefix("stream"))] * num_steps
    return [int(name.removeprefix("prefill"))]


def stream(model, x, source, chunk_sizes):
    """Return the outputs of cached calls with `chunk_sizes` steps each, then with single steps."""
    cache = model.new_cache(batch_size=x.shape[0], num_steps=x.shape[1])
    outputs = []
    while cache.length < x.shape[1]:
        size = chunk_sizes.pop(0) if chunk_sizes else 1
        outputs.append(model(x[:, cache.length : cache.length + size], source, cache))
    return torch.cat(outputs, dim=1)
