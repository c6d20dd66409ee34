"""Power may fail at any moment: what is on the disk then is enough to go on, and a hole in it is told."""

import errno
import os
import signal
from pathlib import Path

import pytest
from helpers import SMALL, Crash, assert_same_run, crash_in, make_config, rows_of

from fmnist.launch.runs import corrected
from fmnist.record.record import Record
from fmnist.record.result import read_result
from fmnist.train import engine

KNOBS = {**SMALL, "data.limit": 60, "batch_size": 16, "model.hidden": [5], "dropout": 0.2, "precision": "float32"}


def fit(directory, **knobs):
    return engine.fit([make_config(**{**KNOBS, **knobs})], [directory])


@pytest.fixture
def seen(monkeypatch):
    """What is done to the disk, in order: ("row", file), ("fsync", file or folder), ("replace", file)."""
    events, fsync, replace, add = [], os.fsync, os.replace, Record.add

    def watched_fsync(descriptor):
        events.append(("fsync", Path(os.readlink(f"/proc/self/fd/{descriptor}")).name))
        fsync(descriptor)

    def watched_replace(source, target):
        events.append(("replace", Path(target).name))
        replace(source, target)

    def watched_add(self, epoch, metrics):
        add(self, epoch, metrics)
        events.append(("row", self.rows.name))

    monkeypatch.setattr(os, "fsync", watched_fsync)
    monkeypatch.setattr(os, "replace", watched_replace)
    monkeypatch.setattr(Record, "add", watched_add)
    return events


@pytest.mark.parametrize("save_every", [0.0, 3600.0])
def test_what_a_file_tells_of_is_on_the_disk_before_it(save_every, tmp_path, seen):
    fit(tmp_path / "run", save_every=save_every, figures=True)
    record = {"metrics.jsonl", "mistakes.json", "result.json", "last.safetensors", "best.safetensors"}
    replaced = [name for what, name in seen if what == "replace"]
    assert record <= set(replaced)
    for place, (what, name) in enumerate(seen):
        if what != "replace" or name not in record:  # the projector's files have a folder of their own
            continue
        assert seen[place - 1] == ("fsync", f"{name}.part")  # its content, then its name
        assert seen[place + 1] == ("fsync", "run")
        rows = max((at for at in range(place) if seen[at] == ("row", "metrics.jsonl")), default=-1)
        if name in ("last.safetensors", "result.json") and rows >= 0:
            assert ("fsync", "metrics.jsonl") in seen[rows:place]
    started = replaced.index("last.safetensors")
    saves = "".join({"last.safetensors": "l", "result.json": "r"}.get(name, "") for name in replaced[started:])
    assert saves == "lr" * (len(saves) // 2) + "r"  # a result never tells of more than the checkpoint has; "done" last


def test_a_hole_in_the_rows_is_told(tmp_path, monkeypatch, caplog):
    with monkeypatch.context() as patch:
        crash_in(patch, 3)
        with pytest.raises(Crash):
            fit(tmp_path)
    rows = (tmp_path / "metrics.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    (tmp_path / "metrics.jsonl").write_text(rows[0], encoding="utf-8")
    fit(tmp_path)
    (warning,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert warning.endswith("metrics.jsonl: rows are missing or damaged, the first of epoch 2")
    assert [row["epoch"] for row in rows_of(tmp_path)] == [1, 3]


@pytest.mark.parametrize("eval_every", [1, 2])
def test_rows_without_a_hole_are_not_remarked_on(eval_every, tmp_path, monkeypatch, caplog):
    with monkeypatch.context() as patch:
        crash_in(patch, 4)
        with pytest.raises(Crash):
            fit(tmp_path, epochs=5, eval_every=eval_every)
    fit(tmp_path, epochs=5, eval_every=eval_every)
    assert not [record for record in caplog.records if record.levelname == "WARNING"]


def at_call(monkeypatch, number, fault=None):
    """Let a fault happen at the call of that number to the disk, and at no other; a list of all calls."""
    calls = []

    def of(original):
        def call(*arguments):
            calls.append(original)
            if number == len(calls) - 1:
                fault(number)
            return original(*arguments)

        return call

    for name in ("fsync", "replace"):
        monkeypatch.setattr(os, name, of(getattr(os, name)))
    return calls


def crash(_):
    raise Crash


def refused(number):
    code = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)[number % 4]
    raise OSError(code, os.strerror(code))


def signals(_):
    for _ in range(2):
        os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.few(1)
@pytest.mark.parametrize(("fault", "status"), [(crash, "running"), (refused, "failed"), (signals, "interrupted")])
def test_after_a_fault_at_any_moment_the_run_goes_on_to_what_it_would_have_been(fault, status, tmp_path, monkeypatch):
    fit(tmp_path / "straight")
    with monkeypatch.context() as patch:
        calls = at_call(patch, None)
        fit(tmp_path / "counted")
    assert len(calls) > 40
    for number in range(len(calls)):
        directory = tmp_path / str(number)
        with monkeypatch.context() as patch:
            at_call(patch, number, fault)
            ended = None
            try:
                with corrected(directory):
                    fit(directory)
            except (Crash, OSError, SystemExit) as caught:
                ended = caught
        if (directory / "result.json").exists():
            if fault is refused:
                ends = {status} if ended else {status, "done"}
            else:  # the last file to be replaced is the record, which says how the run ended
                ends = {status if os.replace in calls[number:] else "done"}
            assert read_result(directory)["status"] in ends
        fit(directory)
        assert_same_run(tmp_path / "straight", directory)
        assert not list(directory.glob("*.part"))
