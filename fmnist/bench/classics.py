"""Learners that are no networks, trained once on the official split: boosted trees, an SVC, a kernel ridge.

Each learns from the pixels of all 60,000 training images, by one documented configuration, and is tested once on the
10,000 test images. What it chooses, as the number of boosting rounds, it chooses on the tail of the training images.
"""

import argparse
import json
import os
import queue
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from threading import Thread
from typing import Any

from fmnist import ROOT
from fmnist.bench import entrants
from fmnist.bench.entrants import EntrantError, Peer, command_line, deadline, reason
from fmnist.launch.machine import available, set_threads
from fmnist.launch.trouble import ending
from fmnist.program.progress import Screen, duration
from fmnist.report.tables import Table

LIMIT = 8 * 3600.0  # seconds that a learner may take
LOOK = 0.5  # seconds between two looks at how far it is
PHASES = ("choosing", "training", "testing")


@dataclass(frozen=True)
class Learner:
    """A program of peers/. memory: bytes that it needs for so many rows, where that is much."""

    peer: Peer
    memory: Callable[[int], float] = lambda rows: 0.0


LEARNERS = {
    "lightgbm": Learner(Peer("with_lightgbm", (), "trees")),
    "xgboost": Learner(Peer("with_xgboost", (), "trees")),
    "catboost": Learner(Peer("with_catboost", (), "trees")),
    "svc": Learner(Peer("with_svc")),
    # Half of the kernel's matrix in float32; a fifth more for blocks that are worked on, and what torch takes.
    "kernel-ridge": Learner(Peer("with_kernel_ridge"), lambda rows: 2.4 * rows**2 + 1e9),
}


def split(names: Sequence[str]) -> tuple[list[str], list[str]]:
    """The learners whose environments are there, and those whose are not."""
    there = [name for name in names if LEARNERS[name].peer.python.exists()]
    return there, [name for name in names if name not in there]


def learn(name: str, asked: argparse.Namespace) -> dict[str, Any]:
    """Train and test a learner. Returns its part of the record: what its program says at its end.

    Errors: EntrantError if there is too little memory, or if it fails.
    """
    learner, rows = LEARNERS[name], asked.classic_rows
    need, free = learner.memory(rows), available()
    if need > free:
        raise EntrantError(f"{rows:,} rows need {need / 1e9:.1f} GB of memory, {free / 1e9:.1f} GB are free: "
                           "take fewer by --rows")  # fmt: skip
    work = argparse.Namespace(**vars(asked) | {"rows": rows})
    script = entrants.SCRIPTS / f"{learner.peer.script}.py"
    environment = dict(os.environ)
    set_threads(environment)  # beside other work threads that wait awake for one another take several times as long
    line = [str(learner.peer.python), str(script), *command_line([], None, work), *learner.peer.arguments]
    with (
        tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as errors,
        subprocess.Popen(line, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors,
                         encoding="utf-8", start_new_session=True, env=environment) as process,
        deadline(process, LIMIT),
    ):  # fmt: skip
        said = _followed(name, process)
        status = process.wait()
        errors.seek(0)
        printed = errors.read()
    if "accuracy" not in said:
        raise EntrantError(f"it was killed by {ending(status)}" if status < 0 else reason(printed))
    return said


def _followed(name: str, process: "subprocess.Popen[str]") -> dict[str, Any]:
    """The last thing that a program says; what it says before is shown as it comes."""
    began, heard = time.monotonic(), {"doing": "starting"}
    lines: queue.Queue[str | None] = queue.Queue()

    def hear() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            lines.put(line)
        lines.put(None)

    def words() -> str:
        return f"{name}: {heard['doing']}, after {duration(time.monotonic() - began)}"

    Thread(target=hear, daemon=True).start()
    with Screen(lambda width: words()[: width - 1], words, lambda line: print(line, flush=True)) as screen:
        while True:
            try:
                line = lines.get(timeout=LOOK)
            except queue.Empty:
                screen.look()
                continue
            if line is None:
                return {}
            answer: dict[str, Any] = json.loads(line)
            if "doing" not in answer:
                return answer
            heard = answer
            screen.look()


def in_a_line(name: str, found: dict[str, Any]) -> str:
    """What a learner has reached."""
    loss = "" if found["log_loss"] is None else f", log loss {found['log_loss']:.4f}"
    return (
        f"{name}: test accuracy {found['accuracy']:.4f}{loss}; "
        f"{duration(sum(found['processor'].values()))} of processor time"
    )


def classics_table(found: dict[str, dict[str, Any]]) -> str:
    """What all learners have reached, the best first; below it what each was told and what it chose."""
    ranked = sorted(found.items(), key=lambda item: -item[1]["accuracy"])
    rows = []
    for name, own in ranked:
        validation = own["chosen"].get("validation", {})
        rows.append([
            name, f"{own['rows']:,}", f"{own['accuracy']:.4f}",
            *("" if loss is None else f"{loss:.4f}" for loss in (own["log_loss"], validation.get("log_loss"))),
            *(f"{own['processor'][phase]:,.0f}" if phase in own["processor"] else "" for phase in PHASES),
            f"{sum(own['seconds'].values()):,.0f}", f"{own['bytes'] / 1e6:,.0f}",
        ])  # fmt: skip
    header = ["", "rows", "test accuracy", "log loss", "on validation", *PHASES, "clock", "MB"]
    tested = next(iter(found.values()))["tested"]
    title = f"trained once on raw pixels, tested once on {tested:,} images; seconds of processor time, and by the clock"
    return "\n".join([title, Table(header, rows).text(), *(_told(name, own) for name, own in ranked)])


def _told(name: str, own: dict[str, Any]) -> str:
    """A learner's package, settings and choices."""
    package = ", ".join(f"{package} {version}" for package, version in own["versions"].items()
                        if package not in ("python", "numpy"))  # fmt: skip
    told = own["settings"] | {key: value for key, value in own["chosen"].items() if key != "validation"}
    return f"{name} ({package}): " + ", ".join(f"{key} {value}" for key, value in told.items())


def missing(names: Sequence[str]) -> Iterator[str]:
    """A line on the learners that cannot run here."""
    if names:
        yield f"skipped {', '.join(names)}: the environment trees is not there, `make classics` sets it up"
