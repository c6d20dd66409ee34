"""Seeds in a search: each proposal is trained with all of them, and judged by the mean."""

import json
import re

import pytest
import yaml
from optuna.trial import TrialState
from sweep.searches import OPTUNA, SPACE, as_dict, drive, parabola, settings, trials_in

from fmnist.launch.commands import command

SEEDS = (SPACE, "seed=0,1,2")


def lucky(job):
    """The better for the learning rate, and for the seed: 2 is lucky."""
    return parabola(job) * (1 + (int(job["seed"]) - 1) / 10)


def by_trial(jobs):
    """The jobs as dicts, by the number of their trial."""
    found = {}
    for job in map(as_dict, jobs):
        found.setdefault(job["hydra.sweep.subdir"].partition("+")[0], []).append(job)
    return found


def test_each_proposal_is_trained_with_all_seeds_and_its_value_is_their_mean(sweep, tmp_path, capsys):
    asked = settings(n_trials=6, n_jobs=4, prune_at=[])
    assert sweep(*OPTUNA, *asked, *SEEDS, "epochs=3", objective=lucky) == 0
    assert [len(batch) for batch in sweep.launcher.batches] == [12, 6]
    assert sweep.launcher.first == [0, 12]
    trials = trials_in(tmp_path / "here", (*SEEDS, "epochs=3"))
    jobs = by_trial(sweep.launcher.jobs)
    assert [*jobs] == [f"trial-{number:03d}" for number in range(6)]
    for (name, runs), (_, value, params, _) in zip(jobs.items(), trials, strict=True):
        assert [run["hydra.sweep.subdir"] for run in runs] == [f"{name}+seed-{seed}" for seed in (0, 1, 2)]
        assert {run["lr"] for run in runs} == {f"{params['lr']:.6g}"}
        assert value == pytest.approx(sum(map(lucky, runs)) / 3)
    best = max(jobs.values(), key=lambda runs: lucky(runs[1]))[1]
    line = command("-m", "epochs=3", f"lr={best['lr']}", "seed=0,1,2")
    text = capsys.readouterr().out
    assert f"validation accuracy {lucky(best):.4f} (mean of 3 runs)\n{line}\n" in text
    assert text.count(" (mean of 3 runs)\n") == 7
    found = (tmp_path / "here" / "best.yaml").read_text(encoding="utf-8")
    assert found.startswith(f"# {line}\n")
    assert yaml.safe_load(found)["runs"] == 3
    assert yaml.safe_load(found)["overrides"] == ["epochs=3", f"lr={best['lr']}"]


def test_two_kinds_of_seeds_are_combined_and_each_value_is_taken_once(tmp_path):
    overrides = (SPACE, "+seed=range(1,3)", "order_seed=choice(5,6,5)")
    launcher = drive(tmp_path, overrides, parabola, n_trials=1, n_jobs=1, prune_at=[])
    assert [as_dict(job)["hydra.sweep.subdir"].partition("+")[2] for job in launcher.jobs] == [
        "seed-1+order_seed-5", "seed-1+order_seed-6", "seed-2+order_seed-5", "seed-2+order_seed-6",
    ]  # fmt: skip


def test_one_seed_is_no_repetition(sweep, tmp_path, capsys):
    assert sweep(*OPTUNA, *settings(n_trials=2), SPACE, "seed=7", objective=parabola) == 0
    assert {as_dict(job)["hydra.sweep.subdir"] for job in sweep.launcher.jobs} == {"trial-000", "trial-001"}
    text = capsys.readouterr().out
    assert "(mean of" not in text
    assert re.search(r"train\.py'? seed=7 lr=", text)  # a path with a space has quotes


def test_a_trial_of_which_a_seed_fails_has_failed_and_says_which_one(tmp_path, caplog):
    def objective(job):
        fails = job["hydra.sweep.subdir"] == "trial-001+seed-2"
        return ValueError("diverged") if fails else lucky(job)

    caplog.set_level("INFO")
    launcher = drive(tmp_path, SEEDS, objective, n_trials=3, n_jobs=3, prune_at=[0.5])
    assert [state for state, *_ in trials_in(tmp_path, SEEDS)] == [
        TrialState.COMPLETE, TrialState.FAIL, TrialState.COMPLETE,
    ]  # fmt: skip
    (line,) = [line for line in caplog.messages if "failed" in line]
    assert line.startswith("trial 1: lr=")
    assert line.endswith("failed: seed=2: ValueError: diverged")
    assert len(by_trial(launcher.jobs)["trial-001"]) == 3  # the others do not go on
    for seed in (0, 1):
        result = json.loads((tmp_path / f"trial-001+seed-{seed}" / "result.json").read_text(encoding="utf-8"))
        assert (result["status"], result["error"]) == ("pruned", "the run of trial 1 with another seed has failed")


def test_a_damaged_record_fails_its_trial_in_one_line(tmp_path, caplog):
    caplog.set_level("INFO")

    def objective(job):
        folder = tmp_path / "trial-000"
        folder.mkdir()
        (folder / "result.json").write_text("{", encoding="utf-8")
        return ValueError("refused")

    drive(tmp_path, (SPACE,), objective, n_trials=1, n_jobs=1, prune_at=[])
    assert [state for state, *_ in trials_in(tmp_path)] == [TrialState.FAIL]
    assert f"failed: {tmp_path}/trial-000/result.json is damaged" in caplog.text


def test_pruning_judges_the_mean_and_ends_all_runs_of_a_proposal(tmp_path):
    asked = {"n_trials": 24, "n_jobs": 8, "prune_at": [0.25, 0.5]}
    launcher = drive(tmp_path, SEEDS, lucky, **asked)
    pruned = 0
    for number, (state, value, params, steps) in enumerate(trials_in(tmp_path, SEEDS)):
        assert steps == {step: pytest.approx(parabola(params) * step / 100, abs=1e-5) for step in steps}
        runs = by_trial(launcher.jobs)[f"trial-{number:03d}"]
        assert len(runs) == 3 * (len(steps) + (state == TrialState.COMPLETE))
        if state == TrialState.PRUNED:
            pruned += 1
            files = sorted(tmp_path.glob(f"trial-{number:03d}+*/result.json"))
            assert [json.loads(file.read_text(encoding="utf-8"))["status"] for file in files] == ["pruned"] * 3
        else:
            assert value == pytest.approx(parabola(params), abs=1e-5)
    assert pruned


def test_a_search_whose_trials_all_fail_names_the_reason(sweep, capsys):
    asked = [*OPTUNA, *settings(n_trials=2), SPACE, "seed=3,4"]
    assert sweep(*asked, objective=lambda job: ValueError("diverged") if job["seed"] == "4" else 0.5) == 1
    why = "seed=4: ValueError: diverged"
    assert capsys.readouterr().err == f"error: no trial was finished, 2 of 2 failed: {why}\n"
