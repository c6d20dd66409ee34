"""The peers; and entrants, which are peers as running programs: started, asked for epochs, killed if they hang."""

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, MutableMapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Event, Timer
from typing import Any

from fmnist import ROOT
from fmnist.sources.fetch import DATA

ENVIRONMENTS = ROOT / ".bench"
SCRIPTS = Path(__file__).parent / "peers"


@dataclass(frozen=True)
class Peer:
    """One way to train: a script of fmnist/bench/peers/ with its arguments.

    environment: the folder of .bench/ that it needs, "" for the project's own. runs: how many runs it trains at once.
    recipe: the work that it does if that is not the common one; losses are compared within a recipe. noisy: its losses
    equal the others' only on average.
    """

    script: str
    arguments: tuple[str, ...] = ()
    environment: str = ""
    runs: int = 1
    recipe: str = ""
    noisy: bool = False

    @property
    def python(self) -> Path:
        """The interpreter that runs the script."""
        return ENVIRONMENTS / self.environment / "bin" / "python" if self.environment else Path(sys.executable)

    def given(self, *arguments: str, **changes: Any) -> "Peer":
        """The same peer with further arguments."""
        return replace(self, arguments=(*self.arguments, *arguments), **changes)


PEERS = {
    "ours": Peer("ours"),
    "ours-bfloat16": Peer("ours", ("--precision", "bfloat16"), noisy=True),
    "plain": Peer("plain"),
    "fused": Peer("plain", ("--form", "fused")),
    "compile-loss": Peer("plain", ("--form", "compile-loss")),
    "compile": Peer("plain", ("--form", "compile")),
    "compile-max": Peer("plain", ("--form", "compile-max")),
    "tensors": Peer("loaders", ("--dataset", "tensors")),
    "tutorial": Peer("loaders", ("--dataset", "tutorial")),
    "sklearn": Peer("with_sklearn"),
    "lightning": Peer("with_lightning", (), "torch"),
    "keras-torch": Peer("with_keras", ("--backend", "torch"), "torch"),
    "keras-jax": Peer("with_keras", ("--backend", "jax"), "jax"),
    "keras-tensorflow": Peer("with_keras", ("--backend", "tensorflow"), "tensorflow"),
    "jax": Peer("with_jax", (), "jax"),
    "jax-0.4.31": Peer("with_jax", ("--runtime", "one-call"), "jax-old"),
    "tensorflow": Peer("with_tensorflow", ("--recipe", "function"), "tensorflow"),
    "report": Peer("with_tensorflow", ("--recipe", "report"), "tensorflow", recipe="report"),
}
PLAIN = (
    "plain",
    "fused",
    "compile-loss",
    "compile",
    "compile-max",
)  # one peer: the fastest of them in a cell stands for it
# No peers: what they do is less than the work. For mlp1, plain SGD without shuffle or figures.
CEILINGS = {
    "libxsmm": Peer("with_libxsmm", (), "libxsmm", recipe="sgd"),
    "sgd": Peer("plain", ("--form", "sgd"), recipe="sgd"),
}


ON_GPU = ("ours", "plain")  # scripts that take --device


def processors() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def reason(output: str) -> str:
    """Why a program failed, in one line of what it printed: the first that names an error, or else the first of all."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    named = [line for line in lines if re.match(r"[\w.]*(Error|Exception): ", line)]
    return (named + lines + ["it printed nothing"])[0]


class EntrantError(Exception):
    """An entrant ended too early or did not answer in time. The message is one line."""


@contextmanager
def deadline(process: subprocess.Popen[str], seconds: float) -> Iterator[None]:
    """Kill a process and its children if the block lasts longer, or if it raises an error.

    The process must lead a session. A block that reads from it then sees the end of its output.
    Errors: EntrantError if the block lasted longer.
    """

    late = Event()

    def kill() -> None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)

    def expire() -> None:
        late.set()
        kill()

    timer = Timer(seconds, expire)
    timer.start()
    try:
        yield
    except BaseException:
        kill()
        raise
    finally:
        timer.cancel()
    if late.is_set():
        raise EntrantError(f"no answer within {seconds:g} s")


@dataclass
class Entrant:
    """A peer that runs; peers/entrant.py says what it answers. A context manager: the program ends with the block.

    arguments: those of the work, before the peer's own. limit: seconds an answer may take; then the entrant is killed.
    losses: of each epoch so far; None is not finite. last: its last answer to "epoch".
    """

    peer: Peer
    arguments: Sequence[str]
    limit: float = 300.0
    losses: list[float | None] = field(default_factory=list)
    last: dict[str, Any] = field(default_factory=dict)

    def __enter__(self) -> "Entrant":
        self.errors = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")
        script = SCRIPTS / f"{self.peer.script}.py"
        self.process = subprocess.Popen(
            [str(self.peer.python), str(script), *self.arguments, *self.peer.arguments], cwd=ROOT, encoding="utf-8",
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors, start_new_session=True,
        )  # fmt: skip
        return self

    def ready(self) -> dict[str, str]:
        """Wait until it is prepared. Returns its packages' versions."""
        versions: dict[str, str] = self._answer()["versions"]
        return versions

    def epochs(self, count: int) -> float:
        """Train so many epochs. Returns the mean seconds of one, per run."""
        seconds = 0.0
        for _ in range(count):
            self.last = self._ask("epoch")
            self.losses.append(self.last["loss"])
            seconds += self.last["seconds"]
        return seconds / count / self.peer.runs

    def product(self) -> float | None:
        """GFLOP/s of its library's float32 product. None if it has none."""
        gflops: float | None = self._ask("product")["gflops"]
        return gflops

    def memory(self) -> dict[str, Any]:
        """Its peak resident memory so far in bytes, and whether it has used AVX-512."""
        return self._ask("memory")

    def _ask(self, line: str) -> dict[str, Any]:
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):  # it has ended, and the missing answer says so
            self.process.stdin.write(line + "\n")
            self.process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        with deadline(self.process, self.limit):
            if line := self.process.stdout.readline():
                try:
                    answer: dict[str, Any] = json.loads(line)
                except ValueError:
                    raise EntrantError(f"it answered {line.strip()!r}") from None
                return answer
        self.errors.seek(0)
        lines = [line.strip() for line in self.errors if line.strip()]
        raise EntrantError(lines[-1] if lines else f"it ended with status {self.process.wait()}")

    def __exit__(self, *_: object) -> None:
        with suppress(EntrantError), deadline(self.process, 20):
            self.process.communicate("quit\n")
        self.process.wait()
        self.errors.close()


@contextmanager
def reported(name: str, among: MutableMapping[str, Any] | None = None) -> Iterator[None]:
    """Print an EntrantError in one line and go on. The entrant's name is removed from `among`."""
    try:
        yield
    except EntrantError as error:
        print(f"{name} failed: {error}", flush=True)
        if among is not None:
            among.pop(name, None)


def command_line(hidden: Sequence[int], batch: int | None, asked: argparse.Namespace) -> list[str]:
    """The arguments that say to an entrant what the work is."""
    given = {"data": DATA / "fashion-mnist", "hidden": ",".join(map(str, hidden)), "batch": batch or 0,
             "rows": asked.rows, "seed": asked.seed, "threads": asked.threads}  # fmt: skip
    return [word for name, value in given.items() for word in (f"--{name}", str(value))]
