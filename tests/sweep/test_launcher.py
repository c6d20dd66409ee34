"""`hydra/launcher=stacked`: a launcher like any other, and runs trained together that are solo runs in all but time."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest
from helpers import Crash, assert_same_run, crash_in, make_config, run_cli
from hydra._internal.callbacks import Callbacks
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.utils import create_config_search_path
from hydra.core.plugins import Plugins
from hydra.core.utils import JobRuntime, setup_globals
from hydra.test_utils.launcher_common_tests import IntegrationTestSuite, LauncherTestSuite
from hydra.types import HydraContext, RunMode
from hydra_plugins._compose import Composer
from hydra_plugins.stacked import StackedLauncher

from fmnist import ROOT
from fmnist.launch.worker import train_group
from fmnist.record.result import of_run
from fmnist.train import engine

SMALL = ("model=mlp1", "model.hidden=[12]", "data.limit=300", "epochs=3", "batch_size=50", "precision=float64")
SIXTEEN = ("seed=0,1,2,3", "lr=1e-3,3e-3", "+dropout=0.1,0.5")


@pytest.mark.filterwarnings("ignore:Future Hydra versions")  # the programs of these tests name no version
@pytest.mark.parametrize(("launcher_name", "overrides"), [("stacked", [])])
class TestLauncher(LauncherTestSuite):
    """Hydra's own tests of a launcher."""


@pytest.mark.parametrize(("task_launcher_cfg", "extra_flags"), [({}, ["-m", "hydra/launcher=stacked"])])
class TestIntegration(IntegrationTestSuite):
    """Hydra's own tests of a launcher in programs."""

    @pytest.fixture(autouse=True)
    def _found(self, monkeypatch):
        monkeypatch.setenv("PYTHONPATH", f"{ROOT / 'sweep'}:{ROOT}")


def test_the_plugins_are_in_a_wheel(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "fmnist", "sweep"):
        (source / name).symlink_to(ROOT / name)
    code = "import setuptools.build_meta as build; print(build.build_wheel('.'))"
    made = subprocess.run([sys.executable, "-c", code], cwd=source, capture_output=True, text=True, check=True)
    names = zipfile.ZipFile(source / made.stdout.split()[-1]).namelist()
    assert {"fmnist/train/engine.py", "hydra_plugins/stacked.py", "hydra_plugins/_compose.py"} <= set(names)
    assert "hydra_plugins/__init__.py" not in names  # other plugins live in that namespace too
    assert any(name.startswith("fmnist/speed/_integers.") for name in names) or shutil.which("cc") is None


def test_the_plugins_are_found_from_anywhere(tmp_path):
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run([sys.executable, str(ROOT / "train.py"), "--info", "plugins"], cwd=tmp_path,
                          capture_output=True, text=True, env=environment)  # fmt: skip
    assert "StackedLauncher" in done.stdout


def files_of(directory):
    """Names of all files of a run, without what differs from process to process."""
    return {str(path.relative_to(directory)).split(".out.")[0] for path in directory.rglob("*") if path.is_file()}


def log_of(directory):
    """The lines of a run's log without their times and its own path."""
    lines = (directory / "train.log").read_text().replace(str(directory), "DIR").splitlines()
    return [line.partition("] ")[2] if line.startswith("[") else line for line in lines]


def status_of(sweep):
    return {path.parent.name: json.loads(path.read_text())["status"] for path in sweep.glob("*/result.json")}


@pytest.fixture(scope="module")
def sixteen(tmp_path_factory):
    """A sweep of sixteen runs: the folder it was started in, and what the command said."""
    folder = tmp_path_factory.mktemp("sixteen")
    done = run_cli("-m", *SMALL, *SIXTEEN, "hydra.sweep.dir=sweep", cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder, done.stdout


def test_sixteen_runs_have_the_curves_of_sixteen_solo_runs(sixteen, tmp_path):
    runs = sorted(path.parent for path in (sixteen[0] / "sweep").glob("*/result.json"))
    assert len(runs) == 16
    for run in runs:
        engine.fit([of_run(run)], [tmp_path / run.name])
        assert_same_run(run, tmp_path / run.name, rel=1e-9, abs=1e-9)


def test_in_float32_accuracies_are_those_of_solo_runs_to_a_fifth_of_a_point(tmp_path):
    configs = [make_config(seed=seed, lr=lr, dropout=0.1, epochs=2, **{"model.hidden": [100]})
               for seed in (0, 1) for lr in (1e-3, 3e-3)]  # fmt: skip
    together = engine.fit(configs, [tmp_path / f"stack{run}" for run in range(len(configs))])
    for run, config in enumerate(configs):
        (alone,) = engine.fit([config], [tmp_path / f"solo{run}"])
        for tag in ("validation/accuracy", "test/accuracy"):
            assert together[run].metrics[tag] == pytest.approx(alone.metrics[tag], abs=0.002)


def test_a_run_of_a_sweep_has_all_that_a_solo_run_has(sixteen, tmp_path):
    solo = run_cli(*SMALL, "seed=1", "lr=3e-3", "+dropout=0.5", "hydra.run.dir=solo", cwd=tmp_path)
    assert solo.returncode == 0, solo.stderr
    run = sixteen[0] / "sweep" / "seed-1+lr-0.003+dropout-0.5"
    assert files_of(run) == files_of(tmp_path / "solo")
    assert log_of(run) == log_of(tmp_path / "solo")
    assert (run / ".hydra" / "config.yaml").read_text() == (tmp_path / "solo" / ".hydra" / "config.yaml").read_text()
    assert "+dropout=0.5" in (run / ".hydra" / "overrides.yaml").read_text()


def test_the_same_command_again_trains_nothing_and_needs_no_torch(sixteen):
    folder, _ = sixteen
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.name != "leaderboard.csv"}
    command = [sys.executable, "-X", "importtime", str(ROOT / "train.py"), "-m", *SMALL, *SIXTEEN]
    done = subprocess.run([*command, "hydra.sweep.dir=sweep"], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "16 jobs, 16 done already" in done.stdout
    assert " torch" not in done.stderr
    kept = (path for path in before if path.name not in ("multirun.yaml", "sweep"))
    assert all(path.stat().st_mtime_ns == before[path] for path in kept)


def test_the_leaderboard_has_seeds_together_and_one_by_one(sixteen):
    folder, told = sixteen
    with open(folder / "sweep" / "leaderboard.csv") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 16
    assert [row["rank"] for row in rows] == [rank for rank in "1234" for _ in range(4)]
    assert [row["seed"] for row in rows] == ["0", "1", "2", "3"] * 4
    means = [float(row["objective_mean"]) for row in rows]
    assert means == sorted(means, reverse=True)
    best = [row for row in rows if row["rank"] == "1"]
    assert float(best[0]["objective_mean"]) == pytest.approx(sum(float(row["objective"]) for row in best) / 4)
    result = json.loads((folder / "sweep" / best[2]["run"] / "result.json").read_text())
    assert float(best[2]["objective"]) == result["objective"]
    assert float(best[2]["test"]) == result["metrics"]["test/accuracy"]
    assert best[0]["n"] == "4"
    (line,) = [line for line in told.splitlines() if line.startswith("1  4")]
    assert f"{float(best[0]['objective_mean']):.4f} ± {float(best[0]['objective_sd']):.4f}" in line


def test_jobs_that_diverge_or_are_refused_fail_alone_and_by_name(tmp_path):
    sweep = ("seed=0,1", "lr=1e-3,1e30", "dropout=0.5,1.5", "hydra.sweep.dir=sweep")
    done = run_cli("-m", *SMALL, *sweep, "precision=float32", cwd=tmp_path)
    assert done.returncode == 1
    assert "Traceback" not in done.stdout + done.stderr
    assert "6 of 8 jobs failed:" in done.stdout
    for seed in (0, 1):
        diverged = f"seed-{seed}+lr-1e30+dropout-0.5"
        assert f"  {diverged}: train/loss is nan in epoch 1: try a smaller lr" in done.stdout
        assert log_of(tmp_path / "sweep" / diverged)[-1].startswith("failed: train/loss is nan in epoch 1")
        for lr in ("0.001", "1e30"):
            refused = f"seed-{seed}+lr-{lr}+dropout-1.5"
            assert f"  {refused}: dropout must be in [0, 1), got 1.5" in done.stdout
            assert log_of(tmp_path / "sweep" / refused) == ["error: dropout must be in [0, 1), got 1.5"]
    assert status_of(tmp_path / "sweep") == {
        f"seed-{seed}+lr-{lr}+dropout-0.5": status
        for seed in (0, 1) for lr, status in (("0.001", "done"), ("1e30", "failed"))
    }  # fmt: skip


LONG = (*SMALL, "epochs=400", "save_every=0.1", "log_every=100", "seed=0,1,2", "lr=1e-3,3e-3", "hydra.sweep.dir=sweep")


def started(folder, *arguments):
    """A sweep that has trained for some epochs, and is still at it."""
    process = subprocess.Popen([sys.executable, str(ROOT / "train.py"), "-m", *arguments], cwd=folder,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)  # fmt: skip
    deadline = time.monotonic() + 60
    while len([path for path in folder.glob("sweep/*/last.pt") if path.exists()]) < 6:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return process


def workers_of(process):
    """Process ids of a sweep's workers."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return [int(child) for child in children]


def gone(pids, within=5.0):
    deadline = time.monotonic() + within
    while any(Path(f"/proc/{pid}").exists() for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not any(Path(f"/proc/{pid}").exists() for pid in pids)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    """The runs of LONG, never interrupted, each alone."""
    folder = tmp_path_factory.mktemp("unbroken")
    for seed in (0, 1, 2):
        for lr in (0.001, 0.003):
            config = make_config(seed=seed, lr=lr, epochs=400, batch_size=50, precision="float64", save_every=0.1,
                                 log_every=100, **{"model.hidden": [12], "data.limit": 300})  # fmt: skip
            engine.fit([config], [folder / f"seed-{seed}+lr-{lr}"])
    return folder


def assert_finishes(folder, unbroken):
    """The same command again finishes a sweep, and it is as if it had never been stopped."""
    done = run_cli("-m", *LONG, cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    for run in sorted(unbroken.iterdir()):
        assert_same_run(folder / "sweep" / run.name, run, rel=1e-7, abs=1e-7)


def test_a_killed_sweep_is_finished_by_the_same_command(tmp_path, unbroken):
    process = started(tmp_path, *LONG)
    workers = workers_of(process)
    assert workers
    process.kill()
    process.communicate()
    assert gone(workers)
    assert set(status_of(tmp_path / "sweep").values()) == {"running"}
    assert_finishes(tmp_path, unbroken)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_sweep_ends_its_epochs_and_saves(number, tmp_path, unbroken):
    process = started(tmp_path, *LONG)
    workers = workers_of(process)
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 128 + number
    assert "Traceback" not in err
    assert "the same command continues it" in out
    assert gone(workers)
    for path in (tmp_path / "sweep").glob("*/result.json"):
        result = json.loads(path.read_text())
        assert result["status"] == "interrupted"
        assert result["epoch"] == len((path.parent / "metrics.jsonl").read_text().splitlines())
    if number == signal.SIGINT:
        assert_finishes(tmp_path, unbroken)


def test_a_worker_that_dies_is_told_by_the_names_of_its_jobs(tmp_path):
    process = started(tmp_path, *LONG, "hydra.launcher.workers=2", "hydra.launcher.stack=3")
    os.kill(workers_of(process)[0], signal.SIGKILL)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 1, out + err
    assert "3 of 6 jobs failed:" in out
    status = status_of(tmp_path / "sweep")
    dead = [name for name, state in status.items() if state == "running"]
    assert sorted(status.values()) == ["done"] * 3 + ["running"] * 3
    for name in dead:
        assert f"{name}: its worker process died (signal 9): the same command continues it" in out


def test_two_commands_do_not_train_the_same_sweep(tmp_path):
    process = started(tmp_path, *LONG)
    second = run_cli("-m", *LONG, cwd=tmp_path)
    assert second.returncode == 1
    assert "another command is training the runs of" in second.stderr
    process.terminate()
    process.communicate(timeout=30)


def test_a_finished_run_of_another_config_is_refused_by_name(sixteen, tmp_path):
    folder = sixteen[0] / "sweep"
    (tmp_path / "sweep").symlink_to(folder)
    before = {path: path.read_bytes() for path in folder.glob("seed-0+lr-0.001*/**/*") if path.is_file()}
    sweep = ("seed=0", "lr=1e-3,3e-3", "+dropout=0.1,0.5", "label_smoothing=0.1", "hydra.sweep.dir=sweep")
    done = run_cli("-m", *SMALL, *sweep, "hydra.sweep.subdir=seed-0+lr-${lr}+dropout-${dropout}", cwd=tmp_path)
    assert done.returncode == 1
    assert "4 of 4 jobs failed" in done.stdout
    assert "label_smoothing=None there, 0.1 here" in done.stdout
    assert {path: path.read_bytes() for path in before} == before


def test_a_dry_run_tells_the_stacks_and_writes_nothing(tmp_path):
    done = run_cli("-m", *SMALL, *SIXTEEN, "batch_size=50,60", "dry_run=true", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert not list(tmp_path.iterdir())
    stacks = [line for line in done.stdout.splitlines() if "] stack " in line or "stack " in line.split("] ")[-1][:6]]
    assert len(stacks) == 4
    for line in stacks:
        assert ("batch_size-50" in line) is not ("batch_size-60" in line)
    assert "32 runs in 4 stacks of 8" in done.stdout
    alone = run_cli(*SMALL, "dry_run=true", cwd=tmp_path)
    assert alone.returncode == 0
    assert "9,550 parameters" in alone.stdout
    assert not list(tmp_path.iterdir())
    refused = run_cli("-m", *SMALL, "dry_run=true", "hydra/launcher=basic", cwd=tmp_path)
    assert refused.returncode == 2
    assert not list(tmp_path.iterdir())


def test_with_the_basic_launcher_names_and_leaderboard_are_the_same(tmp_path):
    sweep = ("seed=0", "lr=1e-3,1e30", "hydra/launcher=basic")
    done = run_cli("-m", *SMALL[:-1], "precision=float32", *sweep, cwd=tmp_path)
    assert done.returncode == 1
    (folder,) = (tmp_path / "outputs").iterdir()
    assert folder.name == "model-mlp1+model.hidden-12+data.limit-300+epochs-3+batch_size-50+precision-float32+seed-0+lr"
    assert status_of(folder) == {"lr-0.001": "done", "lr-1e30": "failed"}
    with open(folder / "leaderboard.csv") as file:
        assert [(row["lr"], row["status"]) for row in csv.DictReader(file)] == [("0.001", "done"), ("1e+30", "failed")]


@pytest.fixture(scope="module")
def loader():
    setup_globals()
    Plugins.instance()
    JobRuntime.instance().set("name", "train")
    return ConfigLoaderImpl(create_config_search_path(str(ROOT / "conf")))


@pytest.mark.parametrize("overrides", [
    [], ["seed=3"], ["+dropout=0.1"], ["++dropout=0.1", "lr=1e-2"], ["~log_every"], ["model.hidden=[30,20]", "seed=1"],
    ["model=deep", "model.depth=5", "skip=true"], ["model=vae", "+model.iwae_samples=5"], ["order_seed=5"],
    ["experiment=q1_4_2_wide", "epochs=3"], ["optim=sgd", "optim.momentum=0.5"], ["order_seed=${epochs}"],
    ["data=idx", "data.dir='/a b/c'"], ["++anomaly={normal:3}"], ["batch_size=null"],
], ids=str)  # fmt: skip
def test_a_job_is_composed_as_hydra_composes_it(overrides, loader):
    typed = ["lr=1e-3,1e-2", "seed=range(0,3)", "hydra.verbose=true", "hydra.sweep.dir=x"]
    master = loader.load_configuration("config", typed, RunMode.MULTIRUN)
    str(master.hydra.run.dir)  # the time in it is told once, and every job inherits it
    compose = Composer(loader, master)
    expected = loader.load_sweep_config(master, overrides)
    for _ in range(2):  # anew, and from a copy
        got = compose._quickly(overrides)
        assert got == expected
        assert got._get_full_key(None) == expected._get_full_key(None)
        for part in ("hydra", "model", None):
            flags = [(node if part is None else node[part])._metadata.flags for node in (got, expected)]
            assert flags[0] == flags[1]


@pytest.mark.parametrize(("typed", "there", "stackable", "at_once"), [
    ([], False, True, True), ([], True, True, False), (["dry_run=true"], False, True, False), ([], False, False, False),
], ids=["new", "there already", "dry run", "another's task"])  # fmt: skip
def test_workers_start_at_once_where_all_jobs_are_to_be_trained(
    typed, there, stackable, at_once, loader, tmp_path, monkeypatch
):
    started = []
    monkeypatch.setattr(StackedLauncher, "_get_ready", lambda self: started.append(self))
    if there:
        (tmp_path / "sweep").mkdir()

    def task(config):
        """Not called."""

    task.stackable = stackable
    config = loader.load_configuration("config", [f"hydra.sweep.dir={tmp_path / 'sweep'}", *typed], RunMode.MULTIRUN)
    launcher = StackedLauncher(workers=None, stack=None, dry_run=False)
    launcher.setup(hydra_context=HydraContext(loader, Callbacks()), task_function=task, config=config)
    assert bool(started) == at_once


@pytest.mark.parametrize(("overrides", "message"), [
    (["droput=1"], "Could not override 'droput'"), (["model=mlp9"], "mlp9"), (["lr=1,2"], "lr=1,2"),
])  # fmt: skip
def test_a_job_that_hydra_refuses_is_refused_by_hydra(overrides, message, loader):
    master = loader.load_configuration("config", [], RunMode.MULTIRUN)
    with pytest.raises(Exception, match=message):
        Composer(loader, master)(overrides)


def crashed(folder, monkeypatch, **epoch_of):
    """Runs that were stopped, each in the epoch given."""
    configs, directories = [], []
    for name, epoch in epoch_of.items():
        config = make_config(seed=len(configs), epochs=6, precision="float64", save_every=0.0,
                             **{"model.hidden": [12], "data.limit": 300})  # fmt: skip
        configs.append(config)
        directories.append(folder / name)
        if epoch:
            with monkeypatch.context() as patch:
                crash_in(patch, epoch)
                with pytest.raises(Crash):
                    engine.fit([config], [folder / name])
    return configs, directories


def test_runs_stopped_at_different_epochs_go_on_and_one_with_a_bad_checkpoint_fails_alone(tmp_path, monkeypatch):
    configs, directories = crashed(tmp_path, monkeypatch, a=3, b=5, c=0, d=3, e=4)
    (tmp_path / "e" / "last.pt").write_bytes(b"nothing")
    outcomes = train_group(configs, directories)
    assert [outcome.error is None for outcome in outcomes] == [True, True, True, True, False]
    assert "last.pt is damaged" in outcomes[4].error
    assert "last.pt is damaged" in (tmp_path / "e" / "train.log").read_text()
    for config, directory in zip(configs[:4], directories, strict=False):
        engine.fit([config], [tmp_path / "solo" / directory.name])
        assert_same_run(directory, tmp_path / "solo" / directory.name, rel=1e-9, abs=1e-9)


def test_a_stack_that_memory_cannot_hold_is_halved(tmp_path, monkeypatch):
    configs, directories = crashed(tmp_path, monkeypatch, a=0, b=0, c=0)
    original, tried = engine.Stack.epoch, []

    def small(self, epoch):
        tried.append(len(self.configs))
        if len(self.configs) > 1:
            raise MemoryError
        return original(self, epoch)

    monkeypatch.setattr(engine.Stack, "epoch", small)
    outcomes = train_group(configs, directories)
    assert [outcome.error for outcome in outcomes] == [None] * 3
    assert [size for size in tried if size > 1] == [3, 2]
    assert {json.loads((d / "result.json").read_text())["status"] for d in directories} == {"done"}


def test_what_befalls_a_stack_is_in_the_log_and_the_outcome_of_each_run(tmp_path, monkeypatch):
    configs, directories = crashed(tmp_path, monkeypatch, a=0, b=0)

    def broken(self, epoch):
        raise RuntimeError("no such kernel")

    monkeypatch.setattr(engine.Stack, "epoch", broken)
    outcomes = train_group(configs, directories)
    assert [outcome.error for outcome in outcomes] == ["RuntimeError: no such kernel"] * 2
    for directory in directories:
        assert "no such kernel" in (directory / "train.log").read_text()
        assert json.loads((directory / "result.json").read_text())["status"] == "failed"
