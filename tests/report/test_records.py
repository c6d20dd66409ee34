"""Records that are damaged, hostile, or without a value: a word about the run, and the others are reported."""

import json
import re

import pytest
from report.made_up import change, comparison_of, write_run

from fmnist.report.comparison import comparisons, read
from fmnist.report.leaderboard import Leaderboard
from fmnist.report.page import report


@pytest.mark.few(2)
@pytest.mark.parametrize("value", [None, float("nan"), float("inf"), 1e200])
@pytest.mark.parametrize("model", ["mlp", "autoencoder"])
def test_a_metric_that_is_not_defined_is_an_empty_cell(model, value, tmp_path):
    """An AUROC of test rows of one class, say; in a table of several seeds and in curves."""
    for seed in range(3):
        directory = write_run(tmp_path / "sweep" / str(seed), 0.5 + seed / 10, model=model, seed=seed)
        metrics = json.loads((directory / "result.json").read_text(encoding="utf-8"))["metrics"]
        change(directory, metrics=metrics | {"test/auroc": value, "test/kl": value if seed else 0.25})
        row = json.dumps({"epoch": 4, "train/loss": value, "validation/loss": 1.0})
        with open(directory / "metrics.jsonl", "a", encoding="utf-8") as file:
            file.write(row + "\n")
    report([tmp_path / "sweep"], tmp_path / "report")
    Leaderboard(tmp_path / "sweep").write()
    (configuration,) = comparison_of(tmp_path / "sweep").configurations
    assert configuration.interval("test/auroc").n == 0
    assert configuration.interval("test/kl").n == 1
    assert configuration.curve("train/loss").epochs == [1, 2, 3]
    assert configuration.curve("validation/loss").epochs == [1, 2, 3, 4]
    page = (tmp_path / "report" / "index.md").read_text(encoding="utf-8")
    assert "auroc" not in page
    assert "| 0.2500 |" in page.replace("**", "")


DAMAGED = {
    "metrics is a list": {"metrics": [1, 2]}, "metrics is text": {"metrics": "0.5"}, "a metric is text":
    {"metrics": {"test/accuracy": "0.5"}}, "a metric is a list": {"metrics": {"test/accuracy": [0.5]}},
    "a metric is true": {"metrics": {"test/accuracy": True}}, "the objective is text": {"objective": "high"},
    "the objective is a table": {"objective": {}}, "the time is text": {"seconds": "2"},
    "the commits are a number": {"commits": 7}, "a huge number": {"metrics": {"test/accuracy": {"n": 10**400}}},
}  # fmt: skip


@pytest.mark.few(3)
@pytest.mark.parametrize("what", DAMAGED)
def test_a_damaged_result_is_an_unreadable_run_and_the_others_are_reported(what, tmp_path):
    write_run(tmp_path / "whole", 0.8)
    change(write_run(tmp_path / "damaged", 0.9, seed=1), **DAMAGED[what])
    assert report([tmp_path], tmp_path / "report")[0] == "1 finished run of 2"
    (result,) = [result for result in read([tmp_path]) if result.directory.name == "damaged"]
    assert result.status == "unreadable"
    assert re.search(r"^result\.json: .* must be |/result\.json is damaged ", result.error)
    assert len(comparisons([result])) == 0
    assert [len(c.done) for c in Leaderboard(tmp_path).write()[0].configurations] == [1]


@pytest.mark.few(3)
@pytest.mark.parametrize(("knob", "value"), [
    ("seed", [1]), ("seed", "one"), ("seed", None), ("seed", True), ("order_seed", 0.5), ("lr", {"a": [[1]]}),
    ("lr", float("nan")), ("model", [1]), ("model", {"name": ["mlp"]}), ("model", {"name": "none"}), ("model", {}),
    ("optim", {"betas": [[1]]}),
])  # fmt: skip
def test_a_config_that_no_run_has_is_unreadable(knob, value, tmp_path):
    write_run(tmp_path / "whole", 0.8)
    config = json.loads((tmp_path / "whole" / "result.json").read_text(encoding="utf-8"))["config"]
    change(write_run(tmp_path / "damaged", 0.9, seed=1), config=config | {knob: value})
    assert report([tmp_path], tmp_path / "report")[0] == "1 finished run of 2"
    assert {result.status for result in read([tmp_path])} == {"done", "unreadable"}


@pytest.mark.few(6)
@pytest.mark.parametrize("line", ["[1, 2]", '"text"', "7", "null", '{"epoch": 1, "train/loss": "low"}',
                                  '{"epoch": 1.5}', '{"epoch": "1"}', '{"train/loss": 1.0}', "}{", "\x00"])  # fmt: skip
@pytest.mark.parametrize("place", [0, 1, 3])
def test_damaged_rows_are_an_unreadable_run(line, place, tmp_path):
    write_run(tmp_path / "whole", 0.8)
    file = write_run(tmp_path / "damaged", 0.9, seed=1) / "metrics.jsonl"
    lines = file.read_text(encoding="utf-8").splitlines()
    file.write_text("\n".join([*lines[:place], line, *lines[place:]]) + "\n")
    assert report([tmp_path], tmp_path / "report")[0] == "1 finished run of 2"
    (result,) = [result for result in read([tmp_path]) if result.directory.name == "damaged"]
    assert result.status == "unreadable"
    assert result.error.startswith("metrics.jsonl: ")


def test_a_last_row_that_a_crash_cut_short_is_left_out(tmp_path):
    directory = write_run(tmp_path / "cut", 0.9)
    with open(directory / "metrics.jsonl", "a", encoding="utf-8") as file:
        file.write('{"epoch": 4, "train/lo')
    (result,) = read([tmp_path])
    assert result.status == "done"
    assert [row["epoch"] for row in result.rows] == [1, 2, 3]


@pytest.mark.few(1)
@pytest.mark.parametrize("lr", [1e-320, 1e-200, 1e155, 1e300])
def test_any_finite_knob_is_reported(lr, tmp_path):
    for seed in (0, 1):
        for other in (lr, 0.1):
            write_run(tmp_path / f"{other}-{seed}", 0.5 + seed / 10, seed=seed, lr=other)
    assert report([tmp_path], tmp_path / "report")[0] == "4 finished runs of 4"
    assert str(lr) in (tmp_path / "report" / "table.csv").read_text(encoding="utf-8")
    assert len(Leaderboard(tmp_path).write()[0].configurations) == 2


def test_the_time_of_a_row_is_no_metric(tmp_path):
    file = write_run(tmp_path / "run", 0.9) / "metrics.jsonl"
    rows = [json.loads(line) | {"time": 1.7e9} for line in file.read_text(encoding="utf-8").splitlines()]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (result,) = read([tmp_path])
    assert result.rows == [{tag: value for tag, value in row.items() if tag != "time"} for row in rows]
