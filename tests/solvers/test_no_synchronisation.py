"""A training step reads no value from the device, which would synchronize with the GPU."""

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from audiocraft.solvers.cross_entropy import TokenCounts, codebook_cross_entropy, loss_metrics
from audiocraft.solvers.optim_step import OptimizerStep
from audiocraft.solvers.progress import DeferredMetrics

READING = {"aten._local_scalar_dense", "aten.nonzero", "aten.bincount", "aten.masked_select"}


class Reads(TorchDispatchMode):
    """Records operations whose result depends on values that the host has to read."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = str(func).rpartition(".")[0]
        by_mask = name.startswith("aten.index") and any(
            isinstance(index, torch.Tensor) and index.dtype is torch.bool
            for index in (args[1] if isinstance(args[1], list | tuple) else ())
        )
        if name in READING or by_mask:
            self.found.append(name)
        return func(*args, **kwargs or {})


def test_loss_counts_and_update_read_nothing_until_the_metrics_are_read():
    model = torch.nn.Linear(4, 8)
    codes, mask = torch.randint(8, (2, 3, 5)), torch.rand(2, 3, 5) > 0.3
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    optim_step = OptimizerStep(model, optimizer, scaler=scaler, max_norm=1.0)
    counts = TokenCounts(3, 8)
    with Reads() as reads:
        logits = model(torch.randn(2, 3, 5, 4))
        loss, per_codebook = codebook_cross_entropy(logits, codes, mask, skip_empty=True)
        counts.add(codes, mask)
        optim_step.backward(loss)
        metrics = loss_metrics(loss, per_codebook) | optim_step.step()
    assert reads.found == []
    with Reads() as reads:
        assert DeferredMetrics(metrics).values()["ce"] > 0  # on the CPU they are read immediately
    assert reads.found
