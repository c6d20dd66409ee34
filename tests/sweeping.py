"""What the tests of sweeps share: a small sweep, what its runs leave, and waiting."""

import json
import re
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

from fmnist import ROOT

# One worker: the tests share the machine.
SMALL = ("model=mlp1", "model.hidden=[12]", "data.limit=300", "epochs=3", "batch_size=50", "precision=float64",
         "hydra.launcher.workers=1")  # fmt: skip
# Each worker has one thread: several wait long for one another on a machine that others use too.
LONG = (*SMALL[:-1], "epochs=300", "save_every=0.1", "log_every=100", "seed=0,1,2", "lr=1e-3,3e-3",
        "hydra.launcher.workers=2", "hydra.sweep.dir=sweep")  # fmt: skip
PATIENCE = 120.0  # seconds after which something that does not happen is a failure


def until(happened, what):
    """Wait until `happened()` gives something, and give it back. what: is said if it does not happen."""
    deadline = time.monotonic() + PATIENCE
    while not (found := happened()):
        assert time.monotonic() < deadline, f"in vain: {what}"
        time.sleep(0.02)
    return found


def files_of(directory):
    """Names of all files of a run, without what differs from process to process."""
    return {str(path.relative_to(directory)).split(".out.")[0] for path in directory.rglob("*") if path.is_file()}


def log_of(directory):
    """The lines of a run's log without their times and its own path."""
    text = (directory / "train.log").read_text(encoding="utf-8").replace(str(directory), "DIR")
    lines = re.sub(r"--logdir \S+", "--logdir DIR", text).splitlines()
    return [line.partition("] ")[2] if line.startswith("[") else line for line in lines]


def results_of(sweep):
    """The result.json of each run of a sweep, by the run's name."""
    return {path.parent.name: json.loads(path.read_text(encoding="utf-8")) for path in sweep.glob("*/result.json")}


def status_of(sweep):
    """The status of each run of a sweep, by the run's name."""
    return {name: result["status"] for name, result in results_of(sweep).items()}


@contextmanager
def running(folder, *arguments):
    """`python train.py -m ...` as a process of its own; it is killed if it is still there at the end."""
    command = [sys.executable, str(ROOT / "train.py"), "-m", *arguments]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "encoding": "utf-8"}
    with subprocess.Popen(command, cwd=folder, **pipes) as process:
        try:
            yield process
        finally:
            process.kill()


def until_there(process, pattern, folder, count=1):
    """Wait until a command has made so many files of that pattern."""

    def there():
        assert process.poll() is None, process.communicate()
        return len(list(folder.glob(pattern))) >= count

    until(there, f"{count} files {pattern}")


@contextmanager
def started(folder, *arguments, runs=6):
    """A sweep of which so many runs have trained for some epochs, and that is still at it."""
    with running(folder, *arguments) as process:
        until_there(process, "sweep/*/last.safetensors", folder, runs)
        yield process


def workers_of(process):
    """Process ids of a sweep's workers, in the order in which they were started."""
    return [worker for server in children(process.pid) for worker in children(server)]


def children(pid):
    """Process ids of a process's children."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="utf-8").split()]
