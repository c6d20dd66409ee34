"""Sweeps that are killed, interrupted or started twice: they go on as if nothing had been, and say how."""

import os
import re
import shlex
import signal
import subprocess
from pathlib import Path

import pytest
import torch
from helpers import assert_same_run, make_config, run_cli
from sweeping import LONG, results_of, running, started, status_of, until, until_there, workers_of

from fmnist.train import engine

pytestmark = pytest.mark.long  # it kills and starts real commands


def gone(pids):
    """Whether none of these processes is there any more."""
    return not any(Path(f"/proc/{pid}").exists() for pid in pids)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    """The runs of LONG, never interrupted, each alone."""
    folder, threads = tmp_path_factory.mktemp("unbroken"), torch.get_num_threads()
    torch.set_num_threads(1)
    for seed in (0, 1, 2):
        for lr in (0.001, 0.003):
            config = make_config(seed=seed, lr=lr, epochs=300, batch_size=50, precision="float64", save_every=0.1,
                                 log_every=100, **{"model.hidden": [12], "data.limit": 300})  # fmt: skip
            engine.fit([config], [folder / f"seed-{seed}+lr-{lr}"])
    torch.set_num_threads(threads)
    return folder


def assert_finished(folder, done, unbroken):
    """A command has finished a sweep, and it is as if it had never been stopped."""
    assert done.returncode == 0, done.stdout + done.stderr
    for run in sorted(unbroken.iterdir()):
        assert_same_run(folder / "sweep" / run.name, run, rel=1e-7, abs=1e-7)


def test_a_killed_sweep_is_finished_by_the_same_command(tmp_path, unbroken):
    with started(tmp_path, *LONG) as process:
        workers = workers_of(process)
        assert workers
        process.kill()
        process.communicate()
    until(lambda: gone(workers), "the workers of a command that was killed end")
    assert set(status_of(tmp_path / "sweep").values()) == {"running"}
    done = run_cli("-m", *LONG, cwd=tmp_path)
    assert_finished(tmp_path, done, unbroken)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_sweep_ends_its_epochs_and_saves(number, tmp_path, unbroken):
    with started(tmp_path, *LONG) as process:
        workers = workers_of(process)
        process.send_signal(number)
        out, err = process.communicate()
    assert process.returncode == 128 + number
    assert not err
    until(lambda: gone(workers), "the workers of a command that was interrupted end")
    for name, result in results_of(tmp_path / "sweep").items():
        assert result["status"] == "interrupted"
        rows = (tmp_path / "sweep" / name / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        assert result["epoch"] == len(rows)
    if number == signal.SIGINT:
        assert_finishes_as_printed(tmp_path, out, unbroken)


def assert_finishes_as_printed(folder, out, unbroken):
    """What an interrupted sweep prints last continues it, in a shell that knows of nothing."""
    command = out.splitlines()[-1].partition("interrupted; this continues it: ")[2]
    assert shlex.split(command)[2:] == ["-m", *LONG]
    done = subprocess.run(["sh", "-c", command], cwd=folder, env={"PATH": "/usr/bin:/bin"}, capture_output=True,
                          encoding="utf-8")  # fmt: skip
    assert_finished(folder, done, unbroken)


def test_an_interrupted_sweep_shows_what_is_finished(tmp_path):
    short_and_long = ("epochs=3,100000", "seed=0", "lr=1e-3")
    with started(tmp_path, *LONG, *short_and_long, runs=2) as process:
        until(lambda: "done" in status_of(tmp_path / "sweep").values(), "the short run is done")
        process.send_signal(signal.SIGINT)
        out, err = process.communicate()
    assert process.returncode == 130
    assert not err
    (line,) = [line for line in out.splitlines() if line.startswith("1  1")]
    assert re.search(r" 3$", line)
    assert "report: " in out
    assert (tmp_path / "sweep" / "leaderboard.csv").exists()


def test_the_command_that_continues_names_the_directory_that_the_time_named(tmp_path):
    typed = (*LONG[:-1], "hydra.sweep.dir=${now:%S-%f}/sweep")
    with running(tmp_path, *typed) as process:
        until_there(process, "*/sweep/*/last.safetensors", tmp_path, 6)
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate()
    (sweep,) = tmp_path.glob("*/sweep")
    words = shlex.split(out.splitlines()[-1].partition("this continues it: ")[2])
    assert words[-1] == f"hydra.sweep.dir={sweep.relative_to(tmp_path)}"


def test_a_worker_that_dies_alone_with_a_run_is_told_by_the_name_of_its_job(tmp_path):
    with started(tmp_path, *LONG, "hydra.launcher.stack=1", runs=2) as process:
        os.kill(workers_of(process)[0], signal.SIGKILL)
        out, err = process.communicate()
    assert process.returncode == 1, out + err
    assert not err
    assert "1 of 6 jobs failed:" in out
    reason = "its worker process died (signal 9)"
    results = results_of(tmp_path / "sweep")
    (dead,) = [name for name, result in results.items() if result["status"] == "interrupted"]
    assert sorted(result["status"] for result in results.values()) == ["done"] * 5 + ["interrupted"]
    assert f"  {dead}: {reason}" in out
    assert results[dead]["error"] == reason
    again = run_cli("-m", *LONG, cwd=tmp_path)
    assert again.returncode == 0, again.stdout + again.stderr
    assert set(status_of(tmp_path / "sweep").values()) == {"done"}


def test_two_commands_do_not_train_the_same_sweep(tmp_path):
    with started(tmp_path, *LONG) as process:
        second = run_cli("-m", *LONG, cwd=tmp_path)
        assert second.returncode == 1
        assert "another command is training the runs of" in second.stderr
        assert len(second.stderr.splitlines()) == 1
        process.terminate()
        process.communicate()
