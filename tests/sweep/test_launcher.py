"""`hydra/launcher=stacked`: a launcher like any other, and runs trained together that are solo runs in all but time."""

import csv
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from types import SimpleNamespace

import pytest
from helpers import assert_same_run, make_config, run_cli
from hydra import version
from hydra._internal.callbacks import Callbacks
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.utils import create_config_search_path
from hydra.core.plugins import Plugins
from hydra.core.utils import JobRuntime, setup_globals
from hydra.test_utils.launcher_common_tests import IntegrationTestSuite, LauncherTestSuite
from hydra.types import HydraContext, RunMode
from hydra.version import VersionBase
from hydra_plugins.stacked import StackedLauncher
from sweeping import SMALL, files_of, log_of, status_of

from fmnist import ROOT, UserError
from fmnist.launch import machine, plan
from fmnist.launch.locks import LOCK
from fmnist.record.result import of_run
from fmnist.train import engine

SIXTEEN = ("seed=0,1,2,3", "lr=1e-3,3e-3", "+dropout=0.1,0.5")


@pytest.mark.filterwarnings("ignore:Future Hydra versions")  # the programs of these tests name no version
@pytest.mark.parametrize(("launcher_name", "overrides"), [("stacked", [])])
class TestLauncher(LauncherTestSuite):
    """Hydra's own tests of a launcher."""

    @pytest.fixture(autouse=True)
    def _no_version(self, monkeypatch):
        """Other tests of this process have named one."""
        monkeypatch.setattr(VersionBase.instance(), "version_base", version.__compat_version__)


@pytest.mark.few(1)
@pytest.mark.parametrize(("task_launcher_cfg", "extra_flags"), [({}, ["-m", "hydra/launcher=stacked"])])
class TestIntegration(IntegrationTestSuite):
    """Hydra's own tests of a launcher in programs."""

    @pytest.fixture(autouse=True)
    def _found(self, monkeypatch):
        monkeypatch.setenv("PYTHONPATH", f"{ROOT / 'sweep'}:{ROOT}")


@pytest.mark.long
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


@pytest.fixture(scope="module")
def sixteen(tmp_path_factory):
    """A sweep of sixteen runs: the folder it was started in, and what the command said."""
    folder = tmp_path_factory.mktemp("sixteen")
    done = run_cli("-m", *SMALL, *SIXTEEN, "hydra.sweep.dir=sweep", cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder, done.stdout


@pytest.mark.long
def test_sixteen_runs_have_the_curves_of_sixteen_solo_runs(sixteen, tmp_path):
    runs = sorted(path.parent for path in (sixteen[0] / "sweep").glob("*/result.json"))
    assert len(runs) == 16
    for run in runs:
        engine.fit([of_run(run)], [tmp_path / run.name])
        assert_same_run(run, tmp_path / run.name, rel=1e-9, abs=1e-9)


@pytest.mark.long
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
    assert files_of(run) == {name for name in files_of(tmp_path / "solo") if "projector" not in name}
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
    kept = (path for path in before if path.name not in ("multirun.yaml", "sweep", LOCK))
    assert all(path.stat().st_mtime_ns == before[path] for path in kept)


def test_the_leaderboard_has_seeds_together_and_one_by_one(sixteen):
    folder, output = sixteen
    with open(folder / "sweep" / "leaderboard.csv", encoding="utf-8") as file:
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
    (line,) = [line for line in output.splitlines() if line.startswith("1  4")]
    assert f"{float(best[0]['objective_mean']):.4f} ± {float(best[0]['objective_sd']):.4f}" in line


@pytest.mark.long
def test_what_a_sweep_prints_at_its_end_can_be_pasted(sixteen):
    folder, output = sixteen
    lines = [line for line in output.splitlines() if re.match("curves: |report: ", line)]
    assert lines == output.splitlines()[-2:]
    curves, report = (shlex.split(line.partition(" ")[2]) for line in lines)
    assert curves[1:] == ["-m", "fmnist.board", "sweep"]
    assert report[1:] == ["-m", "fmnist.report", "sweep"]
    for command in (f"{lines[0]} --help", lines[1]):
        done = subprocess.run(["sh", "-c", command.partition(" ")[2]], cwd=folder, capture_output=True,
                              encoding="utf-8", env={"PATH": "/usr/bin:/bin"})  # fmt: skip
        assert done.returncode == 0, done.stderr
    assert (folder / "sweep" / "report" / "index.html").exists()


def test_a_dry_run_tells_the_stacks_and_writes_nothing(tmp_path):
    done = run_cli("-m", *SMALL, *SIXTEEN, "batch_size=50,60", "dry_run=true", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert not list(tmp_path.iterdir())
    stacks = [line for line in done.stdout.splitlines() if "] stack " in line or "stack " in line.split("] ")[-1][:6]]
    assert len(stacks) == 4
    for line in stacks:
        assert ("batch_size-50" in line) is not ("batch_size-60" in line)
        assert line.endswith("(8 runs)")  # not all their names
    assert "32 runs in 4 stacks of 8" in done.stdout
    alone = run_cli(*SMALL, "dry_run=true", cwd=tmp_path)
    assert alone.returncode == 0
    assert "9,550 parameters" in alone.stdout
    assert not list(tmp_path.iterdir())
    refused = run_cli("-m", *SMALL[:-1], "dry_run=true", "hydra/launcher=basic", cwd=tmp_path)
    assert refused.returncode == 2
    assert not list(tmp_path.iterdir())


@pytest.mark.long
def test_with_the_basic_launcher_names_and_leaderboard_are_the_same(tmp_path):
    sweep = ("seed=0", "lr=1e-3,1e30", "hydra/launcher=basic")
    done = run_cli("-m", *SMALL[:-1], "precision=float32", *sweep, cwd=tmp_path)
    assert done.returncode == 1
    (folder,) = (tmp_path / "outputs").iterdir()
    assert folder.name == "model-mlp1+model.hidden-12+data.limit-300+epochs-3+batch_size-50+precision-float32+seed-0+lr"
    assert status_of(folder) == {"lr-0.001": "done", "lr-1e30": "failed"}
    with open(folder / "leaderboard.csv", encoding="utf-8") as file:
        assert [(row["lr"], row["status"]) for row in csv.DictReader(file)] == [("0.001", "done"), ("1e+30", "failed")]


@pytest.mark.parametrize(("typed", "there", "stackable", "at_once"), [
    ([], False, True, [1]), ([], True, True, []), (["dry_run=true"], False, True, []), ([], False, False, []),
], ids=["new", "there already", "dry run", "another's task"])  # fmt: skip
def test_a_worker_starts_at_once_where_something_is_to_be_trained(
    typed, there, stackable, at_once, tmp_path, monkeypatch
):
    setup_globals()
    Plugins.instance()
    JobRuntime.instance().set("name", "train")
    loader, started = ConfigLoaderImpl(create_config_search_path(str(ROOT / "conf"))), []
    monkeypatch.setattr(StackedLauncher, "_get_ready", lambda self, jobs: started.append(jobs))
    if there:
        (tmp_path / "sweep").mkdir()

    def task(config):
        """Not called."""

    task.stackable = stackable
    config = loader.load_configuration("config", [f"hydra.sweep.dir={tmp_path / 'sweep'}", *typed], RunMode.MULTIRUN)
    launcher = StackedLauncher(workers=None, stack=None, dry_run=False)
    launcher.setup(hydra_context=HydraContext(loader, Callbacks()), task_function=task, config=config)
    assert started == at_once


@pytest.mark.parametrize(("workers", "cores", "memory", "jobs", "expected"), [
    (None, 12, 64e9, 2, 2), (None, 3, 64e9, 20, 3), (None, 12, 1.3e9, 20, 2), (None, 12, 0.0, 20, 1),
    (5, 12, 64e9, 20, 5), (5, 12, 64e9, 2, 2), (5, 2, 0.0, 9, 5),
])  # fmt: skip
def test_workers_are_the_least_of_jobs_cores_and_memory_unless_they_are_asked_for(
    workers, cores, memory, jobs, expected, monkeypatch
):
    monkeypatch.setattr(machine, "this_machine", lambda: machine.Machine(cores, memory))
    launcher, started = StackedLauncher(workers=workers, stack=None, dry_run=False), []
    launcher.team = SimpleNamespace(get_ready=started.append)
    launcher._get_ready(jobs)
    assert started == [expected]


def launcher_of(tmp_path, dry_run=False, **team):
    """A launcher whose team does these things, with one long run to train."""
    launcher = StackedLauncher(workers=None, stack=None, dry_run=dry_run)
    launcher.team = SimpleNamespace(get_ready=lambda count: None, train=lambda *given: None, **team)
    launcher.jobs = SimpleNamespace(prepare=lambda job: None)
    return launcher, [SimpleNamespace(checked=make_config(device="cpu", epochs=1000), directory=tmp_path, epoch=0,
                                      error=None, name="one")] * 2  # fmt: skip


@pytest.mark.parametrize(("seconds", "expected"), [(59.0, []), (61.0, [1])])
def test_idle_workers_of_a_long_sweep_are_ended(seconds, expected, tmp_path, monkeypatch):
    ended = []
    launcher, todo = launcher_of(tmp_path, shrink=ended.append)
    monkeypatch.setattr(launcher, "_plan", lambda todo: plan.Plan([[0, 1]], 1, 1, seconds, 1e9))
    launcher._train(todo, [])
    assert ended == expected


def test_a_dry_run_measures_nothing(tmp_path):
    launcher, todo = launcher_of(tmp_path, dry_run=True, pace=None)
    assert not launcher._plan(todo).measured
    launcher, todo = launcher_of(tmp_path, pace=lambda configs, workers, threads: 1e-3)
    assert launcher._plan(todo).measured


def test_a_folder_in_which_no_lock_can_be_made_is_one_line(tmp_path):
    launcher = StackedLauncher(workers=None, stack=None, dry_run=False)
    (tmp_path / LOCK).mkdir()
    launcher.sweep = tmp_path
    with pytest.raises(UserError, match=rf"^hydra.sweep.dir must be a folder to write to, got {tmp_path}: Is a dir"):
        launcher._lock()
