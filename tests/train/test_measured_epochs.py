"""Runs stop, pause, are selected and tested at epochs after which they were measured, for any eval_every."""

import json
import math
import shutil

from helpers import assert_same_run, make_config, rows_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fmnist.train import engine

TINY = {
    "data.limit": 30,
    "batch_size": 12,
    "model.hidden": [3],
    "lr": 0.3,
    "schedule": "constant",
    "save_every": 3600.0,
}
few = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def trained(directory, **knobs):
    (outcome,) = engine.fit([make_config(**TINY, **knobs)], [directory])
    assert outcome.error is None
    result = json.loads((directory / "result.json").read_text(encoding="utf-8"))
    return result, outcome


@few
@given(epochs=st.integers(1, 12), eval_every=st.integers(1, 5), patience=st.integers(1, 6), seed=st.integers(0, 9),
       select=st.sampled_from(["last", "best"]), until=st.floats(0.05, 1.0))  # fmt: skip
def test_stopping_pausing_selecting_and_testing_happen_at_measured_epochs(
    epochs, eval_every, patience, seed, select, until, tmp_path_factory
):
    folder = tmp_path_factory.mktemp("runs")
    knobs = {"epochs": epochs, "eval_every": eval_every, "patience": patience, "seed": seed, "select": select}
    result, outcome = trained(folder / "straight", **knobs)
    rows = rows_of(folder / "straight")
    measured = [epoch for epoch in range(1, epochs + 1) if epoch % eval_every == 0 or epoch == epochs]
    last, best = result["epoch"], result["best"]
    assert [row["epoch"] for row in rows] == measured[: len(rows)]
    assert last == rows[-1]["epoch"]  # it stops where it was measured

    accuracies = {row["epoch"]: row["validation/accuracy"] for row in rows}
    assert best == {"epoch": max(accuracies, key=accuracies.get), "value": max(accuracies.values())}
    waited = [epoch for epoch in accuracies
              if epoch - max((e for e in accuracies if e <= epoch), key=accuracies.get) >= patience]  # fmt: skip
    assert waited == ([last] if last < epochs or last in waited else [])  # as soon as patience is at an end
    chosen = best["epoch"] if select == "best" else last
    assert outcome.objective == accuracies[chosen] == result["metrics"]["validation/accuracy"]

    paused, reached = trained(folder / "paused", **knobs, until=until)
    pause = next(epoch for epoch in measured if epoch >= math.floor(until * epochs * 1e9) / 1e9 - 1e-9)
    assert paused["epoch"] == min(pause, last)
    assert paused["status"] == ("paused" if pause < epochs else "done")
    assert rows_of(folder / "paused")[-1]["epoch"] == paused["epoch"]
    if paused["status"] == "paused":
        so_far = {epoch: value for epoch, value in accuracies.items() if epoch <= pause}
        assert reached.objective == (max(so_far.values()) if select == "best" else [*so_far.values()][-1])
    trained(folder / "paused", **knobs)
    assert_same_run(folder / "straight", folder / "paused")
    shutil.rmtree(folder)
