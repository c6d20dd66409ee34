"""profile=true: a trace that Perfetto opens, with readable names, and a run with the same bits as without it."""

import gzip
import json
import logging

import pytest
from helpers import assert_same_run, make_config

from fmnist.nn.step import Step
from fmnist.speed.profile import TRACE
from fmnist.train import engine

SMALL = {"model.hidden": [16, 12], "data.limit": 400, "batch_size": 32, "epochs": 4, "dropout": 0.2}


def profiled(folder, caplog, **knobs):
    """The events of the trace of a run, and what was said of it."""
    caplog.set_level(logging.INFO)
    engine.fit([make_config(profile=True, **SMALL | knobs)], [folder])
    with gzip.open(folder / TRACE, "rt", encoding="utf-8") as file:
        events = json.load(file)["traceEvents"]
    return events, [record.getMessage() for record in caplog.records]


def test_each_operation_of_a_taped_step_has_a_name_and_the_run_its_bits(tmp_path, caplog):
    events, said = profiled(tmp_path / "profiled", caplog)
    names = [event["name"] for event in events if event.get("ph") == "X"]
    assert names.count("training step") == 20
    assert sum("0.weight" in name for name in names) > 20  # products of the first layer, and its update
    assert any("gradient of 3.weight" in name for name in names)
    assert all(event["dur"] >= 0 and event["ts"] > 0 for event in events if event.get("ph") == "X")
    at = said.index("profile of 20 steps after 10; the costliest operations, milliseconds in all:")
    table = [line.split(maxsplit=4) for line in said[at + 1 : at + 11]]
    assert len(table) == 10
    times = [float(milliseconds) for milliseconds, *_ in table]
    assert times == sorted(times, reverse=True)
    assert {name for *_, name in table} <= set(names)
    assert said[at + 11] == f"profile: {tmp_path / 'profiled' / TRACE}: open it at ui.perfetto.dev"
    engine.fit([make_config(**SMALL)], [tmp_path / "plain"])
    assert_same_run(tmp_path / "profiled", tmp_path / "plain")


def test_a_step_by_autograd_shows_the_layers(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr("fmnist.train.stack.TapedStep", lambda model, criterion, optimizer, precision, *_: Step(
        model, criterion, optimizer, precision))  # fmt: skip
    events, said = profiled(tmp_path, caplog)
    names = [event["name"] for event in events]
    assert names.count("0 (Linear)") >= 20
    assert any(line.split()[-1].startswith("aten::") for line in said)


def test_a_short_run_is_profiled_too_and_a_stack_once(tmp_path, caplog):
    configs = [make_config(profile=True, seed=seed, **SMALL | {"epochs": 1, "batch_size": 200}) for seed in (0, 1)]
    caplog.set_level(logging.INFO)
    engine.fit(configs, [tmp_path / "a", tmp_path / "b"])
    assert "profile of 1 step after 1; " in caplog.text
    assert [path.parent.name for path in tmp_path.glob(f"*/{TRACE}")] == ["a"]


def test_a_trace_that_cannot_be_written_is_no_failure_of_the_run(tmp_path, caplog, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("torch.profiler.profile.export_chrome_trace", full)
    caplog.set_level(logging.INFO)
    (outcome,) = engine.fit([make_config(profile=True, **SMALL)], [tmp_path])
    assert outcome.error is None
    assert "trace.json.gz cannot be written: No space left on device" in caplog.text


@pytest.mark.parametrize("knobs", [{"precision": "float64"}, {"model": "vae", "model.hidden": [16]}])
def test_other_kinds_of_steps(knobs, tmp_path, caplog):
    own = {name: value for name, value in (SMALL | knobs).items() if name != "model" or value}
    events, _ = profiled(tmp_path, caplog, **own)
    assert any("0.weight" in event["name"] for event in events)
