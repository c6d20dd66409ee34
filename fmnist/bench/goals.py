"""Commands that are to reach an accuracy: how many do, and in how many seconds from their start to their exit."""

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from fmnist import ROOT
from fmnist.bench.entrants import EntrantError, reason, reported
from fmnist.bench.race import quartiles
from fmnist.bench.sweeps import run_whole
from fmnist.report.tables import Table

GOALS = {"record_time_88": 0.88, "record_time_90": 0.90}  # experiments, and the test accuracies that they are for


def reach(asked: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Run the command of each goal once a round, in turns, each round with the next seed.

    Returns the goals' part of the record: of each experiment the accuracy that is wanted, and seconds and test
    accuracies of its commands. One that fails is reported and left out.
    """
    runs: dict[str, dict[str, list[float]]] = {name: {"seconds": [], "accuracy": []} for name in GOALS}
    for seed in range(asked.seed, asked.seed + asked.repeats):
        for name in list(runs):
            with tempfile.TemporaryDirectory() as folder, reported(name, runs):
                given = [f"experiment={name}", f"seed={seed}", "hydra.run.dir=run"]
                line = [sys.executable, str(ROOT / "train.py"), *given]
                seconds, status, printed = run_whole(line, Path(folder), asked.limit)
                if status:
                    raise EntrantError(reason(printed))
                result = json.loads((Path(folder) / "run" / "result.json").read_text(encoding="utf-8"))
                runs[name]["seconds"].append(seconds)
                runs[name]["accuracy"].append(result["metrics"]["test/accuracy"])
    return {name: {"goal": GOALS[name], **found} for name, found in runs.items()}


def goals_table(found: dict[str, dict[str, Any]]) -> str:
    """Of each goal how many runs reach it, and the seconds of the whole command."""
    rows = []
    for name, own in found.items():
        there, seconds = sum(accuracy >= own["goal"] for accuracy in own["accuracy"]), own["seconds"]
        spread = quartiles(seconds)
        rows.append([
            name, f"{own['goal']:.2f}", f"{there} of {len(seconds)}",
            f"{min(own['accuracy']):.4f}", f"{quartiles(own['accuracy'])['median']:.4f}",
            *(f"{value:.2f}" for value in (spread["median"], *spread["quartiles"], max(seconds))),
        ])  # fmt: skip
    header = ["", "goal", "reach it", "lowest", "median", "seconds", "quartile", "quartile", "longest"]
    return f"test accuracy, and seconds from the command to its exit\n{Table(header, rows).text()}"
