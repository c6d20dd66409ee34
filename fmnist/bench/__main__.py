"""`python -m fmnist.bench`: this project beside its peers on the same work, in turns within one run."""

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import datetime
from typing import Any

from fmnist import ROOT, UserError
from fmnist.bench.classics import LEARNERS, in_a_line, learn, missing, split
from fmnist.bench.entrants import CEILINGS, ON_GPU, PEERS, Peer, processors, reported
from fmnist.bench.goals import reach
from fmnist.bench.isa import LEVELS, Processors, bound, flags
from fmnist.bench.race import LOOSE, LOOSE_DEEP, Cell, startup, time_cell
from fmnist.bench.show import plot, read, show
from fmnist.bench.steps import plot_steps, time_step
from fmnist.bench.sweeps import SWEEPS, time_sweep
from fmnist.program.arguments import typed_path
from fmnist.program.files import replacing
from fmnist.program.output import run_command
from fmnist.program.version import commit
from fmnist.report.gallery import FORMATS
from fmnist.sources.fetch import fashion

MODELS = {"mlp1": [200], "mlp2": [300, 100]}
VARIANTS = {  # the same model in plain PyTorch and here
    "dropout": [300, 100], "batch_norm": [300, 100], "skip": [300, 100], "autoencoder": [128, 64, 32],
    "vae": [512, 256],
}  # fmt: skip
STACKS = [  # model, widths, runs, rows of a batch, how far losses may be from their median
    ("mlp1", [200], 16, 128, LOOSE), ("mlp1", [200], 16, 32, LOOSE), ("deep 32 x 50", [32] * 50, 10, 128, LOOSE_DEEP),
]  # fmt: skip
FORMS = ("fused", "compile-loss", "compile")  # of plain PyTorch, beside other models and stacks
STACKING = ("ours", "jax", "jax-0.4.31")  # those that train many runs at once
BATCHES = {"full": None, "6000": 6000, "128": 128, "32": 32}


def available(peers: dict[str, Peer]) -> dict[str, Peer]:
    """Those whose environments are there."""
    return {name: peer for name, peer in peers.items() if peer.python.exists()}


def cells(asked: argparse.Namespace) -> list[Cell]:
    """What the command line asks to be timed."""
    found, chosen = [], available({name: PEERS[name] for name in asked.peers})
    if asked.device != "cpu":
        chosen = {name: peer.given("--device", asked.device) for name, peer in chosen.items()}
    for work in asked.work:
        if work == "peers":
            found += [Cell(work, m, MODELS[m], b, chosen) for m in MODELS for b in BATCHES.values()]
        elif work == "models":
            for kind, hidden in VARIANTS.items():
                peers = {name: chosen[name].given("--kind", kind) for name in ("ours", *FORMS) if name in chosen}
                found += [Cell(work, kind, hidden, b, peers, noisy=kind in ("dropout", "vae")) for b in (None, 128)]
        elif work == "stacks":
            for model, hidden, runs, batch, loose in STACKS:
                peers = {name: chosen[name] for name in ("ours", *FORMS) if name in chosen}
                for name in (name for name in STACKING if name in chosen):
                    for orders in ("shared", "own"):
                        title = f"{'' if name == 'ours' else f'{name}, '}{runs} runs, {orders} order"
                        peers[title] = chosen[name].given("--runs", str(runs), "--orders", orders, runs=runs)
                found.append(Cell(work, model, hidden, batch, peers, loose=loose))
    return [
        replace(cell, device=asked.device) for cell in found
        if (not asked.models or cell.model.split()[0] in asked.models)
        and (not asked.batches or cell.batch in [BATCHES[b] for b in asked.batches])
    ]  # fmt: skip


def machine() -> dict[str, Any]:
    """What decides the times: the number of processors, and their vector units where the system lists them."""
    return {"cpus": os.cpu_count(), "flags": sorted(w for w in flags() if w.startswith(("avx", "amx", "fma")))}


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line, checked. A mistake ends the program with status 2."""
    parser = argparse.ArgumentParser(
        prog="python -m fmnist.bench",
        description="Time this project beside its peers: the same model, data and optimizer, in turns within one run.",
        epilog="peers: " + ", ".join(PEERS) + ". `make bench` sets up their environments; those missing are skipped.",
    )
    works = ("peers", "step", "startup", "models", "stacks", "sweep", "goals", "classics")
    parser.add_argument("work", nargs="*", metavar="WORK",
                        help="peers (mlp1 and mlp2, all peers), step (where the time of our own step goes), startup "
                        "(from the command to the first step), models (the other models, beside plain PyTorch), stacks "
                        "(many runs at once, time per run, beside one plain run), sweep (whole commands, beside "
                        "Hydra's), goals (commands that are to reach an accuracy, from their start to "
                        "their exit), classics (boosted trees, an SVC and a kernel ridge, trained once to their end); "
                        "default: peers startup")  # fmt: skip
    parser.add_argument(
        "--peers", nargs="+", choices=PEERS, default=list(PEERS), metavar="PEER", help="only these peers"
    )
    parser.add_argument("--learners", nargs="+", choices=LEARNERS, default=list(LEARNERS), metavar="L",
                        help=f"only these of the classics: {', '.join(LEARNERS)}")  # fmt: skip
    parser.add_argument("--models", nargs="+", metavar="MODEL", choices=[*MODELS, *VARIANTS, "deep"],
                        help=f"only these models: {', '.join([*MODELS, *VARIANTS, 'deep'])}")  # fmt: skip
    parser.add_argument("--batches", nargs="+", choices=BATCHES, metavar="B", help=f"only these: {', '.join(BATCHES)}")
    parser.add_argument("--repeats", type=int, default=7, help="rounds in which each takes a turn (default: 7)")
    parser.add_argument(
        "--rows", type=int, help="first rows of the training file (default: 48,000; of the classics all 60,000)"
    )
    parser.add_argument("--threads", type=int, default=processors(),
                        help="processors for each program (default: all)")  # fmt: skip
    parser.add_argument("--isa", choices=LEVELS, default="native",
                        help="the instruction set of all entrants alike; those that do not obey are named")  # fmt: skip
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu",
                        help="cuda: this project beside plain PyTorch on a GPU (peers, models, stacks)")  # fmt: skip
    parser.add_argument("--beside", type=int, default=0, metavar="N",
                        help="time entrants of peers, models and stacks beside N busy loops too")  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, help="seed of weights, batch orders and turns (default: 0)")
    parser.add_argument(
        "--output", type=typed_path, default=ROOT / "outputs" / "bench", help="folder of the JSON record"
    )
    parser.add_argument("--runs", type=int, default=16, help="runs of a sweep (default: 16)")
    parser.add_argument("--epochs", type=int, default=5, help="epochs of each run of a sweep (default: 5)")
    parser.add_argument("--limit", type=float, default=300, metavar="S",
                        help="seconds that a program may take for an epoch, a sweep for each of its runs, the command "
                        "of a goal in all; one that takes longer is ended and left out (default: 300)")  # fmt: skip
    parser.add_argument(
        "--plot",
        type=typed_path,
        metavar="FILE",
        help="draw the times of `peers`, or the parts of `step` (.png, .svg or .pdf)",
    )
    parser.add_argument(
        "--show", type=typed_path, metavar="RECORD", help="time nothing: show, and plot, an earlier record"
    )
    asked = parser.parse_args(arguments)
    asked.work = asked.work or (["peers", "startup"] if asked.device == "cpu" else ["peers"])
    if unknown := set(asked.work) - set(works):
        parser.error(f"WORK must be one of {', '.join(works)}, got {', '.join(sorted(unknown))}")
    asked.classic_rows = 60_000 if asked.rows is None else asked.rows
    asked.rows = 48_000 if asked.rows is None else asked.rows
    if min(asked.repeats, asked.rows, asked.threads, asked.runs, asked.epochs, asked.limit) < 1:
        parser.error("--repeats, --rows, --threads, --runs, --epochs and --limit must be at least 1")
    if asked.device != "cpu" and (others := set(asked.work) - {"peers", "models", "stacks"}):
        parser.error(f"--device {asked.device} is for peers, models and stacks, not for {', '.join(sorted(others))}")
    if asked.device != "cpu":
        asked.peers = [name for name in asked.peers if PEERS[name].script in ON_GPU]
    if asked.beside < 0:
        parser.error("--beside must be at least 0")
    if asked.plot and asked.plot.suffix not in FORMATS:
        parser.error(f"--plot must end in one of {', '.join(FORMATS)}, got {asked.plot}")
    return asked


def measure(asked: argparse.Namespace) -> dict[str, Any]:
    """Do the work that is asked for. Each table is printed when it is complete; the JSON file then has all so far."""
    if asked.device != "cpu":
        import torch

        if not torch.cuda.is_available():
            raise UserError(f"--device {asked.device}: there is no GPU here")
    fashion(None)  # found or fetched, and verified, before anything is timed
    timed = asked.peers if {"peers", "startup"} & set(asked.work) else STACKING if "stacks" in asked.work else ()
    wanted = {name: PEERS[name] for name in asked.peers if name in timed} | (
        CEILINGS if "peers" in asked.work and asked.device == "cpu" else {}
    )
    asked.peers = [name for name in asked.peers if PEERS[name].python.exists()]
    missing = {name: peer for name, peer in wanted.items() if name not in available(wanted)}
    for environment in sorted({peer.environment for peer in missing.values()}):
        names = ", ".join(name for name, peer in missing.items() if peer.environment == environment)
        print(f"skipped {names}: the environment {environment} is not there, `make bench` sets it up")
    now = datetime.now()
    record: dict[str, Any] = {
        "date": now.isoformat(timespec="seconds"), "commit": commit(), "machine": machine(), "threads": asked.threads,
        "isa": asked.isa, "peak": None, "beside": asked.beside,
        "device": asked.device, "versions": {}, "cells": [], "steps": [], "startup": {}, "sweeps": [],
        "goals": {}, "classics": {},
    }  # fmt: skip
    asked.output.mkdir(parents=True, exist_ok=True)
    file = asked.output / f"{now:%Y-%m-%d_%H%M%S}.json"

    def keep() -> None:
        with replacing(file) as stream:
            stream.write(json.dumps(record, indent=1) + "\n")

    with ExitStack() as running:
        running.enter_context(bound(asked.isa))
        peak = running.enter_context(Processors(asked.isa, asked.threads))
        record["peak"] = None if set(asked.work) <= {"goals", "classics"} else peak.gflops(10)
        for cell in cells(asked):
            record["cells"].append(time_cell(cell, asked, record["versions"], peak))
            show({"cells": record["cells"][-1:]})
            keep()
        for model, hidden in MODELS.items() if "step" in asked.work else ():
            for name, batch in BATCHES.items():
                if model in (asked.models or MODELS) and name in (asked.batches or BATCHES):
                    record["steps"].append(time_step(model, hidden, batch, asked))
                    show({"steps": record["steps"][-1:]})
                    keep()
        time_commands(asked, record, keep)
    print(file)
    return record


def time_commands(asked: argparse.Namespace, record: dict[str, Any], keep: Callable[[], None]) -> None:
    """The work whose entrants are whole commands: starts and sweeps."""
    if "startup" in asked.work:
        record["startup"] = startup(asked, record["versions"])
        show({"startup": record["startup"]})
        keep()
    for sweep in SWEEPS if "sweep" in asked.work else []:
        if (not asked.models or sweep.ours[0].removeprefix("model=") in asked.models) and (
            not asked.batches or str(sweep.batch) in asked.batches
        ):
            given = (asked.runs, asked.epochs, asked.rows, asked.repeats, asked.seed, asked.limit)
            record["sweeps"].append(time_sweep(sweep, *given))
            show({"sweeps": record["sweeps"][-1:]})
            keep()
    if "goals" in asked.work:
        record["goals"] = reach(asked)
        show({"goals": record["goals"]})
        keep()
    if "classics" in asked.work:
        train_classics(asked, record, keep)


def train_classics(asked: argparse.Namespace, record: dict[str, Any], keep: Callable[[], None]) -> None:
    """Train the learners one after another, a line for each as it ends. One that fails is reported and left out."""
    there, absent = split(asked.learners)
    print(*missing(absent), sep="\n", end="\n" * bool(absent), flush=True)
    for name in there:
        with reported(name):
            found = learn(name, asked)
            record["classics"][name] = found
            record["versions"][name] = found["versions"]
            print(in_a_line(name, found), flush=True)
            keep()
    show({"classics": record["classics"]})


def main(arguments: Sequence[str] | None = None) -> int:
    """Time what the command line asks for, or show a record. Returns the exit status.

    It is 1 if losses differ, because times are then not of the same work, or if all entrants of a table failed; 2 for
    a mistake of the user.
    """
    asked = parse(arguments)
    try:
        if asked.show:
            record = read(asked.show)
            show(record)
        else:
            record = measure(asked)
        if asked.plot:
            if record["cells"] or not record["steps"]:
                plot(record, asked.plot)
            else:
                plot_steps(record["steps"], asked.plot)
    except (UserError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:  # all tables that were complete are in the record
        return 130
    tables = [cell["peers"] | cell.get("ceilings", {}) for cell in record["cells"]] + [
        sweep["entrants"] for sweep in record["sweeps"]
    ]
    differs = any(not entrant["agrees"] for table in tables for entrant in table.values())
    if "startup" in asked.work and not asked.show:  # a record does not tell whether starts were asked for
        tables.append(record["startup"])
    for work in ("goals", "classics"):
        if work in asked.work and not asked.show:
            tables.append(record[work])
    return int(differs or not all(tables))


if __name__ == "__main__":
    run_command(main)
