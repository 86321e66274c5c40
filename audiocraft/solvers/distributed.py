"""Several processes that train one model, and one that hangs.

`dora run -d`, SLURM and torchrun start the processes and set the environment; here they meet.
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


def enter_srun_step() -> None:
    """Let the tasks that `srun` started know each other, as those of `dora grid` do.

    Dora asks submitit, which otherwise knows only jobs of its own: each task would take itself for
    the whole run. A batch script is one process, whatever its `--ntasks`, so only a step counts;
    torchrun, where it is used, has its own say.
    """
    is_many = int(os.environ.get("SLURM_STEP_NUM_TASKS", 1)) > 1
    if is_many and "WORLD_SIZE" not in os.environ:
        os.environ.setdefault("SUBMITIT_EXECUTOR", "slurm")


def init_process_group(device: torch.device) -> None:
    """Join the process group if this run has more than one process."""
    spec = get_distrib_spec()
    if spec.world_size > 1:
        dora_init(backend="cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")
        atexit.register(wait_for_gloo)
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


def max_over_processes(*numbers: int) -> tuple[int, ...]:
    """The greatest of every number over all processes. Every process has to call it."""
    if world_size() == 1:
        return numbers
    greatest = torch.tensor(numbers)
    torch.distributed.all_reduce(greatest, torch.distributed.ReduceOp.MAX)
    return tuple(greatest.tolist())


def barrier() -> None:
    """Wait for all processes."""
    max_over_processes(0)


def broadcast_from_first(make: tp.Callable[[], T]) -> T:
    """What a function gives in the first process, in all of them; so does what it raises.

    Every process has to call it. The result must be what `pickle` takes.
    """
    if world_size() == 1:
        return make()
    outcome: list[tp.Any] = [None, None]
    if rank() == 0:
        try:
            outcome[0] = make()
        except AudiocraftError as error:
            outcome[1] = error
    torch.distributed.broadcast_object_list(outcome, src=0, device=torch.device("cpu"))
    if outcome[1] is not None:
        raise outcome[1]
    return outcome[0]


def leave_process_group() -> None:
    """Take leave of the other processes, when all have come to the end."""
    if torch.distributed.is_initialized():
        barrier()
        torch.distributed.destroy_process_group()


def wait_for_gloo(timeout: float = 30.0) -> None:
    """Wait until no thread of gloo is at work; called when the interpreter ends. Linux only.

    When a sum is done, such a thread still lets go of the tensors, for which it needs the lock of
    the interpreter. One that asks for it too late is ended in the middle, and C++ aborts the
    process for that (SIGABRT), after all went well. Threads that wait for other processes sleep.

    Args:
        timeout: Seconds after which the process ends all the same.
    """
    until, before = time.monotonic() + timeout, None
    while time.monotonic() < until:
        threads = [_state_of(path) for path in Path("/proc/self/task").glob("*/status")]
        threads = [thread for thread in threads if thread]
        # Who sleeps and has not been awake, while this thread left the lock to others, is idle.
        if threads == before and all(state == "S" for state, *_ in threads):
            return
        before = threads
        time.sleep(0.02)


def _state_of(path: Path) -> list[str]:
    """State of a thread of gloo, and how often it has been awake; nothing of other threads."""
    try:
        status = path.read_text()
    except OSError:  # the thread has ended
        return []
    is_gloo = "Name:\tpt_gloo_runloop" in status  # as PyTorch names it
    return re.findall(r"(?:State|ctxt_switches):\t(\w+)", status) if is_gloo else []


class Watchdog:
    """Ends a process that makes no progress, and writes where every thread was.

    Collectives wait long for a process that died or hangs; with the watchdog the others notice.
    `with` starts nothing; it ends the watch, and writes where an exception came from: a launcher
    that has lost a process ends the others at once, maybe before they can tell it anywhere else.

    Args:
        timeout: Seconds without a call of `feed` until the process is ended; `None` is never.
        log: File to which the stacks are appended; `None` is the standard error.
    """

    def __init__(self, timeout: float | None, log: Path | None = None):
        self.timeout = timeout
        self.file = log.open("a") if timeout and log else None

    def feed(self) -> None:
        """Report progress: start the time again."""
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


def derive_batch_generators(
    attributes: list[ConditioningAttributes],
    name: tp.Sequence[int | str],
    *,
    sample_rate: int,
    as_one_process: bool,
) -> BatchGenerators:
    """The dice of a batch, of which this process sees some samples.

    Args:
        attributes: Of those samples.
        name: Names the batch; the same in every process.
        sample_rate: In which the shortest clip is counted, in Hz.
        as_one_process: Decide as one process with the whole batch would. Every process has to
            call it then.
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


def pad_across_processes(conditions: dict[str, Condition]) -> dict[str, Condition]:
    """Conditions as long as the longest in any process: the padding is heard, too."""
    lengths = max_over_processes(*(condition.embed.shape[1] for condition in conditions.values()))
    return {
        name: pad_condition(condition, length)
        for (name, condition), length in zip(conditions.items(), lengths)
    }
