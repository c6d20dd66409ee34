"""Ctrl-C and SIGTERM: the first ends training with the epoch, a second one at once; after the last epoch any does."""

import json
import os
import signal

import pytest
from helpers import SMALL, assert_same_run, make_config, rows_of

from fmnist.record import record
from fmnist.train import engine
from fmnist.train.stack import Stack

KNOBS = {**SMALL, "data.limit": 60, "batch_size": 16, "model.hidden": [5], "epochs": 4, "precision": "float32"}
BOTH = pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])


def fit(*directories, **knobs):
    configs = [make_config(**{**KNOBS, **knobs, "seed": seed}) for seed in range(len(directories))]
    return engine.fit(configs, directories)


def result_of(directory):
    result = json.loads((directory / "result.json").read_text(encoding="utf-8"))
    return result["status"], result["epoch"]


def signals_in(monkeypatch, epoch, *numbers):
    """Let these signals come in the middle of an epoch."""
    original = Stack.train_epoch

    def interrupted(self, trained):
        for number in numbers if trained == epoch else ():
            os.kill(os.getpid(), number)
        return original(self, trained)

    monkeypatch.setattr(Stack, "train_epoch", interrupted)


@BOTH
@pytest.mark.parametrize("runs", [1, 2])
@pytest.mark.parametrize("save_every", [0.0, 3600.0])
def test_the_first_signal_ends_training_with_the_epoch_and_says_so(
    number, runs, save_every, tmp_path, monkeypatch, caplog
):
    caplog.set_level("INFO")
    stopped = [tmp_path / f"stopped{run}" for run in range(runs)]
    with monkeypatch.context() as patch:
        signals_in(patch, 2, number)
        with pytest.raises(SystemExit) as left:
            fit(*stopped, save_every=save_every)
    assert left.value.code == 128 + number
    assert [result_of(directory) for directory in stopped] == [("interrupted", 2)] * runs
    assert [len(rows_of(directory)) for directory in stopped] == [2] * runs
    assert caplog.text.count("this epoch is finished first, and saved; a second signal ends the run at once") == runs
    assert caplog.text.count("interrupted: all up to epoch 2 of 4 is saved") == runs
    straight = [tmp_path / f"straight{run}" for run in range(runs)]
    fit(*straight)
    fit(*stopped)
    for one, other in zip(straight, stopped, strict=True):
        assert_same_run(one, other)


@BOTH
@pytest.mark.parametrize("runs", [1, 2])
@pytest.mark.parametrize(("save_every", "saved"), [(0.0, 2), (3600.0, 0)])
def test_a_second_signal_ends_a_run_at_once_which_goes_on_from_what_is_saved(
    number, runs, save_every, saved, tmp_path, monkeypatch
):
    stopped = [tmp_path / f"stopped{run}" for run in range(runs)]
    with monkeypatch.context() as patch:
        signals_in(patch, 3, number, number)
        with pytest.raises(SystemExit) as left:
            fit(*stopped, save_every=save_every)
    assert left.value.code == 128 + number
    assert [result_of(directory) for directory in stopped] == [("interrupted", saved)] * runs
    assert [len(rows_of(directory)) for directory in stopped] == [2] * runs
    straight = [tmp_path / f"straight{run}" for run in range(runs)]
    fit(*straight)
    fit(*stopped)
    for one, other in zip(straight, stopped, strict=True):
        assert_same_run(one, other)


def no_training(monkeypatch):
    monkeypatch.setattr(Stack, "train_epoch", lambda self, epoch: pytest.fail("an epoch is trained"))


@BOTH
@pytest.mark.parametrize("runs", [1, 2])
@pytest.mark.parametrize("when", ["final", "Run.finish", "Run.save"])
def test_a_signal_after_the_last_epoch_ends_the_run_at_once_and_going_on_tests_it_alone(
    when, number, runs, tmp_path, monkeypatch
):
    stopped = [tmp_path / f"stopped{run}" for run in range(runs)]
    owner, name = (engine.Run, when.partition(".")[2]) if "." in when else (engine, when)
    original, done = getattr(owner, name), []

    def interrupted(*given):
        if not done and (when != "Run.save" or given[0].epoch == 4):
            done.append(when)
            os.kill(os.getpid(), number)
        return original(*given)

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, interrupted)
        with pytest.raises(SystemExit) as left:
            fit(*stopped)
    assert left.value.code == 128 + number
    assert done
    assert [result_of(directory) for directory in stopped] == [("interrupted", 4)] * runs
    straight = [tmp_path / f"straight{run}" for run in range(runs)]
    fit(*straight)
    no_training(monkeypatch)
    fit(*stopped)
    for one, other in zip(straight, stopped, strict=True):
        assert_same_run(one, other)


@pytest.mark.parametrize("ends", ["done", "paused", "failed"])
def test_a_signal_right_after_the_end_is_written_leaves_it(ends, tmp_path, monkeypatch):
    original = record.write_result

    def interrupted(directory, result):
        original(directory, result)
        if result["status"] == ends:
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(record, "write_result", interrupted)
    knobs = {"paused": {"until": 0.5}, "failed": {"lr": 1e38}}
    with pytest.raises(SystemExit, match="143"):
        fit(tmp_path / "run", **knobs.get(ends, {}))
    assert result_of(tmp_path / "run")[0] == ends


def test_a_run_of_a_stack_that_has_failed_or_is_done_stays_so_when_a_signal_comes(tmp_path, monkeypatch):
    configs = [make_config(**KNOBS, seed=seed, lr=lr) for seed, lr in enumerate((1e-3, 1e38))]
    directories = [tmp_path / "good", tmp_path / "bad"]
    signals_in(monkeypatch, 3, signal.SIGTERM)
    with pytest.raises(SystemExit, match="143"):
        engine.fit(configs, directories)
    assert result_of(tmp_path / "good") == ("interrupted", 3)
    assert result_of(tmp_path / "bad")[0] == "failed"
