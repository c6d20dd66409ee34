"""One bad job, file, option or file system takes nothing else with it, and is said in one line by name."""

import os
import signal
import subprocess

import pytest
import torch
from helpers import FILES, run_cli, tiny, write
from sweeping import SMALL, log_of, running, status_of, until, until_there, workers_of

TINY = ("model=mlp1", "model.hidden=[5]", "data=idx", "batch_size=8", "epochs=2", "hydra.sweep.dir=sweep",
        "hydra.launcher.workers=1")  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    """A place to work in, with good data and some in which labels are missing."""
    for name in ("good", "bad"):
        (tmp_path / name).mkdir()
        tiny(tmp_path / name, rows=60)
    (tmp_path / "bad" / "train-labels-idx1-ubyte").unlink()
    return tmp_path


def failures(done):
    """The jobs that the end of a command names, with their errors; nothing else is said of them."""
    assert done.returncode == 1
    assert "Traceback" not in done.stdout + done.stderr
    assert not done.stderr  # nor does Hydra add its own account
    head, lines = next((i, line) for i, line in enumerate(done.stdout.splitlines()) if "jobs failed:" in line), []
    for line in done.stdout.splitlines()[head[0] + 1 :]:
        assert "]   " in line  # the summary comes last
        lines.append(line.partition("]   ")[2])
    return dict(line.split(": ", 1) for line in lines)


def test_jobs_that_diverge_or_are_refused_fail_alone_and_by_name(tmp_path):
    sweep = ("seed=0,1", "lr=1e-3,1e30", "dropout=0.5,1.5", "hydra.sweep.dir=sweep")
    failed = failures(run_cli("-m", *SMALL, *sweep, "precision=float32", cwd=tmp_path))
    assert len(failed) == 6
    for seed in (0, 1):
        diverged = f"seed-{seed}+lr-1e30+dropout-0.5"
        assert failed[diverged].startswith("train/loss is nan in epoch 1: try a smaller lr")
        assert log_of(tmp_path / "sweep" / diverged)[-1].startswith("failed: train/loss is nan in epoch 1")
        for lr in ("0.001", "1e30"):
            refused = f"seed-{seed}+lr-{lr}+dropout-1.5"
            assert failed[refused] == "dropout must be in [0, 1), got 1.5"
            assert log_of(tmp_path / "sweep" / refused) == ["error: dropout must be in [0, 1), got 1.5"]
    assert status_of(tmp_path / "sweep") == {
        f"seed-{seed}+lr-{lr}+dropout-0.5": status
        for seed in (0, 1) for lr, status in (("0.001", "done"), ("1e30", "failed"))
    }  # fmt: skip


@pytest.mark.parametrize(("good", "bad"), [
    ("data.dir=good", "data.dir=bad"),  # a file is missing
    pytest.param("data.limit=60", "data.limit=61", marks=pytest.mark.long),  # the last batch of 49 rows has one
    pytest.param("data.split_by=tail", "data.split=0.001", marks=pytest.mark.long),  # no row is left
])  # fmt: skip
def test_a_mistake_in_the_data_is_the_single_runs_line_and_the_other_jobs_go_on(good, bad, folder):
    common = (*TINY, *(() if "dir" in good else ("data.dir=good",)), "norm=batch")
    if "limit" in good:
        tiny(folder / "good", rows=70)
    points = f"hydra.sweeper.points=[{{{as_point(good)}}},{{{as_point(bad)}}}]"
    done = run_cli("-m", *common, points, "seed=0,1", cwd=folder)
    alone = run_cli(*(word for word in common if "sweep" not in word), bad, "hydra.run.dir=alone", cwd=folder)
    assert alone.returncode == 2
    failed = failures(done)
    assert set(failed.values()) == {alone.stderr.strip().removeprefix("error: ")}
    assert len(failed) == 2
    for name, error in failed.items():
        assert log_of(folder / "sweep" / name) == [f"error: {error}"]
    assert sorted(status_of(folder / "sweep").values()) == ["done"] * 2


def as_point(override):
    return override.replace("=", ":")


@pytest.mark.long
def test_a_mistake_that_the_measurement_meets_first_is_met_by_the_jobs(folder):
    (folder / "good" / "t10k-images-idx3-ubyte").unlink()  # so its size is not known, and it is taken to be large
    done = run_cli("-m", *TINY, "data.dir=good", "epochs=600", "seed=0,1", cwd=folder)
    error = f"{folder / 'good'}: holds no t10k-images-idx3-ubyte or test-images-idx3-ubyte, raw or .gz"
    assert f"(not measured: {error.replace(str(folder) + '/', '')})" in done.stdout
    assert failures(done) == {f"seed-{seed}": error.replace(str(folder) + "/", "") for seed in (0, 1)}


@pytest.mark.long
def test_five_kinds_of_bad_jobs_fail_by_name_and_the_others_are_done(folder):
    bad = ["lr:1e30", "data.limit:49,norm:batch", "anomaly.normal:7,model:autoencoder"]
    points = ["data.dir:bad", *(f"data.dir:good,{point}" for point in ("lr:1e-3", *bad))]
    points = [f"{point},seed:{seed}" for point in points for seed in (0, 1)]
    points.append("data.dir:good,epochs:1000000000,seed:0")  # alone in its stack, its worker is killed
    common = [word for word in TINY if word.partition("=")[0] not in ("model", "epochs")]
    swept = f"hydra.sweeper.points=[{','.join(f'{{{point}}}' for point in points)}]"
    with running(folder, *common, "data.split=1", "save_every=0", "hydra.launcher.workers=2", swept) as process:
        until_there(process, "sweep/*epochs-1000000000*/last.safetensors", folder)
        os.kill(workers_of(process)[0], signal.SIGKILL)  # the first worker has the most work
        until(lambda: process.poll() is not None, "the sweep ends")
        failed = failures(subprocess.CompletedProcess([], process.returncode, *process.communicate()))
    expected = {
        "bad": "bad: holds no train-labels-idx1-ubyte, raw or .gz",
        "good+lr-1e30": "train/loss is nan in epoch 1: try a smaller lr (now 1e+30) or set grad_clip",
        "good+data.limit-49+norm-batch": "batch_size must not leave a last batch of 1 row with batch_norm, got 8",
        "good+anomaly.normal-7+model-autoencoder": "anomaly.normal must be a class, 0 to 3, got 7",
    }
    killed = {"data.dir-good+epochs-1000000000+seed-0": "its worker process died (signal 9)"}
    assert failed == killed | {
        f"data.dir-{name}+seed-{seed}": error for name, error in expected.items() for seed in (0, 1)
    }
    assert status_of(folder / "sweep") == dict.fromkeys(killed, "interrupted") | {
        f"data.dir-good+{name}+seed-{seed}": status
        for seed in (0, 1)
        for name, status in (("lr-0.001", "done"), ("lr-1e30", "failed"))
    }


@pytest.mark.long
def test_a_finished_run_of_another_config_is_refused_by_name(folder):
    assert run_cli("-m", *TINY, "data.dir=good", "seed=0", "lr=1e-3,3e-3", cwd=folder).returncode == 0
    before = {path: path.read_bytes() for path in folder.glob("sweep/lr-*/**/*") if path.is_file()}
    named = "hydra.sweep.subdir=lr-${lr}"
    failed = failures(run_cli("-m", *TINY, "data.dir=good", "lr=1e-3,3e-3", "dropout=0.1", named, cwd=folder))
    assert len(failed) == 2
    assert all("dropout=None there, 0.1 here" in error for error in failed.values())
    assert {path: path.read_bytes() for path in before} == before


@pytest.mark.long
def test_a_run_whose_directory_cannot_be_written_fails_alone(folder):
    (folder / "sweep" / "seed-1").mkdir(parents=True)
    (folder / "sweep" / "seed-1" / ".hydra").write_text("no folder", encoding="utf-8")
    failed = failures(run_cli("-m", *TINY, "data.dir=good", "seed=0,1,2", cwd=folder))
    assert failed == {"seed-1": f"{folder / 'sweep' / 'seed-1' / '.hydra'} cannot be written: File exists"}
    assert status_of(folder / "sweep") == {"seed-0": "done", "seed-2": "done"}


@pytest.mark.long
def test_a_directory_that_cannot_be_named_fails_its_job_alone(folder):
    named = "hydra.sweep.subdir=${seed}-${nothing}"
    failed = failures(run_cli("-m", *TINY, "data.dir=good", "seed=0,1", named, cwd=folder))
    assert set(failed) == {"0", "1"}
    assert failed["0"].startswith("hydra.sweep.subdir: Interpolation key 'nothing' not found")


@pytest.mark.long
@pytest.mark.parametrize(("knob", "typed", "got"), [
    ("workers", "1.5", "1.5"), ("stack", "x", "'x'"),
    *(pytest.param(*wrong, marks=pytest.mark.long) for wrong in
      [("workers", "-1", "-1"), ("stack", "-1", "-1"), ("stack", "0", "0"), ("workers", "true", "True")]),
])  # fmt: skip
def test_a_number_of_workers_or_runs_that_is_none_is_one_line(knob, typed, got, tmp_path):
    done = run_cli("-m", *SMALL, "seed=0,1", f"hydra.launcher.{knob}={typed}", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr == f"error: hydra.launcher.{knob} must be a whole number of at least 1 or null, got {got}\n"
    assert not list(tmp_path.iterdir())


@pytest.mark.long
@pytest.mark.parametrize(("logging", "command"), [
    ("disabled", ("-m", "seed=0,1", "hydra/launcher=stacked")),
    pytest.param("disabled", ("-m", "seed=0,1", "hydra/launcher=basic"), marks=pytest.mark.long),
    *(pytest.param(logging, ("hydra.run.dir=run",), marks=pytest.mark.long)
      for logging in ("none", "disabled", "stdout", "default")),
])  # fmt: skip
def test_hydras_other_ways_to_log_train(logging, command, folder):
    words = (word for word in TINY[:-1] if command[0] == "-m" or "sweep" not in word)
    done = run_cli(*command, *words, "data.dir=good", f"hydra/job_logging={logging}", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    found = [*folder.glob("sweep/*/result.json"), *folder.glob("run/result.json")]
    assert len(found) == (2 if command[0] == "-m" else 1)


@pytest.mark.long
def test_variables_for_jobs_reach_the_workers_and_chdir_is_said_to_do_nothing(folder):
    variables = ("+hydra.job.env_set.OMP_NUM_THREADS=1", "+hydra.job.env_set.MARK='a b'", "hydra.job.chdir=true")
    with running(folder, *TINY, "data.dir=good", "epochs=1000000", "seed=0,1", *variables) as process:
        until_there(process, "sweep/*/metrics.jsonl", folder)
        workers = workers_of(process)
        assert workers
        for worker in workers:
            with open(f"/proc/{worker}/environ", "rb") as file:
                assert {b"OMP_NUM_THREADS=1", b"MARK=a b"} <= set(file.read().split(b"\0"))
        process.terminate()
        out, err = process.communicate()
    assert not err
    assert out.count("hydra.job.chdir has no effect with this launcher") == 1


@pytest.mark.long
def test_jobs_with_other_variables_than_the_sweep_are_refused(folder):
    (folder / "more" / "experiment").mkdir(parents=True)
    for name, own in (("plain", "lr: 0.1"), ("marked", "hydra: {job: {env_set: {MARK: a}}}")):
        text = f"# @package _global_\n{own}\n"
        (folder / "more" / "experiment" / f"{name}.yaml").write_text(text, encoding="utf-8")
    added = f"hydra.searchpath=[file://{folder / 'more'}]"
    failed = failures(run_cli("-m", *TINY, "data.dir=good", added, "experiment=plain,marked", cwd=folder))
    assert failed == {
        "experiment-marked": "hydra.job.env_set must be the same for all jobs of a sweep with this launcher"
    }
    assert status_of(folder / "sweep") == {"experiment-plain": "done"}


LOCKS = """
import errno, fcntl, os, stat
real = fcntl.flock

def flock(file, operation):
    number = file if isinstance(file, int) else file.fileno()
    if os.environ["LOCKS"] == "none":
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    if operation & fcntl.LOCK_EX and fcntl.fcntl(number, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))
    return real(file, operation)

fcntl.flock = flock
"""


@pytest.mark.long
@pytest.mark.parametrize("locks", ["nfs", "none"])
def test_sweeps_run_on_other_file_systems(locks, folder, monkeypatch):
    """NFS locks exclusively only what is open for writing; others know no locks."""
    (folder / "site").mkdir()
    (folder / "site" / "sitecustomize.py").write_text(LOCKS, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(folder / "site"))
    monkeypatch.setenv("LOCKS", locks)
    done = run_cli("-m", *TINY, "data.dir=good", "seed=0,1", cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert status_of(folder / "sweep") == {"seed-0": "done", "seed-1": "done"}
    assert (folder / "sweep" / "leaderboard.csv").exists()
    warned = "sweep: its file system knows no locks"
    assert (done.stdout + done.stderr).count(warned) == (1 if locks == "none" else 0)


@pytest.mark.long
def test_what_is_odd_about_the_data_is_said_once_in_a_sweep_and_in_the_log_of_each_run(folder):
    write(folder / "good" / FILES[1], torch.arange(60) // 15)  # sorted by class
    done = run_cli("-m", *TINY, "data.dir=good", "data.split=0.5", "seed=0,1,2", "hydra.launcher.stack=2", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("training rows lack class 2, 3") == 1
    for seed in range(3):
        assert any(line.startswith("training rows lack") for line in log_of(folder / "sweep" / f"seed-{seed}"))
