"""Several processes that train one model, and one that hangs.

`dora run -d`, SLURM and torchrun start the processes and set the environment; here they meet.
"""

import faulthandler
import logging

import torch
from dora.distrib import get_distrib_spec
from dora.distrib import init as dora_init

logger = logging.getLogger(__name__)


def init_processes(device: torch.device) -> None:
    """Join the process group if this run has more than one process."""
    spec = get_distrib_spec()
    if spec.world_size > 1:
        dora_init(backend="nccl" if device.type == "cuda" else "gloo")
        logger.info("Process %d of %d is ready.", spec.rank, spec.world_size)


def rank() -> int:
    """Number of this process, from 0."""
    return get_distrib_spec().rank


def world_size() -> int:
    """Number of processes that train together."""
    return get_distrib_spec().world_size


def sum_over_processes(values: torch.Tensor) -> torch.Tensor:
    """The sum of a tensor over all processes. Every process has to call it."""
    if world_size() == 1:
        return values
    total = values.clone()
    torch.distributed.all_reduce(total)
    return total


def agree(*numbers: int) -> tuple[int, ...]:
    """The greatest of every number over all processes. Every process has to call it."""
    if world_size() == 1:
        return numbers
    device = "cuda" if torch.distributed.get_backend() == "nccl" else "cpu"
    greatest = torch.tensor(numbers, device=device)
    torch.distributed.all_reduce(greatest, torch.distributed.ReduceOp.MAX)
    return tuple(greatest.tolist())


class Watchdog:
    """Ends a process that makes no progress, and writes where every thread was.

    Collectives wait for ever for a process that died; with the watchdog the others notice.

    Args:
        timeout: Seconds without a call of `feed` until the process is ended; `None` is never.
    """

    def __init__(self, timeout: float | None):
        self.timeout = timeout

    def feed(self) -> None:
        """Report progress: start the time again."""
        if self.timeout:
            faulthandler.dump_traceback_later(self.timeout, exit=True)

    def stop(self) -> None:
        """Nothing more is expected."""
        if self.timeout:
            faulthandler.cancel_dump_traceback_later()
