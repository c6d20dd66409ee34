"""Averaged weights: they are validated and tested where that is asked for, and training does not notice them."""

import json

import pytest
import torch
from helpers import MODELS, SMALL, make_config, rows_of

from fmnist import UserError
from fmnist.evaluate import evaluate
from fmnist.record import checkpoint
from fmnist.train import engine
from fmnist.train.restore import restore

KNOBS = {**SMALL, **MODELS["mlp"], "lr": 0.03, "batch_norm": True, "dropout": 0.3, "schedule": "constant"}


def state(directory):
    return checkpoint.load(directory / "last.safetensors")


def equal(one, other):
    return all(torch.equal(one[name].cpu(), other[name].cpu()) for name in one.keys() | other.keys())


def test_training_does_not_notice_the_average(tmp_path):
    for name, knobs in {"without": {}, "last": {"ema": 0.9}, "average": {"ema": 0.9, "select": "average"}}.items():
        engine.fit([make_config(**KNOBS, **knobs)], [tmp_path / name])
    without, last, average = (state(tmp_path / name) for name in ("without", "last", "average"))
    assert equal(without["weights"], last["weights"])
    assert equal(last["weights"], average["weights"])  # its running statistics too
    assert equal(last["average"], average["average"])
    assert not equal(average["weights"], average["average"])
    rows = {name: rows_of(tmp_path / name) for name in ("without", "last", "average")}
    assert rows["without"] == rows["last"]
    for row, other in zip(rows["last"], rows["average"], strict=True):
        assert row["validation/loss"] != other["validation/loss"]
        assert {tag for tag in row if row[tag] != other[tag]} <= {"validation/loss", "validation/accuracy"}


def test_validation_and_test_are_of_the_average(tmp_path):
    (outcome,) = engine.fit([make_config(**KNOBS, ema=0.9, select="average")], [tmp_path])
    stack = restore(tmp_path, "last")
    assert equal(stack.weights(0), state(tmp_path)["weights"])
    by_last = stack.measure("validation", stack.dataset.validation)["validation/loss"][0]
    stack.load_weights(0, state(tmp_path)["average"])
    by_average = stack.measure("validation", stack.dataset.validation)["validation/loss"][0]
    assert by_last != by_average == rows_of(tmp_path)[-1]["validation/loss"] == outcome.metrics["validation/loss"]
    assert evaluate(tmp_path)["test/loss"] == outcome.metrics["test/loss"]
    assert evaluate(tmp_path, "average")["test/loss"] == outcome.metrics["test/loss"]
    assert evaluate(tmp_path, "last")["test/loss"] != outcome.metrics["test/loss"]


def test_patience_and_the_objective_go_by_the_average(tmp_path):
    knobs = {**KNOBS, "epochs": 40, "lr": 0.1, "ema": 0.9, "select": "average", "patience": 3}
    (outcome,) = engine.fit([make_config(**knobs)], [tmp_path])
    rows = rows_of(tmp_path)
    accuracies = [row["validation/accuracy"] for row in rows]
    best = accuracies.index(max(accuracies)) + 1
    assert len(rows) == best + 3
    assert outcome.objective == rows[-1]["validation/accuracy"]
    result = json.loads((tmp_path / "result.json").read_text(encoding="utf-8"))
    assert result["best"] == {"epoch": best, "value": max(accuracies)}


def test_a_run_without_an_average_cannot_be_read_by_it(tmp_path):
    engine.fit([make_config(**KNOBS)], [tmp_path])
    with pytest.raises(UserError, match="it was trained with ema=null"):
        evaluate(tmp_path, "average")
