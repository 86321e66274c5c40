"""Codes that change only where the sound does.

Nearest entries of a codebook flicker: two entries are about equally near, and noise decides. A
language model then has to predict noise, and the ear hears it. Charging every change of code a
little, and minimising distance plus charge over the whole sequence, keeps a held note at one code
for hardly more distance. The decoder is unchanged.

Method: Viterbi, 1967, with a constant cost for every change of state, as in trellis quantization.
"""

import torch
from torch import Tensor


def steady_codes(rows: Tensor, entries: Tensor, change_cost: float) -> Tensor:
    """The codes with the least squared distance plus `change_cost` for every change.

    Args:
        rows: Frames of several sequences, `[B, F, D]`.
        entries: The codebook, `[V, D]`.
        change_cost: Squared distance that a change of code has to save; 0 takes the nearest.

    Returns:
        Codes `[B, F]`, long.
    """
    offset = rows.square().sum(dim=-1, keepdim=True) + entries.square().sum(dim=-1)
    distances = offset - 2 * rows @ entries.t()  # [B, F, V]
    F = rows.shape[1]
    if change_cost == 0 or F < 2:
        return distances.argmin(dim=-1)
    cost = distances[:, 0]  # of the best way to end in each entry
    stays, changes = [], []  # the entry before: the same one, or the best one
    for frame in range(1, F):
        least, before = cost.min(dim=-1)
        changed = least[:, None] + change_cost
        stays.append(cost <= changed)
        changes.append(before)
        cost = distances[:, frame] + torch.minimum(cost, changed)
    codes = [cost.argmin(dim=-1)]
    for stay, change in zip(reversed(stays), reversed(changes)):
        code = codes[-1]
        codes.append(torch.where(stay.gather(1, code[:, None])[:, 0], code, change))
    return torch.stack(codes[::-1], dim=1)
