"""What several test files need: configs from a few words, the command line, runs compared, data made up."""

import gzip
import itertools
import json
import logging
import resource
import runpy
import signal
import struct
import subprocess
import sys
from collections.abc import Callable
from contextlib import contextmanager
from operator import getitem
from pathlib import Path
from typing import Any

import pytest
import torch
from forking import as_at_first, zygote
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor

from fmnist import ROOT, UserError
from fmnist.config.parse import parse
from fmnist.config.schema import GROUPS, Config
from fmnist.launch.locks import LOCK
from fmnist.program.output import run_command
from fmnist.record import checkpoint
from fmnist.sources import fetch
from fmnist.train.stack import Stack


def make_config(model: str = "mlp", data: str = "fashion", optim: str = "adam", **knobs: Any) -> Config:
    """A checked config; knobs as on the command line: make_config(lr=0.1, **{"model.hidden": [20]}). Pictures at the
    end of a run are drawn only where they are asked for: they cost more than the small runs of most tests."""
    given: dict[str, Any] = {"model": {"name": model}, "data": {"name": data}, "optim": {"name": optim}}
    given["figures"] = False
    for key, value in knobs.items():
        group, _, inner = key.rpartition(".")
        place = given[group] if group in GROUPS else given.setdefault(group, {}) if group else given
        place[inner if group else key] = value
    given.setdefault("order_seed", given.get("seed", 0))
    return parse(given)


def run_cli(
    *arguments: str, cwd: Path = ROOT, timeout: float = 300, fresh: bool = False
) -> subprocess.CompletedProcess[str]:
    """`python train.py ...` as a user types it, a process of its own. fresh: it imports all by itself. Otherwise it is
    forked from one that has imported all, which takes most of the time of a short command; but not where a test has
    changed the environment, which libraries may read when they are imported."""
    if not fresh and as_at_first():
        return zygote().run(ROOT / "train.py", *arguments, cwd=cwd, timeout=timeout)
    command = [sys.executable, str(ROOT / "train.py"), *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=timeout)


def train_py(folder: Path, *arguments: str) -> int:
    """`python train.py ...` as typed in a folder, but inside this process; its status."""
    ctrl_c = signal.getsignal(signal.SIGINT)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr("sys.argv", [str(ROOT / "train.py"), *arguments])
        try:
            runpy.run_path(str(ROOT / "train.py"), run_name="__main__")
        except SystemExit as ended:
            return int(ended.code or 0)
        finally:
            signal.signal(signal.SIGINT, ctrl_c)
            for handler in logging.getLogger().handlers[:]:
                if isinstance(handler, logging.FileHandler):  # of the run's log
                    logging.getLogger().removeHandler(handler)
                    handler.close()
    return 0


def said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], main: Any, *arguments: Any) -> Any:
    """Exit status, output and error of a command, given its main function, in this process."""
    monkeypatch.setattr("sys.argv", [main.__module__, *map(str, arguments)])
    monkeypatch.setattr("logging.raiseExceptions", True)  # which the command changes
    with pytest.raises(SystemExit) as leaving:
        run_command(main)
    return leaving.value.code, *capsys.readouterr()


def refuses(call: Callable[[], object], *parts: str) -> None:
    """See that a call is refused in one line that has these parts."""
    with pytest.raises(UserError) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message
    for part in parts:
        assert part in message, message


def half_long(*factors: list[Any]) -> list[Any]:
    """The product of factors, half of it among the longer checks. In the other half any two meet in all ways."""
    places = itertools.product(*(range(len(factor)) for factor in factors))
    return [pytest.param(*map(getitem, factors, at), marks=[pytest.mark.long] * (sum(at) % 2)) for at in places]


FILES = list(fetch.FASHION)


def values(file: fetch.File) -> Tensor:
    """What a file holds, in its shape."""
    assert len(file.content) - file.start == torch.Size(file.shape).numel()
    return torch.tensor(list(file.content[file.start :])).view(file.shape)


def write(path: Path, values: Tensor) -> bytes:
    """An IDX file, written without any of the code under test; packed if the name ends with .gz."""
    content = bytes([0, 0, 8, values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape)
    content += bytes(values.flatten().tolist())
    path.write_bytes(gzip.compress(content, 1) if path.suffix == ".gz" else content)
    return content


def tiny(folder: Path, rows: int = 20, suffix: str = "") -> dict[str, Tensor]:
    """A small IDX data set of 3x2 images in four classes."""
    generator = torch.Generator().manual_seed(0)
    values = {}
    for name, n in zip(FILES, (rows, rows, 8, 8), strict=True):
        pixels = torch.randint(256, (n, 3, 2), generator=generator)
        values[name] = pixels if "images" in name else torch.arange(n) % 4
        write(folder / (name + suffix), values[name])
    return values


SMALL = {"data.limit": 600, "epochs": 3, "batch_size": 100, "precision": "float64", "save_every": 0.0}


MODELS = {"mlp": {"model.hidden": [20, 12]}, "deep": {"model.width": 12, "model.depth": 4}}


def rows_of(directory):
    """The rows of a run without their times, by which no two runs are the same."""
    rows = [json.loads(line) for line in (directory / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return [{tag: value for tag, value in row.items() if tag != "time"} for row in rows]


def assert_same_run(one, other, **close):
    """Curves, result and checkpoints of two run directories, exactly equal or to the tolerance given."""

    def same(a, b):
        assert a.keys() == b.keys()
        for key in a:
            if close:
                assert a[key] == pytest.approx(b[key], **close), key
            else:
                assert a[key] == b[key], key

    for a, b in itertools.zip_longest(rows_of(one), rows_of(other), fillvalue={}):
        same(a, b)
    results = [json.loads((d / "result.json").read_text()) for d in (one, other)]
    same(results[0]["metrics"], results[1]["metrics"])
    assert results[0]["config_hash"] == results[1]["config_hash"]
    assert results[0]["status"] == results[1]["status"]
    states = [checkpoint.load(d / "last.safetensors") for d in (one, other)]
    for key in ("config_hash", "kernels"):
        assert states[0].pop(key) == states[1].pop(key)
    for state in states:
        del state["seconds"]
    tolerance = {"rtol": close["rel"], "atol": close["abs"]} if close else {"rtol": 0, "atol": 0}
    torch.testing.assert_close(states[0], states[1], **tolerance)


def as_before(directory):
    """Give a run's checkpoints the format of older versions."""
    for file in directory.glob("*.safetensors"):
        torch.save(checkpoint.load(file), file.with_suffix(".pt"))
        file.unlink()


class Crash(BaseException):
    """Not an Exception: nothing may catch it and tidy up."""


def crash_in(monkeypatch, epoch):
    """Let training die in that epoch, as a kill would."""
    original = Stack.train_epoch

    def dying(self, number):
        if number == epoch:
            raise Crash
        return original(self, number)

    monkeypatch.setattr(Stack, "train_epoch", dying)


@contextmanager
def full_disk(size):
    """No file can grow beyond so many bytes: a write that would ends in an OSError, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def events_of(directory, part="validation"):
    """What TensorBoard reads of a part of a run."""
    accumulator = EventAccumulator(str(directory / part), size_guidance={"scalars": 0, "histograms": 0})
    accumulator.Reload()
    return accumulator


# Three jobs, the last of which diverges.
JOBS = (
    *("model=mlp1", "model.hidden=[20]", "data.limit=500", "epochs=3", "precision=float64"),
    *("lr=1e-3,3e-3,1e300", "hydra.sweep.subdir=${hydra.job.num}"),
)


def of_run(directory):
    """What does not depend on when and by whom a run was made: facts, and metrics."""
    result = json.loads((directory / "result.json").read_text())
    facts = {key: result[key] for key in ("status", "error", "epoch", "config_hash")}
    facts["files"] = {path.name.split(".out.")[0] for path in directory.iterdir() if path.name != LOCK}
    objective = {"objective": result["objective"]} if result["status"] == "done" else {}
    return facts, [*rows_of(directory), result["metrics"] | objective]


def assert_same(one, other, **close):
    """Two runs, as of_run has them, with exactly equal metrics or to the tolerance given."""
    assert one[0] == other[0]
    for a, b in zip(one[1], other[1], strict=True):
        assert a == (pytest.approx(b, **close) if close else b)


def sweep_under(directory, *launcher):
    """Run the jobs under a launcher; see that its failure is told; give back what it left. One thread computes each:
    sums are grouped by threads, so the last bits of a curve depend on their number."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        line = ("-m", *JOBS, *launcher, f"hydra.sweep.dir={directory}")
        done = run_cli(*line, cwd=directory.parent, fresh=launcher != ("hydra/launcher=basic",))
    assert done.returncode == 1, done.stderr
    assert "train/loss is" in done.stderr
    runs = [of_run(directory / str(number)) for number in range(3)]
    assert [facts["status"] for facts, _ in runs] == ["done", "done", "failed"]
    return runs


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    """What Hydra's own launcher makes of the jobs."""
    return sweep_under(tmp_path_factory.mktemp("own") / "sweep", "hydra/launcher=basic")
