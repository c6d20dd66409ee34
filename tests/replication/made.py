"""Runs that were never trained, for tests of what is said of runs."""

from typing import Any

from fmnist import ROOT
from fmnist.report.comparison import Result

Rows = dict[int, dict[str, float]]


def made(
    rows: Rows, seed: int = 0, status: str = "done", metrics: dict[str, float] | None = None, **knobs: Any
) -> Result:
    """A run that ended: rows of metrics by epoch; `model__depth` is model.depth."""
    recorded = [{"epoch": epoch, **row} for epoch, row in rows.items()]
    named = {"model.name": "mlp", "epochs": max(rows, default=1), "eval_every": 1}
    named |= {name.replace("__", "."): value for name, value in knobs.items()} | {"seed": seed, "order_seed": seed}
    known = {"objective": 0.5, "test/accuracy": 0.5} | (metrics or {})
    error = None if status == "done" else "the loss is nan"
    return Result(ROOT / f"seed-{seed}", status, error, named, known, 1.0, str((named, rows)), None, recorded)
