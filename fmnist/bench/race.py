"""One piece of work, done by many entrants in turns; and starts, from the command to the first step."""

import argparse
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from statistics import median, quantiles
from typing import Any

from fmnist import ROOT
from fmnist.bench.entrants import PEERS, Entrant, EntrantError, Peer, command_line, deadline, reason, reported

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


def time_cell(cell: Cell, asked: argparse.Namespace, versions: dict[str, Any]) -> dict[str, Any]:
    """Time a cell. All entrants are prepared; then they take turns, in a new order in each round.

    An entrant that fails, or does not answer in time, is reported and left out. versions: gets those of each entrant.
    Returns the cell's part of the record.
    """
    entrants: dict[str, Entrant] = {}
    seconds: dict[str, list[float]] = {}
    first = [TURN]
    everyone = cell.peers | ({"ceiling": Peer("ceiling")} if cell.work == "peers" else {})
    with ExitStack() as running:
        for name, peer in everyone.items():
            line = command_line(cell.hidden, cell.batch, asked)
            entrant = running.enter_context(Entrant(peer, line, asked.limit))
            with reported(name):
                versions[name] = entrant.ready()
                entrant.epochs(1)  # compiles, probes, allocates
                first.append(entrant.epochs(1) * peer.runs)
                entrants[name], seconds[name] = entrant, []
        epochs = max(1, min(20, int(TURN / min(first))))
        shuffle = random.Random(asked.seed).shuffle
        for _ in range(asked.repeats):
            turns = list(entrants)
            shuffle(turns)
            for name in turns:
                time.sleep(PAUSE)
                with reported(name, entrants):
                    seconds[name].append(entrants[name].epochs(epochs))
        memory = {}
        for name in list(entrants):
            with reported(name, entrants):
                memory[name] = entrants[name].memory()
    return summarise(cell, asked, entrants, {name: seconds[name] for name in entrants}, memory)


def summarise(
    cell: Cell, asked: argparse.Namespace, entrants: dict[str, Entrant], seconds: dict[str, list[float]],
    memory: dict[str, int],
) -> dict[str, Any]:  # fmt: skip
    """A cell's part of the record: medians and quartiles over the rounds, of seconds and of ratios within a round."""
    names = [name for name in seconds if name in cell.peers]
    losses = {name: entrants[name].losses[CHECKED - 1] for name in names}
    middle = median([x for name, x in losses.items() if x is not None and not cell.peers[name].own_loss] or [1.0])
    loose = cell.loose * (48_000 / asked.rows) ** 0.5
    metrics = {}
    for name, loss in losses.items():
        peer, last = cell.peers[name], entrants[name].last
        tolerance = loose if cell.batch or cell.noisy or peer.noisy else EXACT
        deviation = None if loss is None or peer.own_loss else abs(loss / middle - 1)
        metrics[name] = {
            "seconds": seconds[name], **quartiles(seconds[name]), "loss": loss, "accuracy": last["accuracy"],
            "bytes": memory[name], "runs": peer.runs, "deviation": deviation, "tolerance": tolerance,
            "agrees": peer.own_loss or (deviation is not None and deviation <= tolerance),
        }  # fmt: skip
    faster = {
        a: {b: quartiles([y / x for x, y in zip(seconds[a], seconds[b], strict=True)]) for b in names} for a in names
    }
    record: dict[str, Any] = {
        "work": cell.work, "model": cell.model, "hidden": cell.hidden, "batch": cell.batch, "rows": asked.rows,
        "n": asked.repeats, "epochs": max((len(entrant.losses) for entrant in entrants.values()), default=0),
        "checked_epoch": CHECKED, "peers": metrics, "faster": faster,
    }  # fmt: skip
    if taken := seconds.get("ceiling"):
        last = entrants["ceiling"].last
        gflops = last["operations"] / median(taken) / 1e9
        record["ceiling"] = {**quartiles(taken), "gflops": gflops, "settings": last["settings"]}
        if "ours" in names:
            record["ceiling"]["share"] = median(c / s for c, s in zip(taken, seconds["ours"], strict=True))
    return record


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
