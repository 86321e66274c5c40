"""Exponential moving average of weights: a smoother model to evaluate and to publish.

The average lives beside the model under the same names, so that it can stand in for the weights
(`averaged`) and be saved and loaded like them. What is no floating-point number (counters) is
copied, not averaged.
"""

import typing as tp
from contextlib import contextmanager

import torch
from torch import Tensor, nn

State = dict[str, dict[str, Tensor]]


class ModuleDictEMA:
    """Averages the state of several modules.

    Args:
        modules: Modules by name.
        decay: How much of the average a step keeps, 0…1.
        unbias: Weigh the first steps so that the start leaves no trace: the first step copies.
        device: Where the average is kept; `None` beside the weights.
        updates: Only every so many calls of `step` count.
    """

    def __init__(
        self,
        modules: tp.Mapping[str, nn.Module],
        decay: float = 0.999,
        unbias: bool = True,
        device: torch.device | str | None = None,
        updates: int = 1,
    ):
        self.modules = dict(modules)
        self.decay = decay
        self.unbias = unbias
        self.device = device
        self.updates = updates
        self.restart()

    @torch.no_grad()
    def restart(self) -> None:
        """Forget the past: the average is what the modules hold now."""
        self.count = 0.0  # weight of all steps so far, in units of the last one's
        self.waiting = 0  # calls since the last step that counted
        self.state: State = {
            name: {
                key: value.detach().to(self.device or value.device, copy=True)
                for key, value in module.state_dict().items()
            }
            for name, module in self.modules.items()
        }

    @torch.no_grad()
    def step(self) -> None:
        """Take the current weights into the average, after an update of the optimizer."""
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
        """Put the averages in place of the weights, for the time of a `with` block."""
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
        """What a checkpoint holds; without the averages where others save them."""
        state: dict[str, tp.Any] = {"count": self.count, "waiting": self.waiting}
        return state | ({"state": self.state} if with_averages else {})

    @torch.no_grad()
    def load_state_dict(self, state: tp.Mapping[str, tp.Any], with_averages: bool = True) -> None:
        """Take over a saved average; a released one has no `waiting`.

        Raises:
            KeyError: A module, or an entry of one, is missing in `state`.
        """
        if with_averages:
            for name, entries in self.state.items():
                for key, average in entries.items():
                    average.copy_(state["state"][name][key])
        self.count = state["count"]
        self.waiting = state.get("waiting", 0)
