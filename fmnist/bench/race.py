"""One piece of work, done by many entrants in turns; and starts, from the command to the first step."""

import argparse
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from statistics import median, quantiles
from typing import Any

from fmnist import ROOT
from fmnist.bench.beside import busy
from fmnist.bench.entrants import (
    CEILINGS,
    PEERS,
    PLAIN,
    Entrant,
    EntrantError,
    Peer,
    command_line,
    deadline,
    reason,
    reported,
)
from fmnist.bench.isa import Processors, is_bound

PAUSE = 0.15  # seconds before each turn, in which the threads of the last one stop spinning and fall asleep
TURN = 0.3  # seconds a turn should last at least: as many epochs as the fastest entrant needs for it
CHECKED = 3  # the epoch after which all must have the same loss: later epochs magnify rounding
# How far a loss may be from the median, relative to it: by rounding alone, and where batch order or noise differ.
EXACT = 2e-3
LOOSE = 0.03  # for 48,000 rows; it grows as one over the root of the rows
# 50 layers without normalisation magnify rounding and batch order from step to step. From the same weights, other batch
# orders alone give a standard deviation of 15 % of the median (of 0.4 % for mlp1): three of those.
LOOSE_DEEP = 0.45


@dataclass(frozen=True)
class Cell:
    """One piece of work, and the peers that do it.

    batch: rows, None for all of them. noisy: the model draws noise, so losses are equal on average only. loose: how far
    losses may then be from their median.
    """

    work: str
    model: str
    hidden: list[int]
    batch: int | None
    peers: dict[str, Peer]
    noisy: bool = False
    loose: float = LOOSE
    device: str = "cpu"


@dataclass
class Timed:
    """An entrant and what was measured of it.

    seconds: of an epoch and run, a number a round; beside: the same, beside busy loops. gflops: of its product. memory:
    what it answered to that.
    """

    entrant: Entrant
    gflops: float | None = None
    seconds: list[float] = field(default_factory=list)
    beside: list[float] = field(default_factory=list)
    memory: dict[str, Any] = field(default_factory=dict)


def time_cell(
    cell: Cell, asked: argparse.Namespace, versions: dict[str, Any], peak: Processors | None = None
) -> dict[str, Any]:
    """Time a cell. All entrants are prepared; then they take turns, in a new order in each round.

    An entrant that fails, or does not answer in time, is reported and left out. versions: gets those of each entrant.
    peak: measured in each round. Returns the cell's part of the record.
    """
    timed: dict[str, Timed] = {}
    peaks: list[float] = []
    handovers: list[float] = []
    first = [TURN]
    with ExitStack() as running:
        for name, peer in (cell.peers | ceilings(cell)).items():
            line = command_line(cell.hidden, cell.batch, asked)
            entrant = running.enter_context(Entrant(peer, line, asked.limit))
            with reported(name):
                versions[name] = entrant.ready()
                gflops = entrant.product()
                entrant.epochs(1)  # compiles, probes, allocates
                first.append(entrant.epochs(1) * peer.runs)
                timed[name] = Timed(entrant, gflops)
        epochs = max(1, min(20, int(TURN / min(first))))
        shuffle = random.Random(asked.seed).shuffle
        for _ in range(asked.repeats):
            if peak and (now := peak.gflops()):
                peaks.append(now)  # what else runs on the machine only makes it lower: the best counts
            if peak and (far := peak.handover()):
                handovers.append(far)
            turns = list(timed)
            shuffle(turns)
            for name in turns:
                time.sleep(PAUSE)
                with reported(name, timed):
                    timed[name].seconds.append(timed[name].entrant.epochs(epochs))
                    if asked.beside:
                        with busy(asked.beside):
                            timed[name].beside.append(timed[name].entrant.epochs(epochs))
        for name in list(timed):
            with reported(name, timed):
                timed[name].memory = timed[name].entrant.memory()
    found = summarise(cell, asked, timed, max(peaks, default=None), peak.best if peak else None)
    return found | {"handovers": handovers}


def ceilings(cell: Cell) -> dict[str, Peer]:
    """What runs beside the peers and does less than they: a step's products alone, and hand-written kernels' SGD."""
    if cell.work != "peers" or cell.device != "cpu":
        return {}
    sgd = CEILINGS if cell.model == "mlp1" else {}
    return {"ceiling": Peer("ceiling")} | {name: peer for name, peer in sgd.items() if peer.python.exists()}


def summarise(
    cell: Cell, asked: argparse.Namespace, timed: dict[str, Timed], peak: float | None, best: float | None
) -> dict[str, Any]:
    """A cell's part of the record: medians and quartiles over the rounds, of seconds and of ratios within a round.

    peak: float32 GFLOP/s while the cell was timed; best: of the whole bench, which nobody's product exceeds.
    """
    names = [name for name in timed if name in cell.peers]
    seconds = {name: one.seconds for name, one in timed.items()}
    metrics = metrics_of(cell, asked, timed, best)
    faster = {
        a: {b: quartiles([y / x for x, y in zip(seconds[a], seconds[b], strict=True)]) for b in names} for a in names
    }
    forms = [name for name in PLAIN if name in names]
    record: dict[str, Any] = {
        "work": cell.work, "model": cell.model, "hidden": cell.hidden, "batch": cell.batch, "rows": asked.rows,
        "n": asked.repeats, "epochs": max((len(one.entrant.losses) for one in timed.values()), default=0),
        "checked_epoch": CHECKED, "isa": asked.isa, "peak": peak, "beside": asked.beside,
        "device": cell.device, "plain": min(forms, key=lambda name: median(seconds[name]), default=None),
        "peers": {name: metrics[name] for name in names}, "faster": faster,
        "ceilings": {name: metrics[name] for name in CEILINGS if name in metrics},
    }  # fmt: skip
    if "ceiling" in timed:
        taken, last = seconds["ceiling"], timed["ceiling"].entrant.last
        gflops = last["operations"] / median(taken) / 1e9
        record["ceiling"] = {**quartiles(taken), "gflops": gflops, "settings": last["settings"],
                             "operations": last["operations"]}  # fmt: skip
        if "ours" in names:
            record["ceiling"]["share"] = median(c / s for c, s in zip(taken, seconds["ours"], strict=True))
    return record


def metrics_of(
    cell: Cell, asked: argparse.Namespace, timed: dict[str, Timed], peak: float | None
) -> dict[str, dict[str, Any]]:
    """What is known of each entrant that trains. Losses are compared within a recipe."""
    peers = {name: peer for name, peer in (cell.peers | ceilings(cell)).items() if name in timed and name != "ceiling"}
    losses = {name: timed[name].entrant.losses[CHECKED - 1] for name in peers}
    loose = cell.loose * (48_000 / asked.rows) ** 0.5
    metrics = {}
    for name, peer in peers.items():
        one, loss = timed[name], losses[name]
        group = [x for other, x in losses.items() if peers[other].recipe == peer.recipe]
        middle = median([x for x in group if x is not None] or [1.0])
        alone = bool(peer.recipe) and len(group) == 1
        tolerance = loose if cell.batch or cell.noisy or peer.noisy else EXACT
        deviation = None if loss is None or alone else abs(loss / middle - 1)
        gflops, avx512 = one.gflops, one.memory.get("avx512")
        metrics[name] = {
            "seconds": one.seconds, **quartiles(one.seconds), "loss": loss, "accuracy": one.entrant.last["accuracy"],
            "bytes": one.memory.get("bytes", 0), "runs": peer.runs, "deviation": deviation, "tolerance": tolerance,
            "agrees": alone or (deviation is not None and deviation <= tolerance),
            "gflops": gflops, "avx512": avx512, "bound": is_bound(asked.isa, gflops, avx512, peak),
        }  # fmt: skip
        if one.beside:
            slower = quartiles([b / a for a, b in zip(one.seconds, one.beside, strict=True)])
            metrics[name]["beside"] = {"seconds": one.beside, **quartiles(one.beside), "slower": slower}
    return metrics


def quartiles(values: Sequence[float]) -> dict[str, Any]:
    """Median and quartiles of at least one value, as they stand in a record."""
    low, middle, high = quantiles(values, method="inclusive") if len(values) > 1 else (values[0],) * 3
    return {"median": middle, "quartiles": [low, high]}


def startup(asked: argparse.Namespace, versions: dict[str, Any]) -> dict[str, Any]:
    """Seconds from the command to the first trained step, and to the exit.

    The step of a peer is one full batch of mlp1, its answer read. That of `train.py` ends when it prints its first
    epoch, validation included. Beside them: a bare `import torch`.
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
    return {name: {what: quartiles(values) for what, values in kept.items()} for name, kept in taken.items()}


def _first_step(name: str, asked: argparse.Namespace, versions: dict[str, Any]) -> float:
    """Start one of them once. Returns what the clock said at its first step. Errors: EntrantError."""
    if name in PEERS:
        with Entrant(PEERS[name], command_line([200], None, asked), asked.limit) as entrant:
            versions[name] = entrant.ready()
            entrant.epochs(1)
            return time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        limit = round(asked.rows / 0.8)  # four fifths are trained on
        given = ("model=mlp1", "batch_size=null", "epochs=1", f"data.limit={limit}", "hydra.run.dir=run")
        command = [str(ROOT / name), *given] if name == "train.py" else ["-c", f"{name}; print('epoch 1/1')"]
        step, printed = None, ""
        with subprocess.Popen(
            [sys.executable, "-u", *command], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            encoding="utf-8", errors="replace", start_new_session=True,
        ) as run, deadline(run, asked.limit):  # fmt: skip
            assert run.stdout is not None
            for line in run.stdout:
                if "epoch 1/1" in line:
                    step = time.perf_counter()
                printed += line
        if run.returncode or step is None:
            raise EntrantError(reason(printed))
    return step
