"""The jobs of a sweep, made inside the test's process: what is there of each already, and what that costs."""

import gc
import json
import os
import signal
import sys
from dataclasses import asdict

import pytest
from helpers import train_py
from hydra._internal.callbacks import Callbacks
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.utils import create_config_search_path
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.core.utils import JobRuntime, setup_globals
from hydra.types import HydraContext, RunMode
from hydra_plugins._jobs import Jobs
from omegaconf import DictConfig

from fmnist import ROOT
from fmnist.config.parse import config_hash
from fmnist.launch.locks import LOCK
from fmnist.program.files import locked


@pytest.fixture
def jobs(tmp_path, monkeypatch):
    """Those of a sweep over seeds with the data of a folder."""
    monkeypatch.setattr(HydraConfig.instance(), "cfg", None)  # what jobs put there goes when the test ends
    setup_globals()
    Plugins.instance()
    JobRuntime.instance().set("name", "train")
    (tmp_path / "data").mkdir()
    loader = ConfigLoaderImpl(create_config_search_path(str(ROOT / "conf")))
    typed = ["data=idx", f"data.dir={tmp_path / 'data'}", "seed=range(0,23)"]
    master = loader.load_configuration("config", typed, RunMode.MULTIRUN)
    str(master.hydra.sweep.subdir)  # what the sweep's command line is, as fmnist.launch.callbacks.RefuseEarly has it
    return Jobs(HydraContext(loader, Callbacks()), lambda config: None, master, tmp_path / "sweep", lambda: None)


def make(jobs, seed):
    """The job with this seed."""
    return jobs.make(["data=idx", f"data.dir={jobs.sweep.parent / 'data'}", f"seed={seed}"], seed)


def leave(job, **changes):
    """Leave the record of a run, with changes; a field that is None is left out."""
    job.directory.mkdir(parents=True)
    record = {"status": "done", "epoch": 60, "objective": 0.5, "metrics": {}, "config": asdict(job.checked),
              "config_hash": config_hash(job.checked)}  # fmt: skip
    kept = {name: value for name, value in (record | changes).items() if value is not None}
    (job.directory / "result.json").write_text(json.dumps(kept), encoding="utf-8")


def test_jobs_do_not_keep_their_composed_configs(jobs):
    def alive():
        gc.collect()
        return sum(type(thing) is DictConfig for thing in gc.get_objects())

    made = [make(jobs, seed) for seed in range(3)]
    before = alive()
    made += [make(jobs, seed) for seed in range(3, 23)]
    assert [job.name for job in made] == [f"seed-{seed}" for seed in range(23)]
    assert alive() == before


def test_a_further_job_takes_few_calls_of_functions(jobs):
    """They were 44,000 a job, in Hydra's and OmegaConf's code: 10,000 jobs took minutes."""
    calls = 0

    def count(frame, event, argument):
        nonlocal calls
        calls += event == "call"

    made = [make(jobs, seed) for seed in range(3)]
    sys.setprofile(count)
    try:
        made += [make(jobs, seed) for seed in range(3, 23)]
    finally:
        sys.setprofile(None)
    assert [job.error for job in made] == [None] * 23
    assert calls / 20 < 14_000


def test_a_finished_run_needs_neither_its_data_nor_its_device(jobs, tmp_path):
    leave(make(jobs, 0))
    leave(make(jobs, 1), status="interrupted", epoch=7)
    (tmp_path / "data").rmdir()
    done, begun, new = (make(jobs, seed) for seed in range(3))
    assert (done.done, done.error, done.epoch) == (True, None, 60)
    assert done.returned.return_value == 0.5
    for job, epoch in ((begun, 7), (new, 0)):
        assert (job.done, job.epoch, job.ours) == (False, epoch, True)
        assert job.error.startswith("data.dir must be an existing folder")


@pytest.mark.parametrize(("changes", "what"), [
    ({"epoch": None}, "not a run's"), ({"objective": None}, "it has no objective"),
    ({"epoch": "x", "status": "running"}, "not a run's"), ({"epoch": [1]}, "not a run's"),
    ({"config": 3, "config_hash": "other"}, "not a run's"),
])  # fmt: skip
def test_a_damaged_record_fails_its_job_alone_in_one_line(changes, what, jobs):
    leave(make(jobs, 0), **changes)
    bad, good = make(jobs, 0), make(jobs, 1)
    assert bad.error.startswith(f"{bad.directory / 'result.json'} is damaged ({what}")
    assert bad.error.endswith("): remove it to start this run anew")
    assert not bad.ours
    assert (good.error, good.done) == (None, False)


def test_a_job_whose_run_another_command_trains_fails_by_name_and_nothing_is_written(jobs):
    job = make(jobs, 0)
    job.directory.mkdir(parents=True)
    with locked(job.directory / LOCK, wait=False):
        jobs.prepare(job)
    assert job.error == f"another command is training in {job.directory}"
    assert not job.ours
    assert [path.name for path in job.directory.iterdir()] == [LOCK]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_before_a_sweep_trains_ends_it_with_the_command_that_goes_on(number, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(Jobs, "make", lambda *_: os.kill(os.getpid(), number))
    (tmp_path / "here" / "seed-0").mkdir(parents=True)  # it is not new: torch is not imported meanwhile
    assert train_py(tmp_path, "-m", "model=mlp1", "hydra.sweep.dir=here", "seed=0,1") == 128 + number
    told = capsys.readouterr()
    assert "interrupted; this continues it: " in told.out
    assert not told.err
