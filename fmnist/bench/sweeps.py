"""Whole sweeps, from the command to its end: this project's launcher beside Hydra's own ways to run the same jobs."""

import json
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
from fmnist.bench.entrants import EntrantError, deadline, processors, reason, reported

PLAIN = "fmnist/bench/peers/sweep_plain.py"
# The same jobs by four commands: nn.Linear under Hydra's basic and joblib launchers, train.py under the basic one and
# under this project's. Of each: the script, and the overrides that choose the launcher.
COMMANDS = {
    "plain, basic": (PLAIN, "hydra/launcher=basic"),
    "plain, joblib": (PLAIN, "hydra/launcher=joblib", f"hydra.launcher.n_jobs={processors()}"),
    "train.py, basic": ("train.py", "hydra/launcher=basic"),
    "train.py, stacked": ("train.py", "hydra/launcher=stacked"),
}
STACKED = "train.py, stacked"


@dataclass(frozen=True)
class Sweep:
    """Jobs that differ in their seeds.

    hidden: widths of the layers. ours: the same model in the words of train.py. batch: rows. close: how far a mean
    accuracy may be from the median of all, where the work is the same.
    """

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


def sweep_command(name: str, sweep: Sweep, runs: int, epochs: int, rows: int) -> list[str]:
    """What one types for a sweep. It leaves its runs in the folder `sweep`, below the folder where it is typed.

    No path is part of an override: Hydra's grammar refuses one with a space or with a letter beyond ASCII.
    """
    script, *launcher = COMMANDS[name]
    if script == PLAIN:
        work = [f"hidden=[{','.join(map(str, sweep.hidden))}]", f"batch={sweep.batch}", f"rows={rows}"]
    else:
        work = [*sweep.ours, f"batch_size={sweep.batch}", f"data.limit={rows + rows // 4}", "schedule=constant"]
    given = [*work, f"seed=range({runs})", f"epochs={epochs}", "hydra.sweep.dir=sweep", *launcher]
    return [sys.executable, str(ROOT / script), "-m", *given]


def run_whole(line: list[str], folder: Path, limit: float) -> tuple[float, int, str]:
    """Run a command in a folder. Returns its seconds from the start to the exit, its status, and what it printed.

    limit: seconds after which it is killed. Errors: EntrantError if it lasts longer.
    """
    start = time.perf_counter()
    with subprocess.Popen(
        line, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8", errors="replace",
        start_new_session=True,
    ) as process, deadline(process, limit):  # fmt: skip
        out, errors = process.communicate()
    return time.perf_counter() - start, process.returncode, errors + out


def timed(line: list[str], folder: Path, runs: int, limit: float) -> tuple[float, float]:
    """Run a sweep in an empty folder. Returns its seconds, and the mean objective of the runs that it leaves.

    limit: seconds after which it is killed. Errors: EntrantError if it fails, lasts longer, or leaves too few runs.
    """
    seconds, status, printed = run_whole(line, folder, limit)
    files = folder.glob("sweep/*/result.json")
    ended = [json.loads(file.read_text(encoding="utf-8")).get("objective") for file in files]
    results = [objective for objective in ended if objective is not None]  # a run that failed has none
    if status or len(results) != runs:
        raise EntrantError(f"{len(results)} of {runs} runs are done: {reason(printed)}")
    return seconds, mean(results)


def time_sweep(
    sweep: Sweep, runs: int, epochs: int, rows: int, repeats: int, seed: int = 0, limit: float = 300.0
) -> dict[str, Any]:
    """Time all commands on a sweep, in turns, in a new order each round. Those that fail are reported and left out.

    limit: seconds that a command may take for each of the runs. Returns the sweep's part of the record.
    """
    seconds: dict[str, list[float]] = {name: [] for name in COMMANDS}
    reached: dict[str, float] = {}
    shuffle = random.Random(seed).shuffle
    for _ in range(repeats):
        turns = list(seconds)
        shuffle(turns)
        for name in turns:
            with tempfile.TemporaryDirectory() as folder, reported(name, seconds):
                line = sweep_command(name, sweep, runs, epochs, rows)
                taken, reached[name] = timed(line, Path(folder), runs, limit * runs)
                seconds[name].append(taken)
    middle = median([reached[name] for name in seconds] or [0.0])
    entrants = {
        name: {"seconds": taken, "median": median(taken), "objective": reached[name],
               "agrees": abs(reached[name] - middle) <= sweep.close}
        for name, taken in seconds.items()
    }  # fmt: skip
    return {"model": sweep.name, "batch": sweep.batch, "runs": runs, "epochs": epochs, "rows": rows, "n": repeats,
            "entrants": entrants}  # fmt: skip
