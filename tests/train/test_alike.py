"""Losses and seconds of runs that were trained in different ways can be compared."""

import itertools
import json

import pytest
from helpers import MODELS, SMALL, make_config

from fmnist.train import engine
from fmnist.train.restore import assemble

KNOBS = {**SMALL, **MODELS["mlp"]}
TRAINED_OTHERWISE = [
    {"label_smoothing": 0.0}, {"label_smoothing": 0.3}, {"dropout": 0.5}, {"dropout": 0.5, "label_smoothing": 0.9},
    {"augment.shift": 3, "augment.flip": 0.5, "augment.cutout": 8, "augment.mixup": 0.4},
]  # fmt: skip


@pytest.mark.parametrize("knobs", TRAINED_OTHERWISE, ids=str)
def test_the_same_weights_have_the_same_losses_however_they_were_trained(knobs):
    plain, other = (assemble([make_config(**KNOBS, **own)]) for own in ({}, knobs))
    for part in ("validation", "test"):
        splits = [getattr(stack.dataset, part) for stack in (plain, other)]
        assert other.measure(part, splits[1]) == plain.measure(part, splits[0])
    if knobs.get("label_smoothing") or "augment.mixup" in knobs:
        assert plain.train_epoch(1) != other.train_epoch(1)


def test_each_run_of_a_stack_is_measured_without_smoothing():
    stack = assemble([make_config(**KNOBS, label_smoothing=smoothing) for smoothing in (0.0, 0.2, 0.5)])
    losses = stack.measure("test", stack.dataset.test)["test/loss"]
    assert losses == [losses[0]] * 3
    assert len(set(stack.train_epoch(1)["train/loss"])) == 3


class Clock:
    """Every look at it takes a second."""

    def __init__(self):
        self.ticks = itertools.count()

    def perf_counter(self):
        return float(next(self.ticks))


def seconds(directory):
    return json.loads((directory / "result.json").read_text(encoding="utf-8"))["seconds"]


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(engine, "time", clock)
    return clock


def test_the_seconds_of_a_stack_are_shared_out_among_its_runs(tmp_path, clock):
    def trained(name, count):
        directories = [tmp_path / f"{name}{run}" for run in range(count)]
        before = next(clock.ticks)
        engine.fit([make_config(**KNOBS, seed=run) for run in range(count)], directories)
        return sum(map(seconds, directories)), next(clock.ticks) - before, [*map(seconds, directories)]

    alone, wall, _ = trained("solo", 1)
    assert 0 < alone <= wall
    together, wall, each = trained("stack", 4)
    assert 0 < together <= wall
    assert together == pytest.approx(alone)  # here a step of four runs takes the time of a step of one
    assert each == pytest.approx([alone / 4] * 4)


def test_a_run_that_has_stopped_takes_no_more_of_the_stacks_time(tmp_path, clock):
    configs = [make_config(**{**KNOBS, "precision": "float32", "epochs": 4}, lr=lr) for lr in (1e-3, 1e38)]
    outcomes = engine.fit(configs, [tmp_path / "good", tmp_path / "bad"])
    assert outcomes[1].error is not None
    stopped = json.loads((tmp_path / "bad" / "result.json").read_text(encoding="utf-8"))["epoch"]
    assert seconds(tmp_path / "bad") == pytest.approx(stopped / 2)
    assert seconds(tmp_path / "good") == pytest.approx(stopped / 2 + 4 - stopped)


def test_time_goes_on_where_a_run_was_paused(tmp_path, clock):
    knobs = {**KNOBS, "epochs": 6}
    engine.fit([make_config(**knobs)], [tmp_path / "straight"])
    engine.fit([make_config(**knobs, until=0.5)], [tmp_path / "paused"])
    assert seconds(tmp_path / "paused") == pytest.approx(seconds(tmp_path / "straight") / 2)
    next(itertools.islice(clock.ticks, 1000, None))  # a pause
    engine.fit([make_config(**knobs)], [tmp_path / "paused"])
    assert seconds(tmp_path / "paused") == seconds(tmp_path / "straight")


def test_a_run_that_ends_near_chance_or_explodes_says_so(tmp_path, caplog):
    caplog.set_level("INFO")
    knobs = {"model": "deep", "model.width": 8, "model.depth": 40, "skip": True, "data.limit": 300, "batch_size": 60}
    knobs |= {"epochs": 2, "schedule": "constant"}
    engine.fit([make_config(**knobs, skip_scale="none", lr=0.1)], [tmp_path / "bad"])
    said = [record.getMessage() for record in caplog.records]
    assert sum("the training loss is" in line and "try a smaller lr" in line for line in said) == 1  # once a run
    assert sum("near chance" in line for line in said) == 1
    caplog.clear()
    engine.fit([make_config(**{**knobs, "model.depth": 3, "epochs": 20}, lr=0.01)], [tmp_path / "good"])
    said = [record.getMessage() for record in caplog.records]
    assert not [line for line in said if "near chance" in line or "the training loss is" in line]
    result = json.loads((tmp_path / "good" / "result.json").read_text(encoding="utf-8"))
    assert result["metrics"]["test/accuracy"] > 0.3


@pytest.mark.parametrize("emulated", [False, True])
@pytest.mark.parametrize("precision", ["bfloat16", "float32"])
def test_a_precision_that_the_processor_emulates_is_told(precision, emulated, tmp_path, monkeypatch, caplog):
    caplog.set_level("INFO")
    monkeypatch.setattr(engine, "bfloat16_is_emulated", lambda device: emulated)
    engine.fit([make_config(**{**KNOBS, "epochs": 1, "data.limit": 50, "precision": precision})], [tmp_path])
    said = [record.getMessage() for record in caplog.records]
    assert any("this processor emulates" in line for line in said) == (emulated and precision == "bfloat16")


@pytest.mark.parametrize("knobs", [
    {"grad_clip": 1.0}, {"dropout": 0.3, "batch_norm": True}, {"optim": "sgd"}, {"ema": 0.9},
    {"model": "autoencoder", "model.hidden": [20, 6], "noise": 0.2, "mask": 0.1},
])  # fmt: skip
def test_later_steps_copy_no_numbers_to_the_device(knobs, monkeypatch):
    """A copy in each step would wait for a GPU."""
    small = {"model.hidden": [20, 12], "data.limit": 300, "batch_size": 60, "precision": "float64"}
    stack = assemble([make_config(**{**small, **knobs, "seed": seed}) for seed in (0, 1)])
    stack.train_epoch(1)
    made = []
    monkeypatch.setattr("torch.tensor", lambda *args, **kwargs: made.append(args))
    stack.train_epoch(2)
    assert not made
