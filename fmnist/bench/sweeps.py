"""Whole sweeps, from the command to its end: this project's launcher beside Hydra's own ways to run the same jobs."""

import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median
from typing import Any

from fmnist import ROOT
from fmnist.bench.entrants import EntrantError, deadline, reported
from fmnist.data.fetch import DATA

PLAIN = "fmnist/bench/peers/sweep_plain.py"
# The same jobs: nn.Linear under Hydra's basic and joblib launchers, train.py under the basic one and under ours.
ENTRANTS = {
    "plain, basic": (PLAIN, "hydra/launcher=basic"),
    "plain, joblib": (PLAIN, "hydra/launcher=joblib", f"hydra.launcher.n_jobs={os.cpu_count()}"),
    "train.py, basic": ("train.py", "hydra/launcher=basic"),
    "train.py, stacked": ("train.py", "hydra/launcher=stacked"),
}
STACKED = "train.py, stacked"


@dataclass(frozen=True)
class Sweep:
    """Jobs that differ in their seeds; ours: the model in the words of train.py; close: how near the mean accuracies
    must be to one another to show that it is the same work."""

    name: str
    hidden: Sequence[int]
    ours: tuple[str, ...]
    batch: int
    close: float = 0.01


SWEEPS = [
    Sweep("mlp1", [200], ("model=mlp1",), 128),
    Sweep("mlp1", [200], ("model=mlp1",), 32),
    Sweep("50 layers of 32", [32] * 50, ("model=deep", "model.width=32", "model.depth=50"), 128, 1.0),  # few train
]


def command(entrant: str, sweep: Sweep, runs: int, epochs: int, rows: int, folder: Path) -> list[str]:
    """What one types for it."""
    script, *launcher = ENTRANTS[entrant]
    hidden = ",".join(map(str, sweep.hidden))
    if script == PLAIN:
        work = [f"hidden=[{hidden}]", f"batch={sweep.batch}", f"rows={rows}", f"data={DATA / 'fashion-mnist'}"]
    else:
        work = [*sweep.ours, f"batch_size={sweep.batch}", f"data.limit={rows + rows // 4}", "schedule=constant"]
    given = [*work, f"seed=range({runs})", f"epochs={epochs}", f"hydra.sweep.dir={folder}", *launcher]
    return [sys.executable, str(ROOT / script), "-m", *given]


def timed(line: list[str], folder: Path, runs: int, limit: float) -> tuple[float, float]:
    """Seconds that a command takes, and the mean objective of the runs it leaves. Raises EntrantError where it fails."""
    start = time.perf_counter()
    with (
        subprocess.Popen(
            line, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
        ) as process,
        deadline(process, limit),
    ):
        out, errors = process.communicate()
    seconds = time.perf_counter() - start
    results = [json.loads(path.read_text())["objective"] for path in folder.glob("sweep/*/result.json")]
    if process.returncode or len(results) != runs:
        raise EntrantError((errors.strip() or out.strip() or "nothing was said").splitlines()[0])
    return seconds, mean(results)


def race(
    sweep: Sweep, runs: int, epochs: int, rows: int, repeats: int, seed: int = 0, limit: float = 300.0
) -> dict[str, Any]:
    """Time all entrants on a sweep, in turns, in a new order each round; those that fail are reported and left out.

    limit: seconds a command may take for each of the runs.
    """
    seconds: dict[str, list[float]] = {name: [] for name in ENTRANTS}
    reached: dict[str, float] = {}
    shuffle = random.Random(seed).shuffle
    for _ in range(repeats):
        turns = list(seconds)
        shuffle(turns)
        for name in turns:
            with tempfile.TemporaryDirectory() as folder:
                line = command(name, sweep, runs, epochs, rows, Path(folder) / "sweep")
                with reported(name, seconds):
                    taken, reached[name] = timed(line, Path(folder), runs, limit * runs)
                    seconds[name].append(taken)
    middle = median(reached[name] for name in seconds)
    entrants = {
        name: {"seconds": taken, "median": median(taken), "objective": reached[name],
               "agrees": abs(reached[name] - middle) <= sweep.close}
        for name, taken in seconds.items()
    }  # fmt: skip
    return {"model": sweep.name, "batch": sweep.batch, "runs": runs, "epochs": epochs, "rows": rows, "n": repeats,
            "entrants": entrants}  # fmt: skip
