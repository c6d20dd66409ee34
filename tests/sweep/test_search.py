"""The search: what is proposed, in batches; that hopeless trials end early; what is said of each; what is refused."""

import errno
import json
import logging
import math
import sys

import matplotlib.pyplot as plt
import pytest
import yaml
from hydra.errors import CompactHydraException
from hydra_plugins.search import quiet
from optuna.trial import TrialState
from sweep.searches import OPTUNA, SPACE, as_dict, parabola, settings, trials_in

from fmnist import ROOT
from fmnist.launch.commands import command, in_shell


def lines_of(capsys):
    """What was said of trials, without the time."""
    return [line.partition("[HYDRA] ")[2] for line in capsys.readouterr().out.splitlines() if "[HYDRA] trial" in line]


def test_proposals_come_in_batches_each_with_a_directory_of_its_own(sweep, tmp_path, capsys):
    asked = settings(n_trials=10, n_jobs=4, prune_at=[])
    assert sweep(*OPTUNA, *asked, SPACE, "optim=adam,sgd", "epochs=3", objective=parabola) == 0
    assert [len(batch) for batch in sweep.launcher.batches] == [4, 4, 2]
    assert sweep.launcher.first == [0, 4, 8]
    jobs = [as_dict(job) for job in sweep.launcher.jobs]
    assert [job["hydra.sweep.subdir"] for job in jobs] == [f"trial-{number:03d}" for number in range(10)]
    assert len({job["lr"] for job in jobs}) == 10
    assert {job["epochs"] for job in jobs} == {"3"}
    assert {job["optim"] for job in jobs} == {"adam", "sgd"}
    assert (tmp_path / "here" / "multirun.yaml").exists()
    best = max(jobs, key=parabola)
    line = command("epochs=3", f"lr={best['lr']}", f"optim={best['optim']}")
    assert line in capsys.readouterr().out.splitlines()
    found = (tmp_path / "here" / "best.yaml").read_text(encoding="utf-8")
    assert found.startswith(f"# {line}\n")
    assert yaml.safe_load(found)["validation accuracy"] == parabola(best)


def test_it_finds_what_is_best_and_follows_from_its_seed(sweep, tmp_path):
    asked = [*OPTUNA, *settings(n_trials=40, prune_at=[]), SPACE]
    assert sweep(*asked, objective=parabola) == 0
    first = sweep.launcher.jobs
    lrs = [float(as_dict(job)["lr"]) for job in first]
    assert all(1e-4 <= lr <= 1e1 for lr in lrs)
    assert min(abs(math.log10(lr) + 2) for lr in lrs) < 0.1
    assert sum(abs(math.log10(lr) + 2) < 1 for lr in lrs[20:]) > sum(abs(math.log10(lr) + 2) < 1 for lr in lrs[:10])
    assert sweep(*asked, "hydra.sweep.dir=again", objective=parabola) == 0
    assert sweep.launcher.jobs == first
    assert sweep(*asked, "hydra.sweep.dir=other", "hydra.sweeper.seed=1", objective=parabola) == 0
    assert sweep.launcher.jobs != first


@pytest.mark.parametrize(("knobs", "metric", "better"), [
    (["model=mlp1"], "validation accuracy", max), (["model=autoencoder"], "validation loss", min),
    (["model=mlp1", "data.split=1"], "training accuracy", max),
])  # fmt: skip
def test_the_model_decides_what_is_better_and_the_words_are_true(knobs, metric, better, sweep, tmp_path, capsys):
    assert sweep(*OPTUNA, *settings(n_trials=5, n_jobs=5), SPACE, *knobs, objective=parabola) == 0
    found = yaml.safe_load((tmp_path / "here" / "best.yaml").read_text(encoding="utf-8"))
    assert found[metric] == better(parabola(as_dict(job)) for job in sweep.launcher.batches[-1])
    assert f", {metric} {found[metric]:.4f}\n" in capsys.readouterr().out


def test_hopeless_trials_end_early(sweep, tmp_path):
    asked = settings(n_trials=24, n_jobs=8, prune_at=[0.25, 0.5])
    assert sweep(*OPTUNA, *asked, SPACE, objective=parabola) == 0
    parts = [[as_dict(job).get("until") for job in batch] for batch in sweep.launcher.batches]
    assert parts[:3] == [["0.25"] * 8, ["0.5"] * 8, [None] * 8]  # the first batch is what later ones are compared with
    trials = trials_in(tmp_path / "here")
    pruned = [number for number, (state, *_) in enumerate(trials) if state == TrialState.PRUNED]
    assert pruned
    assert min(pruned) >= 8
    for number in pruned:
        step, reported = max(trials[number][3].items())
        directory = tmp_path / "here" / f"trial-{number:03d}"
        assert json.loads((directory / "result.json").read_text(encoding="utf-8"))["status"] == "pruned"
        launched = [job for job in sweep.launcher.jobs if f"hydra.sweep.subdir={directory.name}" in job]
        assert len(launched) == [25, 50].index(step) + 1
        assert reported < max(earlier[3][step] for earlier in trials[:8])
    assert all(trial[0] == TrialState.COMPLETE for number, trial in enumerate(trials) if number not in pruned)


def test_each_trial_has_one_line_that_says_what_it_tries_and_how_it_ended(sweep, tmp_path, capsys):
    def objective(job):
        return ValueError("diverged") if job["optim"] == "sgd" else parabola(job)

    asked = settings(n_trials=16, n_jobs=8, prune_at=[0.25, 0.5], seed=1)
    assert sweep(*OPTUNA, *asked, SPACE, "optim=adam,sgd", objective=objective) == 0
    lines = lines_of(capsys)
    trials = trials_in(tmp_path / "here", (SPACE, "optim=adam,sgd"))
    assert [line for line in lines if line.startswith("trials ")] == ["trials 0 to 7 of 16", "trials 8 to 15 of 16"]
    assert len(lines) == 2 + 16
    for number, (state, value, params, _) in enumerate(trials):
        (line,) = [line for line in lines if line.startswith(f"trial {number}: ")]
        words, _, end = line.partition(": ")[2].partition("  ")
        assert words == f"lr={params['lr']:.6g} optim={params['optim']}"
        assert end.startswith({
            TrialState.COMPLETE: f"validation accuracy {value or 0:.4f}", TrialState.PRUNED: "pruned at ",
            TrialState.FAIL: "failed: ValueError: diverged",
        }[state])  # fmt: skip
    assert {state for state, *_ in trials} == {TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL}


def test_what_a_launcher_says_of_jobs_is_kept_back_but_for_warnings(caplog):
    class Base:
        __module__ = "tests.base_launcher"

    class Launcher(Base):
        __module__ = "tests.launcher"

    loggers = [logging.getLogger(name) for name in (Base.__module__, Launcher.__module__)]
    with caplog.at_level(logging.INFO):
        for logger in loggers:
            with quiet(Launcher()):
                logger.info("1/8 trial-000")
                logger.warning("careful")
            logger.info("later")
    assert caplog.messages == ["careful", "later"] * 2


def test_a_failed_trial_does_not_stop_the_search(sweep, tmp_path, capsys):
    def objective(job):
        return ValueError("diverged") if float(job["lr"]) > 0.1 else parabola(job)

    assert sweep(*OPTUNA, *settings(n_trials=8, n_jobs=4), SPACE, objective=objective) == 0
    states = [state for state, *_ in trials_in(tmp_path / "here")]
    assert TrialState.FAIL in states
    assert TrialState.COMPLETE in states
    assert f"{states.count(TrialState.FAIL)} failed" in capsys.readouterr().out


@pytest.mark.few(2)
@pytest.mark.parametrize(("reached", "why"), [
    (ValueError("diverged"), "ValueError: diverged"), (CompactHydraException("lr: try less"), "lr: try less"),
    *((value, "here/trial-000/train.log says why") for value in (None, float("nan"), float("inf"))),
])  # fmt: skip
def test_a_search_without_a_result_says_why_or_names_the_log_of_a_trial(reached, why, sweep, capsys):
    assert sweep(*OPTUNA, *settings(n_trials=3, n_jobs=2), SPACE, objective=lambda job: reached) == 1
    assert capsys.readouterr().err == f"error: no trial was finished, 3 of 3 failed: {why}\n"


WHOLE = "must be a whole number of at least"
PARTS = "prune_at must be a list of parts of the epochs, in (0, 1), got"


@pytest.mark.few(8)
@pytest.mark.parametrize(("arguments", "message"), [
    (["epochs=2"], "hydra/sweeper=optuna needs a knob to search"),
    (["seed=0,1,2"], "hydra/sweeper=optuna needs a knob to search beside seeds"),
    ([SPACE, "seed=interval(0,9)"], "seed must be a list of values, such as 0,1,2 or range(0,3): each proposal is "
                                    "trained with all of them, got seed=interval(0,9)"),
    ([SPACE, "order_seed=range(3,3)"], "order_seed must be a list of values"),
    *(([SPACE, f"hydra.sweeper.n_trials={value}"], f"hydra.sweeper.n_trials {WHOLE} 1, got {value}")
      for value in ("0", "-1", "1.5", "'x'", "[3]")),
    ([SPACE, "hydra.sweeper.n_trials=null"], f"hydra.sweeper.n_trials {WHOLE} 1, got None"),
    ([SPACE, "hydra.sweeper.n_jobs=0"], f"hydra.sweeper.n_jobs {WHOLE} 1, got 0"),
    ([SPACE, "hydra.sweeper.n_jobs=x"], f"hydra.sweeper.n_jobs {WHOLE} 1, got 'x'"),
    ([SPACE, "hydra.sweeper.seed=-1"], f"hydra.sweeper.seed {WHOLE} 0, got -1"),
    ([SPACE, "hydra.sweeper.seed=1.5"], f"hydra.sweeper.seed {WHOLE} 0, got 1.5"),
    ([SPACE, "hydra.sweeper.sampler=grid"], "hydra.sweeper.sampler must be tpe or random, got 'grid'"),
    ([SPACE, "hydra.sweeper.sampler={a:1}"], "hydra.sweeper.sampler must be tpe or random, got {'a': 1}"),
    ([SPACE, "hydra.sweeper.prune_at=[5]"], f"hydra.sweeper.{PARTS} [5]"),
    ([SPACE, "hydra.sweeper.prune_at=[0.5,x]"], f"hydra.sweeper.{PARTS} [0.5, 'x']"),
    ([SPACE, "hydra.sweeper.prune_at=0.25"], f"hydra.sweeper.{PARTS} 0.25"),
    ([SPACE, "hydra.sweeper.prune_at=null"], f"hydra.sweeper.{PARTS} None"),
    ([SPACE, "hydra.sweeper.direction=up"], "hydra.sweeper.direction must be maximize, minimize or null, got 'up'"),
    ([SPACE, "hydra.sweeper.direction=[minimize,maximize]"], "hydra.sweeper.direction must be maximize, minimize or "),
    ([SPACE, "model=mlp1,vae"],
     "a search must rank its trials by one metric, got validation accuracy, validation loss"),
    ([SPACE, "data.split=0.8,1"],
     "a search must rank its trials by one metric, got training accuracy, validation accuracy"),
    ([SPACE, "model.name=none"], "model.name must be one of "),
    ([SPACE, "dry_run=true"], "dry_run must be null with hydra/sweeper=optuna"),
    ([SPACE, "hydra.launcher.dry_run=true"], "hydra.launcher.dry_run must be false with hydra/sweeper=optuna"),
    ([SPACE, "+hydra.sweeper.storage=x.db"], "unknown setting hydra.sweeper.storage: there are n_trials, n_jobs, "),
    (["optim=interval(0,1)"], "optim must be names of files, such as choice(a,b), got a range of numbers"),
    (["lrr=interval(0,1)"], "unknown knob lrr: did you mean lr?"),
    (["optim=adam,adamw", "optim.momentum=interval(0,1)"], "unknown knob optim.momentum: no choice that is searched"),
    ([SPACE, "optim=glob(x*)"], "optim=glob(x*): there is no value in it"),
])  # fmt: skip
def test_what_cannot_be_searched_is_one_line_and_leaves_nothing(arguments, message, sweep, capsys, tmp_path):
    assert sweep(*OPTUNA, *arguments) == 2
    text = capsys.readouterr().err
    assert text.startswith(f"error: {message}")
    assert len(text.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_a_plot_that_fails_is_a_warning_and_hides_nothing(sweep, capsys, tmp_path, monkeypatch):
    def broken(study, target_name):
        raise ZeroDivisionError("float division by zero")

    drawn = {"history": broken, "slices": lambda study, target_name: plt.subplots()[1]}
    monkeypatch.setattr("hydra_plugins._report.DRAWN", drawn)
    assert sweep(*OPTUNA, *settings(n_trials=2), SPACE, objective=parabola) == 0
    *_, end, best, line, warning = (line for line in capsys.readouterr().out.splitlines() if line)
    assert end == "2 trials: 2 finished, 0 pruned, 0 failed; plots in here/plots"
    assert best.startswith("best: trial ")
    assert (tmp_path / "here" / "best.yaml").read_text(encoding="utf-8").startswith(f"# {line}\n")
    assert warning.endswith("here/plots/history.png cannot be drawn: ZeroDivisionError: float division by zero")
    assert [path.name for path in (tmp_path / "here" / "plots").iterdir()] == ["slices.png"]


def test_the_best_trial_is_shown_even_if_it_cannot_be_written(sweep, capsys, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device", "here/best.yaml.part")

    monkeypatch.setattr("hydra_plugins._report.replacing", full)
    assert sweep(*OPTUNA, *settings(n_trials=2), SPACE, objective=parabola) == 1
    text = capsys.readouterr()
    assert "\nbest: trial " in text.out
    assert text.err == "error: here/best.yaml.part: No space left on device\n"


def test_a_file_that_there_is_not_is_named_before_anything_is_written(sweep, capsys, tmp_path):
    assert sweep(*OPTUNA, SPACE, "optim=adam,sdg") == 2
    assert capsys.readouterr().err == "error: optim must be one of adam, adamw, lion, muon, sgd, got sdg\n"
    assert not list(tmp_path.iterdir())


def test_optuna_is_asked_for_by_name_where_it_is_missing(sweep, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    monkeypatch.delitem(sys.modules, "hydra_plugins._search")
    assert sweep(*OPTUNA, SPACE) == 2
    assert capsys.readouterr().err == "error: hydra/sweeper=optuna needs optuna: pip install -e '.[search]'\n"


def test_the_command_of_the_best_trial_is_short_in_the_project_and_complete_elsewhere(sweep, monkeypatch, capsys):
    """From the project's root it names the interpreter in use below it; from elsewhere both paths are whole."""
    asked = [*OPTUNA, *settings(n_trials=1), SPACE, "data=idx", "data.dir='/a (b)/é, c'"]
    assert sweep(*asked, objective=parabola) == 0
    lines = capsys.readouterr().out.splitlines()
    (line,) = [line for line in lines if "train.py" in line]
    assert line.startswith(
        f"{in_shell(sys.executable, str(ROOT / 'train.py'))} data=idx \"data.dir='/a (b)/é, c'\" lr="
    )


def test_a_proposal_that_equals_an_earlier_one_takes_its_result_and_trains_nothing(sweep, tmp_path, capsys):
    def objective(job):
        return {"adam": 0.5, "sgd": 0.6}.get(job["optim"]) or ValueError("diverged")

    space = "optim=adam,sgd,lion"
    asked = [*OPTUNA, *settings(n_trials=12, n_jobs=4), space]
    assert sweep(*asked, objective=objective) == 0
    launched = [job["optim"] for job in map(as_dict, sweep.launcher.jobs) if "until" not in job]
    assert len(launched) == len(set(launched)) <= 3
    trials = trials_in(tmp_path / "here", (space,))
    by_choice = {params["optim"]: {(state, value) for state, value, chosen, _ in trials if chosen == params}
                 for *_, params, _ in trials}  # fmt: skip
    assert all(len(ends) == 1 for ends in by_choice.values())
    assert len(trials) == 12
    said = [line for line in lines_of(capsys) if line.endswith(": not trained again")]
    assert len(said) == 12 - len(by_choice)
    assert "  the same as trial 0: " in "".join(said)
