"""Runs of an older schema go on, and are read, as if their knobs had always been there."""

import json

import pytest
from helpers import SMALL, Crash, as_before, assert_same_run, crash_in, make_config, rows_of

from fmnist import UserError
from fmnist.config import schema
from fmnist.convert import convert, older
from fmnist.evaluate import evaluate
from fmnist.record import checkpoint
from fmnist.record.result import check_directory, of_run
from fmnist.train import engine

LATER = ("norm", "skip_scale", "augment", "ema")  # knobs that were added after the first runs were recorded
KNOBS = {**SMALL, "precision": "float32", "model.hidden": [12, 12], "epochs": 5}


def typed(directory, **knobs):
    """What train.py does with a command and a directory."""
    config = make_config(**{**KNOBS, **knobs})
    check_directory(config, directory)
    (outcome,) = engine.fit([config], [directory])
    return outcome


def crash(monkeypatch, directory, **knobs):
    with monkeypatch.context() as patch:
        crash_in(patch, 4)
        with pytest.raises(Crash):
            typed(directory, **knobs)


def make_older(directory, without=LATER, hash="0123456789ab"):
    """The record and checkpoint of a run as a version wrote them that did not have these knobs; then converted."""
    file = directory / "result.json"
    result = json.loads(file.read_text(encoding="utf-8"))
    for name in without:
        del result["config"][name]
    result["config_hash"] = hash
    del result["kernels"], result["machine"]
    file.write_text(json.dumps(result), encoding="utf-8")
    state = checkpoint.load(directory / "last.safetensors")
    if "ema" in without:
        del state["average"]
    checkpoint.save(directory / "last.safetensors", state | {"config_hash": hash})
    as_before(directory)
    for old in older([directory]):
        convert(old)


@pytest.mark.parametrize("without", [LATER, ("ema",), ("augment", "norm")], ids=str)
@pytest.mark.parametrize("knobs", [{"dropout": 0.3}, {"batch_norm": True, "select": "best"}], ids=str)
def test_an_interrupted_run_of_an_older_schema_goes_on_bit_for_bit(knobs, without, tmp_path, monkeypatch):
    typed(tmp_path / "straight", **knobs)
    crash(monkeypatch, tmp_path / "stopped", **knobs)
    make_older(tmp_path / "stopped", without)
    typed(tmp_path / "stopped", **knobs)
    assert_same_run(tmp_path / "straight", tmp_path / "stopped")


def test_skip_connections_of_an_older_run_stay_without_a_scale(tmp_path, monkeypatch):
    typed(tmp_path / "straight", skip=True, skip_scale="none")
    crash(monkeypatch, tmp_path / "stopped", skip=True, skip_scale="none")
    make_older(tmp_path / "stopped")
    typed(tmp_path / "stopped", skip=True)  # as it was typed when there was no such knob
    assert_same_run(tmp_path / "straight", tmp_path / "stopped")
    typed(tmp_path / "new", skip=True)
    assert rows_of(tmp_path / "new") != rows_of(tmp_path / "stopped")


def test_a_finished_run_of_an_older_schema_is_read_and_not_trained_again(tmp_path, monkeypatch):
    typed(tmp_path, skip=True, skip_scale="none")
    recorded = json.loads((tmp_path / "result.json").read_text(encoding="utf-8"))["metrics"]
    make_older(tmp_path)
    config = of_run(tmp_path)
    assert (config.skip_scale, config.norm, config.ema, config.augment) == ("none", None, None, {})
    assert evaluate(tmp_path)["test/loss"] == recorded["test/loss"]
    crash_in(monkeypatch, 1)
    assert typed(tmp_path, skip=True).metrics == recorded


def test_a_run_with_a_strength_that_is_refused_today_goes_on_as_what_it_did(tmp_path, monkeypatch):
    typed(tmp_path / "straight", **{"augment.shift": 1, "augment.flip": 0.5})
    with monkeypatch.context() as patch:  # as it was
        patch.setitem(schema.AUGMENTATIONS, "shift", schema.AT_LEAST_0)
        crash(patch, tmp_path / "stopped", **{"augment.shift": 1.5, "augment.flip": 0.5})
    assert of_run(tmp_path / "stopped").augment == {"shift": 1.0, "flip": 0.5}
    typed(tmp_path / "stopped", **{"augment.shift": 1, "augment.flip": 0.5})
    assert_same_run(tmp_path / "straight", tmp_path / "stopped")


@pytest.mark.parametrize(("knobs", "message"), [
    ({"dropout": 0.1}, r"dropout=0.3 there, 0.1 here"),
    ({"dropout": 0.3, "ema": 0.9}, r"ema=None there, 0.9 here"),
    ({"dropout": 0.3, "augment.shift": 2}, r"augment.shift=None there, 2"),
], ids=str)  # fmt: skip
def test_another_config_than_the_older_runs_is_refused(knobs, message, tmp_path, monkeypatch):
    crash(monkeypatch, tmp_path, dropout=0.3)
    make_older(tmp_path)
    with pytest.raises(UserError, match=message):
        typed(tmp_path, **knobs)


def test_a_gap_in_the_latent_space_has_another_tag_today(tmp_path):
    typed(tmp_path, model="autoencoder", figures=False, **{"model.hidden": [12, 2]})
    file = tmp_path / "result.json"
    file.write_text(file.read_text(encoding="utf-8").replace("test/holes", "test/gaps"), encoding="utf-8")
    (outcome,) = engine.fit([of_run(tmp_path)], [tmp_path])
    assert outcome.metrics["test/holes"] == evaluate(tmp_path)["test/holes"]
