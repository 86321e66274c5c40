"""Frozen pretrained networks, and evaluation mode.

A frozen network lives outside the module tree of its user: it is not saved, trained, averaged or
sharded, and it is loaded only when it is first used. Deep copies of its user share it.
"""

import typing as tp
from contextlib import contextmanager

import torch
from torch import Tensor, nn

M = tp.TypeVar("M", bound=nn.Module)


class Frozen(tp.Generic[M]):
    """Holds a network in evaluation mode, without gradients.

    Args:
        source: The network, or a function that loads it and is called once, at the first use.
    """

    def __init__(self, source: M | tp.Callable[[], M]):
        self._source = source
        self._module: M | None = None
        if isinstance(source, nn.Module):
            self._module = freeze(tp.cast(M, source))

    @property
    def is_loaded(self) -> bool:
        """Whether the network has been loaded."""
        return self._module is not None

    @property
    def module(self) -> M:
        """The network; loads it if necessary."""
        if self._module is None:
            load = tp.cast(tp.Callable[[], M], self._source)
            self._module = freeze(load())
        return self._module

    @contextmanager
    def on(self, device: torch.device) -> tp.Iterator[M]:
        """Context with the network on `device`, without gradients and in its own precision."""
        module = self.module.to(device)
        with torch.no_grad(), torch.autocast(device.type, enabled=False):
            yield module

    def __call__(self, x: Tensor, *args: tp.Any, **kwargs: tp.Any) -> tp.Any:
        """Call the network on the device of `x`."""
        with self.on(x.device) as module:
            return module(x, *args, **kwargs)

    def __deepcopy__(self, memo: dict) -> "Frozen[M]":
        return self


def freeze(module: M) -> M:
    """Switch a network to evaluation mode and its gradients off."""
    return module.eval().requires_grad_(False)


@contextmanager
def evaluation_mode(*modules: nn.Module) -> tp.Iterator[None]:
    """Context in which modules are in evaluation mode; restores the mode of each submodule."""
    in_training = [part for module in modules for part in module.modules() if part.training]
    for module in modules:
        module.eval()
    try:
        yield
    finally:
        for part in in_training:
            part.training = True
