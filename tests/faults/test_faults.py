"""Calls that fail: a sample of them, and the instrument itself. `make torture` tries all."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import power
import pytest
import torture
from calls import Watch, build
from normal import differences, normal

SAMPLE = 16  # tries of a run, of about 800: the kinds of calls take turns, each with a fault that is drawn

CALLS = """
import fcntl, os, sys
os.mkdir("a")
with open("a/file", "wb", buffering=0) as file:
    print(file.write(b"12345678"))
    fcntl.flock(file, fcntl.LOCK_EX)
    os.fsync(file.fileno())
os.replace("a/file", "a/other")
os.link("a/other", "a/second")
os.unlink("a/second")
os.truncate(os.open("a/other", os.O_RDWR), 3)
if (child := os.fork()) == 0:
    os.rmdir("nothing") if os.path.exists("nothing") else os._exit(0)
os.waitpid(child, 0)
open("/dev/null", "w").write("elsewhere")
open("a/other").read()
"""
NAMES = ["mkdir", "open", "write", "flock", "fsync", "rename", "link", "unlink", "open", "ftruncate", "fork"]


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """The shim."""
    try:
        return build(tmp_path_factory.mktemp("shim"))
    except (FileNotFoundError, subprocess.CalledProcessError):
        pytest.skip("there is no C compiler here")


@pytest.fixture
def program(library, tmp_path):
    """Runs CALLS under the shim; its status, what it printed, and its calls."""
    folder = tmp_path / "watched"

    def run(*armed):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        watch = Watch(folder.resolve())
        environment = os.environ | {"LD_PRELOAD": str(library)} | watch.arm(*armed, content=True)
        done = subprocess.run([sys.executable, "-S", "-c", CALLS], cwd=folder, env=environment, capture_output=True,
                              encoding="utf-8")  # fmt: skip
        return done.returncode, done.stdout, done.stderr, watch.calls()

    return run


def test_calls_that_change_the_folder_are_counted_and_no_others(program, tmp_path):
    status, said, _, calls = program()
    assert (status, said) == (0, "8\n")
    assert [call.name for call in calls] == NAMES
    assert [call.number for call in calls] == [*range(len(NAMES))]
    assert calls[2].content == b"12345678"
    assert calls[5].other.endswith("/watched/a/other")


@pytest.mark.parametrize(("name", "fault", "what"), [
    ("write", "ENOSPC", "No space left on device"), ("rename", "EIO", "Input/output error"),
    ("unlink", "EINTR", "Interrupted system call"), ("fork", "EIO", "Resource temporarily unavailable"),
    ("flock", "full", "No space left on device: 'a/other' -> 'a/second'"), ("mkdir", "EIO", "'a'"),
])  # fmt: skip
def test_a_call_that_is_armed_fails(name, fault, what, program):
    status, _, error, calls = program(NAMES.index(name), fault)
    assert [call.name for call in calls if call.fault] == [name]
    assert status == 1
    assert what in error


def test_writes_are_cut_short_and_processes_are_killed(program):
    assert program(NAMES.index("write"), "short")[:2] == (0, "4\n")
    for fault, there in (("kill-before", False), ("kill-after", True)):
        status, _, _, calls = program(NAMES.index("unlink"), fault)
        assert status == -9
        assert Path(calls[-1].path).exists() != there


def test_what_was_not_synced_is_lost_with_power(program, tmp_path):
    *_, calls = program()
    disk = power.Disk(tmp_path / "watched")
    for call in calls:
        disk.do(call)
    assert disk.state() == {"a": None, "a/other": b"123"} == power.state_of(tmp_path / "watched")
    after = {model: disk.state(model) for model in power.MODELS}
    assert after["strict"] == {}  # the name of the folder itself was not synced
    assert after["empty"] == {"a": None, "a/other": b""}  # it was cut after it was synced
    assert after["torn"] == {"a": None, "a/other": b"12"}
    assert after["zeros"] == {"a": None, "a/other": bytes(3)}


@pytest.fixture(scope="module")
def tortured(library, tmp_path_factory):
    """A run that nothing befalls, and what lets its calls fail."""
    found = torture.Torture(tmp_path_factory.mktemp("torture").resolve(), jobs=1)
    yield found, found.straight("run")
    found.close()


@pytest.mark.long
def test_after_a_fault_in_a_call_of_a_run_the_same_command_ends_as_if_nothing_had_been(tortured):
    at, straight = tortured
    tally = torture.Tally()
    at.all(torture.planned(at, straight, tally, torture.arguments(["--sample", str(SAMPLE)])))
    assert sum(tally.tried.values()) == SAMPLE
    assert {kind for kind, _ in tally.tried} == {call.name for call in straight.calls}
    assert {"open", "write", "fsync", "rename", "mkdir", "flock"} <= {call.name for call in straight.calls}
    assert not tally.found, "\n".join(tally.found)


@pytest.mark.long
def test_after_a_loss_of_power_the_same_command_ends_as_if_nothing_had_been(tortured):
    at, straight = tortured
    tally = torture.Tally()
    at.all(torture.planned(at, straight, tally, torture.arguments(["--power", "--sample", "8"])))
    assert sum(tally.tried.values()) == 8
    assert not tally.found, "\n".join(tally.found)


@pytest.mark.long
def test_a_run_that_says_it_is_done_is_on_the_disk(tortured, tmp_path):
    at, straight = tortured
    disk = power.Disk(at.folder / "run-straight")
    for call in straight.calls:
        disk.do(call)
    power.make(disk.state("strict"), tmp_path)
    with at.runner() as runner:
        there = runner.normal(tmp_path)
    lost = {name for name in straight.end if there.get(name) != straight.end[name]}
    assert {name for name in lost if ".hydra" not in name} <= {"run/train.log"}  # Hydra syncs nothing


def changed(directory, name, old, new):
    """The files that are not the same once a text in one of them is another."""
    before, (path,) = normal(directory), directory.glob(name)
    content = path.read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, new))
    found = differences(before, normal(directory))
    path.write_bytes(content)
    return [line.split()[0] for line in found]


def test_what_time_may_change_is_no_difference_and_all_else_is_one(tortured):
    directory = tortured[0].folder / "run-straight" / "run"
    result = json.loads((directory / "result.json").read_text(encoding="utf-8"))
    row = json.loads((directory / "metrics.jsonl").read_text(encoding="utf-8").splitlines()[0])
    seconds, when, loss = (json.dumps(each).encode() for each in (result["seconds"], row["time"], row["train/loss"]))
    assert changed(directory, "result.json", b'"seconds": ' + seconds, b'"seconds": 1') == []
    assert changed(directory, "metrics.jsonl", when, b"1.5") == []
    assert changed(directory, "train.log", b"epoch", b"EPOCH") == []
    assert changed(directory, "metrics.jsonl", loss, loss[:-1] + b"0") == ["metrics.jsonl"]
    assert changed(directory, "result.json", b'"done"', b'"paused"') == ["result.json"]
    assert changed(directory, "train/events*", b"loss", b"lost") == ["train/events"]
    assert changed(directory, ".hydra/overrides.yaml", b"idx", b"idy") == [".hydra/overrides.yaml"]
