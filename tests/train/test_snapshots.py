"""Cycles: the schedule repeats, each cycle leaves a snapshot, and a run that stops and goes on leaves the same ones."""

import math

import pytest
import torch
from helpers import MODELS, SMALL, Crash, assert_same_run, crash_in, make_config, refuses, said
from training import data_kept, quick_disk  # noqa: F401 - fixtures that serve each test

from fmnist.config.parse import config_hash
from fmnist.ensemble import chosen, ensemble, main
from fmnist.evaluate import evaluate
from fmnist.extend import extend, remarks
from fmnist.record import checkpoint
from fmnist.report.comparison import read
from fmnist.train import engine
from fmnist.train.restore import assemble

KNOBS = {**SMALL, **MODELS["mlp"], "epochs": 6, "lr": 0.01, "schedule": "cosine"}


def snapshot(directory, number):
    return checkpoint.load(directory / f"snapshot-{number}.safetensors")


def names(directory):
    return sorted(file.name for file in directory.glob("snapshot-*"))


def test_the_schedule_repeats_in_each_cycle(monkeypatch):
    stack = assemble([make_config(**KNOBS, cycles=cycles, seed=cycles, order_seed=0) for cycles in (1, 3)])
    rates, step = [], type(stack.step).__call__
    monkeypatch.setattr(type(stack.step), "__call__",
                        lambda self, batch, lr, clip: (rates.append(lr), step(self, batch, lr, clip)))  # fmt: skip
    for epoch in range(1, 7):
        stack.train_epoch(epoch)
    steps = 6 * 5  # of 480 rows in batches of 100
    for cycles, own in zip((1, 3), zip(*rates, strict=True), strict=True):
        length = steps // cycles
        assert own == pytest.approx([0.01 * (1 + math.cos(math.pi * (s % length) / length)) / 2 for s in range(steps)])


@pytest.mark.parametrize("knobs", [{}, {"ema": 0.9, "select": "average", "batch_norm": True}], ids=str)
def test_a_snapshot_has_the_weights_that_would_be_tested_then(knobs, tmp_path):
    run = make_config(**KNOBS, cycles=3, **knobs)
    engine.fit([run], [tmp_path / "whole"])
    assert names(tmp_path / "whole") == [f"snapshot-{number}.safetensors" for number in (1, 2, 3)]
    for number, until in ((1, 1 / 3), (2, 2 / 3)):
        engine.fit([make_config(**KNOBS, cycles=3, **knobs, until=until)], [tmp_path / "parts"])
        state = checkpoint.load(tmp_path / "parts" / "last.safetensors")
        there = state["average" if knobs else "weights"]
        kept = snapshot(tmp_path / "whole", number)
        assert kept["epoch"] == state["epoch"] == 2 * number
        torch.testing.assert_close(kept["weights"], there, rtol=0, atol=0)
    assert evaluate(tmp_path / "whole", "snapshot-3")["test/loss"] == evaluate(tmp_path / "whole")["test/loss"]
    assert evaluate(tmp_path / "whole", "snapshot-1")["test/loss"] != evaluate(tmp_path / "whole")["test/loss"]


def test_a_run_that_dies_and_goes_on_leaves_the_same_snapshots(tmp_path, monkeypatch):
    config = make_config(**KNOBS, cycles=3, dropout=0.3)
    engine.fit([config], [tmp_path / "straight"])
    for epoch in (3, 5):  # the checkpoint of the first death is older than its snapshot
        rare = make_config(**KNOBS | {"save_every": 3600.0 if epoch == 3 else 0.0}, cycles=3, dropout=0.3)
        with monkeypatch.context() as patch:
            crash_in(patch, epoch)
            with pytest.raises(Crash):
                engine.fit([rare], [tmp_path / "stopped"])
        assert len(names(tmp_path / "stopped")) == epoch // 2
    engine.fit([config], [tmp_path / "stopped"])
    assert_same_run(tmp_path / "straight", tmp_path / "stopped")
    for name in names(tmp_path / "straight"):
        assert (tmp_path / "straight" / name).read_bytes() == (tmp_path / "stopped" / name).read_bytes()


def test_runs_of_one_stack_may_have_other_cycles_and_leave_what_they_leave_alone(tmp_path):
    configs = [make_config(**KNOBS, cycles=cycles, seed=cycles) for cycles in (1, 2, 3)]
    engine.fit(configs, [tmp_path / f"stack-{c.cycles}" for c in configs])
    for config in configs:
        alone, together = (tmp_path / f"{how}-{config.cycles}" for how in ("alone", "stack"))
        engine.fit([config], [alone])
        assert_same_run(alone, together, rel=1e-9, abs=1e-12)
        assert names(alone) == names(together) == [f"snapshot-{n}.safetensors" for n in range(1, config.cycles + 1)]
        for number in range(1, len(names(alone)) + 1):
            torch.testing.assert_close(snapshot(alone, number), snapshot(together, number))


def test_more_epochs_are_more_cycles_of_the_same_length(tmp_path):
    engine.fit([make_config(**KNOBS | {"epochs": 4}, cycles=2)], [tmp_path / "extended"])
    refuses(lambda: extend([tmp_path / "extended"], 7), "epochs must be a multiple of 2", "got 7")
    assert remarks(tmp_path / "extended", make_config(**KNOBS, cycles=3)) == []
    extend([tmp_path / "extended"], 6)
    engine.fit([make_config(**KNOBS, cycles=3)], [tmp_path / "at once"])
    assert_same_run(tmp_path / "extended", tmp_path / "at once")
    assert names(tmp_path / "extended") == names(tmp_path / "at once")


def test_snapshots_of_a_run_are_an_ensemble(tmp_path, monkeypatch, capsys):
    engine.fit([make_config(**KNOBS, cycles=3)], [tmp_path / "run"])
    engine.fit([make_config(**KNOBS)], [tmp_path / "plain"])
    found = ensemble(chosen(read([tmp_path / "run"]), None, least=1), of_snapshots=True)
    assert found["members"] == [str(tmp_path / "run" / name) for name in names(tmp_path / "run")]
    alone = [evaluate(tmp_path / "run", f"snapshot-{number}")["test/accuracy"] for number in (1, 2, 3)]
    assert found["scores"]["mean of the members"]["test"]["accuracy"] == pytest.approx(sum(alone) / 3)
    assert (
        found["scores"]["probabilities"]["test"]["log_loss"]
        < found["scores"]["mean of the members"]["test"]["log_loss"]
    )
    status, out, err = said(monkeypatch, capsys, main, tmp_path / "run", "--snapshots", "--save", tmp_path / "kept")
    assert status == 0, err
    assert "snapshot-2.safetensors" in out
    kept = checkpoint.load(tmp_path / "kept" / "last.safetensors")
    mean = sum(snapshot(tmp_path / "run", number)["weights"]["0.weight"] for number in (1, 2, 3)) / 3
    torch.testing.assert_close(kept["weights"]["0.weight"], mean)
    status, _, err = said(monkeypatch, capsys, main, tmp_path / "plain", "--snapshots")
    assert (status, err) == (
        2,
        f"error: {tmp_path / 'plain'} has no snapshots: training with cycles=N keeps them\n",
    )


def test_what_cannot_be_is_refused_and_a_run_without_cycles_is_what_it_was(tmp_path):
    refuses(lambda: make_config(**KNOBS, cycles=4), "cycles must divide epochs, which are 6, got 4")
    refuses(lambda: make_config(cycles=0), "cycles must be at least 1")
    assert config_hash(make_config()) == config_hash(make_config(cycles=None)) == "248f538a93fb"
    assert config_hash(make_config(cycles=2)) != config_hash(make_config())
    engine.fit([make_config(**KNOBS)], [tmp_path])
    assert names(tmp_path) == []
    refuses(lambda: evaluate(tmp_path, "snapshot-1"), "snapshot-1.safetensors is missing")
