"""A function run in several processes that know each other, as those of a training run do."""

import multiprocessing
import os
import socket
import typing as tp

import torch
from torch import distributed as dist


def in_processes(function: tp.Callable[..., tp.Any], number: int, *args: tp.Any) -> list[tp.Any]:
    """What `function(rank, *args)` returns in each of `number` processes, by rank.

    The function must be importable, its arguments and results what `torch.save` takes.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    processes = [
        context.Process(target=_run, args=(function, rank, number, port, queue, args))
        for rank in range(number)
    ]
    for process in processes:
        process.start()
    results = dict(queue.get(timeout=120) for _ in processes)
    for process in processes:
        process.join()
    return [_as_tensors(results[rank]) for rank in range(number)]


def _run(function, rank, number, port, queue, args) -> None:
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=number)
    queue.put((rank, _as_lists(function(rank, *args))))
    dist.destroy_process_group()


def _as_lists(value: tp.Any) -> tp.Any:
    """Tensors as lists: their memory would go with the process."""
    if isinstance(value, torch.Tensor):
        return ("tensor", value.tolist())
    if isinstance(value, dict):
        return {key: _as_lists(item) for key, item in value.items()}
    return [_as_lists(item) for item in value] if isinstance(value, list) else value


def _as_tensors(value: tp.Any) -> tp.Any:
    if isinstance(value, tuple) and value[:1] == ("tensor",):
        return torch.tensor(value[1])
    if isinstance(value, dict):
        return {key: _as_tensors(item) for key, item in value.items()}
    return [_as_tensors(item) for item in value] if isinstance(value, list) else value
