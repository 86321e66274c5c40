"""Work on many files in processes of their own, which a broken file may crash or hold up.

A library that decodes files from anywhere will meet one that it cannot stand. What happens to that
file is then told, and the others go on.
"""

import collections
import itertools
import multiprocessing
import typing as tp
from concurrent.futures import TimeoutError

import torch
from pebble import ProcessExpired, ProcessFuture, ProcessPool

from ..errors import AudioError

TIME_LIMIT = 300.0  # seconds for one file
AHEAD = 4  # files per process that wait for their turn

T = tp.TypeVar("T")


def map_in_workers(
    function: tp.Callable[..., T],
    paths: tp.Iterable[str],
    workers: int,
    time_limit: float = TIME_LIMIT,
    **options: tp.Any,
) -> tp.Iterator[T | AudioError]:
    """Call a function on every path, in several processes.

    Args:
        function: It can be pickled, and raises `AudioError` for what is wrong with a file.
        paths: What it is called on.
        workers: How many processes; 0 works in this one, without protection.
        time_limit: Seconds after which a file is given up.
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
    waiting: collections.deque[tuple[str, ProcessFuture]] = collections.deque()
    remaining = iter(paths)
    try:
        while True:
            for path in itertools.islice(remaining, AHEAD * workers - len(waiting)):
                task = [function, path, options]
                waiting.append((path, pool.schedule(_attempt, args=task, timeout=time_limit)))
            if not waiting:
                break
            path, future = waiting.popleft()
            yield _outcome(path, future, time_limit)
        pool.close()
    finally:
        pool.stop()
        pool.join()


def _attempt(function: tp.Callable[..., T], path: str, options: dict) -> T | AudioError:
    try:
        return function(path, **options)
    except AudioError as error:
        return error


def _outcome(path: str, future: ProcessFuture, time_limit: float) -> tp.Any:
    try:
        return future.result()
    except TimeoutError:
        return AudioError(f"{path} keeps its decoder busy for more than {time_limit:g} seconds.")
    except ProcessExpired as error:
        return AudioError(f"{path} crashes its decoder (exit status {error.exitcode}).")
