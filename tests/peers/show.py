"""A record of the bench as tables, and as a chart: python tests/peers/show.py [RECORD.json] [--plot FILE]."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

HEADER = ("median", "quartiles", "speed", "ours is", "loss", "accuracy", "MB")
WIDTHS = (9, 21, 8, 9, 10, 10, 7)


def line(name: str, *columns: str) -> str:
    return f"{name:24}" + "".join(f"{text:>{width}}" for text, width in zip(columns, WIDTHS, strict=True))


def table(cell: dict[str, Any]) -> str:
    """A cell's figures. speed: plain PyTorch = 1; "ours is": how many times as fast as this peer ours is."""
    batch = f"batches of {cell['batch']:,}" if cell["batch"] else "full batch"
    per = "epoch and run" if cell["work"] == "stacks" else "epoch"
    lines = [f"{cell['model']}, {batch}, {cell['rows']:,} rows: ms per {per}, n = {cell['n']}", line("", *HEADER)]
    for name, peer in sorted(cell["peers"].items(), key=lambda item: item[1]["median"]):
        speed = cell["faster"][name].get("plain")
        gain = cell["faster"].get("ours", {}).get(name)
        row = line(
            name,
            f"{1e3 * peer['median']:.1f}",
            " .. ".join(f"{1e3 * quartile:.1f}" for quartile in peer["quartiles"]),
            f"{speed['median']:.2f}" if speed else "",
            f"{gain['median']:.2f}x" if gain else "",
            *("" if peer[key] is None else f"{peer[key]:.4f}" for key in ("loss", "accuracy")),
            f"{peer['bytes'] / 1e6:.0f}",
        )
        lines.append(row + ("" if peer["agrees"] else "  LOSS DIFFERS"))
    if top := cell.get("ceiling"):
        share = f": ours reaches {top['share']:.0%} of that speed" if "share" in top else ""
        lines.append(f"its matrix products alone: {1e3 * top['median']:.1f} ms at {top['gflops']:.0f} GFLOP/s{share}")
    compared = [peer for peer in cell["peers"].values() if peer["deviation"] is not None]
    if compared:
        worst, allowed = (max(peer[key] for peer in compared) for key in ("deviation", "tolerance"))
        after = f"after {cell['checked_epoch']} epochs"
        lines.append(f"losses {after}: at most {worst:.2%} from their median (allowed: up to {allowed:.2%})")
    return "\n".join(lines)


def startup_table(rows: dict[str, Any]) -> str:
    lines = [f"seconds from the command to{'first step':>13}{'exit':>8}"]
    lines += [f"{name:27}{row['step']['median']:13.2f}{row['exit']['median']:8.2f}" for name, row in rows.items()]
    return "\n".join(lines)


def plot(record: dict[str, Any], file: Path) -> None:
    """The speeds relative to plain PyTorch, a panel of horizontal bars per cell."""
    from matplotlib.figure import Figure

    shown = [cell for cell in record["cells"] if cell["work"] == "peers" and "plain" in cell["peers"]]
    if not shown:
        sys.exit("nothing to draw: the chart needs the work `peers` with the peer plain")
    columns = min(4, len(shown))
    rows = -(-len(shown) // columns)
    longest = max(len(cell["peers"]) for cell in shown)
    figure = Figure(figsize=(3.6 * columns, (0.24 * longest + 0.7) * rows), layout="constrained")
    for axis, cell in zip(figure.subplots(rows, columns, squeeze=False).flat, shown, strict=False):
        speeds = {name: cell["faster"][name]["plain"]["median"] for name in cell["peers"]}
        names = sorted(speeds, key=lambda name: speeds[name])
        colours = ["#c44e52" if name.startswith("ours") else "#8c9bb0" for name in names]
        bars = axis.barh(names, [speeds[name] for name in names], color=colours)
        axis.bar_label(bars, fmt="%.2f", padding=2, fontsize=7)
        axis.axvline(1, color="black", linewidth=0.6)
        axis.margins(x=0.15)
        axis.tick_params(labelsize=7)
        axis.spines[["top", "right"]].set_visible(False)
        batch = f"batches of {cell['batch']:,}" if cell["batch"] else "full batch"
        axis.set_title(f"{cell['model']}, {batch}", fontsize=9)
    figure.supxlabel("speed, plain PyTorch = 1", fontsize=8)
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description="Show a record of `python -m fmnist.bench`.")
    parser.add_argument("record", type=Path, nargs="?", help="the JSON file (default: standard input)")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw the speeds of `peers`")
    parser.add_argument("--quiet", action="store_true", help="no tables")
    asked = parser.parse_args()
    record = json.loads(asked.record.read_text() if asked.record else sys.stdin.read())
    if not asked.quiet:
        for cell in record.get("cells", []):
            print(table(cell), end="\n\n")
        if record.get("startup"):
            print(startup_table(record["startup"]), end="\n\n")
    if asked.plot:
        plot(record, asked.plot)


if __name__ == "__main__":
    main()
