"""Change-penalised quantization: codes with the least distance plus a cost per change of code.

The nearest entry flickers between entries of about equal distance, which a language model cannot
predict and which can be perceived. A small cost per change keeps a held note at one code for hardly
more distance. The decoder is unchanged.

The Viterbi search processes long sequences in blocks and stores one bit per frame and entry: an
hour of music takes some tens of megabytes, and the codes are those of one pass.

Method: Viterbi, 1967, with a constant cost for every change of state, as in trellis quantization.
"""

import numpy as np
import torch
from torch import Tensor

BLOCK = 1024  # frames per block


def change_penalised_codes(rows: Tensor, entries: Tensor, change_cost: float) -> Tensor:
    """Codes with the least squared distance plus `change_cost` per change of code.

    Args:
        rows: Frames of B sequences, `[B, F, D]`.
        entries: Codebook, `[V, D]`.
        change_cost: Squared distance that a change of code must save; 0 takes the nearest entry.

    Returns:
        Codes `[B, F]`, long.
    """
    rows = rows.detach()
    F = rows.shape[1]
    if change_cost == 0 or F < 2:
        return torch.cat([_distances(b, entries).argmin(-1) for b in rows.split(BLOCK, 1)], dim=1)
    cost = None  # of the best path that ends in each entry, [B, V]
    # Per frame: whether a path keeps its entry at the next frame, and the entry it has otherwise.
    stays, changes = [], []
    for block in rows.split(BLOCK, dim=1):
        costs = _accumulate(_distances(block, entries).transpose(0, 1), cost, change_cost)
        least, best = costs.min(dim=-1)
        stays.append(np.packbits((costs <= least[..., None] + change_cost).cpu().numpy(), axis=-1))
        changes.append(best.cpu().numpy())
        cost = costs[-1].clone()
    assert cost is not None  # noqa: S101
    last = cost.argmin(dim=-1).cpu().numpy()
    codes = _trace_back(last, np.concatenate(stays), np.concatenate(changes))
    return torch.from_numpy(codes).to(rows.device)


def _distances(rows: Tensor, entries: Tensor) -> Tensor:
    """Squared distances `[B, F, V]`."""
    offset = rows.square().sum(dim=-1, keepdim=True) + entries.square().sum(dim=-1)
    return offset - 2 * rows @ entries.t()


def _accumulate(distances: Tensor, before: Tensor | None, change_cost: float) -> Tensor:
    """Turn distances `[F, B, V]` into costs of the best paths that end there, in place.

    Args:
        distances: Of the frames of a block, `[F, B, V]`.
        before: Costs of the frame before the block, `[B, V]`; `None` at the first block.
        change_cost: Cost per change of code.
    """
    distances = distances.contiguous()
    first = 1 if before is None else 0
    if distances.device.type == "cpu":  # numpy is ten times as fast on small arrays
        frames = distances.numpy()
        cost = frames[0] if before is None else before.numpy()
        for frame in frames[first:]:
            least = cost.min(axis=-1, keepdims=True) + frames.dtype.type(change_cost)
            frame += np.minimum(cost, least)
            cost = frame
        return distances
    cost = distances[0] if before is None else before
    for frame in distances[first:]:
        least = cost.amin(dim=-1, keepdim=True) + change_cost
        cost = frame.add_(torch.minimum(cost, least))
    return distances


def _trace_back(last: np.ndarray, stays: np.ndarray, changes: np.ndarray) -> np.ndarray:
    """Codes `[B, F]` of the paths to the last ones, `[B]`, from packed bits `[F, B, V / 8]`."""
    codes = np.empty((len(last), len(changes)), np.int64)
    codes[:, -1] = code = last
    items = np.arange(len(last))
    for frame in range(len(changes) - 2, -1, -1):
        stay = stays[frame, items, code >> 3] >> (7 - (code & 7)) & 1
        codes[:, frame] = code = np.where(stay, code, changes[frame])
    return codes
