"""Fork server: starts Python programs with PyTorch and this package already imported.

A cold start costs 6 to 12 s of CPU time, a fork 50 ms. `forked_python()` is the path of an
executable that stands for `python`: arguments, environment, working directory, open files,
signals, exit status and global state are those of a separate process.
`sys.executable` is that path inside the program, so that what it starts is forked as well
(torchrun, `dora run -d`, local grids, data workers).

Three differences: environment variables that are read while PyTorch or `audiocraft` is imported
have no effect (except in `audiocraft.train`, which each program imports); `audiocraft` is that of
this repository; a process ends without the finalization of the interpreter. A test of any of these
uses `sys.executable`. With `AUDIOCRAFT_COLD_START=1`, and on systems other than Linux,
`forked_python()` is `sys.executable`.
"""

import array
import atexit
import contextlib
import functools
import gc
import importlib
import json
import multiprocessing.spawn
import os
import pkgutil
import runpy
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import types
import typing as tp
from pathlib import Path

ROOT = Path(__file__).parents[1]
MAX_FILES = 250  # in one message of a Unix socket
FAILED = 70  # exit status of a client without a server
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
LIBRARIES = (
    *("torch", "torchaudio", "torch.distributed.run", "torch.utils.tensorboard"),
    *("torch.distributed.fsdp", "torch.distributed.checkpoint.state_dict", "dora.__main__"),
    *("dora.hydra", "flashy", "matplotlib.figure", "matplotlib.backends.backend_agg"),
    *("transformers.models.t5.modeling_t5", "transformers.models.t5.tokenization_t5"),
)
# Options of Python that do not affect tests, and their numbers of words.
WITHOUT_EFFECT = {"-u": 1, "-B": 1, "-s": 1, "-E": 1, "-I": 1, "-W": 2, "-X": 2}
# Reads the command line and the environment when it is imported.
NOT_PRELOADED = ("audiocraft.train", "audiocraft.__main__")

# Needs no site-packages: it starts in 20 ms.
CLIENT = """#!{python} -IS
import array, json, os, signal, socket, sys

server = socket.socket(socket.AF_UNIX)
try:
    server.connect({address!r})
    own = server.fileno()
    files = [int(name) for name in os.listdir("/proc/self/fd") if int(name) != own]
    files = [file for file in files if os.path.exists(f"/proc/self/fd/{{file}}")]
    request = dict(argv=sys.argv[1:], cwd=os.getcwd(), env=dict(os.environ), files=files)
    request = json.dumps(request).encode()
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", files))]
    server.sendmsg([len(request).to_bytes(8, "big")], rights)
    server.sendall(request)
    pid = int.from_bytes(server.recv(8), "big")
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(signum, lambda signum, frame: os.kill(pid, signum))
    status = int(server.recv(8))
except (OSError, ValueError) as error:
    print("The fork server of the tests is gone:", repr(error), file=sys.stderr)
    os._exit({failed})
if status < 0:
    signal.signal(-status, signal.SIG_DFL) if -status != signal.SIGKILL else None
    os.kill(os.getpid(), -status)
os._exit(status)
"""


@functools.cache
def forked_python() -> str:
    """Start a server that ends with this process; returns the path of its client."""
    if sys.platform != "linux" or os.environ.get("AUDIOCRAFT_COLD_START") == "1":
        return sys.executable
    folder = Path(tempfile.mkdtemp(prefix="fork-"))
    address, client = folder / "socket", folder / "python"
    server_socket = socket.socket(socket.AF_UNIX)
    server_socket.bind(str(address))
    server_socket.listen(64)  # clients wait until the server has imported everything
    client.write_text(
        CLIENT.format(python=sys.executable, address=str(address), failed=FAILED), encoding="utf-8"
    )
    client.chmod(0o755)
    server = subprocess.Popen(
        [sys.executable, "-m", "tests.fork_server", str(server_socket.fileno()), str(client)],
        cwd=ROOT,
        env=os.environ | ONE_THREAD | {"PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,  # ends with this process
        stdout=subprocess.DEVNULL,
        pass_fds=[server_socket.fileno()],
        start_new_session=True,  # tests send SIGINT to the programs
    )
    server_socket.close()

    def stop() -> None:
        assert server.stdin is not None
        server.stdin.close()
        server.wait()
        for path in (address, client):
            path.unlink()
        folder.rmdir()

    atexit.register(stop)
    return str(client)


def preload() -> None:
    """Import all that a program may need; nothing may start a thread."""
    for name in LIBRARIES:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    package = importlib.import_module("audiocraft")
    for module in pkgutil.walk_packages(package.__path__, "audiocraft."):
        if module.name not in NOT_PRELOADED:
            with contextlib.suppress(ImportError):  # of an extra that is not installed
                importlib.import_module(module.name)
    assert threading.active_count() == 1, threading.enumerate()


class Request(tp.NamedTuple):
    """The program that a client requests."""

    argv: list[str]
    cwd: str
    env: dict[str, str]
    files: dict[int, int]  # server file descriptor by descriptor in the program


def receive(connection: socket.socket) -> Request | None:
    """Read the request of a client; `None` if it has ended."""
    received, data = array.array("i"), b""
    header, ancillary, _, _ = connection.recvmsg(8, socket.CMSG_SPACE(MAX_FILES * 4))
    for level, kind, content in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            received.frombytes(content)
    size = int.from_bytes(header, "big")
    while header and len(data) < size:
        part = connection.recv(size - len(data))
        if not part:
            break
        data += part
    if not header or len(data) < size:
        for file in received:
            os.close(file)
        return None
    content = json.loads(data)
    content["files"] = dict(zip(content["files"], received, strict=True))
    return Request(**content)


class Server:
    """Forks a program for each client and sends its exit status."""

    def __init__(self, server_socket: socket.socket):
        self.server_socket = server_socket
        self.selector = selectors.DefaultSelector()
        self.selector.register(server_socket, selectors.EVENT_READ, self.accept)
        self.selector.register(sys.stdin, selectors.EVENT_READ, None)

    def serve(self) -> Request | None:
        """Returns in each child, with the program to run, and at the end of the server."""
        while True:
            for key, _ in self.selector.select():
                if key.data is None:
                    return None
                request = key.data()
                if request is not None:
                    return request

    def accept(self) -> Request | None:
        connection, _ = self.server_socket.accept()
        request = receive(connection)
        if request is None:
            connection.close()
            return None
        pid = os.fork()
        if pid == 0:
            connection.close()
            self.server_socket.close()
            self.selector.close()
            return request
        for file in request.files.values():
            os.close(file)
        with contextlib.suppress(OSError):  # the client has ended: see `kill_program`
            connection.send(pid.to_bytes(8, "big"))
        ended = os.pidfd_open(pid)
        self.selector.register(
            connection, selectors.EVENT_READ, lambda: self.kill_program(pid, connection)
        )
        self.selector.register(
            ended, selectors.EVENT_READ, lambda: self.report(pid, ended, connection)
        )
        return None

    def kill_program(self, pid: int, connection: socket.socket) -> None:
        """Kill the program of a client that was killed."""
        self.selector.unregister(connection)
        os.kill(pid, signal.SIGKILL)

    def report(self, pid: int, ended: int, connection: socket.socket) -> None:
        self.selector.unregister(ended)
        os.close(ended)
        _, status = os.waitpid(pid, 0)
        with contextlib.suppress(KeyError):
            self.selector.unregister(connection)
        with contextlib.suppress(OSError):
            connection.send(str(os.waitstatus_to_exitcode(status)).encode())
        connection.close()


def apply_request(request: Request, client: str) -> None:
    """Apply the open files, environment and working directory of the request."""
    free = max([*request.files, *request.files.values()]) + 1
    for number, file in request.files.items():  # first to unused descriptors
        os.dup2(file, free + number)
    for file in request.files.values():
        os.close(file)
    for number in request.files:
        os.dup2(free + number, number)
        os.close(free + number)
    os.environ.clear()
    os.environ.update(request.env)
    os.chdir(request.cwd)
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        stream = open(  # noqa: SIM115
            number,
            "w" if number else "r",
            buffering=1 if number == 2 else -1,
            encoding="utf-8",
            errors="backslashreplace" if number == 2 else "strict",
            closefd=False,
        )
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)
    sys.executable = client
    multiprocessing.spawn.set_executable(client)


def run(argv: list[str]) -> None:
    """Run what `python ARGV` runs: `[options] -m MODULE …`, `-c CODE …` or `FILE …`."""
    while argv[0] in WITHOUT_EFFECT:
        argv = argv[WITHOUT_EFFECT[argv[0]] :]
    option, *rest = argv
    if option == "-c":
        sys.argv = ["-c", *rest[1:]]
        main = sys.modules["__main__"] = types.ModuleType("__main__")
        exec(compile(rest[0], "<string>", "exec"), main.__dict__)
    elif option == "-m":
        sys.argv = ["-m", *rest[1:]]
        for name in (rest[0], f"{rest[0]}.__main__"):
            sys.modules.pop(name, None)  # it is executed, not imported
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    else:
        sys.path[0] = str(Path(option).parent)
        sys.argv = argv
        runpy.run_path(option, run_name="__main__")


def exit_status(argv: list[str]) -> int:
    """Run a program; returns the exit status that Python would give it."""
    try:
        run(argv)
    except SystemExit as error:
        if error.code is None or isinstance(error.code, int):
            return int(error.code or 0) & 0xFF
        print(error.code, file=sys.stderr)
        return 1
    except BaseException as error:
        sys.excepthook(type(error), error, error.__traceback__)
        return 128 + signal.SIGINT if isinstance(error, KeyboardInterrupt) else 1
    return 0


def main(server_socket: socket.socket, client: str) -> None:
    preload()
    gc.collect()
    gc.freeze()  # garbage collection would copy shared memory
    request = Server(server_socket).serve()
    if request is None:
        return
    paths = request.env.get("PYTHONPATH", "").split(os.pathsep)
    # Replaces the working directory and the PYTHONPATH of this server.
    sys.path[:2] = [request.cwd, *filter(None, paths)]
    apply_request(request, client)
    status = exit_status(request.argv)
    threading._shutdown()  # as the interpreter does at exit
    atexit._run_exitfuncs()
    with contextlib.suppress(
        OSError, ValueError
    ):  # the reader has ended, or the program closed the file
        sys.stdout.flush()
    os._exit(status)


if __name__ == "__main__":
    main(socket.socket(fileno=int(sys.argv[1])), sys.argv[2])
