"""Sweeps of this project through a real SLURM of two nodes; run by `make test-cluster`, which brings it up."""

import os
import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from helpers import JOBS, assert_same, expected, of_run, run_cli, sweep_under

from fmnist import ROOT

__all__ = ["expected"]  # a fixture
SLURM = ("hydra.launcher.partition=main", "hydra.launcher.timeout_min=5", "hydra.launcher.cpus_per_task=1")
KILLED = {  # what is said of a job that was killed
    "submitit_slurm": r"Job \d+_\d .*\n?has not produced any output \(state: FAILED\)",
    "stacked_slurm": r"2000: SLURM job \d+_\d ended as FAILED without a result",
}
PATIENCE = 120.0  # seconds


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """As in test_other_launchers.sweep."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        yield


def jobs(launcher, *more, epochs=2000):
    """Two jobs, a short one and one long enough to be disturbed, or, with many epochs, to be there till the end."""
    work = (
        "model=mlp1",
        "model.hidden=[20]",
        "data.limit=500",
        f"epochs=3,{epochs}",
        "log_every=500",
        "save_every=0.2",
    )
    return ("-m", *work, "hydra.sweep.dir=sweep", "hydra.sweep.subdir=${epochs}", f"hydra/launcher={launcher}", *more)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """What becomes of the two jobs when nothing happens to them."""
    cwd = tmp_path_factory.mktemp("undisturbed")
    assert run_cli(*jobs("basic"), cwd=cwd, fresh=True).returncode == 0
    return [of_run(cwd / "sweep" / name) for name in ("3", "2000")]


@contextmanager
def begun(cwd, *arguments):
    """The command, and the process of a task that trains the longer of the two jobs, which has been saved once."""
    command = [sys.executable, str(ROOT / "train.py"), *arguments]
    with subprocess.Popen(command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as driver:
        try:
            until(lambda: [path for path in cwd.glob("sweep/*/last.safetensors") if path.parent.name != "3"])
            until(lambda: (cwd / "sweep" / "3" / "result.json").exists() and status(cwd / "sweep" / "3") == "done")
            yield driver, until(lambda: len(found := tasks()) == 1 and found[0])
        finally:
            driver.kill()


def until(happened):
    """Wait until `happened()` gives something, and give it back."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if found := happened():
            return found
        time.sleep(0.05)
    raise AssertionError(f"in vain for {PATIENCE:.0f} s")


def nodes_of_last_array():
    """The nodes on which the tasks of the array that was submitted last have run."""
    tasks = re.findall(r"ArrayJobId=(\d+) .* NodeList=(\S+)", scontrol("--oneliner", "show", "job"))
    last = max(int(array) for array, _ in tasks)
    return {node for array, node in tasks if int(array) == last}


def job_of(process):
    """The SLURM job that a process belongs to."""
    return re.search(r"SLURM_JOB_ID=(\d+)", Path(f"/proc/{process}/environ").read_text(encoding="utf-8"))[1]


def status(directory):
    return of_run(directory)[0]["status"]


def scontrol(*arguments):
    return subprocess.run(["scontrol", *arguments], capture_output=True, text=True, check=True).stdout


def tasks():
    """The processes that train as tasks of SLURM."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # gone meanwhile
            words = entry.read_text(encoding="utf-8", errors="replace").split("\0")
            if "submitit.core._submit" in words and "python" in Path(words[0]).name:
                found.append(int(entry.parts[2]))
    return found


def test_a_sweep_is_what_hydras_own_launcher_makes_of_it_and_uses_both_nodes(expected, tmp_path):
    assert sweep_under(tmp_path / "sweep", "hydra/launcher=submitit_slurm", *SLURM) == expected
    assert nodes_of_last_array() == {"n1", "n2"}


def test_stacks_are_trained_by_both_nodes(expected, tmp_path):
    asked = ("hydra/launcher=stacked_slurm", "hydra.launcher.workers=2", f"hydra.sweep.dir={tmp_path / 'sweep'}")
    done = run_cli("-m", *JOBS, *asked, *SLURM, cwd=tmp_path, fresh=True)
    assert done.returncode == 1, done.stderr
    assert "1 of 3 jobs failed" in done.stdout
    runs = [of_run(tmp_path / "sweep" / str(number)) for number in range(3)]
    for run, own in zip(runs, expected, strict=True):
        assert_same(run, own, rel=1e-9, abs=1e-9)
    assert nodes_of_last_array() == {"n1", "n2"}  # of two and of one run


@pytest.mark.parametrize("launcher", KILLED)
def test_a_killed_job_ends_the_sweep_by_name_and_the_same_command_finishes_it(launcher, undisturbed, tmp_path):
    with begun(tmp_path, *jobs(launcher, *SLURM)) as (driver, process):
        os.kill(process, signal.SIGKILL)
        output, _ = driver.communicate(timeout=PATIENCE)
    assert driver.returncode == 1
    assert re.search(KILLED[launcher], output), output
    assert status(tmp_path / "sweep" / "3") == "done"
    assert status(tmp_path / "sweep" / "2000") == ("running" if launcher == "submitit_slurm" else "interrupted")

    again = run_cli(*jobs(launcher, *SLURM), cwd=tmp_path, fresh=True)
    assert again.returncode == 0, again.stderr
    assert "going on after epoch" in (tmp_path / "sweep" / "2000" / "train.log").read_text()
    assert [of_run(tmp_path / "sweep" / name) for name in ("3", "2000")] == undisturbed


def test_a_task_that_meets_the_time_limit_is_queued_again_and_goes_on(undisturbed, tmp_path):
    with begun(tmp_path, *jobs("stacked_slurm", *SLURM)) as (driver, process):
        job = job_of(process)
        subprocess.run(["scancel", "--signal=USR2", job], check=True)  # the warning that SLURM gives before the limit
        output, _ = driver.communicate(timeout=PATIENCE)
    assert driver.returncode == 0, output
    assert "going on after epoch" in (tmp_path / "sweep" / "2000" / "train.log").read_text()
    assert [of_run(tmp_path / "sweep" / name) for name in ("3", "2000")] == undisturbed


def test_an_interrupt_ends_the_array_and_saves_its_runs(tmp_path):
    with begun(tmp_path, *jobs("stacked_slurm", *SLURM, epochs=10**6)) as (driver, process):
        job = job_of(process)
        driver.send_signal(signal.SIGINT)
        output, _ = driver.communicate(timeout=PATIENCE)
    assert driver.returncode == 130, output
    assert "this continues it: " in output
    assert status(tmp_path / "sweep" / "1000000") == "interrupted"
    assert "JobState=CANCELLED" in scontrol("show", "job", job)


def test_an_array_that_outlives_its_command_is_not_submitted_twice(tmp_path):
    command = jobs("stacked_slurm", *SLURM, epochs=10**6)
    with begun(tmp_path, *command) as (driver, process):
        job = job_of(process)
        driver.kill()
    again = run_cli(*command, cwd=tmp_path, fresh=True)
    assert again.returncode == 1
    array = re.search(r"ArrayJobId=(\d+)", scontrol("show", "job", job))[1]
    assert f"SLURM job {array} still trains this sweep: wait for it, or scancel {array}" in again.stderr
    assert "Traceback" not in again.stderr
    subprocess.run(["scancel", array], check=True)


def opened(pid):
    """What the files are that a process has open."""
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed since it was listed
            yield link.readlink().name


def listening(pid):
    """Where a process listens by TCP: pairs of an address, in the kernel's hexadecimal, and a port."""
    own = set(opened(pid))
    for table in ("tcp", "tcp6"):
        for row in Path(f"/proc/{pid}/net/{table}").read_text(encoding="utf-8").splitlines()[1:]:
            _, local, _, state, *_, inode = row.split()[:10]
            if state == "0A" and f"socket:[{inode}]" in own:
                address, port = local.split(":")
                yield address, int(port, 16)


def test_the_cluster_listens_on_loopback_only():
    places = [place for pid in os.environ["ONEBOX_PIDS"].split() for place in listening(pid)]
    assert len(places) == 3  # slurmctld and two slurmd; munged has a file
    assert {address for address, _ in places} == {"0100007F"}  # 127.0.0.1
