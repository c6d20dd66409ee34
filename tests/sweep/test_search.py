"""The search: what is proposed, in batches; that it can be killed anywhere; that hopeless trials end early."""

import fcntl
import json
import math
import os
import random
import shlex
import signal
import struct
import subprocess
import sys
import time

import pytest
import yaml
from helpers import run_cli
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra_plugins._report import draw
from hydra_plugins._search import Search, distribution
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState

from fmnist import ROOT, UserError

SPACE = "lr=tag(log,interval(1e-4,1e1))"
OPTUNA = ("-m", "hydra/sweeper=optuna", "hydra.sweep.dir=here")


def settings(**values):
    return [f"hydra.sweeper.{name}={value}" for name, value in values.items()]


def parabola(job):
    """Best at lr 0.01; half of it after half of the run."""
    value = 1 - (math.log10(float(job["lr"])) + 2) ** 2 / 10
    return value * float(job.get("until", 1))


def study_in(directory, overrides=(SPACE,)):
    """The search that a directory holds."""
    search = Search(OverridesParser.create().parse_overrides(list(overrides)), "tpe", 0)
    search.open(directory, "validation accuracy", "maximize", ())
    return search


def told(directory, overrides=(SPACE,)):
    """(state, value, params, what was reported) of each trial, from the file."""
    with study_in(directory, overrides) as search:
        return [(t.state, t.value, t.params, t.intermediate_values) for t in search.optuna.trials]


@pytest.mark.parametrize(("text", "expected"), [
    ("x=interval(0,1)", FloatDistribution(0, 1)),
    ("x=tag(log,interval(1e-4,1))", FloatDistribution(1e-4, 1, log=True)),
    ("x=int(interval(1,5))", IntDistribution(1, 5)),
    ("x=tag(log,int(interval(8,512)))", IntDistribution(8, 512, log=True)),
    ("x=range(1,5)", IntDistribution(1, 4)),
    ("x=range(16,64,16)", IntDistribution(16, 48, step=16)),
    ("x=range(0.25,1.25,0.25)", FloatDistribution(0.25, 1.0, step=0.25)),
    ("x=adam,sgd", CategoricalDistribution(["adam", "sgd"])),
    ("x=1,[2,3],null", CategoricalDistribution(["1", "[2,3]", "null"])),
])  # fmt: skip
def test_hydras_syntax_as_optunas_distributions(text, expected):
    assert distribution(OverridesParser.create().parse_override(text)) == expected


@pytest.mark.parametrize("text", ["x=tag(log,interval(0,1))", "x=tag(wide,interval(0,1))", "x=interval(1,0)",
                                  "x=range(0)", "x=tag(log,range(1,9,2))"])  # fmt: skip
def test_a_space_that_is_none_is_refused_by_name(text):
    with pytest.raises(UserError) as caught:
        distribution(OverridesParser.create().parse_override(text))
    assert str(caught.value).startswith(text)
    assert "\n" not in str(caught.value)


def test_proposals_come_in_batches_each_with_a_directory_of_its_own(sweep, tmp_path, capsys):
    asked = settings(n_trials=10, n_jobs=4, prune_at=[])
    assert sweep(*OPTUNA, *asked, SPACE, "optim=adam,sgd", "epochs=3", objective=parabola) == 0
    assert [len(batch) for batch in sweep.launcher.batches] == [4, 4, 2]
    assert sweep.launcher.first == [0, 4, 8]
    jobs = [dict(override.split("=", 1) for override in job) for job in sweep.launcher.jobs]
    assert [job["hydra.sweep.subdir"] for job in jobs] == [f"trial-{number:03d}" for number in range(10)]
    assert len({job["lr"] for job in jobs}) == 10
    assert {job["epochs"] for job in jobs} == {"3"}
    assert {job["optim"] for job in jobs} == {"adam", "sgd"}
    assert (tmp_path / "here" / "multirun.yaml").exists()
    best = max(jobs, key=parabola)
    command = f"python train.py epochs=3 lr={best['lr']} optim={best['optim']}"
    assert command in capsys.readouterr().out
    found = (tmp_path / "here" / "best.yaml").read_text()
    assert found.startswith(f"# {command}\n")
    assert yaml.safe_load(found)["validation accuracy"] == parabola(best)


def test_it_finds_what_is_best_and_follows_from_its_seed(sweep, tmp_path):
    asked = [*OPTUNA, *settings(n_trials=40, prune_at=[]), SPACE]
    assert sweep(*asked, objective=parabola) == 0
    first = sweep.launcher.jobs
    lrs = [float(dict(o.split("=", 1) for o in job)["lr"]) for job in first]
    assert all(1e-4 <= lr <= 1e1 for lr in lrs)
    assert min(abs(math.log10(lr) + 2) for lr in lrs) < 0.1
    assert sum(abs(math.log10(lr) + 2) < 1 for lr in lrs[20:]) > sum(abs(math.log10(lr) + 2) < 1 for lr in lrs[:10])
    assert sweep(*asked, "hydra.sweep.dir=again", objective=parabola) == 0
    assert sweep.launcher.jobs == first
    assert sweep(*asked, "hydra.sweep.dir=other", "hydra.sweeper.seed=1", objective=parabola) == 0
    assert sweep.launcher.jobs != first


@pytest.mark.parametrize(("model", "direction"), [("mlp1", "MAXIMIZE"), ("autoencoder", "MINIMIZE")])
def test_the_model_decides_what_is_better(model, direction, sweep, tmp_path):
    asked = settings(n_trials=5, n_jobs=5)
    assert sweep(*OPTUNA, *asked, SPACE, f"model={model}", objective=parabola) == 0
    better = max if direction == "MAXIMIZE" else min
    found = yaml.safe_load((tmp_path / "here" / "best.yaml").read_text())
    values = [parabola(dict(o.split("=", 1) for o in job)) for job in sweep.launcher.batches[-1]]
    assert better(values) in found.values()


class Kill(BaseException):
    """Not an Exception: nothing may tidy up."""


def test_a_killed_search_goes_on_as_if_it_had_not_been_killed(sweep, tmp_path):
    asked = [*OPTUNA, *settings(n_trials=14, n_jobs=6, prune_at=[0.5]), SPACE]
    assert sweep(*asked, "hydra.sweep.dir=straight", objective=parabola) == 0
    runs = sum(len(batch) for batch in sweep.launcher.batches)
    for after in (0, 3, 8, 14, runs - 1):  # in each part of the first two batches, and in the last
        ended = []

        def dying(job, after=after, ended=ended):
            if len(ended) == after:
                raise Kill
            ended.append(job)
            return parabola(job)

        with pytest.raises(Kill):
            sweep(*asked, f"hydra.sweep.dir={after}", objective=dying)
        assert sweep(*asked, f"hydra.sweep.dir={after}", objective=parabola) == 0
        assert told(tmp_path / str(after)) == told(tmp_path / "straight")
    assert sweep(*asked, "hydra.sweep.dir=0", objective=parabola) == 0
    assert sweep.launcher.jobs == []


def test_what_a_crash_leaves_behind_does_no_harm(sweep, tmp_path):
    asked = [*OPTUNA, *settings(n_jobs=4), SPACE]
    assert sweep(*asked, "hydra.sweeper.n_trials=4", objective=parabola) == 0
    before = told(tmp_path / "here")
    with open(tmp_path / "here" / "study.jsonl", "a") as file:
        file.write('{"op_code":4,"worker_')
    os.symlink("study.jsonl", tmp_path / "here" / "study.jsonl.lock")
    start = time.perf_counter()
    assert sweep(*asked, "hydra.sweeper.n_trials=8", objective=parabola) == 0
    assert time.perf_counter() - start < 10
    assert told(tmp_path / "here")[:4] == before
    assert len(told(tmp_path / "here")) == 8


def test_hopeless_trials_end_early(sweep, tmp_path):
    asked = settings(n_trials=24, n_jobs=8, prune_at=[0.25, 0.5])
    assert sweep(*OPTUNA, *asked, SPACE, objective=parabola) == 0
    parts = [[dict(o.split("=", 1) for o in job).get("until") for job in batch] for batch in sweep.launcher.batches]
    assert parts[:3] == [["0.25"] * 8, ["0.5"] * 8, [None] * 8]  # the first batch is what later ones are compared with
    trials = told(tmp_path / "here")
    pruned = [number for number, (state, *_) in enumerate(trials) if state == TrialState.PRUNED]
    assert pruned
    assert min(pruned) >= 8
    for number in pruned:
        step, reported = max(trials[number][3].items())
        directory = tmp_path / "here" / f"trial-{number:03d}"
        assert json.loads((directory / "result.json").read_text())["status"] == "pruned"
        launched = [job for job in sweep.launcher.jobs if f"hydra.sweep.subdir={directory.name}" in job]
        assert len(launched) == [25, 50].index(step) + 1
        assert reported < max(earlier[3][step] for earlier in trials[:8])
    assert all(trial[0] == TrialState.COMPLETE for number, trial in enumerate(trials) if number not in pruned)


def test_a_failed_trial_is_told_and_does_not_stop_the_search(sweep, tmp_path, capsys):
    def objective(job):
        return ValueError("diverged") if float(job["lr"]) > 0.1 else parabola(job)

    assert sweep(*OPTUNA, *settings(n_trials=8, n_jobs=4), SPACE, objective=objective) == 0
    states = [state for state, *_ in told(tmp_path / "here")]
    assert TrialState.FAIL in states
    assert TrialState.COMPLETE in states
    assert f"{states.count(TrialState.FAIL)} failed" in capsys.readouterr().out
    failing = {"objective": lambda job: ValueError("diverged")}
    assert sweep(*OPTUNA, "hydra.sweep.dir=none", *settings(n_trials=2), SPACE, **failing) == 1
    assert "no trial was finished, 2 of 2 failed" in capsys.readouterr().err


def test_another_search_is_not_mixed_in(sweep, capsys, tmp_path):
    asked = [*OPTUNA, *settings(n_trials=2, n_jobs=2)]
    assert sweep(*asked, SPACE, objective=parabola) == 0
    capsys.readouterr()
    assert sweep(*asked, SPACE, "device=cpu", objective=parabola) == 0
    assert sweep(*asked, SPACE, "epochs=2", objective=parabola) == 2
    assert "here holds another search (epochs=None there, 2 here)" in capsys.readouterr().err
    assert sweep(*asked, "lr=interval(0,1)", objective=parabola) == 2
    assert "lr=tag(log,interval(1e-4,1e1)) there, interval(0,1) here" in capsys.readouterr().err
    assert sweep(*asked, SPACE, "hydra.sweeper.direction=minimize", objective=parabola) == 2
    assert "maximize there, minimize here" in capsys.readouterr().err
    with open(tmp_path / "here" / "study.jsonl.pid") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert sweep(*asked, SPACE, objective=parabola) == 2
    assert "is being searched by another process" in capsys.readouterr().err
    assert len(told(tmp_path / "here")) == 2


@pytest.mark.parametrize(("arguments", "message"), [
    (["epochs=2"], "hydra/sweeper=optuna needs a knob to search"),
    ([SPACE, "hydra.sweeper.n_trials=0"], "hydra.sweeper.n_trials must be at least 1, got 0"),
    ([SPACE, "hydra.sweeper.sampler=grid"], "hydra.sweeper.sampler must be tpe or random, got grid"),
    ([SPACE, "hydra.sweeper.prune_at=[5]"], "hydra.sweeper.prune_at must be parts of the epochs, in (0, 1), got [5.0]"),
    ([SPACE, "hydra.sweeper.direction=up"], "hydra.sweeper.direction must be maximize, minimize or null, got up"),
    ([SPACE, "model=mlp1,vae"], "a search must be over models that are judged alike"),
    ([SPACE, "dry_run=true"], "dry_run must be null with hydra/sweeper=optuna"),
])  # fmt: skip
def test_what_cannot_be_searched_is_one_line_and_leaves_nothing(arguments, message, sweep, capsys, tmp_path):
    assert sweep(*OPTUNA, *arguments) == 2
    told = capsys.readouterr().err
    assert told.startswith(f"error: {message}")
    assert len(told.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_optuna_is_asked_for_by_name_where_it_is_missing(sweep, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    monkeypatch.delitem(sys.modules, "hydra_plugins._search")
    assert sweep(*OPTUNA, SPACE) == 2
    assert capsys.readouterr().err == "error: hydra/sweeper=optuna needs optuna: pip install -e '.[search]'\n"


def test_plots_of_few_and_of_equal_trials(tmp_path):
    """Nothing to compare must not end a search badly."""
    for count, value in ((1, 0.5), (6, 0.5)):
        directory = tmp_path / str(count)
        directory.mkdir()
        with study_in(directory) as search:
            for trial in search.batch(count, count):
                search.tell(trial, value)
            draw(search, directory / "plots")
        assert {path.name for path in (directory / "plots").iterdir()} >= {"history.png", "slices.png"}


REAL = [
    *("-m", "hydra/sweeper=optuna", "hydra.sweeper.sampler=random", "hydra.sweeper.n_trials=16"),
    *("lr=1e-9,3e-3,1e-2,3e-2,1e30", "dropout=interval(0,0.3)", "schedule=constant", "data.limit=1000"),
    *("epochs=4", "model=mlp1", "model.hidden=[8]", "batch_size=32"),
]


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    """A small search on real data, stacked, never killed."""
    where = tmp_path_factory.mktemp("search")
    done = run_cli(*REAL, "hydra.sweep.dir=straight", cwd=where)
    return where, done


def test_a_search_on_real_data(searched):
    where, done = searched
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    trials = told(where / "straight", REAL[4:])
    states = [state for state, *_ in trials]
    assert {TrialState.COMPLETE, TrialState.FAIL, TrialState.PRUNED} == set(states)
    for number, (state, value, _, _) in enumerate(trials):
        result = json.loads((where / "straight" / f"trial-{number:03d}" / "result.json").read_text())
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


def test_the_best_trial_can_be_run_by_its_command(searched):
    where, _ = searched
    found = (where / "straight" / "best.yaml").read_text()
    command = shlex.split(found.splitlines()[0])
    assert command[1:3] == ["python", "train.py"]
    done = run_cli(*command[3:], "hydra.run.dir=best", cwd=where)
    assert done.returncode == 0, done.stderr
    best = json.loads((where / "best" / "result.json").read_text())
    assert best["objective"] == pytest.approx(
        yaml.safe_load(found)["validation accuracy"], abs=0.03
    )  # alone, not stacked


def test_killed_for_real_and_started_again(searched):
    where, _ = searched
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "train.py"), *REAL, "hydra.sweep.dir=killed"],
        cwd=where, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    while process.poll() is None and not list(where.glob("killed/trial-00?/last.pt")):
        time.sleep(random.uniform(0, 0.02))
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (where / "killed" / "best.yaml").exists()
    done = run_cli(*REAL, "hydra.sweep.dir=killed", cwd=where)
    assert done.returncode == 0, done.stderr
    assert told(where / "killed", REAL[4:]) == told(where / "straight", REAL[4:])
