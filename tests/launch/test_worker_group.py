"""A group of runs that is trained together: what goes wrong with one run, or with a whole stack, and what is kept."""

import errno
import os
import subprocess
import sys
import weakref
from multiprocessing import Pipe

import pytest
from grouped import Notes, crashed, log_of, result_of
from helpers import assert_same_run, make_config, tiny

from fmnist import ROOT, UserError
from fmnist.launch.runs import run_log
from fmnist.launch.trouble import trouble
from fmnist.launch.worker import _Sender, train_group
from fmnist.record.record import Record
from fmnist.record.result import Outcome
from fmnist.train import engine
from fmnist.train.stack import Stack


def test_runs_stopped_at_different_epochs_go_on_and_one_with_a_bad_checkpoint_fails_alone(tmp_path, monkeypatch):
    configs, directories = crashed(tmp_path, monkeypatch, a=3, b=5, c=0, d=3, e=4)
    (tmp_path / "e" / "last.safetensors").write_bytes(b"nothing")
    notes = Notes()
    outcomes = train_group(configs, directories, listener=notes)
    assert [outcome.error is None for outcome in outcomes] == [True, True, True, True, False]
    assert "last.safetensors is damaged" in outcomes[4].error
    assert "last.safetensors is damaged" in log_of(tmp_path / "e")
    assert sorted(notes.ends) == [0, 1, 2, 3, 4]
    assert [epoch for runs, epoch in notes.epochs if runs == [0, 3]] == [3, 4, 5, 6]
    for config, directory in zip(configs[:4], directories, strict=False):
        engine.fit([config], [tmp_path / "solo" / directory.name])
        assert_same_run(directory, tmp_path / "solo" / directory.name, rel=1e-9, abs=1e-9)


def test_a_run_whose_files_cannot_be_read_fails_alone(tmp_path, monkeypatch):
    configs, directories = crashed(tmp_path, monkeypatch, a=0, b=3)
    (tmp_path / "b" / "last.safetensors").unlink()
    (tmp_path / "b" / "last.safetensors").mkdir()
    outcomes = train_group(configs, directories)
    assert outcomes[0].error is None
    assert outcomes[1].error
    assert "error: " in log_of(tmp_path / "b")


def test_what_goes_wrong_with_a_stack_is_in_the_log_and_the_outcome_of_each_run(tmp_path, monkeypatch):
    configs, directories = crashed(tmp_path, monkeypatch, a=0, b=0)

    def broken(self, epoch):
        raise RuntimeError("no such kernel\nExceptionRaisedFrom ...")

    monkeypatch.setattr(Stack, "train_epoch", broken)
    outcomes = train_group(configs, directories)
    assert [outcome.error for outcome in outcomes] == ["RuntimeError: no such kernel"] * 2
    for directory in directories:
        log = log_of(directory)
        assert log.count("Traceback") == 1
        assert "in broken" in log
        assert log.endswith("error: RuntimeError: no such kernel\n")
        assert result_of(directory)["status"] == "failed"


def test_a_run_whose_record_could_not_be_closed_does_not_say_that_it_trains(tmp_path, monkeypatch):
    configs, directories = crashed(tmp_path, monkeypatch, a=0, b=0)
    saved = Record.save

    def full(self, **changes):
        if self.result["epoch"] or changes.get("status"):
            raise OSError(errno.ENOSPC, "No space left on device")
        saved(self, **changes)

    monkeypatch.setattr(Record, "save", full)
    outcomes = train_group(configs, directories)
    assert [outcome.error for outcome in outcomes] == ["OSError: [Errno 28] No space left on device"] * 2
    for directory in directories:
        assert (result_of(directory)["status"], result_of(directory)["error"]) == ("failed", outcomes[0].error)


def test_a_damaged_record_fails_its_run_alone(tmp_path, monkeypatch):
    configs, directories = crashed(tmp_path, monkeypatch, a=0, b=0)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "result.json").write_text("{", encoding="utf-8")
    outcomes = train_group(configs, directories)
    assert outcomes[0].error is None
    assert "result.json is damaged" in outcomes[1].error
    assert "halved" not in log_of(tmp_path / "a")


def test_a_mistake_in_the_data_is_the_line_of_a_single_run(tmp_path):
    tiny(tmp_path)
    (tmp_path / "train-labels-idx1-ubyte").unlink()
    configs = [make_config(data="idx", seed=seed, epochs=1, **{"data.dir": str(tmp_path)}) for seed in (0, 1)]
    directories = [tmp_path / "a", tmp_path / "b"]
    outcomes = train_group(configs, directories)
    expected = f"{tmp_path}: holds no train-labels-idx1-ubyte, raw or .gz"
    assert [outcome.error for outcome in outcomes] == [expected] * 2
    for directory in directories:
        assert [line.partition("] ")[2] for line in log_of(directory).splitlines()] == [f"error: {expected}"]


MANY = """
import resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (128, 128))
sys.path.insert(0, "tests")
from pathlib import Path
from helpers import make_config
from fmnist.launch.worker import train_group
from fmnist.train.stack import Stack

sizes, made = [], Stack.__init__
def noted(self, configs, *given):
    sizes.append(len(configs))
    made(self, configs, *given)
Stack.__init__ = noted
knobs = {"model.hidden": [2], "data.limit": 20}
configs = [make_config(seed=seed, epochs=2, batch_size=8, **knobs) for seed in range(200)]
outcomes = train_group(configs, [Path(sys.argv[1]) / str(run) for run in range(200)])
assert [outcome.error for outcome in outcomes] == [None] * 200, outcomes
print(sizes)
"""


@pytest.mark.long
def test_two_hundred_runs_in_one_stack_need_few_open_files(tmp_path):
    done = subprocess.run([sys.executable, "-c", MANY, str(tmp_path)], cwd=ROOT, capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "[200]\n"
    logs = [path.read_text(encoding="utf-8") for path in tmp_path.glob("*/train.log")]
    assert len(logs) == 200
    assert all("epoch 2/2" in log for log in logs)


def test_a_log_is_open_only_while_a_line_is_written(tmp_path):
    before = len(os.listdir("/proc/self/fd"))
    for run in range(3):
        run_log(tmp_path / str(run)).info("epoch 1")
    assert len(os.listdir("/proc/self/fd")) == before
    assert all("epoch 1" in log_of(tmp_path / str(run)) for run in range(3))


def test_a_log_that_cannot_be_written_is_one_warning_and_training_goes_on(tmp_path, monkeypatch, capsys):
    configs, directories = crashed(tmp_path, monkeypatch, a=0)
    (tmp_path / "a" / "train.log").mkdir(parents=True)
    (outcome,) = train_group(configs, directories)
    assert outcome.error is None
    assert capsys.readouterr().err == f"warning: {tmp_path / 'a' / 'train.log'} cannot be written: Is a directory\n"


def test_a_worker_whose_command_has_ended_ends_too_and_fails_no_run(monkeypatch):
    def leaves(status):
        raise SystemExit(status)

    monkeypatch.setattr(os, "_exit", leaves)
    ours, theirs = Pipe()
    ours.close()
    for tell in (lambda sender: sender.reached([0], 1), lambda sender: sender.ended(0, Outcome(0.5, {}))):
        with pytest.raises(SystemExit):
            tell(_Sender(theirs))


def test_trouble_keeps_nothing_alive_of_where_it_happened():
    class Large:
        """Something that a frame holds."""

    def fails():
        large = Large()
        kept.append(weakref.ref(large))
        raise MemoryError("too much")

    kept = []
    try:
        fails()
    except MemoryError as error:
        wrong = trouble(error)
    assert kept[0]() is None
    assert wrong.too_large
    assert wrong.text == "too little memory (MemoryError: too much)"


@pytest.mark.parametrize(("error", "text", "too_large", "traced"), [
    (UserError("lr must be"), "lr must be", False, False), (ValueError(), "ValueError", False, True),
    (OSError(errno.ENOSPC, "No space left on device"), "OSError: [Errno 28] No space left on device", False, False),
    (OSError(errno.ENOSPC, "No space left", "/a/last.safetensors"), "/a/last.safetensors: No space left", False, False),
    (OSError(errno.EMFILE, "Too many open files", "/a"), "/a: Too many open files", True, False),
    (ImportError("Cannot find it"), "ImportError: Cannot find it", False, True),
    (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried\n#0"),
     "too little memory (RuntimeError: DefaultCPUAllocator: can't allocate memory: you tried)", True, False),
    (RuntimeError("shapes cannot be multiplied\nmore"), "RuntimeError: shapes cannot be multiplied", False, True),
])  # fmt: skip
def test_trouble_is_one_line(error, text, too_large, traced):
    wrong = trouble(error)
    assert (wrong.text, wrong.too_large, bool(wrong.trace)) == (text, too_large, traced)


@pytest.mark.parametrize("kind", [RuntimeError, ImportError])
@pytest.mark.parametrize("words", ["std::bad_alloc", "unable to mmap 4096 bytes: Cannot allocate memory (12)"])
def test_trouble_with_memory_is_known_by_its_words(kind, words):
    assert trouble(kind(words)).too_large
