"""Codes that change only where the sound does.

Nearest entries of a codebook flicker: two entries are about equally near, and noise decides. A
language model then has to predict noise, and the ear hears it. Charging every change of code a
little, and minimising distance plus charge over the whole sequence, keeps a held note at one code
for hardly more distance. The decoder is unchanged.

Long sequences are searched in blocks, and of each frame only a bit per entry is kept: an hour of
music takes some tens of megabytes, and the codes are those of one pass.

Method: Viterbi, 1967, with a constant cost for every change of state, as in trellis quantization.
"""

import numpy as np
import torch
from torch import Tensor

BLOCK = 1024  # frames whose distances are held at once


def change_penalised_codes(rows: Tensor, entries: Tensor, change_cost: float) -> Tensor:
    """The codes with the least squared distance plus `change_cost` for every change.

    Args:
        rows: Frames of several sequences, `[B, F, D]`.
        entries: The codebook, `[V, D]`.
        change_cost: Squared distance that a change of code has to save; 0 takes the nearest.

    Returns:
        Codes `[B, F]`, long.
    """
    rows = rows.detach()
    F = rows.shape[1]
    if change_cost == 0 or F < 2:
        return torch.cat([_distances(b, entries).argmin(-1) for b in rows.split(BLOCK, 1)], dim=1)
    cost = None  # of the best way to end in each entry, [B, V]
    stays, changes = [], []  # of each frame: which entries the next one keeps, else which it takes
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
    """Distances `[F, B, V]` to the costs of the best ways that end there, in place.

    Args:
        distances: Of the frames of a block.
        before: The costs of the frame before them; `None` where they are the first.
        change_cost: As above.
    """
    distances = distances.contiguous()
    first = 1 if before is None else 0
    if distances.device.type == "cpu":  # numpy is ten times as fast on so little at a time
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
    """Codes `[B, F]` that lead to the last ones `[B]`, from packed bits `[F, B, V / 8]`."""
    codes = np.empty((len(last), len(changes)), np.int64)
    codes[:, -1] = code = last
    items = np.arange(len(last))
    for frame in range(len(changes) - 2, -1, -1):
        stay = stays[frame, items, code >> 3] >> (7 - (code & 7)) & 1
        codes[:, frame] = code = np.where(stay, code, changes[frame])
    return codes
