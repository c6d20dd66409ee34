"""The worker processes of a sweep on this machine: started, given stacks to train, replaced when they die. No torch."""

import os
import subprocess
import sys
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing import Pipe
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from fmnist import ROOT
from fmnist.config.schema import Config
from fmnist.launch.progress import Progress
from fmnist.launch.runs import correct, run_log
from fmnist.launch.trouble import Trouble, Unmeasured
from fmnist.record.result import Outcome
from fmnist.train.signals import catching

DRIVERS = ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")  # where none of these is, there is no cuda device to ask torch for
TRIAL = 0.08  # seconds of steps in one measurement
LOOK = 1.0  # seconds after which the progress is looked at, if nothing else happens


@dataclass
class Task:
    """Runs to be trained as one stack; runs: their places in the sweep; left: those of them that have not ended."""

    configs: Sequence[Config]
    directories: Sequence[Path]
    runs: Sequence[int]
    left: set[int] = field(default_factory=set)


class Worker:
    """One process; see fmnist.launch.worker for what it does. device: the cuda device that it trains on, if any.

    It has a session of its own: Ctrl-C reaches it only as a signal that we send. It ends when this process ends.
    """

    def __init__(self, device: int | None, environment: Mapping[str, str]) -> None:
        self.device, self.environment = device, environment
        self.task: Task | None = None
        self.connection, theirs = Pipe()
        paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "fmnist.launch.worker", str(theirs.fileno())],
            stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()], start_new_session=True,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)} | dict(environment),
        )  # fmt: skip
        theirs.close()

    def close(self) -> str:
        """Wait until it has ended; how it ended, in words."""
        self.connection.close()
        status = self.process.wait()
        return f"signal {-status}" if status < 0 else f"status {status}"


def _has_driver() -> bool:
    return any(os.path.exists(path) for path in DRIVERS)


class Workers:
    """Worker processes that live until `close`: those of one launch serve the next, with torch imported.

    environment: variables that they have beside those of this process.
    """

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        self.environment = environment or {}
        self.workers: list[Worker] = []
        self.devices = 0

    def grow(self, count: int) -> None:
        """Have at least so many workers; they share out the cuda devices that `cuda_devices` has found."""
        while len(self.workers) < count:
            taken = [worker.device for worker in self.workers]
            device = min(range(self.devices), key=taken.count, default=None)
            self.workers.append(Worker(device, self.environment))

    def get_ready(self, workers: int) -> None:
        """Start so many workers: they import torch meanwhile. Where there is a driver, start the one that counts the
        devices alone: each worker is made for one of them."""
        self.grow(1 if _has_driver() else workers)

    def cuda_devices(self) -> int:
        """How many cuda devices there are. Torch counts them, in a worker; it is asked only where there is a driver."""
        if not _has_driver():
            return 0
        self.grow(1)
        ((kind, count),) = self._ask(1, ("devices",))
        self.devices = int(count) if kind == "answer" else 0
        self.workers[0].device = 0 if self.devices else None
        return self.devices

    def pace(self, configs: Sequence[Config], workers: int, threads: int) -> float:
        """Seconds that a step of a stack of these configs takes while so many workers do the same, the slowest's.
        Raises Unmeasured where it is too much for them, or something is wrong with the runs."""
        self.grow(workers)
        answers = self._ask(workers, ("pace", configs, threads, TRIAL))
        for wrong in [wrong for kind, wrong in answers if kind == "error"]:
            raise Unmeasured(wrong.text, wrong.too_large)
        return float(max(seconds for _, seconds in answers))

    def _ask(self, workers: int, question: tuple[Any, ...]) -> list[tuple[str, Any]]:
        """Ask so many workers; they answer ("answer", ...) or ("error", Trouble), which one that dies of it has too."""
        for worker in self.workers[:workers]:
            with suppress(OSError):  # one that has died is noticed when it does not answer
                worker.connection.send(question)
        answers = []
        for worker in self.workers[:workers]:
            try:
                answers.append(worker.connection.recv())
            except (EOFError, OSError):
                how = self._remove(worker)
                answers.append(("error", Trouble(f"a worker process died ({how})", too_large=how == "signal 9")))
        return answers

    def train(self, tasks: Sequence[Task], workers: int, threads: int | None, progress: Progress) -> int | None:
        """Train all tasks, the first ones first; the signal that stopped it, if one did.

        progress: is called at every epoch, at the end of every run, and every second. The runs of a worker that dies
        fail, and another worker takes its place.
        """
        waiting = deque(tasks)
        with catching(lambda caught: self._forward(caught[-1])) as caught:
            while True:
                if waiting and not caught:
                    self.grow(workers)
                for worker in self.workers[:workers]:
                    if worker.task is None and waiting and not caught:
                        self._give(worker, waiting.popleft(), threads)
                busy = [worker for worker in self.workers if worker.task is not None]
                if not busy:
                    return caught[0] if caught else None
                ready = wait([worker.connection for worker in busy], LOOK)
                for worker in busy:
                    if worker.connection in ready:
                        self._receive(worker, progress, bool(caught))
                progress.look()

    def _give(self, worker: Worker, task: Task, threads: int | None) -> None:
        worker.task, task.left = task, set(task.runs)
        with suppress(OSError):  # one that has died is noticed when nothing comes from it
            worker.connection.send(("train", task.configs, task.directories, threads, worker.device))

    def _receive(self, worker: Worker, progress: Progress, leaving: bool) -> None:
        """Take a worker's next message, or notice that it has died. leaving: all were asked to end."""
        task = worker.task
        assert task is not None
        try:
            kind, *said = worker.connection.recv()
        except (EOFError, OSError):
            self._fail(task, f"its worker process died ({self._remove(worker)})", progress, leaving)
            return
        if kind == "reached":
            progress.reached([task.runs[place] for place in said[0]], said[1])
        elif kind == "ended":
            run = task.runs[said[0]]
            task.left.discard(run)
            progress.ended(run, said[1])
        else:
            worker.task = None
            if kind == "error":
                self._fail(task, said[0].text, progress, leaving)

    def _fail(self, task: Task, reason: str, progress: Progress, leaving: bool) -> None:
        """End the runs that a worker has left: their records must not say that they train."""
        for run in sorted(task.left):
            directory = task.directories[task.runs.index(run)]
            correct(directory, "interrupted", reason)
            if not leaving:
                run_log(directory).error("error: %s", reason)
                progress.ended(run, Outcome(None, {}, reason))

    def _remove(self, dead: Worker) -> str:
        """Forget a worker that has ended; how it ended, in words."""
        self.workers.remove(dead)
        return dead.close()

    def _forward(self, number: int) -> None:
        """Have the workers end their epoch and save."""
        for worker in self.workers:
            worker.process.send_signal(number)

    def close(self) -> None:
        """End all workers."""
        while self.workers:
            self.workers.pop().close()
