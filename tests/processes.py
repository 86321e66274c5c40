"""Distributed processes: runs a function in each process of a group."""

import importlib
import os
import socket
import subprocess
import sys
import tempfile
import typing as tp
from pathlib import Path

import torch
from torch import distributed as dist

from .fork_server import ROOT, forked_python


def in_processes(function: tp.Callable[..., tp.Any], number: int, *args: tp.Any) -> list[tp.Any]:
    """Returns what `function(rank, *args)` returns in each of `number` processes, by rank.

    The function must be importable; arguments and results are tensors and plain values.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        torch.save(args, Path(folder, "arguments.pt"))
        name = f"{function.__module__}:{function.__qualname__}"
        call = [forked_python(), "-m", "tests.processes", name, folder]
        group = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(number)}
        processes = [
            subprocess.Popen(call, cwd=ROOT, env=os.environ | group | {"RANK": str(rank)})
            for rank in range(number)
        ]
        assert [process.wait(timeout=120) for process in processes] == [0] * number
        return [torch.load(Path(folder, f"{rank}.pt")) for rank in range(number)]


def main(name: str, folder: str) -> None:
    """Entry point of each process: call the function `MODULE:NAME`."""
    module, _, function = name.partition(":")
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    args = torch.load(Path(folder, "arguments.pt"))
    result = getattr(importlib.import_module(module), function)(dist.get_rank(), *args)
    torch.save(result, Path(folder, f"{dist.get_rank()}.pt"))
    dist.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:])
