"""A search on real data, stacked: its files, its plots, its best trial, and that it goes on after a kill."""

import csv
import io
import json
import re
import signal
import struct
import subprocess
import sys

import pytest
import yaml
from helpers import run_cli
from hydra_plugins._report import draw
from hydra_plugins._search import FILE
from optuna.trial import TrialState
from sweep.searches import search_in, trials_in

from fmnist import ROOT
from fmnist.report.comparison import comparisons, read

REAL = [
    *("-m", "hydra/sweeper=optuna", "hydra.sweeper.sampler=random", "hydra.sweeper.n_trials=16"),
    *("lr=1e-9,3e-3,1e-2,3e-2,1e30", "dropout=interval(0,0.3)", "schedule=constant", "data.limit=1000"),
    *("epochs=4", "model=mlp1", "model.hidden=[8]", "batch_size=32"),
]

pytestmark = pytest.mark.long  # it kills and starts real commands


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    """A small search that is never killed, in a folder whose path has to be quoted."""
    where = tmp_path_factory.mktemp("search") / "My Drive (é)"
    where.mkdir()
    done = run_cli(*REAL, "hydra.sweep.dir=straight", cwd=where, fresh=True)
    return where, done


def test_a_search_on_real_data(searched):
    where, done = searched
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    trials = trials_in(where / "straight", REAL[4:])
    states = [state for state, *_ in trials]
    assert {TrialState.COMPLETE, TrialState.FAIL, TrialState.PRUNED} == set(states)
    for number, (state, value, _, _) in enumerate(trials):
        file = where / "straight" / f"trial-{number:03d}" / "result.json"
        result = json.loads(file.read_text(encoding="utf-8"))
        names = {TrialState.COMPLETE: "done", TrialState.FAIL: "failed", TrialState.PRUNED: "pruned"}
        assert result["status"] == names[state]
        if state == TrialState.COMPLETE:
            assert result["objective"] == value
            assert result["epoch"] == 4
            assert "test/accuracy" in result["metrics"]
        elif state == TrialState.PRUNED:
            assert result["epoch"] in (1, 2)
            assert "test/accuracy" not in result["metrics"]
    for name in ("history", "parallel", "slices", "importances"):
        png = (where / "straight" / "plots" / f"{name}.png").read_bytes()
        assert png.startswith(b"\x89PNG")
        width, height = struct.unpack(">II", png[16:24])
        assert 500 < width < 2000
        assert 300 < height < 1000
        assert len(png) > 5000


def test_the_console_has_one_line_for_each_trial(searched):
    _, done = searched
    lines = [line.partition("[HYDRA] ")[2] for line in done.stdout.splitlines() if "[HYDRA] " in line]
    assert len(lines) == 2 + 16
    assert len([line for line in lines if re.match(r"trial \d+: lr=\S+ dropout=\S+  \w", line)]) == 16
    assert any("  failed: train/loss is nan in epoch 1" in line for line in lines)


def test_the_best_trial_is_run_by_pasting_its_command(searched):
    where, done = searched
    found = (where / "straight" / "best.yaml").read_text(encoding="utf-8")
    line = found.splitlines()[0].removeprefix("# ")
    assert line in done.stdout.splitlines()
    bare = {"PATH": "/usr/bin:/bin"}  # no environment is activated
    pasted = subprocess.run(["sh", "-c", f"{line} hydra.run.dir=best"], cwd=where, env=bare, capture_output=True,
                            text=True)  # fmt: skip
    assert pasted.returncode == 0, pasted.stderr
    best = json.loads((where / "best" / "result.json").read_text(encoding="utf-8"))
    expected = yaml.safe_load(found)["validation accuracy"]
    assert best["objective"] == pytest.approx(expected, abs=0.03)  # alone, not stacked


KILLED = f"""
import os, runpy, signal, sys
from optuna.storages.journal import JournalFileBackend

append, sync, left, writing = JournalFileBackend.append_logs, os.fsync, [int(sys.argv.pop())], []

def append_logs(self, logs):
    left[0] -= len(logs)
    writing[:] = [self] * (left[0] <= 0)
    append(self, logs)

def fsync(file):
    sync(file)
    if writing:
        os.kill(os.getpid(), signal.SIGKILL)

if __name__ == "__main__":
    JournalFileBackend.append_logs, os.fsync = append_logs, fsync
    sys.argv[0] = {str(ROOT / "train.py")!r}
    runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_killed_for_real_and_started_again(searched):
    """While it writes the middle line of its file."""
    where, _ = searched
    lines = (where / "straight" / FILE).read_text(encoding="utf-8").count("\n")
    (where / "killed.py").write_text(KILLED, encoding="utf-8")
    command = [sys.executable, "killed.py", *REAL, "hydra.sweep.dir=killed", str(lines // 2)]
    killed = subprocess.run(command, cwd=where, capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert (where / "killed" / FILE).read_text(encoding="utf-8").count("\n") == lines // 2
    assert not (where / "killed" / "best.yaml").exists()
    done = run_cli(*REAL, "hydra.sweep.dir=killed", cwd=where, fresh=True)
    assert done.returncode == 0, done.stderr
    assert trials_in(where / "killed", REAL[4:]) == trials_in(where / "straight", REAL[4:])


def test_a_search_over_seeds_and_knobs_of_one_choice(tmp_path):
    """The leaderboard and the reports take the runs of a proposal for one configuration."""
    done = run_cli(*REAL[:3], "hydra.sweeper.n_trials=4", "hydra.sweeper.prune_at=[0.5]", "hydra.launcher.workers=1",
                   "seed=0,1", "optim=adam,sgd",
                   "optim.momentum=interval(0.1,0.9)", "lr=interval(1e-3,1e-2)", "data.limit=300", "epochs=2",
                   "model=mlp1", "model.hidden=[8]", "hydra.sweep.dir=seeds", cwd=tmp_path, fresh=True)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stdout + done.stderr
    found = comparisons(read([tmp_path / "seeds"]))
    (comparison,) = found
    assert len(comparison.runs) == 8
    assert [len(c.done) for c in comparison.configurations] == [2] * 4
    assert {c.knobs["optim.name"] for c in comparison.configurations} == {"adam", "sgd"}
    best = yaml.safe_load((tmp_path / "seeds" / "best.yaml").read_text(encoding="utf-8"))
    assert best["validation accuracy"] == pytest.approx(comparison.configurations[0].interval("objective").mean)
    assert not [override for override in best["overrides"] if "seed" in override]
    board = csv.DictReader(io.StringIO((tmp_path / "seeds" / "leaderboard.csv").read_text(encoding="utf-8")))
    assert {row["n"] for row in board} == {"2"}


def test_plots_of_few_and_of_equal_trials(tmp_path):
    """Nothing to compare must not end a search badly."""
    for count, value in ((1, 0.5), (6, 0.5)):
        directory = tmp_path / str(count)
        directory.mkdir()
        with search_in(directory) as search:
            for trial in search.batch(count, count):
                search.tell(trial, value)
            draw(search, directory / "plots")
        assert {path.name for path in (directory / "plots").iterdir()} >= {"history.png", "slices.png"}
