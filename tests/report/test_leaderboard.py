"""The leaderboard: made from the records of runs alone, seeds together and one by one, chosen by validation."""

import csv
import os
from multiprocessing import get_context

import pytest
from helpers import make_config

from fmnist.record.record import Record
from fmnist.report import leaderboard
from fmnist.report.comparison import read_one
from fmnist.report.leaderboard import Leaderboard, table


def leave(directory, status="done", validation=0.5, test=0.4, **knobs):
    """The record of a run."""
    record = Record(make_config(**knobs), directory)
    measure = "accuracy" if record.config.model.name == "mlp" else "loss"
    metrics = {f"validation/{measure}": validation, f"test/{measure}": test} if status == "done" else {}
    record.result |= {"metrics": metrics, "objective": validation if status == "done" else None}
    record.finish(status, error=None if status == "done" else "train/loss is nan in epoch 3")


def rows_of(sweep):
    with open(sweep / "leaderboard.csv") as file:
        return list(csv.DictReader(file))


def test_validation_ranks_and_the_test_figure_stands_beside_it(tmp_path):
    for seed, (good, bad) in enumerate([(0.8, 0.7), (0.9, 0.6)]):
        leave(tmp_path / f"a{seed}", seed=seed, lr=0.1, validation=good, test=0.1)
        leave(tmp_path / f"b{seed}", seed=seed, lr=0.2, validation=bad, test=0.9)
    Leaderboard(tmp_path).write()
    rows = rows_of(tmp_path)
    assert [(row["rank"], row["lr"], row["seed"], row["run"]) for row in rows] == [
        ("1", "0.1", "0", "a0"), ("1", "0.1", "1", "a1"), ("2", "0.2", "0", "b0"), ("2", "0.2", "1", "b1"),
    ]  # fmt: skip
    assert float(rows[0]["objective_mean"]) == pytest.approx(0.85)
    assert float(rows[0]["objective_sd"]) == pytest.approx(0.1 / 2**0.5)
    assert float(rows[2]["test_mean"]) == pytest.approx(0.9)
    assert "dropout" not in rows[0]  # only knobs that differ are columns
    told = table(Leaderboard(tmp_path).comparisons()).splitlines()
    assert told[0].split() == ["n", "validation", "accuracy", "test", "accuracy", "lr"]
    assert told[1].split() == ["1", "2", "0.8500", "±", "0.0707", "0.1000", "±", "0.0000", "0.1"]


def test_a_loss_is_better_the_lower_and_other_measures_are_ranked_by_themselves(tmp_path):
    for name, loss in (("high", 3.0), ("low", 1.0)):
        leave(tmp_path / name, model="autoencoder", lr=loss, validation=loss, test=loss)
    leave(tmp_path / "classifier", validation=0.9)
    Leaderboard(tmp_path).write()
    assert [(row["rank"], row["run"]) for row in rows_of(tmp_path)] == [
        ("1", "classifier"),
        ("1", "low"),
        ("2", "high"),
    ]
    told = table(Leaderboard(tmp_path).comparisons())
    assert "validation accuracy" in told
    assert "validation loss" in told


def test_what_failed_or_still_runs_comes_last_and_counts_for_nothing(tmp_path):
    leave(tmp_path / "a", validation=0.3)
    leave(tmp_path / "b", seed=1, status="failed")
    leave(tmp_path / "c", lr=0.5, status="running")
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "result.json").write_text("{")
    (tmp_path / ".hidden").mkdir()
    Leaderboard(tmp_path).write()
    rows = rows_of(tmp_path)
    assert [(row["run"], row["n"], row["status"]) for row in rows] == [
        ("a", "1", "done"), ("b", "1", "failed"), ("c", "0", "running"),
    ]  # fmt: skip
    assert rows[0]["objective_sd"] == ""
    assert rows[1]["error"] == "train/loss is nan in epoch 3"
    assert "(failed)" in table(Leaderboard(tmp_path).comparisons())


def test_a_board_reads_again_only_what_has_changed(tmp_path, monkeypatch):
    leave(tmp_path / "a")
    leave(tmp_path / "deeper" / "b", lr=0.5, validation=0.1)
    board, read = Leaderboard(tmp_path), []
    monkeypatch.setattr(leaderboard, "read_one", lambda directory: read.append(directory.name) or read_one(directory))
    board.write()
    leave(tmp_path / "a", validation=0.05)
    board.write()
    assert read == ["a", "b", "a"]
    assert [row["run"] for row in rows_of(tmp_path)] == ["deeper/b", "a"]
    os.remove(tmp_path / "leaderboard.csv")


def _write_many(sweep, own):
    for number in range(5):
        leave(sweep / f"{own}-{number}", seed=5 * own + number)
        Leaderboard(sweep).write()


def test_when_several_processes_write_it_the_last_has_seen_all_runs(tmp_path):
    context = get_context("fork")
    writers = [context.Process(target=_write_many, args=(tmp_path, own)) for own in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert {row["seed"] for row in rows_of(tmp_path)} == {str(seed) for seed in range(15)}


def test_an_empty_sweep_has_none(tmp_path):
    Leaderboard(tmp_path).write()
    Leaderboard(tmp_path / "nowhere").write()
    assert not list(tmp_path.iterdir())
