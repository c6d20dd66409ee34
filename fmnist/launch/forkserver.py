"""How the worker processes of a sweep are started: by a fork server, which imports torch once for all of them.

The fork server has a single thread: libraries start their threads in the workers. Where a process cannot be forked
safely, each worker is started anew and imports torch itself.
"""

import errno
import importlib
import os
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from multiprocessing.reduction import recv_handle, send_handle
from typing import Any, Protocol

from fmnist import ROOT
from fmnist.launch.machine import set_threads, uncollected
from fmnist.launch.trouble import ending
from fmnist.launch.worker import run, serve

FORKS = sys.platform == "linux"  # macOS has system libraries that do not survive it
COMMON = (  # what all workers need
    "fmnist.train.engine", "tensorboard.plugins.hparams.summary_v2", "torch.utils.tensorboard.summary",
)  # fmt: skip
UNKNOWN = 255  # stands for the status of a worker that has outlived the fork server


class Process(Protocol):
    """A worker's process: what `subprocess.Popen` and `Forked` have in common."""

    @property
    def pid(self) -> int:
        """Its number."""

    def wait(self) -> int:
        """Wait until it has ended; its status, or minus the signal that killed it."""

    def send_signal(self, sig: int) -> None:
        """Send it a signal, if it has not ended."""


class ForkServer:
    """Starts worker processes. Each has a session of its own. environment: variables that they have beside those of
    this process."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        self.environment = {"OPENBLAS_NUM_THREADS": "1"}  # numpy would start threads when it is imported
        self.environment |= os.environ | {"PYTHONPATH": os.pathsep.join(paths)} | dict(environment)
        set_threads(self.environment)
        self.process: subprocess.Popen[bytes] | None = None
        self.asked = 0

    def open(self) -> None:
        """Have a process that imports torch; do not wait for it. Raises OSError where the system allows no more."""
        if self.process is None or self.process.poll() is not None:
            self.connection, theirs = Pipe()
            with theirs:
                self.process = self._python("fmnist.launch.forkserver", theirs)

    def start(self, connection: Connection) -> Process:
        """Start a worker that serves the connection. Raises OSError where the system allows no more."""
        if not FORKS:
            return self._python("fmnist.launch.worker", connection)
        self.open()
        answer = self.ask(connection)
        if isinstance(answer, OSError):
            raise answer
        return Forked(answer, self)

    def _python(self, module: str, connection: Connection) -> subprocess.Popen[bytes]:
        """A Python process that inherits a connection."""
        return subprocess.Popen(
            [sys.executable, "-P", "-m", module, str(connection.fileno())], stdin=subprocess.DEVNULL,
            pass_fds=[connection.fileno()], start_new_session=True, env=self.environment,
        )  # fmt: skip

    def ask(self, what: Connection | int) -> Any:
        """For a connection: the number of a new worker that serves it, or an OSError. For the number of a worker: its
        status, when it has ended. Raises ChildProcessError where the fork server has ended."""
        assert self.process is not None
        self.asked += 1
        try:
            self.connection.send((self.asked, what if isinstance(what, int) else None))
            if not isinstance(what, int):
                send_handle(self.connection, what.fileno(), self.process.pid)
            while (answer := self.connection.recv())[0] != self.asked:
                pass  # it is to a question that Ctrl-C has cut off
        except (EOFError, OSError):
            self.connection.close()  # then it ends, if it has not
            how = f"the process that starts them ended ({ending(self.process.wait())})"
            raise ChildProcessError(errno.ECHILD, how) from None
        return answer[1]

    def close(self) -> None:
        """End the fork server. The workers must have ended."""
        if self.process is not None:
            self.connection.close()
            self.process.wait()
            self.process = None


class Forked:
    """A process that the fork server has forked. See Process."""

    def __init__(self, pid: int, server: ForkServer) -> None:
        self.pid, self.server = pid, server

    def wait(self) -> int:
        """See Process. To be called once."""
        with suppress(ChildProcessError):
            return int(self.server.ask(self.pid))
        return UNKNOWN

    def send_signal(self, sig: int) -> None:
        """See Process."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, sig)


def serve_forks(connection: Connection) -> None:
    """Answer `ForkServer.ask` until the process that asks ends."""
    with uncollected():
        for module in COMMON:
            importlib.import_module(module)
    with suppress(EOFError, OSError):
        while True:
            number, pid = connection.recv()
            connection.send((number, _fork(connection) if pid is None else _status(pid)))


def _status(pid: int) -> int:
    """See `Process.wait`."""
    with suppress(ChildProcessError):  # of the fork server before this one
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return UNKNOWN


def _fork(connection: Connection) -> int | OSError:
    """The number of a new worker, or why there is none."""
    with Connection(recv_handle(connection)) as theirs:
        try:
            pid = os.fork()
        except OSError as error:
            return error
        if pid == 0:
            connection.close()  # where the fork server is killed, nobody must hold it open
            os.setsid()
            run(serve, theirs)
        return pid


if __name__ == "__main__":
    run(serve_forks, Connection(int(sys.argv[1])))
