"""The worker processes of a sweep on this machine: started, given stacks to train, listened to, outlived. No torch."""

import math
import os
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing import Pipe
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from fmnist import ROOT
from fmnist.config.schema import Config
from fmnist.record.result import Outcome
from fmnist.train.signals import catching

DRIVERS = ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")  # where none of these is, there is no cuda device to ask torch for


@dataclass
class Task:
    """Runs to be trained as one stack, on `device` if it is one of several, and the places of those still at it."""

    configs: Sequence[Config]
    directories: Sequence[Path]
    runs: Sequence[int]
    left: set[int] = field(default_factory=set)


class Worker:
    """One process; see fmnist.launch.worker for what it does.

    It has a session of its own, so that Ctrl-C reaches it by way of us alone; it ends when we do, however we end.
    """

    def __init__(self, device: int | None) -> None:
        self.device = device
        self.task: Task | None = None
        self.connection, theirs = Pipe()
        paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "fmnist.launch.worker", str(theirs.fileno())],
            stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()], start_new_session=True,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
        )  # fmt: skip
        theirs.close()

    def close(self) -> str:
        """Let it end; how it ended."""
        self.connection.close()
        status = self.process.wait()
        return f"signal {-status}" if status < 0 else f"status {status}"


def cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _has_driver() -> bool:
    return any(os.path.exists(path) for path in DRIVERS)


class Workers:
    """Workers that live until `close`: each launch of a sweep finds them with torch imported."""

    def __init__(self) -> None:
        self.workers: list[Worker] = []

    def grow(self, count: int, devices: int = 0) -> None:
        """Have at least so many workers; they share out cuda devices where there are any."""
        for index in range(len(self.workers), count):
            self.workers.append(Worker(index % devices if devices else None))

    def get_ready(self, workers: int) -> None:
        """Start so many: they import torch while other things are done. Where a driver is, only the one that is to tell
        how many devices there are."""
        self.grow(1 if _has_driver() else workers)

    def cuda_devices(self) -> int:
        """How many there are: told by torch, in a worker, and only where a driver is."""
        if not _has_driver():
            return 0
        self.grow(1)
        (worker,) = self.workers[:1]
        count = int(self._ask([worker], ("devices",))[0])
        worker.device = 0 if count else None
        return count

    def pace(self, configs: Sequence[Config], workers: int, threads: int, seconds: float) -> float:
        """Seconds that a step of a stack of these configs takes while so many workers do the same, the slowest's;
        infinite where it is too much for them."""
        self.grow(workers)
        try:
            return float(max(self._ask(self.workers[:workers], ("pace", configs, threads, seconds))))
        except (EOFError, OSError):
            self.close()
            return math.inf

    def _ask(self, workers: Sequence[Worker], question: tuple[Any, ...]) -> list[Any]:
        for worker in workers:
            worker.connection.send(question)
        return [worker.connection.recv() for worker in workers]

    def train(
        self, tasks: Sequence[Task], workers: int, threads: int | None, ended: Callable[[int, Outcome], None],
        epoch: Callable[[int], None],
    ) -> int | None:  # fmt: skip
        """Train all tasks, the first ones first; the signal that stopped it, if one did.

        ended: called with a run's place and outcome when it has failed or is done; epoch: with a number of runs that
        have trained one more epoch. A worker that dies fails its runs, and another takes its place.
        """
        waiting = deque(tasks)
        with catching(lambda heard: self._forward(heard[-1])) as caught:
            active = self.workers[:workers]
            while True:
                for worker in active:
                    if worker.task is None and waiting and not caught:
                        self._give(worker, waiting.popleft(), threads)
                busy = {worker.connection: worker for worker in active if worker.task is not None}
                if not busy:
                    return caught[0] if caught else None
                ready = wait(list(busy))
                for connection, worker in busy.items():
                    if connection not in ready:
                        continue
                    try:
                        self._hear(worker, connection.recv(), ended, epoch)
                    except (EOFError, ConnectionResetError):
                        active.remove(worker)
                        self._bury(worker, bool(caught), ended)
                        if waiting and not caught:
                            active.append(self._replace(worker))

    def _give(self, worker: Worker, task: Task, threads: int | None) -> None:
        worker.task = task
        task.left = set(task.runs)
        with suppress(OSError):  # one that has died is noticed where it is listened to
            worker.connection.send(("train", task.configs, task.directories, threads, worker.device))

    def _hear(
        self, worker: Worker, told: tuple[Any, ...], ended: Callable[[int, Outcome], None], epoch: Callable[[int], None]
    ) -> None:
        task = worker.task
        assert task is not None
        if told[0] == "ended":
            run = task.runs[told[1]]
            task.left.discard(run)
            ended(run, told[2])
        elif told[0] == "epoch":
            epoch(told[1])
        else:
            worker.task = None

    def _bury(self, worker: Worker, wanted: bool, ended: Callable[[int, Outcome], None]) -> None:
        """Tell what became of the runs of a worker that has ended, unless it was told to."""
        how = worker.close()
        self.workers.remove(worker)
        assert worker.task is not None
        if not wanted:
            for run in sorted(worker.task.left):
                ended(run, Outcome(None, {}, f"its worker process died ({how}): the same command continues it"))

    def _replace(self, dead: Worker) -> Worker:
        self.workers.append(Worker(dead.device))
        return self.workers[-1]

    def _forward(self, number: int) -> None:
        """The workers end their epoch and save."""
        for worker in self.workers:
            worker.process.send_signal(number)

    def close(self) -> None:
        """End all workers."""
        while self.workers:
            self.workers.pop().close()
