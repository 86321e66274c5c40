"""Key-value cache: decoding state of a transformer.

The cache is an object that the caller owns and passes as an argument: two guidance passes are two
caches, and no module holds decoding state. All of its memory is allocated at once, so shapes do
not change during decoding.
"""

import typing as tp

import torch
from torch import Tensor

KeysValues = tuple[Tensor, Tensor]


class KVCache:
    """Keys and values of the steps so far, for every layer; without gradient.

    Args:
        num_layers: Layers of the transformer.
        batch_size: Number of sequences, B.
        num_heads: Heads of the keys: those of the queries divided by `kv_repeat`.
        num_steps: Capacity in steps, prefix included.
        head_dim: Width of a head.
        device: Device of the keys and values.
        dtype: Dtype of the keys and values.
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
        """Check that `num_steps` more steps fit.

        Raises:
            ValueError: They do not.
        """
        if self.length + num_steps > self.num_steps:
            raise ValueError(
                f"The cache holds {self.length} of {self.num_steps} steps: {num_steps} more do not "
                "fit. Pass a larger `num_steps` to `new_cache`."
            )

    def advance(self, num_steps: int) -> None:
        """Count the steps that every layer has just stored."""
        self.length += num_steps

    def reset(self) -> None:
        """Drop all steps; the memory stays allocated."""
        self.length = 0
        for layer in self.layers:
            layer.source = None


class LayerCache:
    """Keys and values of one layer."""

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
        """Store steps from `start` on, `[B, H, S, D]` each; return those of all steps so far."""
        end = start + keys.shape[2]
        self.keys[:, :, start:end] = keys.detach()
        self.values[:, :, start:end] = values.detach()
        return self.keys[:, :, :end], self.values[:, :, :end]

    def source_once(self, compute: tp.Callable[[], KeysValues]) -> KeysValues:
        """Keys and values of the cross attention, computed at the first call only."""
        if self.source is None:
            keys, values = compute()
            self.source = keys.detach(), values.detach()
        return self.source
