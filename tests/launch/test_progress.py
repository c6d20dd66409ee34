"""How far a sweep has come: counted by epochs from what was done before; a pipe gets a line a minute."""

import json
import logging

import pytest
from helpers import make_config

from fmnist.launch.progress import Progress
from fmnist.record.result import Outcome


class Clock:
    """Stands still until it is told the time."""

    now = 100.0

    def __call__(self):
        return self.now


DONE, FAILED = Outcome(0.5, {}), Outcome(None, {}, "too bad")


def test_it_starts_at_what_is_done_and_ends_full():
    ended = []
    with Progress([10, 10, 4], [3, 0, 4], 20, lambda run, outcome: ended.append((run, outcome))) as progress:

        def counted():
            return progress.before + sum(progress.epochs)

        assert (counted(), progress.share) == (27, 27 / 44)
        progress.reached([0], 4)
        progress.reached([1], 1)
        progress.reached([1], 2)
        assert counted() == 30
        progress.reached([0, 1], 1)  # a stack that was halved goes on from an older checkpoint
        assert counted() == 30
        progress.reached([0, 1], 5)
        assert counted() == 34
        progress.ended(2, DONE)
        progress.ended(0, FAILED)  # long before its end
        progress.reached([0, 1], 10)
        progress.ended(1, DONE)
        assert progress.share == 1
    assert ended == [(2, DONE), (0, FAILED), (1, DONE)]


def test_a_run_that_is_beyond_its_pause_does_not_count_twice():
    with Progress([15, 15], [30, 0], 20, lambda run, outcome: None) as progress:
        assert progress.share == 35 / 50
        progress.ended(0, DONE)
        progress.ended(1, DONE)
        assert progress.share == 1


def test_without_a_terminal_there_is_a_line_a_minute(caplog):
    caplog.set_level(logging.INFO)
    clock = Clock()
    with Progress([50, 50], [0, 10], 100, lambda run, outcome: None, clock, done=2) as progress:
        progress.planned([[0], [1]], 1)
        progress.handed("worker", [0])
        for second in range(1, 151):
            clock.now = 100.0 + second
            if second <= 40:
                progress.reached([0], second)
            progress.look()
        progress.ended(0, FAILED)
        clock.now = 290.0
        progress.look()
    assert [record.getMessage() for record in caplog.records] == [
        "150 of 200 epochs (75%); 2 done, 1 training, 1 waiting; about 40 s left",
        "150 of 200 epochs (75%); 2 done, 1 training, 1 waiting; about 40 s left",
        "160 of 200 epochs (80%); 2 done, 1 failed, 1 waiting; about 2 min left",
    ]


def test_before_the_first_epoch_no_time_is_foretold(caplog):
    caplog.set_level(logging.INFO)
    clock = Clock()
    with Progress([5], [0], 0, lambda run, outcome: None, clock) as progress:
        clock.now += 61
        progress.look()
    assert [record.getMessage() for record in caplog.records] == ["0 of 5 epochs (0%); 1 waiting"]


@pytest.fixture
def rows(tmp_path):
    """Two runs of different models, and what appends a row to the record of one of them."""

    def write(run, text):
        (tmp_path / str(run)).mkdir(exist_ok=True)
        with open(tmp_path / str(run) / "metrics.jsonl", "a", encoding="utf-8") as file:
            file.write(text if isinstance(text, str) else json.dumps(text) + "\n")

    configs = [make_config(epochs=9), make_config("autoencoder", epochs=9, loss="mse")]
    clock = Clock()
    progress = Progress([9, 9], [0, 0], 0, lambda run, outcome: None, clock, ["a", "b"], configs,
                        [tmp_path / "0", tmp_path / "1"])  # fmt: skip
    progress.planned([[0], [1]], 2)
    return progress, write, clock


def test_the_best_so_far_is_read_in_the_rows_of_the_runs_by_the_name_of_its_metric(rows):
    progress, write, clock = rows
    write(0, {"epoch": 1, "validation/accuracy": 0.7})
    write(0, {"epoch": 2, "validation/accuracy": 0.9})
    write(0, '{"epoch": 3, "validation/accuracy": 0.99}')  # it is being written
    write(1, {"epoch": 1, "validation/loss": 30.0})
    write(1, "damaged\n")
    write(1, {"epoch": 2, "validation/loss": None})
    clock.now += 2
    progress.look()
    assert progress.epochs == [2, 2]  # the second epoch of b has no loss that is defined
    assert "best validation accuracy 0.9000 (a), validation loss 30.0000 (b)" in progress.line()
    write(0, "\n")
    write(1, {"epoch": 3, "validation/loss": 20.0})
    clock.now += 2
    progress.look()
    assert "best validation accuracy 0.9900 (a), validation loss 20.0000 (b)" in progress.line()
    assert progress.counts() == {"done": 0, "failed": 0, "training": 2, "waiting": 0}
    progress.ended(0, Outcome(0.5, {}))
    assert "0.9900 (a)" in progress.line()  # the best of its epochs


def test_rows_that_were_written_anew_are_read_anew(rows, tmp_path):
    progress, write, clock = rows
    for epoch in range(1, 5):
        write(0, {"epoch": epoch, "validation/accuracy": 0.1 * epoch})
    clock.now += 2
    progress.look()
    (tmp_path / "0" / "metrics.jsonl").unlink()  # as of a run that goes on from an older checkpoint
    write(0, {"epoch": 1, "validation/accuracy": 0.8})
    clock.now += 2
    progress.look()
    assert progress.bests.found["validation/accuracy"] == (0.8, "a")
    assert progress.epochs[0] == 4


def test_what_several_runs_remark_is_said_once_in_a_sweep(caplog):
    told = set()
    for _ in range(2):
        with Progress([5, 5], [0, 0], 0, lambda run, outcome: None, Clock(), remarks=told) as progress:
            for text in ("rows lack class 1", "rows lack class 1", "another"):
                progress.remarked(text)
    assert [record.getMessage() for record in caplog.records] == ["rows lack class 1", "another"]
