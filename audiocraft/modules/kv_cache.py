"""What a transformer remembers between decoding steps.

The memory is an object that the caller owns and passes as an argument: two guidance passes are
two caches, and a module keeps no state of its own. All the room is allocated at once, so the
shapes do not change while decoding.
"""

import typing as tp

import torch
from torch import Tensor

KeysValues = tuple[Tensor, Tensor]


class KVCache:
    """Keys and values of the steps so far, for every layer.

    A cache is for decoding: no gradient flows through it.

    Args:
        num_layers: Layers of the transformer.
        batch_size: Sequences decoded side by side.
        num_heads: Heads of the keys, which `kv_repeat` makes fewer than those of the queries.
        num_steps: Room for that many steps, prefix included.
        head_dim: Width of a head.
    """

    def __init__(
        self,
        num_layers: int,
        batch_size: int,
        num_heads: int,
        num_steps: int,
        head_dim: int,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        self.length = 0  # steps so far
        self.num_steps = num_steps
        shape = (batch_size, num_heads, num_steps, head_dim)
        self.layers = [LayerCache(shape, device, dtype) for _ in range(num_layers)]

    def check_room(self, num_steps: int) -> None:
        """Refuse steps that do not fit.

        Raises:
            ValueError: There is no room for `num_steps` more.
        """
        if self.length + num_steps > self.num_steps:
            raise ValueError(
                f"The cache has room for {self.num_steps} steps and holds {self.length}: "
                f"{num_steps} more do not fit. Ask `new_cache` for more steps."
            )

    def advance(self, num_steps: int) -> None:
        """Count the steps that every layer has just stored."""
        self.length += num_steps

    def reset(self) -> None:
        """Forget everything; the room stays."""
        self.length = 0
        for layer in self.layers:
            layer.source = None


class LayerCache:
    """One layer's part of a `KVCache`."""

    def __init__(
        self,
        shape: tuple[int, int, int, int],
        device: torch.device | str | None,
        dtype: torch.dtype | None,
    ):
        self.keys = torch.zeros(shape, device=device, dtype=dtype)  # [B, H, N, D]
        self.values = torch.zeros(shape, device=device, dtype=dtype)
        self.source: KeysValues | None = None  # of the cross attention, 2 × [B, H, X, D]

    def extend(self, keys: Tensor, values: Tensor, start: int) -> KeysValues:
        """Store the steps from `start` on, `[B, H, S, D]` each, and return all the steps so far."""
        end = start + keys.shape[2]
        self.keys[:, :, start:end] = keys.detach()
        self.values[:, :, start:end] = values.detach()
        return self.keys[:, :, :end], self.values[:, :, :end]

    def remember_source(self, compute: tp.Callable[[], KeysValues]) -> KeysValues:
        """Keys and values of the cross attention, computed at the first call only."""
        if self.source is None:
            keys, values = compute()
            self.source = keys.detach(), values.detach()
        return self.source
