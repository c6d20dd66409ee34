"""A stack that does not fit, or that meets an error, is halved: a run fails alone, and what was trained is kept."""

import errno
import gc
import shutil
import weakref

import pytest
from grouped import Notes, crashed, log_of, result_of
from helpers import rows_of

from fmnist.launch.worker import train_group
from fmnist.record.record import Record
from fmnist.train.stack import Stack


class DefaultCPUAllocator(RuntimeError):
    """As torch raises it on a CPU: it has no error of its own kind."""

    def __init__(self):
        super().__init__("[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory")


@pytest.mark.few(2)
@pytest.mark.parametrize("error", [
    MemoryError, DefaultCPUAllocator, lambda: OSError(errno.EMFILE, "Too many open files"),
    lambda: RuntimeError("CUDA error: out of memory"), lambda: RuntimeError("can't start new thread"),
])  # fmt: skip
def test_a_stack_that_does_not_fit_is_collected_before_its_halves_begin(error, tmp_path, monkeypatch):
    configs, directories = crashed(tmp_path, monkeypatch, a=0, b=0, c=0)
    tried, there, states = [], [], []
    made, trained = Stack.__init__, Stack.train_epoch

    def noted(self, *given):
        there.append([stack() is not None for stack in tried].count(True))
        states.append([result_of(d)["status"] for d in directories if (d / "result.json").exists()])
        made(self, *given)
        tried.append(weakref.ref(self))

    def small(self, epoch):
        if len(self.configs) > 1:
            raise error()
        return trained(self, epoch)

    monkeypatch.setattr(Stack, "__init__", noted)
    monkeypatch.setattr(Stack, "train_epoch", small)
    notes = Notes()
    gc.disable()  # it must not happen by chance
    try:
        outcomes = train_group(configs, directories, listener=notes)
    finally:
        gc.enable()
    assert [outcome.error for outcome in outcomes] == [None] * 3
    assert notes.halves == [([0, 1, 2], "does not fit"), ([1, 2], "does not fit")]
    assert there[:2] == [0, 0]  # the first half began when nothing was left of the whole
    assert states[1] == ["interrupted"] * 3  # those that wait do not say that they failed
    assert [result_of(directory)["status"] for directory in directories] == ["done"] * 3
    assert [result_of(directory)["error"] for directory in directories] == [None] * 3
    for directory, halved in zip(directories, (1, 2, 2), strict=True):
        log = log_of(directory)
        assert "Traceback" not in log
        assert "failed" not in log
        assert log.count("does not fit") == halved


def test_a_single_run_that_does_not_fit_fails(tmp_path, monkeypatch):
    configs, directories = crashed(tmp_path, monkeypatch, a=0, b=0)

    def large(self, epoch):
        raise MemoryError

    monkeypatch.setattr(Stack, "train_epoch", large)
    outcomes = train_group(configs, directories)
    assert [outcome.error for outcome in outcomes] == ["too little memory (MemoryError)"] * 2
    assert [result_of(directory)["status"] for directory in directories] == ["failed"] * 2


@pytest.mark.few(2)
@pytest.mark.parametrize("does", ["add", "finish"])
@pytest.mark.parametrize("name", ["a", "c", "e"])
def test_an_error_of_one_run_fails_it_alone(name, does, tmp_path, monkeypatch):
    configs, directories = crashed(tmp_path, monkeypatch, a=0, b=0, c=0, d=0, e=0)
    as_it_is = getattr(Record, does)

    def broken(self, *given, **named):
        if self.directory.name == name:
            raise ValueError(f"{name} is no good")
        as_it_is(self, *given, **named)

    monkeypatch.setattr(Record, does, broken)
    notes = Notes()
    outcomes = train_group(configs, directories, listener=notes)
    expected = {run: f"ValueError: {run} is no good" if run == name else None for run in "abcde"}
    assert {run: outcome.error for run, outcome in zip("abcde", outcomes, strict=True)} == expected
    assert sorted(notes.ends) == [0, 1, 2, 3, 4]
    statuses = {run: result_of(tmp_path / run)["status"] for run in "abcde"}
    assert statuses == {run: "failed" if run == name else "done" for run in "abcde"}
    for run in "abcde":
        log = log_of(tmp_path / run)
        assert ("Traceback" in log) is (run == name)
        assert f"a stack met an error (ValueError: {name} is no good): it is halved" in log


def test_runs_whose_directories_are_deleted_or_damaged_while_they_train_take_no_other_with_them(tmp_path, monkeypatch):
    configs, directories = crashed(tmp_path, monkeypatch, a=0, b=0, c=0, d=0)
    trained = Stack.train_epoch

    def disturbed(self, epoch):
        if epoch == 4 and len(self.configs) == 4:
            shutil.rmtree(tmp_path / "a")
            (tmp_path / "c" / "metrics.jsonl").unlink()
            (tmp_path / "c" / "metrics.jsonl").mkdir()
        return trained(self, epoch)

    monkeypatch.setattr(Stack, "train_epoch", disturbed)
    outcomes = train_group(configs, directories)
    assert [outcome.error is None for outcome in outcomes] == [True, True, False, True]
    assert "Is a directory" in outcomes[2].error
    for run in "abd":
        assert [row["epoch"] for row in rows_of(tmp_path / run)] == [1, 2, 3, 4, 5, 6]


def test_what_was_trained_before_an_error_of_all_runs_is_not_trained_again(tmp_path, monkeypatch):
    configs, directories = crashed(tmp_path, monkeypatch, a=0, b=0, c=0, d=0)
    trained, done = [], Stack.train_epoch

    def noted(self, epoch):
        trained.append((len(self.configs), epoch))
        if epoch == 5:
            raise ValueError("too many epochs")
        return done(self, epoch)

    monkeypatch.setattr(Stack, "train_epoch", noted)
    outcomes = train_group(configs, directories)
    assert [outcome.error for outcome in outcomes] == ["ValueError: too many epochs"] * 4
    assert trained == [(4, 1), (4, 2), (4, 3), (4, 4), (4, 5), (2, 5), (1, 5), (1, 5), (2, 5), (1, 5), (1, 5)]


def test_the_other_of_two_runs_is_tried_alone_when_one_has_diverged(tmp_path, monkeypatch):
    configs, directories = crashed(tmp_path, monkeypatch, a=0, b=0)
    trained = Stack.train_epoch

    def scarce(self, epoch):
        metrics = trained(self, epoch)
        if len(self.configs) == 2:
            if epoch == 2:
                raise MemoryError
            metrics["train/loss"][0] = float("nan")
        return metrics

    monkeypatch.setattr(Stack, "train_epoch", scarce)
    outcomes = train_group(configs, directories)
    assert outcomes[0].error.startswith("train/loss is nan in epoch 1")
    assert outcomes[1].error is None
    assert [result_of(directory)["status"] for directory in directories] == ["failed", "done"]
