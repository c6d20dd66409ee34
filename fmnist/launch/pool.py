"""The worker processes of a sweep on this machine: started, given stacks to train, replaced when they die. No torch."""

import logging
import os
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing import Pipe
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from fmnist import UserError
from fmnist.config.schema import Config
from fmnist.launch.forkserver import FORKS, ForkServer
from fmnist.launch.progress import Progress
from fmnist.launch.runs import correct, give_up, run_log
from fmnist.launch.trouble import UNSTARTED, Trouble, Unmeasured, died, ending
from fmnist.program.signals import catching

log = logging.getLogger(__name__)

DRIVERS = ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")  # where none of these is, there is no cuda device to ask torch for
TRIAL = 0.08  # seconds of steps in one measurement
LOOK = 1.0  # seconds after which the progress is looked at, if nothing else happens


@dataclass
class Task:
    """Runs to be trained as one stack; runs: their places in the sweep; left: those of them that have not ended.
    returned: whether a worker had died before it could begin with them."""

    configs: Sequence[Config]
    directories: Sequence[Path]
    runs: Sequence[int]
    left: set[int] = field(init=False)
    returned: bool = False

    def __post_init__(self) -> None:
        self.left = set(self.runs)

    def directories_left(self) -> list[tuple[int, Path]]:
        """The runs that have not ended, with their directories."""
        return [(run, path) for run, path in zip(self.runs, self.directories, strict=True) if run in self.left]

    def halves(self) -> "list[Task]":
        """The runs that have not ended, as tasks with half of them each."""
        places = [place for place, run in enumerate(self.runs) if run in self.left]
        cut = len(places) // 2
        return [self._part(half) for half in (places[:cut], places[cut:]) if half]

    def _part(self, places: Sequence[int]) -> "Task":
        configs, directories = [self.configs[place] for place in places], [self.directories[place] for place in places]
        return Task(configs, directories, [self.runs[place] for place in places])


def halved(task: Task, reason: str, progress: Progress) -> list[Task]:
    """The runs of a task that was cut off, as tasks with half of them each. Their logs and the progress say why."""
    for _, directory in task.directories_left():
        correct(directory, "interrupted", reason)
        run_log(directory).info("a stack was cut off: %s; it is halved", reason)
    halves = task.halves()
    if len(halves) > 1:
        progress.halved([run for half in halves for run in half.runs], "was cut off", reason)
    return halves


class Worker:
    """One process; see fmnist.launch.worker for what it does. device: the cuda device that it trains on, if any.

    It has a session of its own: Ctrl-C reaches it only as a signal that we send. It ends when this process ends.
    Where the fork server ends while it is asked, another one is asked once.
    """

    def __init__(self, device: int | None, server: ForkServer) -> None:
        self.device = device
        self.task: Task | None = None
        try:
            self._start(server)
        except ChildProcessError:
            self._start(server)

    def _start(self, server: ForkServer) -> None:
        self.connection, theirs = Pipe()
        with theirs:
            try:
                self.process = server.start(theirs)
            except OSError:  # a worker that was forked all the same ends: nobody holds the other end
                self.connection.close()
                raise

    def close(self) -> str:
        """Wait until it has ended; how it ended, in words."""
        self.connection.close()
        return ending(self.process.wait())


def _has_driver() -> bool:
    return any(os.path.exists(path) for path in DRIVERS)


class Workers:
    """Worker processes that live until `close`: those of one launch serve the next, with torch imported.

    environment: variables that they have beside those of this process.
    """

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        self.server = ForkServer(environment or {})
        self.workers: list[Worker] = []
        self.waiting: deque[Task] = deque()
        self.devices = 0

    def grow(self, count: int) -> str:
        """Have at least so many workers, or as many as the system allows: then what keeps it from more, in words.
        Raises UserError where it does not allow one."""
        while len(self.workers) < count:
            try:
                self.workers.append(Worker(self._free_device(), self.server))
            except OSError as error:  # such as too many open files or processes
                what = f"{len(self.workers)} of {count} {UNSTARTED}: {error.strerror}"
                if not self.workers:
                    raise UserError(what) from None
                return what
        return ""

    def _free_device(self) -> int | None:
        """The cuda device that the fewest workers have, None where `cuda_devices` has found none."""
        taken = [worker.device for worker in self.workers]
        return min(range(self.devices), key=taken.count, default=None)

    def get_ready(self, workers: int) -> None:
        """Have torch imported meanwhile, for so many workers. Where each imports it itself and there is a driver, start
        the one that counts the devices alone: each worker is made for one of them."""
        if not FORKS:
            self.grow(1 if _has_driver() else workers)
            return
        with suppress(OSError):  # `grow` will meet it too
            self.server.open()

    def cuda_devices(self) -> int:
        """How many cuda devices there are. Torch counts them, in a worker; it is asked only where there is a driver."""
        if not _has_driver():
            return 0
        self.grow(1)
        ((kind, count),) = self._ask(1, ("devices",))
        self.devices = int(count) if kind == "answer" else self.devices
        for worker in [worker for worker in self.workers if worker.device is None]:
            worker.device = self._free_device()
        return self.devices

    def pace(self, configs: Sequence[Config], workers: int, threads: int) -> float:
        """Seconds that a step of a stack of these configs takes while so many workers do the same, the slowest's.
        Raises Unmeasured where it is too much for them, or something is wrong with the runs."""
        if short := self.grow(workers):
            raise Unmeasured(short, too_large=True)
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

        progress: is called at every epoch, at the end of every run, and every second. Another worker takes the place
        of one that dies. Where a signal killed it, as the system does for want of memory, its stack is halved. Other
        runs of it fail, and so does one that is alone.
        """
        self.waiting = deque(tasks)
        progress.planned([task.runs for task in tasks], workers)
        with catching(lambda caught: self._forward(caught[-1])) as caught:
            while True:
                if caught:
                    self.waiting.clear()
                if self.waiting:
                    workers = self._staff(workers, progress)
                    if not caught:  # while it waited for a worker
                        self._hand_out(workers, threads, progress)
                busy = [worker for worker in self.workers if worker.task is not None]
                if not busy and not self.waiting:
                    return caught[0] if caught else None
                ready = wait([worker.connection for worker in busy], LOOK) if busy else []
                for worker in busy:
                    if worker.connection in ready:
                        self._receive(worker, progress, bool(caught))
                progress.look()

    def _staff(self, workers: int, progress: Progress) -> int:
        """Have so many workers, or fewer where the system allows no more; how many. Where it allows none, all runs that
        wait fail."""
        try:
            short = self.grow(workers)
        except UserError as error:
            while self.waiting:
                self._fail(self.waiting.popleft(), str(error), progress)
            return workers
        if short:
            log.warning(short)
        return len(self.workers) if short else workers

    def _hand_out(self, workers: int, threads: int | None, progress: Progress) -> None:
        """Give tasks to those of so many workers that have none."""
        for worker in [worker for worker in self.workers[:workers] if worker.task is None]:
            if not self.waiting:
                return
            task = self.waiting.popleft()
            try:
                worker.connection.send(("train", task.configs, task.directories, threads, worker.device))
                worker.task = task
                progress.handed(worker, task.runs)
            except OSError:  # it had died before: these runs have not begun
                how = self._remove(worker)
                if task.returned:
                    self._fail(task, died(how), progress)
                else:
                    task.returned = True
                    self.waiting.appendleft(task)

    def _receive(self, worker: Worker, progress: Progress, leaving: bool) -> None:
        """Take a worker's next message, or notice that it has died. leaving: all were asked to end."""
        task = worker.task
        assert task is not None
        try:
            kind, *said = worker.connection.recv()
        except (EOFError, OSError):
            how = self._remove(worker)
            progress.lost(worker)
            reason = died(how)
            if how.startswith("signal") and len(task.runs) > 1 and not leaving:
                self.waiting.extend(halved(task, reason, progress))  # after all others: then there is more room
            else:
                self._fail(task, reason, progress, leaving)
            return
        if kind == "reached":
            progress.reached([task.runs[place] for place in said[0]], said[1])
        elif kind == "halved":
            progress.halved([task.runs[place] for place in said[0]], *said[1:])
        elif kind == "remarked":
            progress.remarked(*said)
        elif kind == "ended":
            run = task.runs[said[0]]
            task.left.discard(run)
            progress.ended(run, said[1])
        else:
            worker.task = None
            if kind == "error":
                self._fail(task, said[0].text, progress, leaving)

    def _interrupt(self, task: Task, reason: str) -> None:
        """Correct the records of the runs that a worker has left: they must not say that they train."""
        for _, directory in task.directories_left():
            correct(directory, "interrupted", reason)

    def _fail(self, task: Task, reason: str, progress: Progress, leaving: bool = False) -> None:
        """End the runs that a worker has left, or could not begin."""
        if leaving:
            self._interrupt(task, reason)
            return
        for run, directory in task.directories_left():
            progress.ended(run, give_up(directory, "interrupted", reason))

    def _remove(self, dead: Worker) -> str:
        """Forget a worker that has ended; how it ended, in words."""
        self.workers.remove(dead)
        return dead.close()

    def _forward(self, number: int) -> None:
        """Have the workers end their epoch and save."""
        for worker in self.workers:
            worker.process.send_signal(number)

    def shrink(self, count: int) -> None:
        """End all workers but so many."""
        surplus, self.workers = self.workers[count:], self.workers[:count]
        for worker in surplus:
            worker.connection.close()  # all end at the same time
        for worker in surplus:
            worker.close()
            if worker.task is not None:  # this command ends before it
                self._interrupt(worker.task, "the command that trained it ended")

    def close(self) -> None:
        """End all workers."""
        self.shrink(0)
        self.server.close()
