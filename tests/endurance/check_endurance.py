"""Long runs and large folders: memory stays flat, and work grows with what is new. `make test-endurance` runs it.

Work is counted, as bytes and files, and not timed: seconds are printed for the reader.
"""

import itertools
import json
import os
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest
from helpers import events_of, make_config, rows_of, run_cli
from hydra import compose, initialize_config_dir
from sweeping import status_of

from fmnist import ROOT
from fmnist.config.parse import config_hash, parse
from fmnist.evaluate import evaluate
from fmnist.launch.names import job_name
from fmnist.record.record import Record
from fmnist.record.result import write_result
from fmnist.report.page import report
from fmnist.sources.fetch import read_ahead
from fmnist.train.engine import Audience, fit

PAGE = os.sysconf("SC_PAGE_SIZE")
TINY = {"data.limit": 40, "model.hidden": [2], "batch_size": None, "save_every": 3600.0}


@pytest.fixture(autouse=True)
def data_kept():
    """Fashion-MNIST is read once."""
    read_ahead("fashion", None, keep=True)


def resident():
    """Bytes of memory that this process has."""
    return int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1]) * PAGE


def transferred():
    """Bytes that this process has read and written so far."""
    lines = Path("/proc/self/io").read_text(encoding="utf-8").splitlines()
    count = {name: int(value) for name, value in (line.split(": ") for line in lines)}
    return count["rchar"] + count["wchar"]


@contextmanager
def timed(what):
    """Print the seconds that it takes, and how many of a processor."""
    start, own = time.perf_counter(), time.process_time()
    yield
    print(
        f"\n{what}: {time.perf_counter() - start:.1f} s ({time.process_time() - own:.1f} s of a processor)", flush=True
    )


def fit_and_look(config, directory, look):
    """Train a run; what `look()` gives after each epoch."""
    seen = []

    class Bar:
        def update(self):
            seen.append(look())

    (outcome,) = fit([config], [directory], audience=Audience(bar=lambda epochs, first: nullcontext(Bar())))
    assert outcome.error is None
    return seen


def test_memory_is_flat_over_100_000_steps(tmp_path):
    config = make_config(**TINY | {"data.limit": 1000, "batch_size": 16, "epochs": 2000})
    with timed("100,000 steps"):
        seen = fit_and_look(config, tmp_path, resident)
    after, end = seen[199], seen[-1]  # 10,000 and 100,000 steps
    print(f"memory after 10,000 steps {after / 1e6:.1f} MB, after 100,000 {end / 1e6:.1f} MB")
    assert end - after < 4e6


def test_10_000_epochs_cost_the_same_each_and_are_read_in_passing(tmp_path):
    directory, epochs = tmp_path / "run", 10_000
    with timed("10,000 epochs"):
        seen = fit_and_look(make_config(**TINY, epochs=epochs), directory, transferred)
    first, second = seen[4999] - seen[0], seen[-1] - seen[4999]
    assert second < 1.05 * first
    size = sum(file.stat().st_size for file in directory.iterdir())
    for what, task in (
        ("read back", lambda: rows_of(directory)), ("evaluate", lambda: evaluate(directory)),
        ("report", lambda: report([directory], tmp_path / "report")),
        ("go on", lambda: Record(make_config(**TINY, epochs=epochs), directory, epochs)),
    ):  # fmt: skip
        before = transferred()
        with timed(f"10,000 epochs: {what}"):
            task()
        assert transferred() - before < 8 * size + 40e6, what  # the libraries that it imports, too
    page = (tmp_path / "report" / "index.html").stat().st_size
    print(f"the page of the report has {page / 1e6:.1f} MB")
    assert page < 3e6


def test_50_000_rows_are_shown_by_tensorboard(tmp_path):
    rows, config = 50_000, make_config(**TINY, epochs=50_000)
    record, moments = Record(config, tmp_path), []
    with timed("50,000 rows written"):
        for epoch in range(1, rows + 1):
            record.add(epoch, {f"{part}/{name}": epoch / 7 for part in ("train", "validation")
                               for name in ("loss", "accuracy")})  # fmt: skip
            if epoch % (rows // 2) == 0:
                moments.append(transferred())
    assert moments[1] - moments[0] < 1.1 * moments[0]
    with timed("50,000 rows written anew, as a run that goes on does"):
        Record(config, tmp_path, rows)
    with timed("50,000 rows read by TensorBoard"):
        shown = events_of(tmp_path, "train").Scalars("loss")
    assert [event.step for event in shown] == [*range(1, rows + 1)]
    assert shown[-1].value == pytest.approx(rows / 7)


RUNS = 1000
RATES, SEEDS = [n / 1000 for n in range(1, 51)], range(RUNS // 50)
WORK = ("model=mlp1", "model.hidden=[4]", "data.limit=200", "epochs=2")
SWEPT = (*WORK, f"lr={','.join(map(str, RATES))}", f"seed=range(0,{len(SEEDS)})")
COUNTED = """
import atexit, json, os, runpy, sys, time
folder, program, *sys.argv[1:] = sys.argv[1:]
opened, start = [], time.perf_counter()
sys.addaudithook(lambda event, args: event == "open" and str(args[0]).startswith(folder) and opened.append(args[0]))
atexit.register(lambda: print(json.dumps([len(opened), time.perf_counter() - start, time.process_time()])))
sys.argv[0] = program
if program.endswith(".py"):
    runpy.run_path(program, run_name="__main__")
else:
    runpy.run_module(program, run_name="__main__", alter_sys=True)
"""


def counted(sweep, program, *arguments):
    """Run a program; how often it has opened a file below the sweep's folder for each of its runs, and what it says."""
    command = [sys.executable, "-c", COUNTED, str(sweep), program, *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)})
    assert done.returncode == 0, done.stderr
    count, seconds, own = json.loads(done.stdout.splitlines()[-1])
    print(f"\n1,000 runs, {Path(program).name}: {seconds:.1f} s ({own:.1f} s of a processor), "
          f"{count / RUNS:.1f} files opened a run", flush=True)  # fmt: skip
    return count / RUNS, done.stdout


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    """A thousand runs, all made of one."""
    read_ahead("fashion", None, keep=True)
    folder = tmp_path_factory.mktemp("thousand")
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        config = parse(compose("config", [*WORK]))
    fit([config], [folder / "first"])
    result = json.loads((folder / "first" / "result.json").read_text(encoding="utf-8"))
    for lr, seed in itertools.product(RATES, SEEDS):
        directory = folder / "sweep" / job_name(SWEPT, [*WORK, f"lr={lr}", f"seed={seed}"])
        shutil.copytree(folder / "first", directory)
        knobs = result["config"] | {"lr": lr, "seed": seed, "order_seed": seed}
        write_result(directory, result | {"config": knobs, "config_hash": config_hash(parse(knobs)),
                                          "objective": result["objective"] + lr + seed / 1000})  # fmt: skip
    return folder / "sweep"


def test_the_same_command_again_finds_1_000_runs_done_and_ranks_them(sweep):
    files, said = counted(sweep, str(ROOT / "train.py"), "-m", *SWEPT, f"hydra.sweep.dir={sweep}")
    assert f"{RUNS:,} jobs, {RUNS} done already" in said
    assert files < 4
    assert len((sweep / "leaderboard.csv").read_text(encoding="utf-8").splitlines()) == RUNS + 1


@pytest.mark.parametrize("program", ["fmnist.report", "fmnist.evaluate"])
def test_1_000_runs_are_compared_and_each_file_is_read_once_or_twice(program, sweep):
    files, said = counted(sweep, program, str(sweep))
    assert files < 4
    assert "20" in said


def test_24_workers_on_few_cores_train_24_runs(tmp_path):
    with timed("24 workers"):
        done = run_cli("-m", *WORK, "seed=range(0,24)", "hydra.launcher.workers=24", "hydra.launcher.stack=1",
                       f"hydra.sweep.dir={tmp_path / 's'}", timeout=900, fresh=True)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "24 workers" in done.stdout
    assert [*status_of(tmp_path / "s").values()] == ["done"] * 24
