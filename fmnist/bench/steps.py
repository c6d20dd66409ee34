"""Where the time of this project's training step goes, as tables and as a picture."""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from fmnist import ROOT, UserError
from fmnist.bench.entrants import SCRIPTS, command_line, reason
from fmnist.report.tables import Table


def time_step(model: str, hidden: list[int], batch: int | None, asked: argparse.Namespace) -> dict[str, Any]:
    """The parts of a step, in microseconds, as they stand in a record. Raises UserError with what it printed."""
    command = [sys.executable, str(SCRIPTS / "parts.py"), *command_line(hidden, batch, asked)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8", timeout=asked.limit)
    if done.returncode:
        raise UserError(f"parts of a step: {reason(done.stderr)}")
    return {"model": model, "batch": batch, "rows": asked.rows, "isa": asked.isa, **json.loads(done.stdout)}


def name_of(step: dict[str, Any]) -> str:
    """A step in a few words."""
    isa = "" if step["isa"] == "native" else f", {step['isa']}"
    return f"{step['model']}, {step['batch'] or 'all'} rows{isa}"


def step_table(step: dict[str, Any]) -> str:
    """A step's parts as text."""
    whole = sum(step["parts"].values())
    rows = [[part, f"{us:,.0f}", f"{us / whole:.0%}"] for part, us in step["parts"].items()]
    return (
        f"{name_of(step)}: microseconds of a step\n"
        + Table(["", "us", "share"], [*rows, ["all", f"{whole:,.0f}", ""]]).text()
    )


def plot_steps(steps: list[dict[str, Any]], file: Path) -> None:
    """Draw a bar for each step, cut into its parts."""
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.ticker import PercentFormatter

    from fmnist.report.plots import STYLE, WIDTH

    colours = ("#1b4f8a", "#6c9bd1", "#c6dbef", "#e6a05c", "#f4d9b0", "#d9d9d9")
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 0.34 * len(steps) + 0.9), layout="constrained")
        axis = figure.subplots()
        for place, step in enumerate(reversed(steps)):
            whole, left = sum(step["parts"].values()), 0.0
            for (part, us), colour in zip(step["parts"].items(), colours, strict=True):
                axis.barh(place, us / whole, left=left, color=colour, height=0.7, label=part if not place else None)
                left += us / whole
            unit = f"{whole:,.0f} us" if whole < 1e4 else f"{whole / 1e3:,.0f} ms"
            axis.annotate(unit, (1.0, place), (4, -2.5), textcoords="offset points", fontsize=7)
        axis.set_yticks(range(len(steps)), [name_of(step) for step in reversed(steps)], fontsize=7)
        axis.xaxis.set_major_formatter(PercentFormatter(1.0))
        axis.set_xlim(0, 1)
        axis.grid(visible=False)
        figure.legend(loc="outside upper center", ncols=3, fontsize=7, frameon=False)
        file.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(file, dpi=200)
