"""How far a sweep has come: the bar begins at what is done and ends full; a pipe gets a line a minute."""

import logging
from contextlib import contextmanager

import pytest

from fmnist.launch import progress as module
from fmnist.launch.progress import Progress
from fmnist.record.result import Outcome


class Bar:
    """A bar as tqdm's; disable: there is no terminal."""

    def __init__(self, total, start, disable):
        self.total, self.n, self.disable = total, start, disable

    def update(self, gained):
        self.n += gained


@pytest.fixture(params=[False, True], ids=["terminal", "pipe"])
def bars(request, monkeypatch):
    made = []

    @contextmanager
    def bar(total, start):
        made.append(Bar(total, start, request.param))
        yield made[-1]

    monkeypatch.setattr(module, "progress", bar)
    return made


class Clock:
    """Stands still until it is told the time."""

    now = 100.0

    def __call__(self):
        return self.now


DONE, FAILED = Outcome(0.5, {}), Outcome(None, {}, "too bad")


def test_the_bar_starts_at_what_is_done_and_ends_full(bars):
    ended = []
    with Progress([10, 10, 4], [3, 0, 4], 20, lambda run, outcome: ended.append((run, outcome))) as progress:
        (bar,) = bars
        assert (bar.n, bar.total) == (27, 44)
        progress.reached([0], 4)
        progress.reached([1], 1)
        progress.reached([1], 2)
        assert bar.n == 30
        progress.reached([0, 1], 1)  # a stack that was halved goes on from an older checkpoint
        assert bar.n == 30
        progress.reached([0, 1], 5)
        assert bar.n == 34
        progress.ended(2, DONE)
        progress.ended(0, FAILED)  # long before its end
        progress.reached([0, 1], 10)
        progress.ended(1, DONE)
        assert bar.n == bar.total == 44
    assert ended == [(2, DONE), (0, FAILED), (1, DONE)]


def test_a_run_that_is_beyond_its_pause_does_not_count_twice(bars):
    with Progress([15, 15], [30, 0], 20, lambda run, outcome: None) as progress:
        (bar,) = bars
        assert (bar.n, bar.total) == (35, 50)
        progress.ended(0, DONE)
        progress.ended(1, DONE)
        assert bar.n == bar.total


def test_without_a_terminal_there_is_a_line_a_minute(bars, caplog):
    caplog.set_level(logging.INFO)
    clock = Clock()
    with Progress([50, 50], [0, 10], 100, lambda run, outcome: None, clock) as progress:
        for second in range(1, 151):
            clock.now = 100.0 + second
            if second <= 40:
                progress.reached([0], second)
            progress.look()
        progress.ended(0, DONE)
        clock.now = 290.0
        progress.look()
    lines = [record.getMessage() for record in caplog.records]
    assert lines == ([] if not bars[0].disable else [
        "150 of 200 epochs (75%), 0 of 2 runs ended, about 75 s left",
        "150 of 200 epochs (75%), 0 of 2 runs ended, about 2 min left",
        "160 of 200 epochs (80%), 1 of 2 runs ended, about 3 min left",
    ])  # fmt: skip


def test_before_the_first_epoch_no_time_is_foretold(bars, caplog):
    caplog.set_level(logging.INFO)
    clock = Clock()
    with Progress([5], [0], 0, lambda run, outcome: None, clock) as progress:
        clock.now += 61
        progress.look()
    assert [record.getMessage() for record in caplog.records] == (
        ["0 of 5 epochs (0%), 0 of 1 run ended"] if bars[0].disable else []
    )


def test_what_several_runs_remark_is_said_once_in_a_sweep(bars, caplog):
    told = set()
    for _ in range(2):
        with Progress([5, 5], [0, 0], 0, lambda run, outcome: None, Clock(), remarks=told) as progress:
            for text in ("rows lack class 1", "rows lack class 1", "another"):
                progress.remarked(text)
    assert [record.getMessage() for record in caplog.records] == ["rows lack class 1", "another"]
