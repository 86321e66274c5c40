"""Memory estimate, compared with the tensors that PyTorch saves."""

import pytest
import torch

from audiocraft.doctor import memory
from audiocraft.doctor.memory import (
    MicroBatch,
    available_memory,
    estimate_memory,
    get_micro_batch,
    num_parameters,
)
from audiocraft.models import builders
from audiocraft.models.lora import Lora, add_adapters
from audiocraft.solvers.cross_entropy import codebook_cross_entropy
from tests.conftest import composed

TINY = "solver=musicgen/musicgen_style_tiny"


def build(cfg, device="meta"):
    with torch.device(device):
        return builders.get_lm_model(cfg)


def sizes(cfg, processes=1, model=None):
    items = estimate_memory(model or build(cfg), cfg, MicroBatch(2, 100, 120), processes)
    return {item.name: item.size for item in items}


class SavedActivations:
    """Counts the bytes saved for the backward pass, without weights."""

    def __init__(self, model):
        self.weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
        self.kept = {}
        self.alive = []  # a freed address could be reused

    def __enter__(self):
        self.hooks = torch.autograd.graph.saved_tensors_hooks(self.pack, lambda t: t)
        self.hooks.__enter__()
        return self

    def pack(self, tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in self.weights:
            self.kept[storage.data_ptr()] = storage.nbytes()
            self.alive.append(storage)
        return tensor

    def __exit__(self, *error):
        self.hooks.__exit__(*error)

    @property
    def total(self):
        return sum(self.kept.values())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("dim", "layers"), [(64, 6), (128, 3), (128, 9)])
def test_activations_match_the_tensors_saved_for_backward(dim, layers, dtype):
    cfg = composed(
        TINY, f"transformer_lm={{dim: {dim}, num_heads: 4, num_layers: {layers}, card: 64}}"
    )
    half = dtype is torch.bfloat16
    model = build(cfg, "cpu").train()
    codes = torch.randint(64, (2, 4, 150))
    with SavedActivations(model) as kept, torch.autocast("cpu", dtype=dtype, enabled=half):
        output = model.compute_predictions(codes, {})
        codebook_cross_entropy(output.logits, codes, output.mask)
    steps = 2 * 151
    per_step = memory.saved_bytes_per_step(model.transformer.spec, dtype.itemsize, 4)
    estimated = layers * steps * per_step
    estimated += 4 * output.logits.numel()  # log-probabilities
    if half:
        estimated += 2 * num_parameters(model.transformer)  # copies of the weights
    assert estimated == pytest.approx(kept.total, rel=0.1)


def test_cross_attention_activations_are_counted():
    text = ("conditioner=text2music", "conditioners.description.t5.name=t5-small")
    cfg = composed("solver=musicgen/debug", *text)
    model = build(cfg, "cpu").train()
    spec = model.transformer.spec
    x, source = torch.randn(2, 200, spec.d_model), torch.randn(2, 1, spec.d_model)
    with SavedActivations(model) as kept:
        model.transformer(x.requires_grad_(), source)
    per_step = memory.saved_bytes_per_step(spec, 4, 4)
    assert spec.num_layers * 400 * per_step == pytest.approx(kept.total, rel=0.1)


def test_weights_gradients_and_averages_follow_from_the_parameters():
    cfg = composed(TINY, "optim.ema.use=true")
    model = build(cfg)
    total = num_parameters(model)
    state = total + sum(buffer.numel() for buffer in model.buffers())
    found = sizes(cfg)
    assert found["weights"] == found["gradients"] == 4 * total
    assert found["average"] == 4 * state
    optimizers = {"adamw": 8, "dadam": 12, "adamw8bit": 2}
    for name, per_weight in optimizers.items():
        assert sizes(composed(TINY, f"optim.optimizer={name}"))["optimizer"] == per_weight * total


def test_adapters_have_small_gradients():
    pytest.importorskip("peft")
    whole = sizes(composed(TINY))
    cfg = composed(TINY, "lora.use=true", "continue_from=x")
    model = build(cfg)
    add_adapters(model, Lora(use=True, rank=4))
    found = sizes(cfg, model=model)
    assert found["weights"] > whole["weights"]
    assert found["gradients"] < 0.1 * whole["gradients"]


def test_sharding_divides_the_training_state():
    sharded = ("fsdp.use=true", "fsdp.sharding_strategy=full_shard", "optim.ema.use=true")
    one = sizes(composed(TINY, "optim.ema.use=true"))
    four = sizes(composed(TINY, *sharded), processes=4)
    for name in ("weights", "gradients", "optimizer", "average"):
        assert four[name] == pytest.approx(one[name] / 4)
    assert "gathered" in four
    single = sizes(composed(TINY, *sharded))  # one process does not shard
    assert single["weights"] == one["weights"]
    assert "gathered" not in single


def test_offloaded_state_takes_no_gpu_memory():
    sharded = (TINY, "fsdp.use=true", "optim.ema.use=true", "device=cuda")
    kept = sizes(composed(*sharded), processes=2)
    offloaded = sizes(composed(*sharded, "fsdp.cpu_offload=true"), processes=2)
    waiting = {"weights", "gradients", "optimizer", "average"}
    assert offloaded == {name: size for name, size in kept.items() if name not in waiting}
    single = composed(*sharded, "fsdp.cpu_offload=true")  # one process does not shard
    assert waiting < sizes(single).keys()


def test_checkpointing_keeps_the_activations_of_one_layer():
    layers, tokens, dim = 5, 2 * 120, 192
    per_step = memory.saved_bytes_per_step(build(composed(TINY)).transformer.spec, 4, 4)
    kept = sizes(composed(TINY))["activations"]
    recomputed = sizes(composed(TINY, "transformer_lm.checkpointing=torch"))["activations"]
    saved = (layers - 1) * tokens * per_step - layers * tokens * 4 * dim
    assert kept - recomputed == saved > 0


def test_a_micro_batch_is_computed_at_once_by_one_process():
    cfg = composed(
        TINY, "dataset.batch_size=24", "optim.accumulate=3", "dataset.segment_duration=8"
    )
    micro_batch = get_micro_batch(build(cfg), cfg, frame_rate=50.0, processes=2)
    assert micro_batch.clips == 4
    assert micro_batch.frames == 400
    style_steps = -(-round(4.5 * 62.5 + 1) // 12)
    assert micro_batch.steps == 400 + 1 + style_steps + memory.TEXT_STEPS


def test_available_memory_is_positive():
    free, total = available_memory(torch.device("cpu"))
    assert 0 < free <= total


def test_the_memory_limit_of_a_container_is_used(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "CGROUP", tmp_path)
    (tmp_path / "memory.max").write_text("2000000\n")
    (tmp_path / "memory.current").write_text("500000\n")
    assert available_memory(torch.device("cpu")) == (1_500_000, 2_000_000)
    (tmp_path / "memory.max").write_text("max\n")
    assert available_memory(torch.device("cpu"))[1] > 2_000_000


@pytest.mark.parametrize(
    ("number", "text"), [(1_411_000_000, "1.4 G"), (20_100_000, "20.1 M"), (7, "7")]
)
def test_numbers_of_parameters_are_readable(number, text):
    assert memory.format_count(number) == text


def test_available_memory_of_a_gpu_is_its_own(monkeypatch):
    queried = []
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda gpu: queried.append(gpu) or (3e9, 8e9))
    assert available_memory(torch.device("cuda:1")) == (3e9, 8e9)
    assert queried == [torch.device("cuda:1")]
