"""The fork server: torch is imported once, workers are processes of their own, and no death takes others down."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import make_config
from sweeping import children, until

from fmnist import ROOT, UserError
from fmnist.launch import forkserver, pool
from fmnist.launch.pool import Workers
from fmnist.launch.trouble import Unmeasured, of_the_machine

CONFIG = make_config(**{"model.hidden": [12], "data.limit": 300})


@pytest.fixture
def workers():
    """Workers whose processes print what they import."""
    found = Workers({"PYTHONPROFILEIMPORTTIME": "1"})
    yield found
    found.close()


def imported(printed):
    """What processes have imported, by what they have printed."""
    return [line.split("|")[-1].strip() for line in printed.splitlines() if line.startswith("import time:")]


@pytest.mark.long
def test_two_workers_import_torch_once_and_nothing_else_by_themselves(workers, capfd):
    workers.get_ready(2)
    workers.grow(2)
    at_first = capfd.readouterr().err
    workers.pace([CONFIG], 2, 1)
    assert imported(at_first).count("torch") == 1
    assert not [
        name
        for name in imported(capfd.readouterr().err)
        if name.split(".")[0] in ("torch", "tensorboard", "numpy", "fmnist")
    ]


@pytest.mark.long
def test_the_fork_server_has_one_thread_and_each_worker_a_session(workers):
    workers.grow(2)
    server = workers.server.process.pid
    assert len(os.listdir(f"/proc/{server}/task")) == 1
    pids = [worker.process.pid for worker in workers.workers]
    assert children(server) == pids
    for pid in (server, *pids):
        until(lambda pid=pid: os.getsid(pid) == pid, "a session of its own")


@pytest.mark.long
def test_workers_outlive_the_fork_server_and_another_takes_its_place(workers):
    workers.grow(2)
    first, second = workers.workers
    workers.server.process.kill()
    workers.server.process.wait()
    assert workers.pace([CONFIG], 2, 1) > 0
    workers.shrink(1)  # nobody knows how it ended
    workers.grow(2)
    assert workers.workers[0] is first
    assert workers.workers[1] is not second
    first.process.send_signal(signal.SIGKILL)
    with pytest.raises(Unmeasured, match=r"a worker process died \(status 255\)"):
        workers.pace([CONFIG], 2, 1)
    assert workers.pace([CONFIG], 2, 1) > 0


@pytest.mark.long
@pytest.mark.parametrize("forked", [False, True])
def test_where_the_fork_server_is_killed_while_it_is_asked_another_one_is(forked, workers, monkeypatch):
    ask, orphans = workers.server.ask, []

    def killed(what):
        monkeypatch.setattr(workers.server, "ask", ask)
        server = workers.server.process
        if forked:
            orphans.append(ask(what))
        server.kill()
        server.wait()
        return ask(what)

    monkeypatch.setattr(workers.server, "ask", killed)
    assert workers.grow(2) == ""
    assert workers.pace([CONFIG], 2, 1) > 0
    assert len(workers.workers) == 2
    assert len(orphans) == forked
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in orphans), "a worker without a task ends")


@pytest.mark.long
def test_all_processes_end_with_the_one_that_started_them(tmp_path):
    code = "from fmnist.launch.pool import Workers; made = Workers(); made.grow(2); "
    code += "print(made.server.process.pid, flush=True); input()"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen([sys.executable, "-c", code], env=environment, stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE, encoding="utf-8") as command:  # fmt: skip
        server = int(command.stdout.readline())
        pids = [server, *children(server)]
        command.kill()
    assert len(pids) == 3
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), "they end")


@pytest.mark.long
def test_where_nothing_can_be_forked_each_worker_is_started_anew(workers, monkeypatch, capfd):
    monkeypatch.setattr(forkserver, "FORKS", False)
    monkeypatch.setattr(pool, "FORKS", False)
    workers.get_ready(2)
    assert workers.pace([CONFIG], 2, 1) > 0
    assert workers.server.process is None
    assert imported(capfd.readouterr().err).count("torch") == 2


@pytest.mark.long
def test_a_process_that_the_system_refuses_is_told(workers, monkeypatch):
    for error in (BlockingIOError(11, "Resource temporarily unavailable"), OSError(12, "Cannot allocate memory")):
        monkeypatch.setattr(workers.server, "ask", lambda what, error=error: error)
        with pytest.raises(UserError, match=rf"^0 of 2 worker processes can be started: {error.strerror}$") as told:
            workers.grow(2)
        assert of_the_machine(str(told.value))  # a search puts it down to no trial


@pytest.mark.parametrize("module", ["worker", "forkserver"])
def test_a_process_that_cannot_import_torch_says_so_in_one_line(module, tmp_path):
    (tmp_path / "torch.py").write_text("raise ImportError('libtorch.so: no such file')\n", encoding="utf-8")
    reading, writing = os.pipe()
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    done = subprocess.run([sys.executable, "-P", "-m", f"fmnist.launch.{module}", str(reading)], env=environment,
                          pass_fds=[reading], capture_output=True, encoding="utf-8")  # fmt: skip
    os.close(writing)
    os.close(reading)
    assert done.returncode == 1
    assert done.stderr == "error: a worker process ends: ImportError: libtorch.so: no such file\n"


def test_workers_that_cannot_import_torch_are_a_line(tmp_path, monkeypatch):
    (tmp_path / "torch.py").write_text("raise ImportError\n", encoding="utf-8")
    monkeypatch.setattr(forkserver, "ROOT", tmp_path)
    found = Workers()
    with pytest.raises(UserError, match=r"^0 of 1 worker .* the process that starts them ended \(status 1\)$") as told:
        found.grow(1)
    assert of_the_machine(str(told.value))
    found.close()
