"""Distributed training: process group, collectives, batch generators, watchdog.

`dora run -d`, SLURM and torchrun start the processes and set their environment.
"""

import atexit
import faulthandler
import logging
import os
import re
import time
import traceback
import typing as tp
from pathlib import Path

import torch
from dora.distrib import get_distrib_spec
from dora.distrib import init as dora_init

from ..data.conditions import ConditioningAttributes
from ..errors import AudiocraftError
from ..modules.conditioners import BatchGenerators, Condition, pad_condition
from ..utils.randomness import derive_generator
from .signals import Stopped

logger = logging.getLogger(__name__)

T = tp.TypeVar("T")


# Process group.


def enter_srun_step() -> None:
    """Let the tasks that `srun` has started form one run, like those of `dora grid`.

    Dora reads rank and world size through submitit, which recognizes only its own jobs, so that
    each task would be a run of its own. Only a step counts: a batch script is one process whatever
    its `--ntasks`. The environment of torchrun takes precedence.
    """
    is_step = int(os.environ.get("SLURM_STEP_NUM_TASKS", 1)) > 1
    if is_step and "WORLD_SIZE" not in os.environ:
        os.environ.setdefault("SUBMITIT_EXECUTOR", "slurm")


def init_process_group(device: torch.device) -> None:
    """Join the process group if the run has more than one process."""
    spec = get_distrib_spec()
    if spec.world_size > 1:
        dora_init(backend="cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")
        atexit.register(wait_for_gloo)
        logger.info("Process %d of %d has joined.", spec.rank, spec.world_size)


def leave_process_group() -> None:
    """Wait for the other processes at the end of the run and leave the group."""
    if torch.distributed.is_initialized():
        barrier()
        torch.distributed.destroy_process_group()


def rank() -> int:
    """Rank of this process, from 0."""
    return get_distrib_spec().rank


def world_size() -> int:
    """Number of processes of the run."""
    return get_distrib_spec().world_size


# Collectives: every process has to call them.


def sum_over_processes(values: torch.Tensor) -> torch.Tensor:
    """Sum a tensor over all processes."""
    if world_size() == 1:
        return values
    total = values.clone()
    torch.distributed.all_reduce(total)
    return total


def max_over_processes(*numbers: int) -> tuple[int, ...]:
    """Maximum of each number over all processes."""
    if world_size() == 1:
        return numbers
    greatest = torch.tensor(numbers)
    torch.distributed.all_reduce(greatest, torch.distributed.ReduceOp.MAX)
    return tuple(greatest.tolist())


def barrier() -> None:
    """Wait for all processes."""
    max_over_processes(0)


def broadcast_from_first(function: tp.Callable[[], T]) -> T:
    """Call a function in the first process and return its result, or raise its error, in all.

    The result has to be picklable.
    """
    if world_size() == 1:
        return function()
    outcome: list[tp.Any] = [None, None]
    if rank() == 0:
        try:
            outcome[0] = function()
        except AudiocraftError as error:
            outcome[1] = error
    torch.distributed.broadcast_object_list(outcome, src=0, device=torch.device("cpu"))
    if outcome[1] is not None:
        raise outcome[1]
    return outcome[0]


def pad_across_processes(conditions: dict[str, Condition]) -> dict[str, Condition]:
    """Pad conditions to the longest of any process, since the model also attends to padding."""
    lengths = max_over_processes(*(c.embed.shape[1] for c in conditions.values()))
    return {
        name: pad_condition(condition, length)
        for (name, condition), length in zip(conditions.items(), lengths)
    }


def derive_batch_generators(
    attributes: list[ConditioningAttributes],
    name: tp.Sequence[int | str],
    *,
    sample_rate: int,
    as_one_process: bool,
) -> BatchGenerators:
    """Derive the random generators of a batch, of which this process holds some samples.

    Args:
        attributes: Attributes of those samples.
        name: Parts of the seed, the same in every process.
        sample_rate: Rate in which the shortest clip is counted, in Hz.
        as_one_process: Draw as a single process with the whole batch would. Every process has to
            call the function then.
    """
    numbers = range(rank() * len(attributes), (rank() + 1) * len(attributes))
    shortest = None
    if as_one_process:
        clips = [clip for sample in attributes for clip in sample.wav.values()]
        lengths = [int(c.length) * sample_rate // c.sample_rate[0] for c in clips]
        shortest = -max_over_processes(-min(lengths, default=0))[0]
    return BatchGenerators(
        batch=derive_generator(*name, "all" if as_one_process else rank()),
        items=[derive_generator(*name, "item", number) for number in numbers],
        shortest_clip=shortest,
    )


# Processes that hang, and their end.


class Watchdog:
    """Ends a process that makes no progress, after writing the stacks of all threads.

    Collectives wait long for a process that died or hangs; with a watchdog in each process the
    others end, too. As a context manager it stops watching, and writes the traceback of an error
    to its log at once: a launcher that has lost one process kills the others.

    Args:
        timeout: Seconds without a call of `feed` after which the process ends; `None` disables.
        log: File to which stacks are appended; `None` is the standard error.
    """

    def __init__(self, timeout: float | None, log: Path | None = None):
        self.timeout = timeout
        self.file = log.open("a", encoding="utf-8") if timeout and log else None

    def feed(self) -> None:
        """Report progress: restart the timeout."""
        if self.timeout:
            options: dict[str, tp.Any] = {"file": self.file} if self.file else {}
            faulthandler.dump_traceback_later(self.timeout, exit=True, **options)

    def __enter__(self) -> "Watchdog":
        return self

    def __exit__(self, kind: tp.Any, error: BaseException | None, trace: tp.Any) -> None:
        if self.timeout:
            faulthandler.cancel_dump_traceback_later()
        if self.file:
            if isinstance(error, Exception) and not isinstance(error, AudiocraftError | Stopped):
                traceback.print_exception(error, file=self.file)
            self.file.close()
            self.file = None


def wait_for_gloo(timeout: float = 30.0) -> None:
    """Wait at interpreter exit until no thread of gloo is running. Linux only.

    After a collective such a thread releases its tensors, for which it needs the interpreter's
    lock. If the interpreter has ended meanwhile, C++ aborts the process (SIGABRT) although the run
    succeeded. Threads that wait for other processes sleep.

    Args:
        timeout: Seconds after which the process ends anyway.
    """
    until, before = time.monotonic() + timeout, None
    while time.monotonic() < until:
        threads = [_gloo_state(path) for path in Path("/proc/self/task").glob("*/status")]
        threads = [thread for thread in threads if thread]
        # Idle is a thread that slept all the time while this one did not hold the lock.
        if threads == before and all(state == "S" for state, *_ in threads):
            return
        before = threads
        time.sleep(0.02)


def _gloo_state(path: Path) -> list[str]:
    """State and context switches of a thread of gloo; an empty list for other threads."""
    try:
        status = path.read_text(encoding="utf-8")
    except OSError:  # the thread has ended
        return []
    is_gloo = "Name:\tpt_gloo_runloop" in status  # as named by PyTorch
    return re.findall(r"(?:State|ctxt_switches):\t(\w+)", status) if is_gloo else []
