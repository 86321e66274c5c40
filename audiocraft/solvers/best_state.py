"""The weights that did best on the validation set, kept on the CPU."""

import typing as tp

from torch import Tensor

StateDict = dict[str, Tensor]


class BestState:
    """Remembers the best of the state dicts that it was shown.

    Its own state is `{'model': state_dict}`, the form in which released checkpoints carry their
    weights, so that every checkpoint can be loaded for inference.
    """

    def __init__(self):
        self.model: StateDict = {}
        self.metric: float | None = None

    def is_better(self, metric: float) -> bool:
        """Whether `metric` is lower than ever."""
        return self.metric is None or metric < self.metric

    def update(self, metric: float, model: StateDict) -> bool:
        """Take a copy of `model` if `metric` is lower than ever; tell whether it was."""
        if not self.is_better(metric):
            return False
        self.metric = metric
        self.model = {key: value.detach().cpu().clone() for key, value in model.items()}
        return True

    def state_dict(self) -> dict[str, tp.Any]:
        return {"model": self.model, "metric": self.metric}

    def load_state_dict(self, state: dict[str, tp.Any]) -> None:
        self.model = dict(state["model"])
        self.metric = state.get("metric")
