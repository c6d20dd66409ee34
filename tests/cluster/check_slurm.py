"""Sweeps of this project through a real SLURM of two nodes; run by `make test-cluster`, which brings it up."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import ROOT, run_cli
from test_launchers import assert_same, expected, of_run, sweep

__all__ = ["expected"]  # a fixture
SLURM = ("hydra.launcher.partition=main", "hydra.launcher.timeout_min=5", "hydra.launcher.cpus_per_task=1")
KILLED = {  # what is said of a job that was killed
    "submitit_slurm": r"Job \d+_\d .*\n?has not produced any output \(state: FAILED\)",
    "stacked_slurm": r"1500: SLURM job \d+_\d ended as FAILED without a result",
}
PATIENCE = 60.0  # seconds

# Two jobs, a short one and one long enough to be killed.
JOBS = (
    *("model=mlp1", "model.hidden=[20]", "data.limit=500", "epochs=3,1500", "log_every=100", "save_every=0.2"),
    *("hydra.sweep.dir=sweep", "hydra.sweep.subdir=${epochs}"),
)


@pytest.fixture(autouse=True)
def one_thread(monkeypatch):
    """As test_launchers.sweep, for the reference too."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def until(happened):
    """Wait until `happened()` gives something, and give it back."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if found := happened():
            return found
        time.sleep(0.05)
    raise AssertionError("in vain")


def nodes_of_last_array():
    """The nodes on which the tasks of the array that was submitted last have run, in their order."""
    tasks = re.findall(r"ArrayJobId=(\d+) ArrayTaskId=(\d+) .* NodeList=(\S+)", scontrol("--oneliner", "show", "job"))
    last = max(int(array) for array, _, _ in tasks)
    return [node for _, node in sorted((int(task), node) for array, task, node in tasks if int(array) == last)]


def status(directory):
    return of_run(directory)[0]["status"]


def scontrol(*arguments):
    return subprocess.run(["scontrol", *arguments], capture_output=True, text=True, check=True).stdout


def process_of(directory):
    """The process that trains the run in `directory`: the one that has its log open."""
    for entry in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            if entry.readlink() == directory / "train.log":
                return int(entry.parts[2])
        except OSError:  # gone meanwhile
            continue
    return None


def test_a_sweep_is_what_hydras_own_launcher_makes_of_it_and_uses_both_nodes(expected, tmp_path):
    assert sweep(tmp_path / "sweep", "hydra/launcher=submitit_slurm", *SLURM) == expected
    assert nodes_of_last_array() == ["n1", "n2", "n1"]


def test_stacks_are_trained_by_both_nodes(expected, tmp_path):
    runs = sweep(tmp_path / "sweep", "hydra/launcher=stacked_slurm", "hydra.launcher.workers=2", *SLURM)
    for run, own in zip(runs, expected, strict=True):
        assert_same(run, own, rel=1e-9, abs=1e-9)
    assert nodes_of_last_array() == ["n1", "n2"]  # of two and of one run


@pytest.mark.parametrize("launcher", KILLED)
def test_a_killed_job_ends_the_sweep_by_name_and_the_same_command_finishes_it(launcher, tmp_path):
    command = ("-m", *JOBS, f"hydra/launcher={launcher}", *SLURM)
    long = tmp_path / "sweep" / "1500"
    with subprocess.Popen(
        [sys.executable, ROOT / "train.py", *command], cwd=tmp_path, stderr=subprocess.PIPE, text=True
    ) as driver:
        until((long / "last.pt").exists)
        os.kill(until(lambda: process_of(long)), signal.SIGKILL)
        _, told = driver.communicate(timeout=PATIENCE)
    assert driver.returncode == 1
    assert re.search(KILLED[launcher], told), told
    assert status(tmp_path / "sweep" / "3") == "done"
    assert status(long) == "running"

    again = run_cli(*command, cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert "going on after epoch" in (long / "train.log").read_text()

    placed = ("hydra.sweep.dir=undisturbed", "hydra/launcher=basic")
    assert run_cli("-m", *JOBS, *placed, cwd=tmp_path).returncode == 0
    for name in ("3", "1500"):
        assert of_run(tmp_path / "sweep" / name) == of_run(tmp_path / "undisturbed" / name)


def listening(pid):
    """Where a process listens by TCP: pairs of an address, in the kernel's hexadecimal, and a port."""
    own = {link.readlink().name for link in Path(f"/proc/{pid}/fd").iterdir()}
    for table in ("tcp", "tcp6"):
        for row in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            _, local, _, state, *_, inode = row.split()[:10]
            if state == "0A" and f"socket:[{inode}]" in own:
                address, port = local.split(":")
                yield address, int(port, 16)


def test_the_cluster_listens_on_loopback_only():
    places = [place for pid in os.environ["ONEBOX_PIDS"].split() for place in listening(pid)]
    assert len(places) == 3  # slurmctld and two slurmd; munged has a file
    assert {address for address, _ in places} == {"0100007F"}  # 127.0.0.1
