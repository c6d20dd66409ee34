"""The referee: this project beside its peers on the same work, interleaved in one run."""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from fmnist import ROOT, UserError
from fmnist.bench import show as bench_show
from fmnist.bench import sweeps as bench_sweep
from fmnist.bench.entrants import PEERS
from fmnist.bench.race import LOOSE, Cell, race, startup
from fmnist.data.fetch import fashion
from fmnist.record.record import commit

MODELS = {"mlp1": [200], "mlp2": [300, 100]}
VARIANTS = {  # the same model in plain PyTorch and here
    "dropout": [300, 100], "batch_norm": [300, 100], "skip": [300, 100], "autoencoder": [128, 64, 32],
    "vae": [512, 256],
}  # fmt: skip
# The LOOSE of 50 layers without normalisation, which magnify rounding and batch order from step to step: three standard
# deviations over batch orders alone, from the same weights (15 % of the median; mlp1's are 0.4 %).
DEEP = 0.45
STACKS = [("mlp1", [200], 16, 128, LOOSE), ("mlp1", [200], 16, 32, LOOSE), ("deep 32 x 50", [32] * 50, 10, 128, DEEP)]
BATCHES = {"full": None, "6000": 6000, "128": 128, "32": 32}


def cells(asked: argparse.Namespace) -> list[Cell]:
    """What the command line asks to be timed."""
    found = []
    for work in asked.work:
        if work == "peers":
            peers = {name: PEERS[name] for name in asked.peers}
            found += [Cell(work, m, MODELS[m], b, peers) for m in MODELS for b in BATCHES.values()]
        elif work == "models":
            for kind, hidden in VARIANTS.items():
                pair = {name: replace(PEERS[name], arguments=("--kind", kind)) for name in ("ours", "plain")}
                found += [Cell(work, kind, hidden, b, pair, noisy=kind in ("dropout", "vae")) for b in (None, 128)]
        elif work == "stacks":
            for model, hidden, runs, batch, loose in STACKS:
                entrants = {name: PEERS[name] for name in ("ours", "plain")}
                for orders in ("shared", "own"):
                    told = ("--runs", str(runs), "--orders", orders)
                    entrants[f"{runs} runs, {orders} order"] = replace(PEERS["ours"], arguments=told, runs=runs)
                found.append(Cell(work, model, hidden, batch, entrants, loose=loose))
    return [
        cell for cell in found
        if (not asked.models or cell.model.split()[0] in asked.models)
        and (not asked.batches or cell.batch in [BATCHES[b] for b in asked.batches])
    ]  # fmt: skip


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
    parser.add_argument("--batches", nargs="+", choices=BATCHES, metavar="B", help=f"only these: {', '.join(BATCHES)}")
    parser.add_argument("--repeats", type=int, default=7, help="rounds in which each takes a turn (default: 7)")
    parser.add_argument("--rows", type=int, default=48_000, help="first rows of the training file (default: 48,000)")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="default: all processors")
    parser.add_argument("--seed", type=int, default=0, help="of weights, batch orders and turns (default: 0)")
    parser.add_argument("--output", type=Path, default=ROOT / "outputs" / "bench", help="folder of the JSON record")
    parser.add_argument("--runs", type=int, default=16, help="of a sweep (default: 16)")
    parser.add_argument("--epochs", type=int, default=5, help="of each run of a sweep (default: 5)")
    parser.add_argument("--limit", type=float, default=300, metavar="S",
                        help="seconds an answer may take, or a sweep's command for each of its runs; what takes longer "
                        "is ended and left out (default: 300)")  # fmt: skip
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw the times of `peers` (.png, .svg or .pdf)")
    parser.add_argument("--show", type=Path, metavar="RECORD", help="time nothing: show, and plot, an earlier record")
    asked = parser.parse_args(arguments)
    asked.work = asked.work or ["peers", "startup"]
    if unknown := set(asked.work) - set(works):
        parser.error(f"WORK must be one of {', '.join(works)}, got {', '.join(sorted(unknown))}")
    if min(asked.repeats, asked.rows, asked.threads, asked.runs, asked.epochs, asked.limit) < 1:
        parser.error("--repeats, --rows, --threads, --runs, --epochs and --limit must be at least 1")
    if asked.plot and asked.plot.suffix not in bench_show.FORMATS:
        parser.error(f"--plot must end in one of {', '.join(bench_show.FORMATS)}, got {asked.plot}")
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
        bench_show.show({"cells": record["cells"][-1:]})
        file.write_text(json.dumps(record, indent=1) + "\n")
    if "startup" in asked.work:
        record["startup"] = startup(asked, versions)
        bench_show.show({"startup": record["startup"]})
    for sweep in bench_sweep.SWEEPS if "sweep" in asked.work else []:
        if (not asked.models or sweep.ours[0].removeprefix("model=") in asked.models) and (
            not asked.batches or str(sweep.batch) in asked.batches
        ):
            given = (asked.runs, asked.epochs, asked.rows, asked.repeats, asked.seed, asked.limit)
            record["sweeps"].append(bench_sweep.race(sweep, *given))
            bench_show.show({"sweeps": record["sweeps"][-1:]})
    file.write_text(json.dumps(record, indent=1) + "\n")
    print(file)
    return record


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line. Status 1 if losses differ: then the times are not of the same work."""
    asked = parse(arguments)
    try:
        if asked.show:
            record = bench_show.read(asked.show)
            bench_show.show(record)
        else:
            record = measure(asked)
        if asked.plot:
            bench_show.plot(record, asked.plot)
    except (UserError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    told = [peer for cell in record["cells"] for peer in cell["peers"].values()]
    told += [entrant for sweep in record["sweeps"] for entrant in sweep["entrants"].values()]
    return int(not all(one["agrees"] for one in told))


if __name__ == "__main__":
    sys.exit(main())
