"""A pool of workers that die at bad moments or cannot be started; puppets stand in for processes."""

import errno
import json
import logging
import os
import signal
from multiprocessing import Pipe

import pytest

from fmnist import UserError
from fmnist.launch import pool as module
from fmnist.launch.pool import Task, Workers
from fmnist.launch.progress import Progress
from fmnist.launch.trouble import Trouble, Unmeasured, trouble
from fmnist.record.result import Outcome

DONE = Outcome(0.5, {})


class Silent:
    """A worker's place that only answers what it is told to."""

    def __init__(self, answer):
        self.connection, self.answer = self, answer
        self.device = None

    def send(self, question):
        """Nothing is done with it."""

    def recv(self):
        return self.answer


@pytest.mark.parametrize(("answer", "expected"), [
    (("answer", 2), 2), (("answer", 0), 0), (("error", trouble(RuntimeError("CUDA driver is too old"))), 0),
])  # fmt: skip
def test_devices_that_torch_cannot_count_are_none(answer, expected, monkeypatch):
    monkeypatch.setattr(module, "_has_driver", lambda: True)
    pool = Workers()
    pool.workers = [Silent(answer)]
    assert pool.cuda_devices() == expected
    assert pool.workers[0].device == (0 if expected else None)


def test_a_new_worker_gets_the_device_of_the_one_that_has_died(monkeypatch):
    monkeypatch.setattr(module, "Worker", lambda device, server: Placed(device))
    pool = Workers()
    pool.grow(2)
    assert [worker.device for worker in pool.workers] == [None, None]
    pool.workers, pool.devices = [], 3
    pool.grow(5)
    assert [worker.device for worker in pool.workers] == [0, 1, 2, 0, 1]
    del pool.workers[2]
    pool.grow(5)
    assert sorted(worker.device for worker in pool.workers) == [0, 0, 1, 1, 2]


class Placed:
    """A worker of which only the device matters."""

    def __init__(self, device):
        self.device = device


def test_of_several_answers_the_slowest_counts_and_one_error_is_enough():
    pool = Workers()
    pool.workers = [Silent(("answer", 0.1)), Silent(("answer", 0.3))]
    assert pool.pace([], 2, 1) == 0.3
    pool.workers.append(Silent(("error", Trouble("MemoryError", too_large=True))))
    with pytest.raises(Unmeasured, match="MemoryError") as refused:
        pool.pace([], 3, 1)
    assert refused.value.too_large


class Puppet:
    """A worker that trains one run after another. dies(configs): how it dies of such a stack, "" if it does not;
    dead: it has died already."""

    def __init__(self, dies=lambda configs: "", dead=""):
        self.dies, self.how, self.device, self.task = dies, dead, None, None
        self.connection, (self.ours, self.theirs) = self, Pipe()
        self.given = []

    def send(self, message):
        if self.how:
            raise BrokenPipeError
        _, configs, *_ = message
        self.given.append(list(configs))
        self.how = self.dies(configs)
        for place in range(len(configs) if not self.how else 0):
            self.theirs.send(("ended", place, DONE))
        self.theirs.send(("answer", [])) if not self.how else self.theirs.close()

    def fileno(self):
        return self.ours.fileno()

    def recv(self):
        return self.ours.recv()

    def close(self):
        self.ours.close()
        return self.how


class Stage:
    """A pool whose workers are these, one after another; an exception is raised instead of a start."""

    def __init__(self, monkeypatch, folder, *workers):
        self.folder, self.coming, self.ended = folder, list(workers), {}
        self.pool = Workers()
        monkeypatch.setattr(module, "Worker", self._start)

    def _start(self, device, server):
        coming = self.coming.pop(0)
        if isinstance(coming, Exception):
            raise coming
        return coming

    def train(self, *stacks, workers=1):
        """The errors of the runs by name; the stacks are their names."""
        names = "".join(stacks)
        tasks = [Task(list(stack), [self.folder / name for name in stack], [names.index(name) for name in stack])
                 for stack in stacks]  # fmt: skip
        with Progress([1] * len(names), [0] * len(names), 0, self.ended.__setitem__) as progress:
            assert self.pool.train(tasks, workers, 1, progress) is None
        return {names[run]: outcome.error for run, outcome in sorted(self.ended.items())}


KILLED = "its worker process died (signal 9)"
NONE = OSError(errno.EMFILE, "Too many open files")


def record(folder, name, status="running"):
    (folder / name).mkdir()
    result = {"status": status, "error": None, "epoch": 1, "config": {}, "config_hash": "", "metrics": {}}
    (folder / name / "result.json").write_text(json.dumps(result), encoding="utf-8")


def status_of(folder, name):
    result = json.loads((folder / name / "result.json").read_text(encoding="utf-8"))
    return result["status"], result["error"]


def test_a_worker_that_is_killed_costs_the_one_run_that_is_too_large(monkeypatch, tmp_path, caplog):
    def dies(configs):
        return "signal 9" if "c" in configs else ""

    puppets = [Puppet(dies) for _ in range(9)]
    for name in "abcdef":
        record(tmp_path, name)
    stage = Stage(monkeypatch, tmp_path, *puppets)
    assert stage.train("abcd", "ef") == dict.fromkeys("abdef") | {"c": KILLED}
    given = [stack for puppet in puppets for stack in puppet.given]
    assert ["".join(stack) for stack in given] == ["abcd", "ef", "ab", "cd", "c", "d"]  # what is halved comes last
    assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == [
        f"a stack of 4 runs, 0 to 3, was cut off: they go on as stacks of 2 and 2 ({KILLED})",
        f"a stack of 2 runs, 2 to 3, was cut off: they go on as stacks of 1 and 1 ({KILLED})",
    ]  # fmt: skip
    assert status_of(tmp_path, "c") == ("interrupted", KILLED)
    log = (tmp_path / "c" / "train.log").read_text(encoding="utf-8")
    assert log.endswith(f"error: {KILLED}\n")
    assert log.count("it is halved") == 2
    assert not (tmp_path / "e" / "train.log").exists()


def test_a_worker_that_ends_by_itself_is_no_reason_to_try_again(monkeypatch, tmp_path):
    stage = Stage(monkeypatch, tmp_path, Puppet(lambda configs: "status 1"), Puppet())
    reason = "its worker process died (status 1)"
    assert stage.train("ab", "c") == {"a": reason, "b": reason, "c": None}


def test_runs_that_were_given_to_a_dead_worker_are_given_to_another_once(monkeypatch, tmp_path):
    stage = Stage(monkeypatch, tmp_path, Puppet(dead="signal 9"), Puppet())
    assert stage.train("a", "b") == {"a": None, "b": None}
    stage = Stage(monkeypatch, tmp_path, *(Puppet(dead="status 1") for _ in range(4)))
    reason = "its worker process died (status 1)"
    assert stage.train("a", "b") == {"a": reason, "b": reason}


@pytest.mark.parametrize("error", [NONE, BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")])
def test_with_fewer_workers_than_are_wanted_the_sweep_goes_on(error, monkeypatch, tmp_path, caplog):
    caplog.set_level(logging.WARNING)
    stage = Stage(monkeypatch, tmp_path, Puppet(), Puppet(), error)
    assert stage.train("a", "b", "c", "d", workers=5) == dict.fromkeys("abcd")
    assert [r.getMessage() for r in caplog.records] == [f"2 of 5 worker processes can be started: {error.strerror}"]


def test_without_any_worker_it_is_one_line_or_the_error_of_the_runs_that_wait(monkeypatch, tmp_path):
    stage = Stage(monkeypatch, tmp_path, NONE)
    with pytest.raises(UserError, match=r"^0 of 3 worker processes can be started: Too many open files$"):
        stage.pool.grow(3)
    stage = Stage(monkeypatch, tmp_path, Puppet(lambda configs: "status 1" if "b" in configs else ""), NONE)
    none = "0 of 1 worker processes can be started: Too many open files"
    expected = {"a": None, "b": "its worker process died (status 1)", "c": none, "d": none}
    assert stage.train("a", "b", "c", "d") == expected


def test_a_pace_with_fewer_workers_than_are_asked_for_is_none(monkeypatch, tmp_path):
    stage = Stage(monkeypatch, tmp_path, Puppet(), NONE)
    with pytest.raises(Unmeasured, match="1 of 2 worker processes can be started") as refused:
        stage.pool.pace([], 2, 1)
    assert refused.value.too_large


def test_a_pool_that_is_closed_leaves_no_record_that_says_that_it_trains(monkeypatch, tmp_path):
    record(tmp_path, "a")
    record(tmp_path, "b", "done")
    stage = Stage(monkeypatch, tmp_path, Puppet(), Puppet())
    stage.pool.grow(2)
    stage.pool.workers[0].task = Task(["a", "b"], [tmp_path / "a", tmp_path / "b"], [0, 1])
    stage.pool.close()
    assert not stage.pool.workers
    assert status_of(tmp_path, "a") == ("interrupted", "the command that trained it ended")
    assert status_of(tmp_path, "b") == ("done", None)


def test_surplus_workers_are_ended(monkeypatch, tmp_path):
    puppets = [Puppet() for _ in range(4)]
    stage = Stage(monkeypatch, tmp_path, *puppets)
    stage.pool.grow(4)
    stage.pool.shrink(1)
    assert stage.pool.workers == puppets[:1]
    assert [puppet.ours.closed for puppet in puppets] == [False, True, True, True]


def test_a_worker_that_dies_while_it_counts_devices_is_no_error(monkeypatch, tmp_path):
    monkeypatch.setattr(module, "_has_driver", lambda: True)
    stage = Stage(monkeypatch, tmp_path, Puppet(dead="signal 6"))
    stage.pool.workers = [Dying()]
    assert stage.pool.cuda_devices() == 0
    assert not stage.pool.workers


class Dying(Silent):
    """A worker that dies of what it is asked."""

    def __init__(self):
        super().__init__(None)

    def recv(self):
        raise EOFError

    def close(self):
        return "signal 6"


def test_no_two_workers_have_the_same_device_when_one_was_replaced(monkeypatch):
    monkeypatch.setattr(module, "_has_driver", lambda: True)
    pool = Workers()
    pool.workers, pool.devices = [Silent(("answer", 3)) for _ in range(3)], 3
    for worker, device in zip(pool.workers, (1, 2, None), strict=True):
        worker.device = device  # that of device 0 has died
    assert pool.cuda_devices() == 3
    assert [worker.device for worker in pool.workers] == [1, 2, 0]


def test_a_signal_that_comes_while_workers_start_ends_training_before_it_begins(monkeypatch, tmp_path):
    stage = Stage(monkeypatch, tmp_path, Puppet())
    puppet = stage.coming[0]
    monkeypatch.setattr(module, "Worker", lambda device, server: os.kill(os.getpid(), signal.SIGINT) or puppet)
    puppet.process = Interrupted()
    with Progress([1], [0], 0, stage.ended.__setitem__) as progress:
        assert stage.pool.train([Task(["a"], [tmp_path / "a"], [0])], 1, 1, progress) == signal.SIGINT
    assert not puppet.given
    assert not stage.ended


class Interrupted:
    """A process that takes signals."""

    def send_signal(self, sig):
        """Nothing is done with it."""


def test_a_worker_that_halves_its_stack_has_it_said(monkeypatch, tmp_path, caplog):
    class Halving(Puppet):
        def send(self, message):
            self.theirs.send(("halved", [0, 1, 2], "does not fit", "too little memory"))
            super().send(message)

    assert Stage(monkeypatch, tmp_path, Halving()).train("abc") == dict.fromkeys("abc")
    words = "a stack of 3 runs, 0 to 2, does not fit: they go on as stacks of 1 and 2 (too little memory)"
    assert caplog.messages == [words]
