"""Random generators seeded by names, such as (seed, epoch, step).

Such a generator draws the same numbers whether or not a run was interrupted before, and on any
number of workers. Global generators are not used.
"""

import hashlib

import torch


def derive_seed(*parts: int | str) -> int:
    """Return a seed of 63 bits that depends on every part and on their order."""
    text = "/".join(str(part) for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def derive_generator(*parts: int | str) -> torch.Generator:
    """Return a CPU generator seeded by `derive_seed`."""
    return torch.Generator().manual_seed(derive_seed(*parts))
