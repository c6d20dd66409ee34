"""The leaderboard: made from the records of runs alone, seeds together and one by one, chosen by validation."""

import csv
import errno
import json
import math
import os
from multiprocessing import get_context
from types import SimpleNamespace

import pytest
from report.made_up import change, write_run

from fmnist.launch.callbacks import UpdateLeaderboard
from fmnist.report import leaderboard
from fmnist.report.comparison import comparisons, read, read_one
from fmnist.report.leaderboard import Leaderboard, table


def rows_of(sweep):
    with open(sweep / "leaderboard.csv", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_validation_ranks_and_the_test_metric_stands_beside_it(tmp_path):
    for seed, (good, bad) in enumerate([(0.8, 0.7), (0.9, 0.6)]):
        write_run(tmp_path / f"a{seed}", good, seed=seed, lr=0.1, test=0.1)
        write_run(tmp_path / f"b{seed}", bad, seed=seed, lr=0.2, test=0.9)
    Leaderboard(tmp_path).write()
    rows = rows_of(tmp_path)
    assert [(row["rank"], row["lr"], row["seed"], row["run"]) for row in rows] == [
        ("1", "0.1", "0", "a0"), ("1", "0.1", "1", "a1"), ("2", "0.2", "0", "b0"), ("2", "0.2", "1", "b1"),
    ]  # fmt: skip
    assert float(rows[0]["objective_mean"]) == pytest.approx(0.85)
    assert float(rows[0]["objective_sd"]) == pytest.approx(0.1 / 2**0.5)
    assert float(rows[2]["test_mean"]) == pytest.approx(0.9)
    assert {row["metric"] for row in rows} == {"validation accuracy"}
    assert "dropout" not in rows[0]  # only knobs that differ are columns
    lines = table(Leaderboard(tmp_path).comparisons()).splitlines()
    assert lines == [
        "   n  validation accuracy  test accuracy     lr",
        "1  2  0.8500 ± 0.0707      0.1000 ± 0.0000  0.1",
        "2  2  0.6500 ± 0.0707      0.9000 ± 0.0000  0.2",
    ]


def test_a_loss_is_better_the_lower_and_other_metrics_are_ranked_by_themselves(tmp_path):
    for name, loss in (("high", 3.0), ("low", 1.0)):
        write_run(tmp_path / name, loss, model="autoencoder", lr=loss)
    write_run(tmp_path / "classifier", 0.9)
    Leaderboard(tmp_path).write()
    assert [(row["rank"], row["comparison"], row["run"]) for row in rows_of(tmp_path)] == [
        ("1", "classifiers", "classifier"),
        ("1", "autoencoder, loss mae", "low"),
        ("2", "autoencoder, loss mae", "high"),
    ]
    text = table(Leaderboard(tmp_path).comparisons())
    assert "validation accuracy" in text
    assert "validation loss" in text


def test_what_failed_or_still_runs_comes_last_and_counts_for_nothing(tmp_path):
    write_run(tmp_path / "a", 0.3)
    write_run(tmp_path / "b", 0.9, "failed", seed=1, error="train/loss is nan in epoch 3")
    write_run(tmp_path / "c", 0.9, "running", lr=0.5)
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


@pytest.fixture
def reading(monkeypatch):
    """The names of the directories whose records are read."""
    names = []
    monkeypatch.setattr(leaderboard, "read_one", lambda directory: names.append(directory.name) or read_one(directory))
    return names


def test_only_what_has_changed_is_read_again(tmp_path, reading):
    write_run(tmp_path / "a", 0.5)
    write_run(tmp_path / "deeper" / "b", 0.1, lr=0.5)
    board = Leaderboard(tmp_path)
    board.write()
    write_run(tmp_path / "a", 0.05)
    board.write()
    assert reading == ["a", "b", "a"]
    assert [row["run"] for row in rows_of(tmp_path)] == ["deeper/b", "a"]


@pytest.mark.parametrize("how", ["another file of the same size", "the same file with another size"])
def test_a_change_within_one_tick_of_the_clock_is_seen(how, tmp_path, reading):
    file = write_run(tmp_path / "a", 0.25) / "result.json"
    board = Leaderboard(tmp_path)
    board.write()
    before = os.stat(file)
    if how.startswith("another"):
        write_run(tmp_path / "a", 0.75)
    else:
        change(tmp_path / "a", status="failed")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = os.stat(file)
    assert (after.st_ino == before.st_ino) != (after.st_size == before.st_size)
    board.write()
    assert reading == ["a", "a"]
    board.write()
    assert reading == ["a", "a"]


def test_a_run_that_was_removed_is_forgotten(tmp_path):
    for name in ("a", "b"):
        write_run(tmp_path / name, 0.5, lr=0.1 if name == "a" else 0.2)
    board = Leaderboard(tmp_path)
    board.write()
    os.remove(tmp_path / "a" / "result.json")
    board.write()
    assert [row["run"] for row in rows_of(tmp_path)] == ["b"]


def _write_many(sweep, own):
    for number in range(5):
        write_run(sweep / f"{own}-{number}", 0.5, seed=5 * own + number)
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


def test_hydra_has_it_written_as_runs_end_and_shown_at_the_end(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(leaderboard.atexit, "register", lambda function: None)
    monkeypatch.setattr(leaderboard, "PAUSE", 0.0)
    monkeypatch.setattr(leaderboard, "SHARE", math.inf)
    mode = SimpleNamespace(name="MULTIRUN")
    sweep, runtime = SimpleNamespace(dir=tmp_path.name), SimpleNamespace(cwd=str(tmp_path.parent))
    config = SimpleNamespace(hydra=SimpleNamespace(mode=mode, sweep=sweep, runtime=runtime))
    callback = UpdateLeaderboard()
    write_run(tmp_path / "0", 0.5)
    callback.on_job_end(config)
    assert len(rows_of(tmp_path)) == 1
    write_run(tmp_path / "1", 0.6, seed=1)
    callback.on_job_end(config)
    assert len(rows_of(tmp_path)) == 2
    assert capsys.readouterr().out == ""
    callback.on_multirun_end(config)
    assert "1  2  0.5500 ± 0.0707" in capsys.readouterr().out
    mode.name = "RUN"
    callback.on_job_end(SimpleNamespace(hydra=SimpleNamespace(mode=mode)))


def test_while_runs_end_little_of_the_time_goes_into_writing_it_however_long_that_takes(tmp_path, monkeypatch):
    now, took = [0.0], []

    def slow(board):
        now[0] += 2.0
        took.append(2.0)
        return []

    monkeypatch.setattr(leaderboard, "time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(leaderboard.atexit, "register", lambda function: None)
    monkeypatch.setattr(Leaderboard, "comparisons", slow)
    write_run(tmp_path / "0", 0.5)
    board = Leaderboard(tmp_path)
    for _ in range(1000):
        board.write_soon()
        now[0] += 1.0
    assert len(took) > 10
    assert sum(took) < 0.06 * now[0]


def test_a_full_disk_does_not_end_a_sweep_and_is_named_at_its_end(tmp_path, monkeypatch, capsys):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device", str(tmp_path / "leaderboard.csv.part"))

    monkeypatch.setattr(leaderboard, "replacing", full)
    monkeypatch.setattr(leaderboard.atexit, "register", lambda function: function())
    sweep, runtime = SimpleNamespace(dir=str(tmp_path)), SimpleNamespace(cwd="/")
    mode = SimpleNamespace(name="MULTIRUN")
    config = SimpleNamespace(hydra=SimpleNamespace(mode=mode, sweep=sweep, runtime=runtime))
    callback = UpdateLeaderboard()
    write_run(tmp_path / "0", 0.5)
    callback.on_job_end(config)
    assert capsys.readouterr().out == ""
    with pytest.raises(SystemExit) as ended:
        callback.on_multirun_end(config)
    assert ended.value.code == 1  # the work is not whole
    said, error = capsys.readouterr()
    assert error == "error: leaderboard.csv could not be written, all else is there\n"
    assert "0.5000" in said
    assert f"\nthe leaderboard cannot be written: {tmp_path}/leaderboard.csv.part: No space left on device\n" in said


def test_damaged_records_do_not_end_a_sweep(tmp_path):
    write_run(tmp_path / "a", 0.5)
    for number, content in enumerate(["[]", "{}", "\x00", json.dumps({"status": 1, "config": 2, "config_hash": 3})]):
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / "result.json").write_text(content)
    Leaderboard(tmp_path).write()
    assert [row["run"] for row in rows_of(tmp_path)] == ["a"]


def test_a_config_that_ran_twice_counts_once_as_in_a_report(tmp_path):
    """lr=1e-3,0.001 is two jobs of one config."""
    for name, accuracy, knobs in (("a", 0.5, {"seed": 0}), ("b", 0.7, {"seed": 0}), ("c", 0.8, {"seed": 1}),
                                  ("d", 0.4, {"lr": 0.5})):  # fmt: skip
        write_run(tmp_path / name, accuracy, **knobs)
    Leaderboard(tmp_path).write()
    assert [(row["run"], row["n"], row["status"]) for row in rows_of(tmp_path)] == [
        ("a", "2", "done"), ("b", "2", "duplicate"), ("c", "2", "done"), ("d", "1", "done"),
    ]  # fmt: skip
    assert float(rows_of(tmp_path)[0]["objective_mean"]) == pytest.approx(0.65)
    for found in (Leaderboard(tmp_path).comparisons(), comparisons(read([tmp_path]))):
        assert [len(c.done) for c in found[0].finished] == [c.interval("objective").n for c in found[0].finished]
    assert "1  2  0.6500 ± 0.2121 (duplicate)" in table(Leaderboard(tmp_path).comparisons())


@pytest.mark.parametrize(
    ("more", "words"), [(0, ""), (1, "and 1 more configuration in"), (2, "and 2 more configurations in")]
)
def test_what_the_table_leaves_out_is_counted(more, words, tmp_path, monkeypatch):
    monkeypatch.setattr(leaderboard, "SHOWN", 1)
    for number in range(1 + more):
        write_run(tmp_path / str(number), 0.5, lr=0.1 + number)
    text = table(Leaderboard(tmp_path).comparisons())
    assert words in text
    assert ("more" in text) == bool(words)
