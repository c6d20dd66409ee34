"""Accidents around a run that trains: its directory vanishes, the clock jumps back."""

import itertools
import json
import shutil
import time

import pytest
from helpers import SMALL, Crash, assert_same_run, crash_in, events_of, make_config, train_py

from fmnist.launch.runs import corrected
from fmnist.launch.worker import train_group
from fmnist.train import engine
from fmnist.train.stack import Stack

KNOBS = {**SMALL, "data.limit": 60, "batch_size": 16, "epochs": 4, "model.hidden": [5], "precision": "float32"}


def fit(directory, **knobs):
    return engine.fit([make_config(**KNOBS, **knobs)], [directory])


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    directory = tmp_path_factory.mktemp("straight")
    fit(directory)
    return directory


def vanishing(monkeypatch, directory, epoch):
    """The directory vanishes in an epoch, once."""
    original, left = Stack.train_epoch, [epoch]

    def train_epoch(self, number):
        if left == [number]:
            left.clear()
            shutil.rmtree(directory)
        return original(self, number)

    monkeypatch.setattr(Stack, "train_epoch", train_epoch)


@pytest.mark.parametrize("epoch", [1, 3, 4])
@pytest.mark.parametrize("save_every", [0.0, 3600.0])
def test_a_run_whose_directory_vanishes_ends_by_name_and_the_same_command_begins_anew(
    epoch, save_every, straight, tmp_path, monkeypatch
):
    run = tmp_path / "run"
    vanishing(monkeypatch, run, epoch)
    with pytest.raises(FileNotFoundError) as caught, corrected(run):
        fit(run)
    assert caught.value.filename == str(run / "metrics.jsonl")
    assert not run.exists()
    fit(run)
    assert_same_run(straight, run)


def test_a_directory_that_vanishes_is_one_line_and_status_1(tmp_path, monkeypatch, capsys):
    vanishing(monkeypatch, tmp_path / "run", 2)
    small = ("model=mlp1", "model.hidden=[5]", "data.limit=60", "epochs=3", "save_every=0", "hydra.run.dir=run")
    assert train_py(tmp_path, *small) == 1
    assert capsys.readouterr().err == f"error: {tmp_path}/run/metrics.jsonl: No such file or directory\n"
    assert train_py(tmp_path, *small) == 0
    assert json.loads((tmp_path / "run" / "result.json").read_text(encoding="utf-8"))["status"] == "done"


def test_a_run_of_a_stack_whose_directory_vanishes_takes_nothing_from_the_others(tmp_path, monkeypatch):
    configs = [make_config(**KNOBS, seed=seed) for seed in (0, 1)]
    train_group(configs, [tmp_path / "whole 0", tmp_path / "whole 1"])
    directories = [tmp_path / "0", tmp_path / "1"]
    vanishing(monkeypatch, directories[1], 3)
    outcomes = train_group(configs, directories)
    assert outcomes[0].error is None
    assert_same_run(tmp_path / "whole 0", directories[0])
    fit(directories[1], seed=1)
    fit(tmp_path / "alone", seed=1)
    assert_same_run(tmp_path / "alone", directories[1])


@pytest.mark.parametrize("jump", [-1.0, -86_400.0, -1.7e9])
def test_a_clock_that_jumps_back_changes_nothing_but_times(jump, straight, tmp_path, monkeypatch):
    ticks = itertools.count()
    start = time.time()
    monkeypatch.setattr(time, "time", lambda: max(0.0, start + jump * next(ticks)))  # at each look
    with monkeypatch.context() as patch:
        crash_in(patch, 3)
        with pytest.raises(Crash):
            fit(tmp_path)
    fit(tmp_path)
    assert_same_run(straight, tmp_path)
    assert json.loads((tmp_path / "result.json").read_text(encoding="utf-8"))["seconds"] >= 0
    assert [event.step for event in events_of(tmp_path, "train").Scalars("loss")] == [1, 2, 3, 4]
    assert len(list(tmp_path.glob("*/events*"))) == 2
