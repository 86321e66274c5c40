"""Batch norm of a batch distributed over several processes."""

import pytest
import torch

from audiocraft.modules.batch_norm import SharedBatchNorm1d

from ..processes import in_processes

BATCH = torch.randn(5, 3, 7, generator=torch.Generator().manual_seed(0)) * 2 + 1
GOAL = torch.randn(5, 3, 7, generator=torch.Generator().manual_seed(1))


def normalise(rows, goal):
    """Returns the output, the gradient of the input and the running statistics."""
    module = SharedBatchNorm1d(3, affine=False)
    rows = rows.clone().requires_grad_()
    out = module(rows)
    (out * goal).sum().backward()
    return {"out": out.detach(), "grad": rows.grad} | module.state_dict()


def normalise_a_share(rank, shares):
    return normalise(*shares[rank])


@pytest.mark.integration
def test_shared_batch_equals_a_single_process():
    cuts = [slice(0, 3), slice(3, 3), slice(3, 5)]  # one process has no rows
    results = in_processes(normalise_a_share, 3, [(BATCH[cut], GOAL[cut]) for cut in cuts])
    whole = normalise(BATCH, GOAL)
    for cut, result in zip(cuts, results):
        for name in ("out", "grad"):
            expected = whole[name][cut]
            torch.testing.assert_close(result[name].view(expected.shape), expected)
        for name in ("running_mean", "running_var", "num_batches_tracked"):
            torch.testing.assert_close(result[name], whole[name])


def test_single_process_equals_batch_norm():
    ours, theirs = SharedBatchNorm1d(3, affine=False), torch.nn.BatchNorm1d(3, affine=False)
    torch.testing.assert_close(ours(BATCH), theirs(BATCH))
    torch.testing.assert_close(ours.eval()(GOAL), theirs.eval()(GOAL))
    assert ours.state_dict().keys() == theirs.state_dict().keys()


def test_empty_batch_updates_nothing():
    module = SharedBatchNorm1d(3, affine=False)
    before = {key: value.clone() for key, value in module.state_dict().items()}
    assert module(BATCH[:0]).shape == (0, 3, 7)
    assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())
