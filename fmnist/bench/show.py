"""A record of the bench as tables of text, and as a figure for print."""

import json
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

from fmnist import UserError
from fmnist.bench.classics import classics_table
from fmnist.bench.goals import goals_table
from fmnist.bench.steps import step_table
from fmnist.bench.sweeps import STACKED
from fmnist.report.tables import Table
from fmnist.report.words import counted

IN_WORDS = {
    "ours": "this project", "ours-bfloat16": "this project, bfloat16", "plain": "PyTorch, plain",
    "fused": "PyTorch, fused Adam", "compile-loss": "PyTorch, compiled loss", "compile": "PyTorch, compiled step",
    "compile-max": "PyTorch, max-autotune", "jax-0.4.31": "JAX 0.4.31",
    "tensors": "PyTorch, TensorDataset", "tutorial": "PyTorch, tutorial", "sklearn": "scikit-learn",
    "lightning": "Lightning", "keras-torch": "Keras on PyTorch", "keras-jax": "Keras on JAX",
    "keras-tensorflow": "Keras on TensorFlow", "jax": "JAX", "tensorflow": "TensorFlow",
    "report": "the report's, float64",
}  # fmt: skip


def read(file: Path) -> dict[str, Any]:
    """A record that the bench has written. Errors: UserError for any other file, OSError if it cannot be read."""
    try:
        record: dict[str, Any] = {"sweeps": [], "startup": {}, "steps": [], "classics": {}, "goals": {}} | json.loads(
            file.read_text(encoding="utf-8")
        )
        record["cells"]
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{file}: must be a record of `python -m fmnist.bench`") from None
    return record


def show(record: dict[str, Any]) -> None:
    """Print all that is in a record."""
    tables = [_cell(cell) for cell in record.get("cells", [])]
    tables += [step_table(step) for step in record.get("steps", [])]
    tables += [_startup(record["startup"])] if record.get("startup") else []
    tables += [_sweep(sweep) for sweep in record.get("sweeps", [])]
    tables += [goals_table(record["goals"])] if record.get("goals") else []
    tables += [classics_table(record["classics"])] if record.get("classics") else []
    for table in tables:
        print(table, end="\n\n", flush=True)


def _batch(cell: dict[str, Any]) -> str:
    return f"batches of {cell['batch']:,}" if cell["batch"] else "full batch"


def _cell(cell: dict[str, Any]) -> str:
    """A cell's table. x plain: the speed, that of plain PyTorch's best form is 1. ours is x: as fast as this peer."""
    per = "epoch and run" if cell["work"] == "stacks" else "epoch"
    isa = "" if cell.get("isa", "native") == "native" else f", {cell['isa']}"
    isa += ", on a GPU" if cell.get("device", "cpu") != "cpu" else ""
    title = f"{cell['model']}, {_batch(cell)}, {cell['rows']:,} rows{isa}: ms per {per}, n = {cell['n']}"
    beside = cell.get("beside", 0)
    rows = []
    for name, peer in sorted(cell["peers"].items(), key=lambda item: item[1]["median"]):
        speed = cell["faster"][name].get(cell.get("plain", "plain"))
        gain = cell["faster"].get("ours", {}).get(name)
        other = peer.get("beside")
        rows.append([
            name,
            f"{1e3 * peer['median']:.1f}",
            *(f"{1e3 * quartile:.1f}" for quartile in peer["quartiles"]),
            f"{speed['median']:.2f}" if speed else "",
            f"{gain['median']:.2f}" if gain else "",
            *([f"{1e3 * other['median']:.1f}", f"{other['slower']['median']:.2f}"] if other else []),
            *("" if peer[key] is None else f"{peer[key]:.4f}" for key in ("loss", "accuracy")),
            f"{peer['bytes'] / 1e6:.0f}",
            "" if peer["agrees"] else "LOSS DIFFERS",
        ])  # fmt: skip
    busy = [f"beside {beside}", "x idle"] if beside else []
    header = ["", "median", "25 %", "75 %", "x plain", "ours is x", *busy, "loss", "accuracy", "MB", ""]
    return "\n".join([title, Table(header, rows).text(), *_notes(cell)])


def _notes(cell: dict[str, Any]) -> Iterator[str]:
    """The lines below a cell's table."""
    ours = cell["peers"].get("ours")
    if cell.get("plain"):
        yield f"plain PyTorch's best form: {cell['plain']}"
    if top := cell.get("ceiling"):
        share = f": ours reaches {top['share']:.0%} of that speed" if "share" in top else ""
        yield f"its matrix products alone: {1e3 * top['median']:.1f} ms at {top['gflops']:.0f} GFLOP/s{share}"
        if cell.get("peak") and ours:
            share = top["operations"] / ours["median"] / 1e9 / cell["peak"]
            yield f"float32 peak: {cell['peak']:.0f} GFLOP/s; ours reaches {share:.0%} of it, counting the dense work"
    if far := cell.get("handovers"):
        yield f"a word from one processor to another: {', '.join(f'{each:.0f}' for each in far)} ns, round by round"
    for name, peer in cell.get("ceilings", {}).items():
        mark = "" if peer["agrees"] else ", LOSS DIFFERS"
        share = f", {peer['median'] / ours['median']:.0%} of ours" if ours else ""
        yield f"no peer, SGD without shuffle or figures: {name} {1e3 * peer['median']:.1f} ms{share}{mark}"
    everyone = cell["peers"] | cell.get("ceilings", {})
    if free := [name for name, peer in everyone.items() if not peer.get("bound", True)]:
        yield f"not bound by --isa {cell['isa']}: {', '.join(free)}"
    compared = [peer for peer in everyone.values() if peer["deviation"] is not None]
    if compared:
        worst, allowed = (max(peer[key] for peer in compared) for key in ("deviation", "tolerance"))
        after = f"after {cell['checked_epoch']} epochs"
        yield f"losses {after}: at most {worst:.2%} from their median (allowed: up to {allowed:.2%})"


def _startup(starts: dict[str, Any]) -> str:
    rows = [[name, f"{row['step']['median']:.2f}", f"{row['exit']['median']:.2f}"] for name, row in starts.items()]
    return Table(["seconds from the command to", "first step", "exit"], rows).text()


def _sweep(record: dict[str, Any]) -> str:
    """A sweep's table: seconds of each whole command, and how many times as fast the stacked launcher is."""
    size = f"{counted(record['runs'], 'run')} of {counted(record['epochs'], 'epoch')}"
    title = f"{record['model']}, {_batch(record)}, {size}, {record['rows']:,} rows: seconds, n = {record['n']}"
    ours, rows = record["entrants"].get(STACKED), []
    for name, entrant in sorted(record["entrants"].items(), key=lambda item: item[1]["median"]):
        ratios = [theirs / own for theirs, own in zip(entrant["seconds"], ours["seconds"], strict=True)] if ours else []
        gain = f"{median(ratios):.2f}" if ratios else ""
        differs = "" if entrant["agrees"] else "DIFFERS"
        rows.append([name, f"{entrant['median']:.1f}", gain, f"{entrant['objective']:.4f}", differs])
    table = Table(["", "median", "ours is x", "validation", ""], rows)
    return f"{title}\n{table.text()}"


def plot(record: dict[str, Any], file: Path) -> None:
    """Draw the times of the cells of `peers`, a panel each, on logarithmic axes. Errors: UserError if there is none."""
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.patheffects import withStroke
    from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter

    from fmnist.report.plots import STYLE, STYLES, WIDTH

    cells = [cell for cell in record["cells"] if cell["work"] == "peers" and cell["peers"]]
    if not cells:
        raise UserError("nothing to draw: --plot needs cells of the work `peers`")
    columns = min(2, len(cells))
    rows = -(-len(cells) // columns)
    height = 0.19 * max(len(cell["peers"]) for cell in cells) + 0.65
    (theirs, _, _), (own, _, _) = STYLES[:2]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, height * rows + 0.3), layout="constrained")
        for axis, cell in zip(figure.subplots(rows, columns, squeeze=False).flat, cells, strict=False):
            peers = sorted(cell["peers"].items(), key=lambda item: -item[1]["median"])
            for place, (name, peer) in enumerate(peers):
                ours = name.startswith("ours")
                middle, (low, high) = 1e3 * peer["median"], (1e3 * quartile for quartile in peer["quartiles"])
                axis.plot([low, high], [place, place], color="black", linewidth=1)
                axis.plot(middle, place, "D" if ours else "o", color=own if ours else theirs, markersize=5)
                axis.annotate(f"{middle:,.0f}", (high, place), (7, -2.5), textcoords="offset points", fontsize=7,
                              path_effects=[withStroke(linewidth=2.5, foreground="white")])  # fmt: skip
            if "ceiling" in cell:
                axis.axvline(1e3 * cell["ceiling"]["median"], color="black", linestyle=":", linewidth=1)
            axis.set_xscale("log")
            axis.set_yticks(range(len(peers)), [IN_WORDS.get(name, name) for name, _ in peers], fontsize=7)
            axis.set_title(f"{cell['model']}, {_batch(cell)}")
            wide = peers[0][1]["median"] > 15 * peers[-1][1]["median"]
            axis.xaxis.set_major_locator(LogLocator(subs=(1.0, 3.0) if wide else (1.0, 2.0, 5.0)))
            axis.xaxis.set_minor_locator(NullLocator())
            axis.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
            axis.tick_params(axis="x", labelsize=7)
            axis.margins(x=0.15, y=0.06)
            axis.grid(axis="y", visible=False)
        for axis in figure.axes[len(cells) :]:
            axis.set_visible(False)
        note = "milliseconds per epoch of {rows:,} rows (medians and quartiles, n = {n})".format(**cells[0])
        if any("ceiling" in cell for cell in cells):
            note += "; dotted: its float32 matrix products alone"
        figure.supxlabel(note, fontsize=8)
        file.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(file, dpi=200)
