"""The referee: this project beside its peers on the same work, interleaved in one run."""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from fmnist import UserError, bench_sweep
from fmnist.fetch import DATA, fashion
from fmnist.record import commit

ROOT = Path(__file__).parents[1]
ENVIRONMENTS = ROOT / ".bench"
PAUSE = 0.15  # seconds before each turn, in which the threads of the last one stop spinning and fall asleep
TURN = 0.3  # seconds a turn should last at least: as many epochs as the fastest entrant needs for it
CHECKED = 3  # the epoch after which all must have the same loss: later ones magnify rounding
EXACT = 2e-3  # relative deviation of the loss from the median that is rounding
LOOSE = 0.03  # the same where batch order or noise differ, for 48,000 rows; it grows as one over the root of the rows


@dataclass(frozen=True)
class Peer:
    """One way to train: a script of tests/peers/ and the environment it needs, "" for the project's own.

    runs: how many it trains at once. own_loss: its loss is another, and not compared. noisy: equal only on average.
    """

    script: str
    arguments: tuple[str, ...] = ()
    environment: str = ""
    runs: int = 1
    own_loss: bool = False
    noisy: bool = False

    @property
    def python(self) -> Path:
        """The interpreter that runs it."""
        return ENVIRONMENTS / self.environment / "bin" / "python" if self.environment else Path(sys.executable)


PEERS = {
    "ours": Peer("ours"),
    "ours-bfloat16": Peer("ours", ("--precision", "bfloat16"), noisy=True),
    "plain": Peer("plain"),
    "tensors": Peer("loaders", ("--dataset", "tensors")),
    "tutorial": Peer("loaders", ("--dataset", "tutorial")),
    "sklearn": Peer("with_sklearn"),
    "lightning": Peer("with_lightning", (), "torch"),
    "keras-torch": Peer("with_keras", ("--backend", "torch"), "torch"),
    "keras-jax": Peer("with_keras", ("--backend", "jax"), "jax"),
    "keras-tensorflow": Peer("with_keras", ("--backend", "tensorflow"), "tensorflow"),
    "jax": Peer("with_jax", (), "jax"),
    "tensorflow": Peer("with_tensorflow", ("--recipe", "function"), "tensorflow"),
    "report": Peer("with_tensorflow", ("--recipe", "report"), "tensorflow", own_loss=True),
}
MODELS = {"mlp1": [200], "mlp2": [300, 100]}
VARIANTS = {  # the same model in plain PyTorch and here
    "dropout": [300, 100], "batch_norm": [300, 100], "skip": [300, 100], "autoencoder": [128, 64, 32],
    "vae": [512, 256],
}  # fmt: skip
STACKS = [("mlp1", [200], 16, 128), ("mlp1", [200], 16, 32), ("deep 32 x 50", [32] * 50, 10, 128)]
BATCHES = (None, 6000, 128, 32)


@dataclass(frozen=True)
class Cell:
    """One piece of work and who does it. batch: rows, None for all of them."""

    work: str
    model: str
    hidden: list[int]
    batch: int | None
    entrants: dict[str, Peer]
    noisy: bool = False


class WorkerError(Exception):
    """A worker ended before its time; the last line it wrote."""


@dataclass
class Worker:
    """A running worker of tests/peers/; see worker.py there for what it answers. A context manager: it ends with it."""

    peer: Peer
    arguments: Sequence[str]
    losses: list[float | None] = field(default_factory=list)
    last: dict[str, Any] = field(default_factory=dict)

    def __enter__(self) -> "Worker":
        self.errors = tempfile.TemporaryFile("w+", errors="replace")
        command = [str(self.peer.python), str(ROOT / "tests" / "peers" / f"{self.peer.script}.py"), *self.arguments]
        self.process = subprocess.Popen(
            command + list(self.peer.arguments), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors,
            text=True, cwd=ROOT,
        )  # fmt: skip
        return self

    def ready(self) -> dict[str, str]:
        """Wait until it is prepared; its versions."""
        versions: dict[str, str] = self._answer()["versions"]
        return versions

    def epochs(self, count: int) -> float:
        """Train so many epochs; mean seconds of one, per run."""
        seconds = 0.0
        for _ in range(count):
            self.last = self._ask("epoch")
            self.losses.append(self.last["loss"])
            seconds += self.last["seconds"]
        return seconds / count / self.peer.runs

    def memory(self) -> int:
        """Its peak resident memory so far in bytes."""
        return int(self._ask("memory")["bytes"])

    def _ask(self, line: str) -> dict[str, Any]:
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(line + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # it has ended, and the missing answer says so
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        if line := self.process.stdout.readline():
            answer: dict[str, Any] = json.loads(line)
            return answer
        self.errors.seek(0)
        lines = [line.strip() for line in self.errors if line.strip()]
        raise WorkerError(lines[-1] if lines else f"it ended with status {self.process.wait()}")

    def __exit__(self, *_: object) -> None:
        try:
            self.process.communicate("quit\n", timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.communicate()
        self.errors.close()


def cells(asked: argparse.Namespace) -> list[Cell]:
    """What the command line asks to be timed."""
    found = []
    for work in asked.work:
        if work == "peers":
            peers = {name: PEERS[name] for name in asked.peers}
            found += [Cell(work, m, MODELS[m], b, peers) for m in MODELS for b in BATCHES]
        elif work == "models":
            for kind, hidden in VARIANTS.items():
                pair = {name: replace(PEERS[name], arguments=("--kind", kind)) for name in ("ours", "plain")}
                found += [Cell(work, kind, hidden, b, pair, noisy=kind in ("dropout", "vae")) for b in (None, 128)]
        elif work == "stacks":
            for model, hidden, runs, batch in STACKS:
                entrants = {name: PEERS[name] for name in ("ours", "plain")}
                for orders in ("shared", "own"):
                    told = ("--runs", str(runs), "--orders", orders)
                    entrants[f"{runs} runs, {orders} order"] = replace(PEERS["ours"], arguments=told, runs=runs)
                found.append(Cell(work, model, hidden, batch, entrants))
    return [
        cell for cell in found
        if (not asked.models or cell.model.split()[0] in asked.models)
        and (not asked.batches or (cell.batch or "full") in asked.batches)
    ]  # fmt: skip


def command_line(hidden: Sequence[int], batch: int | None, asked: argparse.Namespace) -> list[str]:
    """A worker's arguments."""
    given = {"data": DATA / "fashion-mnist", "hidden": ",".join(map(str, hidden)), "batch": batch or 0,
             "rows": asked.rows, "seed": asked.seed, "threads": asked.threads}  # fmt: skip
    return [word for name, value in given.items() for word in (f"--{name}", str(value))]


def race(cell: Cell, asked: argparse.Namespace, versions: dict[str, Any]) -> dict[str, Any]:
    """Time a cell: all entrants are prepared, then take turns, in a new order in each of the rounds.

    An entrant that fails is reported and left out.
    """
    workers: dict[str, Worker] = {}
    seconds: dict[str, list[float]] = {}
    first = [TURN]
    everyone = cell.entrants | ({"ceiling": Peer("ceiling")} if cell.work == "peers" else {})
    with ExitStack() as running:
        for name, peer in everyone.items():
            worker = running.enter_context(Worker(peer, command_line(cell.hidden, cell.batch, asked)))
            with reported(name):
                versions[name] = worker.ready()
                worker.epochs(1)  # compiles, probes, allocates
                first.append(worker.epochs(1) * peer.runs)
                workers[name], seconds[name] = worker, []
        epochs = max(1, min(20, int(TURN / min(first))))
        turns = list(workers)
        shuffle = random.Random(asked.seed).shuffle
        for _ in range(asked.repeats):
            shuffle(turns)
            for name in turns:
                time.sleep(PAUSE)
                with reported(name):
                    seconds[name].append(workers[name].epochs(epochs))
        memory = {name: worker.memory() for name, worker in workers.items() if len(seconds[name]) == asked.repeats}
    return summarise(cell, asked, workers, {name: seconds[name] for name in memory}, memory)


@contextmanager
def reported(name: str) -> Iterator[None]:
    """Print the failure of a worker in one line, and go on without it."""
    try:
        yield
    except WorkerError as error:
        print(f"{name} failed: {error}", flush=True)


def summarise(
    cell: Cell, asked: argparse.Namespace, workers: dict[str, Worker], seconds: dict[str, list[float]],
    memory: dict[str, int],
) -> dict[str, Any]:  # fmt: skip
    """A cell's figures for the record: medians and quartiles over rounds, of seconds and of ratios within a round."""
    names = [name for name in seconds if name in cell.entrants]
    losses = {name: workers[name].losses[CHECKED - 1] for name in names}
    middle = median([x for name, x in losses.items() if x is not None and not cell.entrants[name].own_loss] or [1.0])
    loose = LOOSE * (48_000 / asked.rows) ** 0.5
    figures = {}
    for name, loss in losses.items():
        peer, last = cell.entrants[name], workers[name].last
        tolerance = loose if cell.batch or cell.noisy or peer.noisy else EXACT
        deviation = None if loss is None or peer.own_loss else abs(loss / middle - 1)
        figures[name] = {
            "seconds": seconds[name], **spread(seconds[name]), "loss": loss, "accuracy": last["accuracy"],
            "bytes": memory[name], "runs": peer.runs, "deviation": deviation, "tolerance": tolerance,
            "agrees": peer.own_loss or (deviation is not None and deviation <= tolerance),
        }  # fmt: skip
    faster = {
        a: {b: spread([y / x for x, y in zip(seconds[a], seconds[b], strict=True)]) for b in names} for a in names
    }
    record: dict[str, Any] = {
        "work": cell.work, "model": cell.model, "hidden": cell.hidden, "batch": cell.batch, "rows": asked.rows,
        "n": asked.repeats, "epochs": max(len(worker.losses) for worker in workers.values()) if workers else 0,
        "checked_epoch": CHECKED, "peers": figures, "faster": faster,
    }  # fmt: skip
    if taken := seconds.get("ceiling"):
        last = workers["ceiling"].last
        gflops = last["operations"] / median(taken) / 1e9
        record["ceiling"] = {**spread(taken), "gflops": gflops, "settings": last["settings"]}
        if "ours" in names:
            record["ceiling"]["share"] = median(c / s for c, s in zip(taken, seconds["ours"], strict=True))
    return record


def spread(values: Sequence[float]) -> dict[str, Any]:
    """Median and quartiles."""
    low, middle, high = quantiles(values, method="inclusive") if len(values) > 1 else (values[0],) * 3
    return {"median": middle, "quartiles": [low, high]}


def startup(asked: argparse.Namespace, versions: dict[str, Any]) -> dict[str, Any]:
    """Seconds from the command to the first trained step (one full batch of mlp1, its answer read), and to the exit.

    Of every peer, and of `train.py` until it prints its first epoch, validation included; beside a bare `import torch`.
    """
    taken: dict[str, dict[str, list[float]]] = {}
    for _ in range(asked.repeats):
        for name in ("import torch", "train.py", *asked.peers):
            time.sleep(PAUSE)
            start = time.perf_counter()
            with reported(name):
                step = _first_step(name, asked, versions)
                kept = taken.setdefault(name, {"step": [], "exit": []})
                kept["step"].append(step - start)
                kept["exit"].append(time.perf_counter() - start)
    return {name: {what: spread(values) for what, values in kept.items()} for name, kept in taken.items()}


def _first_step(name: str, asked: argparse.Namespace, versions: dict[str, Any]) -> float:
    """Carry out one start; the time of its first step by the clock."""
    if name in PEERS:
        with Worker(PEERS[name], command_line(MODELS["mlp1"], None, asked)) as worker:
            versions[name] = worker.ready()
            worker.epochs(1)
            return time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        limit = round(asked.rows / 0.8)  # four fifths are trained on
        given = ("model=mlp1", "batch_size=null", "epochs=1", f"data.limit={limit}", f"hydra.run.dir={folder}")
        command = ["train.py", *given] if name == "train.py" else ["-c", f"{name}; print('epoch 1/1')"]
        step, line = None, ""
        with subprocess.Popen(
            [sys.executable, "-u", *command], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as run:
            assert run.stdout is not None
            for line in run.stdout:
                if "epoch 1/1" in line:
                    step = time.perf_counter()
        if run.returncode or step is None:
            raise WorkerError(line.strip())
    return step


def machine() -> dict[str, Any]:
    """What decides the figures: processors and their vector units."""
    words = set(Path("/proc/cpuinfo").read_text().split()) if os.path.exists("/proc/cpuinfo") else set()
    return {"cpus": os.cpu_count(), "flags": sorted(w for w in words if w.startswith(("avx", "amx", "fma")))}


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line, checked; it ends the program with status 2 for a mistake."""
    parser = argparse.ArgumentParser(
        prog="python -m fmnist.bench",
        description="This project beside its peers: the same model, data and optimizer, interleaved in one run.",
        epilog="peers: " + ", ".join(PEERS) + ". `make bench` sets up their environments; those missing are skipped.",
    )
    works = ("peers", "startup", "models", "stacks", "sweep")
    parser.add_argument("work", nargs="*", metavar="WORK",
                        help="peers (mlp1 and mlp2), startup, models (the others, against plain PyTorch), stacks (K "
                        "runs at once, per run, against plain solo ones), sweep (whole commands, against Hydra's own "
                        "launchers); default: peers startup")  # fmt: skip
    parser.add_argument("--peers", nargs="+", choices=PEERS, metavar="PEER", help="only these peers")
    parser.add_argument("--models", nargs="+", metavar="MODEL", choices=[*MODELS, *VARIANTS, "deep"],
                        help=f"only these models: {', '.join([*MODELS, *VARIANTS, 'deep'])}")  # fmt: skip
    parser.add_argument("--batches", nargs="+", type=lambda t: t if t == "full" else int(t), metavar="B",
                        help="only these: full, 6000, 128, 32")  # fmt: skip
    parser.add_argument("--repeats", type=int, default=7, help="rounds in which each takes a turn (default: 7)")
    parser.add_argument("--rows", type=int, default=48_000, help="first rows of the training file (default: 48,000)")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="default: all processors")
    parser.add_argument("--seed", type=int, default=0, help="of weights, batch orders and turns (default: 0)")
    parser.add_argument("--output", type=Path, default=ROOT / "outputs" / "bench", help="folder of the JSON record")
    parser.add_argument("--runs", type=int, default=16, help="of a sweep (default: 16)")
    parser.add_argument("--epochs", type=int, default=5, help="of each run of a sweep (default: 5)")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw the speeds of `peers`")
    asked = parser.parse_args(arguments)
    asked.work = asked.work or ["peers", "startup"]
    if unknown := set(asked.work) - set(works):
        parser.error(f"WORK must be one of {', '.join(works)}, got {', '.join(sorted(unknown))}")
    if min(asked.repeats, asked.rows, asked.threads, asked.runs, asked.epochs) < 1:
        parser.error("--repeats, --rows, --threads, --runs and --epochs must be at least 1")
    return asked


def measure(asked: argparse.Namespace) -> dict[str, Any]:
    """Do the work that is asked for, print each table when it is there, and keep all in a JSON file."""
    fashion(None)  # found or fetched, and verified
    wanted = asked.peers or list(PEERS)
    asked.peers = [name for name in wanted if PEERS[name].python.exists()]
    for environment in sorted({PEERS[name].environment for name in wanted if name not in asked.peers}):
        names = ", ".join(name for name in wanted if PEERS[name].environment == environment)
        print(f"skipped {names}: the environment {environment} is not there, `make bench` sets it up")
    now = datetime.now()
    versions: dict[str, Any] = {}
    record = {"date": now.isoformat(timespec="seconds"), "commit": commit(), "machine": machine(),
              "threads": asked.threads, "versions": versions, "cells": [], "startup": {}, "sweeps": []}  # fmt: skip
    asked.output.mkdir(parents=True, exist_ok=True)
    file = asked.output / f"{now:%Y-%m-%d_%H%M%S}.json"
    for cell in cells(asked):
        record["cells"].append(race(cell, asked, versions))
        show({"cells": record["cells"][-1:]})
        file.write_text(json.dumps(record, indent=1) + "\n")
    if "startup" in asked.work:
        record["startup"] = startup(asked, versions)
        show({"startup": record["startup"]})
    for sweep in bench_sweep.SWEEPS if "sweep" in asked.work else []:
        if (not asked.models or sweep.ours[0].removeprefix("model=") in asked.models) and (
            not asked.batches or sweep.batch in asked.batches
        ):
            given = (asked.runs, asked.epochs, asked.rows, asked.repeats, asked.seed)
            record["sweeps"].append(bench_sweep.race(sweep, *given))
            print(bench_sweep.table(record["sweeps"][-1]) + "\n", flush=True)
    file.write_text(json.dumps(record, indent=1) + "\n")
    print(file)
    if asked.plot:
        show(record, "--quiet", "--plot", str(asked.plot))
    return record


def show(record: dict[str, Any], *arguments: str) -> None:
    """Print what is in a record as tables; tests/peers/show.py also shows earlier ones."""
    command = [sys.executable, str(ROOT / "tests" / "peers" / "show.py"), *arguments]
    subprocess.run(command, input=json.dumps(record), text=True, check=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line. Status 1 if losses differ: then the times are not of the same work."""
    asked = parse(arguments)
    try:
        record = measure(asked)
    except (UserError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    told = [peer for cell in record["cells"] for peer in cell["peers"].values()]
    told += [entrant for sweep in record["sweeps"] for entrant in sweep["entrants"].values()]
    return int(not all(one["agrees"] for one in told))


if __name__ == "__main__":
    sys.exit(main())
