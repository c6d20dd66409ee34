"""Training a group of runs apart from the command that asked for it: in a worker process, or on another machine.

Torch is imported when there is something to train, not before.
"""

import logging
import os
import queue
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fmnist import UserError
from fmnist.config.schema import Config
from fmnist.data.fetch import read_ahead
from fmnist.record.result import Outcome

if TYPE_CHECKING:
    from fmnist.train.engine import Audience

LOG_FORMAT = "[%(asctime)s] %(message)s"  # that of conf/config.yaml: a run's log looks the same however it was started


def train_group(
    configs: Sequence[Config], directories: Sequence[Path], threads: int | None = None, device: int | None = None,
    audience: "Audience | None" = None,
) -> list[Outcome]:  # fmt: skip
    """Train runs of one shape together; how each ended. What befalls one of them is told in its own log and outcome.

    Runs that were interrupted at different epochs go on in stacks of their own; a stack that the device's memory cannot
    hold is halved. threads: of this process; device: which cuda device "auto" stands for; None: as they are. Raises
    SystemExit(128 + signal) after SIGINT or SIGTERM, when everything is saved.
    """
    read_ahead(configs[0].data.name, configs[0].data.dir, keep=True)
    import torch

    from fmnist.train.engine import Audience
    from fmnist.train.run import last_state

    audience = audience or Audience()
    if threads is not None:
        torch.set_num_threads(threads)
    if device is not None:
        torch.cuda.set_device(device)
    outcomes: dict[int, Outcome] = {}

    def end(index: int, outcome: Outcome) -> None:
        outcomes[index] = outcome
        audience.ended(index, outcome)

    def fail(index: int, error: Exception) -> None:
        if isinstance(error, UserError):
            logs[index].error("error: %s", error)
        told = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        end(index, Outcome(None, {}, told))

    with ExitStack() as open_files:
        logs = [open_files.enter_context(run_log(directory)) for directory in directories]
        by_epoch: dict[int, list[int]] = {}
        for index, (config, directory) in enumerate(zip(configs, directories, strict=True)):
            try:
                state = last_state(config, directory)
            except UserError as error:
                fail(index, error)
            else:
                by_epoch.setdefault(state["epoch"] if state else 0, []).append(index)
        waiting = list(by_epoch.values())
        while waiting:
            part = waiting.pop(0)
            trouble = _fit(configs, directories, logs, part, audience.bar, end)
            unended = [index for index in part if index not in outcomes]
            if isinstance(trouble, MemoryError | torch.OutOfMemoryError) and len(unended) > 1:
                waiting[:0] = [unended[: len(unended) // 2], unended[len(unended) // 2 :]]
            elif trouble is not None:
                for index in unended:
                    fail(index, trouble)
    return [outcomes[index] for index in range(len(configs))]


def _fit(
    configs: Sequence[Config], directories: Sequence[Path], logs: Sequence[logging.Logger], part: Sequence[int],
    bar: Callable[..., Any], end: Callable[[int, Outcome], None],
) -> Exception | None:  # fmt: skip
    """Train the runs that `part` names; what went wrong with all of them."""
    from fmnist.train.engine import Audience, fit

    told: set[int] = set()

    def ended(place: int, outcome: Outcome) -> None:
        told.add(place)
        end(part[place], outcome)

    try:
        outcomes = fit(
            [configs[index] for index in part], [directories[index] for index in part],
            [logs[index] for index in part], Audience(bar, ended),
        )  # fmt: skip
    except Exception as error:  # whatever befalls a stack: its runs' logs have it, the other stacks go on
        return error
    for place, outcome in enumerate(outcomes):
        if place not in told:
            end(part[place], outcome)
    return None


@contextmanager
def run_log(directory: Path) -> Iterator[logging.Logger]:
    """A logger that writes to a run's train.log, and nowhere else."""
    directory.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(directory / "train.log")
    handler.setFormatter(logging.Formatter(LOG_FORMAT))
    log = logging.Logger("train", logging.INFO)
    log.addHandler(handler)
    try:
        yield log
    finally:
        handler.close()


def pace(configs: Sequence[Config], threads: int, seconds: float) -> float:
    """Seconds that a training step of a stack takes here, by some steps of it on its own data; they change nothing."""
    read_ahead(configs[0].data.name, configs[0].data.dir, keep=True)
    import torch

    from fmnist.data.dataset import load
    from fmnist.speed.kernels import flushed_denormals
    from fmnist.train.stack import Stack, pick_device

    torch.set_num_threads(threads)
    common = configs[0]
    device = pick_device(common.device)
    taken: list[float] = []
    with flushed_denormals():
        dataset = load(**asdict(common.data), only=common.anomaly.normal).to(device)
        stack = Stack(configs, dataset, device)
        lr, clip = [c.lr for c in configs], [c.grad_clip for c in configs]
        recorded, clock = 0, time.perf_counter()
        for batch in _forever(stack.feed.epoch):
            stack.step(batch, lr, clip)
            now = time.perf_counter()
            if len(stack.step.tapes) == recorded:  # recording happens once for each buffer, and is not the pace
                taken.append(now - clock)  # the gathering of the batch is, which happens for several at a time
            recorded, clock = len(stack.step.tapes), time.perf_counter()
            if len(taken) > 2 and sum(taken) > seconds:
                break
    return sum(taken) / len(taken)


def _forever(epoch: Callable[[int], Iterator[Any]]) -> Iterator[Any]:
    number = 0
    while True:
        number += 1
        yield from epoch(number)


class _Reporter:
    """Tells the command that started this process how its training goes on."""

    def __init__(self, connection: Connection, runs: int) -> None:
        self.connection, self.runs = connection, runs

    @contextmanager
    def bar(self, epochs: int, first: int) -> Iterator["_Reporter"]:
        yield self

    def update(self) -> None:
        self.connection.send(("epoch", self.runs))

    def ended(self, index: int, outcome: Outcome) -> None:
        self.connection.send(("ended", index, outcome))


def serve(connection: Connection) -> None:
    """Do what is asked for, one thing after another; end at once when the asking process does, however it ends."""
    asked: queue.SimpleQueue[tuple[Any, ...]] = queue.SimpleQueue()

    def listen() -> None:
        try:
            while True:
                asked.put(connection.recv())
        except (EOFError, OSError):
            os._exit(0)

    threading.Thread(target=listen, daemon=True).start()
    import torch  # it takes a second, and whatever will be asked for needs it

    from fmnist.train.engine import Audience

    while True:
        what, *given = asked.get()
        if what == "devices":
            connection.send(torch.cuda.device_count())
        elif what == "pace":
            connection.send(pace(*given))
        elif what == "train":
            configs, directories, threads, device = given
            reporter = _Reporter(connection, len(configs))
            train_group(configs, directories, threads, device, Audience(reporter.bar, reporter.ended))
            connection.send(("free",))


def main() -> None:
    """`python -m fmnist.launch.worker FD`: serve the connection that was inherited as file descriptor FD."""
    status: Any = 1
    try:
        serve(Connection(int(sys.argv[1])))
    except SystemExit as leaving:
        status = leaving.code
    except KeyboardInterrupt:
        status = 130
    os._exit(status)  # all is written: tearing torch down would only take time


if __name__ == "__main__":
    main()
