"""SLURM on this machine: real daemons with a separate folder, inside a `with` block.

    with Slurm() as slurm:
        subprocess.run(["sbatch", …], env=os.environ | slurm.env)

Three daemons run as children of this process: munged authenticates, slurmctld keeps the queue,
slurmd starts the jobs. They use separate ports, keys and files, so that they do not affect an
installed SLURM, and they end with the block.

What is simulated: more processors and memory than the machine has, since Dora requests ten
processors and 40 GB per GPU; two GPUs, which are null devices; and `sacct`, which reads the queue,
since there is no accounting database.
"""

import os
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
import typing as tp
from pathlib import Path

DAEMONS = ("munged", "slurmctld", "slurmd")
COMMANDS = ("sbatch", "srun", "squeue", "scancel", "scontrol", "sinfo")
SYSTEM = "/usr/sbin:/sbin"  # folder of the daemons

# Without accounting and limits; finished jobs stay in memory, for `sacct`.
CONFIG = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SwitchType=switch/none
PlugStackConfig=/dev/null
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
MinJobAge=3600
KillWait=10
ReturnToService=2
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=sched_interval=1,batch_sched_delay=0
SlurmdParameters=config_overrides
GresTypes=gpu
NodeName={host} NodeAddr=127.0.0.1 CPUs=64 RealMemory=1000000 Gres=gpu:2 State=UNKNOWN
PartitionName=test Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""
GPUS = "NodeName={host} Name=gpu File=/dev/null\nNodeName={host} Name=gpu File=/dev/zero\n"
SACCT = """#!/bin/sh
echo "JobID|State|NodeList"
exec squeue --array --states=all --noheader --format='%i|%T|%N'
"""


def reason_unavailable() -> str | None:
    """Why SLURM cannot run on this machine and how to install it; `None` if it can."""
    path = f"{os.environ['PATH']}:{SYSTEM}"
    missing = [name for name in (*DAEMONS, *COMMANDS) if shutil.which(name, path=path) is None]
    if missing:
        install = "apt-get install --no-install-recommends slurm-wlm munge"
        return f"SLURM is not installed ({', '.join(missing)} missing): {install}"
    if os.geteuid() != 0:
        return "only root can run SLURM's daemons"
    return None


class Slurm:
    """The daemons, their configuration, and the environment of commands."""

    def __init__(self):
        self.running: dict[str, subprocess.Popen] = {}
        # munged requires folders that all users may enter, and a short path for its socket.
        self.folder = Path(tempfile.mkdtemp(prefix="slurm-"))
        self.folder.chmod(0o755)
        self.env = {
            "SLURM_CONF": str(self.folder / "slurm.conf"),
            "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}:{SYSTEM}",
        }

    def __enter__(self) -> "Slurm":
        try:
            self._write_files()
            munge = self.folder / "munge"
            options = {"key-file": "key", "socket": "socket", "pid-file": "pid"}
            options |= {"log-file": "log", "seed-file": "seed"}
            files = [f"--{name}={munge / file}" for name, file in options.items()]
            self._start("munged", "--foreground", "--num-threads=1", *files)
            self._wait_until((munge / "socket").exists, "munged accepts connections")
            self._start("slurmctld", "-D", "-i")
            self._start("slurmd", "-D", "-N", short_hostname())
            self._wait_until(self._is_idle, "the machine is idle")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: tp.Any) -> None:
        """Cancel running jobs and end the daemons, the last one first."""
        if len(self.running) == len(DAEMONS):
            self.call("scancel", "--user=root")
            wait_until(lambda: not self.call("squeue", "-h"), "no job is left", raises=False)
        for daemon in reversed(self.running.values()):
            daemon.terminate()
            try:
                daemon.wait(timeout=10)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
        self.running = {}
        shutil.rmtree(self.folder, ignore_errors=True)

    def _is_idle(self) -> bool:
        return "idle" in self.call("sinfo", "-h", "-o", "%T")

    def _wait_until(self, true: tp.Callable[[], tp.Any], what: str) -> None:
        """Wait until a condition holds; fails if a daemon ends."""

        def holds_or_daemon_ended() -> bool:
            for name, daemon in self.running.items():
                if daemon.poll() is not None:
                    log = (self.folder / f"{name}.out").read_text()
                    raise RuntimeError(f"{name} ended before {what}:\n{log[-2000:]}")
            return bool(true())

        wait_until(holds_or_daemon_ended, what)

    def call(self, *command: str) -> str:
        """Output of a SLURM command; empty if it fails."""
        done = subprocess.run(
            command, env=os.environ | self.env, capture_output=True, text=True, check=False
        )
        return done.stdout.strip()

    def states(self) -> dict[str, str]:
        """The state of every job by its id."""
        rows = self.call("sacct").splitlines()[1:]
        return {job: state for job, state, _ in (row.split("|") for row in rows)}

    def _start(self, name: str, *options: str) -> None:
        with open(self.folder / f"{name}.out", "w", encoding="utf-8") as log:
            daemon = subprocess.Popen(
                [shutil.which(name, path=self.env["PATH"]) or name, *options],
                env=os.environ | self.env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C ends the test, which ends the daemons
            )
        self.running[name] = daemon

    def _write_files(self) -> None:
        for name in ("munge", "state", "spool", "bin"):
            (self.folder / name).mkdir(parents=True)
        key = self.folder / "munge" / "key"
        key.touch(mode=0o600)
        key.write_bytes(secrets.token_bytes(64))
        values: dict[str, tp.Any] = {"folder": self.folder, "host": short_hostname()}
        values["controller_port"], values["node_port"] = free_ports(2)
        (self.folder / "slurm.conf").write_text(CONFIG.format(**values))
        (self.folder / "gres.conf").write_text(GPUS.format(**values))
        (self.folder / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\n")
        sacct = self.folder / "bin" / "sacct"
        sacct.write_text(SACCT)
        sacct.chmod(0o755)


def short_hostname() -> str:
    """Host name without domain, as SLURM uses it."""
    return socket.gethostname().split(".")[0]


def free_ports(count: int) -> list[int]:
    """Unused ports."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


def wait_until(
    true: tp.Callable[[], tp.Any], what: str, timeout: float = 60, raises: bool = True
) -> None:
    """Check a condition ten times a second until it holds."""
    until = time.monotonic() + timeout
    while not true():
        if time.monotonic() > until:
            if raises:
                raise TimeoutError(f"Not true after {timeout} s: {what}.")
            return
        time.sleep(0.1)
