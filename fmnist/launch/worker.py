"""Training a group of runs apart from the command that asked for it: in a worker process, or on another machine.

Torch is imported when there is something to train, not before.
"""

import functools
import gc
import itertools
import logging
import os
import queue
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NoReturn, Protocol

from fmnist.config.schema import Config
from fmnist.launch.runs import correct, give_up, run_log
from fmnist.launch.trouble import Trouble, trouble
from fmnist.record.result import Outcome, read_result
from fmnist.sources.fetch import read_ahead


class Listener(Protocol):
    """Is called while runs train; runs are given by their places in the group."""

    def reached(self, runs: Sequence[int], epoch: int) -> None:
        """These runs have trained that epoch."""

    def ended(self, run: int, outcome: Outcome) -> None:
        """This run has failed, is done or is paused."""

    def halved(self, runs: Sequence[int], what: str, why: str) -> None:
        """A stack of these runs goes on in halves. what: has become of it; why: what was met."""

    def remarked(self, text: str) -> None:
        """A run's log warns of something that is not this run's alone."""


class _Silent:
    def reached(self, runs: Sequence[int], epoch: int) -> None: ...

    def ended(self, run: int, outcome: Outcome) -> None: ...

    def halved(self, runs: Sequence[int], what: str, why: str) -> None: ...

    def remarked(self, text: str) -> None: ...


def train_group(
    configs: Sequence[Config], directories: Sequence[Path], threads: int | None = None, device: int | None = None,
    listener: Listener | None = None,
) -> list[Outcome]:  # fmt: skip
    """Train runs of one kind (see fmnist.launch.groups) together; returns how each ended.

    What goes wrong with a run is in its own log and outcome. Runs that were interrupted at different epochs go on in
    stacks of their own. A stack that does not fit into memory, or that meets an error which may be that of one run, is
    halved; its runs go on from their checkpoints. threads: of this process; device: the cuda device that "auto" stands
    for; None leaves either as it is. Raises SystemExit(128 + signal) after SIGINT or SIGTERM, when everything is saved.
    """
    read_ahead(configs[0].data.name, configs[0].data.dir, keep=True)
    import torch

    if threads is not None:
        torch.set_num_threads(threads)
    if device is not None:
        torch.cuda.set_device(device)
    group = _Group(configs, directories, listener or _Silent())
    waiting = group.by_epoch(range(len(configs)))
    while waiting:
        some = waiting.pop(0)
        wrong = group.train(some)
        left = [run for run in some if run not in group.outcomes]
        if wrong and not wrong.mistake and len(some) > 1:
            group.set_aside(left, wrong)
            gc.collect()  # what the stack was made of refers to one another
            torch.cuda.empty_cache()  # does nothing where cuda is not in use
            halves = left[: len(left) // 2], left[len(left) // 2 :]
            waiting[:0] = [stack for half in halves for stack in group.by_epoch(half)]
        elif wrong:
            for run in left:
                group.fail(run, wrong)
    return [group.outcomes[run] for run in range(len(configs))]


class _Group:
    """Runs that are trained together: the log of each, and how those ended that have."""

    def __init__(self, configs: Sequence[Config], directories: Sequence[Path], listener: Listener) -> None:
        self.configs, self.directories, self.listener = configs, directories, listener
        self.logs = [run_log(directory) for directory in directories]
        self.outcomes: dict[int, Outcome] = {}
        for log, directory in zip(self.logs, directories, strict=True):
            log.addHandler(_Remarks(directory, listener))

    def by_epoch(self, runs: Sequence[int]) -> list[list[int]]:
        """Those of the runs that are to go on from the same epoch together; those that cannot go on fail."""
        from fmnist.train.run import last_state

        found: dict[int, list[int]] = {}
        for run in runs:
            try:
                read_result(self.directories[run])  # it must be whole
                state = last_state(self.configs[run], self.directories[run])
            except Exception as error:  # of this run's files alone
                self.fail(run, trouble(error))
            else:
                found.setdefault(state["epoch"] if state else 0, []).append(run)
        return list(found.values())

    def train(self, some: Sequence[int]) -> Trouble | None:
        """Train some of the runs as one stack; what went wrong with the whole stack."""
        from fmnist.train.engine import Audience, fit

        audience = Audience(self._bar(some), lambda place, outcome: self.end(some[place], outcome))
        configs, directories = [self.configs[run] for run in some], [self.directories[run] for run in some]
        try:
            outcomes = fit(configs, directories, [self.logs[run] for run in some], audience)
        except Exception as error:  # whatever it is, the other stacks go on
            return trouble(error)
        for run, outcome in zip(some, outcomes, strict=True):
            self.end(run, outcome)
        return None

    def _bar(self, some: Sequence[int]) -> Callable[[int, int], Any]:
        """Stands in for the progress bar of `fit`: tells the listener of every epoch."""

        @contextmanager
        def bar(epochs: int, first: int) -> Iterator[_Counter]:
            yield _Counter(first, lambda epoch: self.listener.reached(some, epoch))

        return bar

    def end(self, run: int, outcome: Outcome) -> None:
        """Keep how a run ended, once."""
        if run not in self.outcomes:
            self.outcomes[run] = outcome
            self.listener.ended(run, outcome)

    def fail(self, run: int, wrong: Trouble) -> None:
        """End a run for something that kept its whole stack from training."""
        self.end(run, give_up(self.directories[run], "failed", wrong.text, wrong.trace))

    def set_aside(self, runs: Sequence[int], wrong: Trouble) -> None:
        """Say of runs what their stack stumbled over: each waits until a smaller one trains it."""
        what = "does not fit" if wrong.too_large else "met an error"
        for run in runs:
            correct(self.directories[run], "interrupted", wrong.text, was=("running", "failed"))
            self.logs[run].info("a stack %s (%s): it is halved", what, wrong.text)
        if len(runs) > 1:
            self.listener.halved(runs, what, wrong.text)


class _Remarks(logging.Handler):
    """Tells the listener of a run's warnings that do not name its directory, such as of its data."""

    def __init__(self, directory: Path, listener: Listener) -> None:
        super().__init__()
        self.directory, self.listener = directory, listener

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if record.levelno == logging.WARNING and str(self.directory) not in text:
            self.listener.remarked(text)


class _Counter:
    """Counts the epochs of a stack."""

    def __init__(self, epoch: int, reached: Callable[[int], None]) -> None:
        self.epoch, self.reached = epoch, reached

    def update(self) -> None:
        """One more epoch is trained."""
        self.epoch += 1
        self.reached(self.epoch)


def pace(configs: Sequence[Config], threads: int, seconds: float) -> float:
    """Seconds that a training step of a stack takes here, by some steps of it on its own data; they change nothing."""
    read_ahead(configs[0].data.name, configs[0].data.dir, keep=True)
    import torch

    from fmnist.train.engine import flushed_denormals
    from fmnist.train.restore import assemble

    torch.set_num_threads(threads)
    taken: list[float] = []
    with flushed_denormals():
        stack = assemble(configs)
        lr, clip = [c.lr for c in configs], [c.grad_clip for c in configs]
        tapes, taped, clock = getattr(stack.step, "tapes", ()), 0, time.perf_counter()
        for batch in itertools.chain.from_iterable(map(stack.feed.epoch, itertools.count(1))):
            stack.step(batch, lr, clip)
            now = time.perf_counter()
            if len(tapes) == taped:  # a tape is written once for each buffer, and is not the pace
                taken.append(now - clock)  # the gathering of the batch is, which happens for several at a time
            taped, clock = len(tapes), time.perf_counter()
            if len(taken) > 2 and sum(taken) > seconds:
                break
    return sum(taken) / len(taken)


class _Sender:
    """Tells the command that started this process how its training goes on. Where that command has ended, so does this
    process: it is no trouble of the runs."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def reached(self, runs: Sequence[int], epoch: int) -> None:
        self._send("reached", list(runs), epoch)

    def ended(self, run: int, outcome: Outcome) -> None:
        self._send("ended", run, outcome)

    def halved(self, runs: Sequence[int], what: str, why: str) -> None:
        self._send("halved", list(runs), what, why)

    def remarked(self, text: str) -> None:
        self._send("remarked", text)

    def _send(self, *message: Any) -> None:
        try:
            self.connection.send(message)
        except OSError:
            os._exit(0)


def serve(connection: Connection) -> None:
    """Do what the other end of the connection asks for, one thing after another; end when the other process ends.

    A question is the name of a function and its arguments. The last message to each question is ("answer", the value)
    or ("error", a Trouble).
    """
    asked: queue.SimpleQueue[tuple[Any, ...]] = queue.SimpleQueue()

    def listen() -> None:
        try:
            while True:
                asked.put(connection.recv())
        except (EOFError, OSError):
            os._exit(0)

    threading.Thread(target=listen, daemon=True).start()
    import torch  # it takes a second, and whatever will be asked for needs it

    functions: dict[str, Callable[..., Any]] = {
        "devices": torch.cuda.device_count, "pace": pace,
        "train": functools.partial(train_group, listener=_Sender(connection)),
    }  # fmt: skip
    while True:
        what, *given = asked.get()
        try:
            message = "answer", functions[what](*given)
        except Exception as error:
            message = "error", trouble(error)
        connection.send(message)


def run(serving: Callable[[Connection], None], connection: Connection) -> NoReturn:
    """Serve a connection with all of this process."""
    status: Any = 0
    try:
        serving(connection)
    except SystemExit as leaving:
        status = leaving.code
    except KeyboardInterrupt:
        status = 130
    except Exception as error:  # torch cannot be imported, say: there is nobody to tell but the terminal
        print(f"error: a worker process ends: {trouble(error).text}", file=sys.stderr)
        status = 1
    os._exit(status)  # all is written: tearing torch down would only take time


if __name__ == "__main__":
    run(serve, Connection(int(sys.argv[1])))
