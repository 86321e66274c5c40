"""Exponential moving average (EMA) of weights, for evaluation and export.

The average has the keys of the model's state dict, so that it can replace the weights (`averaged`)
and be saved and loaded like them. Integer tensors (counters) are copied, not averaged.
"""

import typing as tp
from contextlib import contextmanager

import torch
from torch import Tensor, nn

State = dict[str, dict[str, Tensor]]


class ModuleDictEMA:
    """Averages the state dicts of several modules.

    Args:
        module_dict: Modules by name.
        decay: Share of the average that a step keeps, 0…1.
        unbias: Correct the bias towards the initial weights: the first step copies.
        device: Device of the average; `None`: that of the weights.
        updates: Number of calls of `step` per update of the average.
    """

    def __init__(
        self,
        module_dict: tp.Mapping[str, nn.Module],
        decay: float = 0.999,
        unbias: bool = True,
        device: torch.device | str | None = None,
        updates: int = 1,
    ):
        self.modules = dict(module_dict)
        self.decay = decay
        self.unbias = unbias
        self.device = device
        self.updates = updates
        self.restart()

    @torch.no_grad()
    def restart(self) -> None:
        """Reset the average to the current state of the modules."""
        self.count = 0.0  # weight of all steps so far, relative to that of the last one
        self.waiting = 0  # calls of `step` since the last update of the average
        self.state: State = {
            name: {
                key: value.detach().to(self.device or value.device, copy=True)
                for key, value in module.state_dict().items()
            }
            for name, module in self.modules.items()
        }

    @torch.no_grad()
    def step(self) -> None:
        """Update the average with the current weights; to be called after the optimizer's step."""
        self.waiting += 1
        if self.waiting < self.updates:
            return
        self.waiting = 0
        weight = 1 - self.decay
        if self.unbias:
            self.count = self.count * self.decay + 1
            weight = 1 / self.count
        for name, module in self.modules.items():
            for key, value in module.state_dict().items():
                average = self.state[name][key]
                value = value.to(average.device)
                if average.is_floating_point():
                    average.lerp_(value, weight)
                else:
                    average.copy_(value)

    @contextmanager
    def averaged(self) -> tp.Iterator[None]:
        """Context in which the averages replace the weights."""
        weights: State = {
            name: {key: value.clone() for key, value in module.state_dict().items()}
            for name, module in self.modules.items()
        }
        self._write_to_modules(self.state)
        try:
            yield
        finally:
            self._write_to_modules(weights)

    def _write_to_modules(self, state: State) -> None:
        for name, module in self.modules.items():
            module.load_state_dict(state[name])

    def state_dict(self, with_averages: bool = True) -> dict[str, tp.Any]:
        """State for a checkpoint; without the averages where they are saved separately."""
        state: dict[str, tp.Any] = {"count": self.count, "waiting": self.waiting}
        return state | ({"state": self.state} if with_averages else {})

    @torch.no_grad()
    def load_state_dict(self, state: tp.Mapping[str, tp.Any], with_averages: bool = True) -> None:
        """Load a saved state; `waiting` is missing in released checkpoints.

        Raises:
            KeyError: A module, or an entry of one, is missing in `state`.
        """
        if with_averages:
            for name, entries in self.state.items():
                for key, average in entries.items():
                    average.copy_(state["state"][name][key])
        self.count = state["count"]
        self.waiting = state.get("waiting", 0)
