"""Seeds that follow from names instead of from history.

A generator derived from (seed, epoch, step) gives the same dice whether or not the run was
interrupted before, and on any number of workers. Nothing here touches a global generator.
"""

import hashlib

import torch


def derive_seed(*parts: int | str) -> int:
    """A seed of 63 bits that depends on every part and on their order."""
    text = "/".join(str(part) for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def derive_generator(*parts: int | str) -> torch.Generator:
    """A CPU generator seeded by `derive_seed`."""
    return torch.Generator().manual_seed(derive_seed(*parts))
