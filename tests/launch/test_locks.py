"""Two commands on one directory: the second is told who is there, and leaves it as it is."""

import errno
import fcntl
import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager, nullcontext

import pytest
from helpers import refuses, train_py

from fmnist import ROOT
from fmnist.launch.callbacks import _make
from fmnist.launch.locks import LOCK, alone, check_free
from fmnist.program.files import locked

WHO = "process 12 on elsewhere, since 2026-11-26 09:16:16"
HERE = os.uname().nodename


@contextmanager
def another(directory):
    """Another command trains in a directory."""
    directory.mkdir(parents=True, exist_ok=True)
    with locked(directory / LOCK, wait=False) as descriptor:
        os.pwrite(descriptor, WHO.encode(), 0)
        yield


def like_nfs(flock):
    """It locks exclusively only what is open for writing."""

    def instead(descriptor, how):
        if how & fcntl.LOCK_EX and fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        flock(descriptor, how)

    return instead


def without_locks(flock):
    """As Lustre is often mounted."""

    def instead(descriptor, how):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    return instead


@pytest.fixture(params=[None, like_nfs])
def locks(request, monkeypatch):
    """File systems that have them."""
    if request.param:
        monkeypatch.setattr(fcntl, "flock", request.param(fcntl.flock))


COMMANDS = {
    "solo": ("hydra.run.dir=here",),
    "sweep": ("-m", "hydra.sweep.dir=here", "seed=0,1"),
    "sweep without stacks": ("-m", "hydra.sweep.dir=here", "seed=0,1", "hydra/launcher=basic"),
    "sweep by Hydra's sweeper": ("-m", "hydra.sweep.dir=here", "seed=0,1", "hydra/sweeper=basic"),
    "search": ("-m", "hydra.sweep.dir=here", "lr=interval(0.1,1)", "hydra/sweeper=optuna"),
}


@pytest.mark.few(3)
@pytest.mark.parametrize("command", COMMANDS)
def test_a_second_command_says_who_is_there_and_touches_nothing(command, locks, tmp_path, capsys):
    (tmp_path / "here" / ".hydra").mkdir(parents=True)
    for name in (".hydra/config.yaml", "train.log", "study.jsonl"):
        (tmp_path / "here" / name).write_text("of the first\n", encoding="utf-8")

    def files():
        there = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in tmp_path.rglob("*") if path.is_file()}
        if command == "sweep by Hydra's sweeper":  # which writes this file itself
            there.pop(tmp_path / "here" / "multirun.yaml", None)
        return there

    with another(tmp_path / "here"):
        before = files()
        assert train_py(tmp_path, *COMMANDS[command], "model=mlp1") == 2
        assert files() == before
    where = tmp_path / "here" if command == "sweep by Hydra's sweeper" else "here"
    assert capsys.readouterr().err == f"error: another command is training in {where}: {WHO}\n"


@pytest.mark.parametrize("text", ["", "\x1b[2J", "x" * 10_000, "two\nlines"])
def test_whatever_its_file_says_the_refusal_is_one_short_line(text, tmp_path):
    with another(tmp_path):
        (tmp_path / LOCK).write_text(text, encoding="utf-8")
        with pytest.raises(Exception, match="another command is training in") as caught, alone(tmp_path):
            pass
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 500


def test_the_lock_that_a_killed_process_has_left_is_taken_over_without_a_word(locks, tmp_path, caplog):
    code = "import os, pathlib; from fmnist.launch.locks import alone; block = alone(pathlib.Path('here')); " \
           "block.__enter__(); print(flush=True); input()"  # fmt: skip
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, env=env, **pipes) as first:
        first.stdout.readline()
        os.kill(first.pid, signal.SIGSTOP)  # one that does nothing at the moment is there all the same
        refuses(lambda: check_free(tmp_path / "here"), f"{tmp_path}/here: process {first.pid} on {HERE}, since 20")
        refuses(lambda: alone(tmp_path / "here").__enter__(), f"process {first.pid} on {HERE}, since 20")
        first.kill()
    for who in (f"process {first.pid} on {HERE}, since then", WHO):
        (tmp_path / "here" / LOCK).write_text(who, encoding="utf-8")
        check_free(tmp_path / "here")
        with alone(tmp_path / "here"):
            text = (tmp_path / "here" / LOCK).read_text(encoding="utf-8")
            assert text.startswith(f"process {os.getpid()} on {HERE}, since {time.strftime('%Y-')}")
    assert not caplog.messages


def test_a_process_enters_its_own_directory_again_by_any_path_and_lets_others_in_at_the_end(locks, tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "here")
    for error in (None, ValueError):
        with pytest.raises(error) if error else nullcontext(), alone(tmp_path / "here"):
            with alone(tmp_path / "link"):
                check_free(tmp_path / "here", tmp_path / "link")
            with pytest.raises(BlockingIOError), another(tmp_path / "here"):
                pass
            if error:
                raise error
        with another(tmp_path / "here"):
            pass


def test_several_may_ask_at_the_same_time(locks, tmp_path):
    with another(tmp_path):
        pass
    with locked(tmp_path / LOCK, wait=False, shared=True):
        check_free(tmp_path)
    check_free(tmp_path / "nothing", tmp_path / LOCK)


def test_where_there_are_no_locks_nobody_is_kept_out_and_a_warning_says_so_once(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(fcntl, "flock", without_locks(fcntl.flock))
    monkeypatch.setattr("fmnist.program.files._told", set())
    with another(tmp_path):
        check_free(tmp_path)
        with alone(tmp_path):
            pass
    (warning,) = caplog.messages
    assert "its file system knows no locks" in warning


def test_a_run_of_a_sweep_that_is_being_trained_is_not_trained_alone(locks, tmp_path):
    run, new = tmp_path / "sweep" / "seed-0", tmp_path / "sweep" / "new"
    run.mkdir(parents=True)
    with another(tmp_path / "sweep"):
        refuses(lambda: _make(run, ExitStack()), f"another command is training in {tmp_path}/sweep: {WHO}")
        assert not list(run.iterdir())
        _make(new, ExitStack())
    _make(run, ExitStack())
