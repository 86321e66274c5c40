"""Worker pool: a function is applied to many files in processes that may crash or hang.

Decoders crash or hang on some damaged files. Such a file gives an error; the others are unaffected.
"""

import collections
import itertools
import multiprocessing
import typing as tp
from concurrent.futures import TimeoutError

import torch
from pebble import ProcessExpired, ProcessFuture, ProcessPool

from ..errors import AudioError

TIME_LIMIT = 300.0  # seconds per file
QUEUED_PER_WORKER = 4  # files scheduled ahead, per process

T = tp.TypeVar("T")


def map_in_workers(
    function: tp.Callable[..., T],
    paths: tp.Iterable[str],
    workers: int,
    time_limit: float = TIME_LIMIT,
    **options: tp.Any,
) -> tp.Iterator[T | AudioError]:
    """Apply a function to every path, in several processes.

    Args:
        function: Picklable; raises `AudioError` if a file is not valid.
        paths: Its first argument.
        workers: Number of processes; 0 runs in this process, without protection.
        time_limit: Seconds after which a file is abandoned.
        options: Further arguments of `function`.

    Yields:
        Results in the order of `paths`; errors are returned in their place.
    """
    if workers < 1:
        yield from (_attempt(function, path, options) for path in paths)
        return
    methods = multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")
    if "forkserver" in methods:
        tp.cast(tp.Any, context).set_forkserver_preload([function.__module__])
    pool = ProcessPool(workers, context=context, initializer=torch.set_num_threads, initargs=[1])
    queue: collections.deque[tuple[str, ProcessFuture]] = collections.deque()
    remaining = iter(paths)
    try:
        while True:
            for path in itertools.islice(remaining, QUEUED_PER_WORKER * workers - len(queue)):
                task = [function, path, options]
                queue.append((path, pool.schedule(_attempt, args=task, timeout=time_limit)))
            if not queue:
                break
            path, future = queue.popleft()
            yield _result(path, future, time_limit)
        pool.close()
    finally:
        pool.stop()
        pool.join()


def _attempt(function: tp.Callable[..., T], path: str, options: dict) -> T | AudioError:
    try:
        return function(path, **options)
    except AudioError as error:
        return error


def _result(path: str, future: ProcessFuture, time_limit: float) -> tp.Any:
    try:
        return future.result()
    except TimeoutError:
        return AudioError(f"{path} could not be decoded within {time_limit:g} seconds.")
    except ProcessExpired as error:
        return AudioError(f"{path} crashes the decoder (exit status {error.exitcode}).")
