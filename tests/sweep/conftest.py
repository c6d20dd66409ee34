"""`python train.py -m ...` inside the test's process, with a launcher that only takes down what it is given."""

import json
from pathlib import Path

import pytest
import yaml
from helpers import train_py
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus


class Notebook:
    """A launcher whose jobs end at once with the objective that `objective(job)` gives, an exception for a failed one.

    A job is told as a dict of its overrides; it leaves a result.json, paused if it has `until`.
    """

    def __init__(self, objective=lambda job: 0.5):
        self.objective, self.batches, self.first, self.config = objective, [], [], None

    def launch(self, job_overrides, initial_job_idx):
        self.batches.append([list(job) for job in job_overrides])
        self.first.append(initial_job_idx)
        return [self._run(list(job)) for job in job_overrides]

    def _run(self, overrides):
        job = dict(override.split("=", 1) for override in overrides)
        value = self.objective(job)
        failed = isinstance(value, Exception)
        if "hydra.sweep.subdir" in job and not failed:
            directory = Path(self.config.hydra.sweep.dir) / job["hydra.sweep.subdir"]
            directory.mkdir(exist_ok=True)
            result = {"status": "paused" if "until" in job else "done", "epoch": 0, "config": {}, "config_hash": ""}
            (directory / "result.json").write_text(json.dumps(result))
        returned = JobReturn(overrides=overrides, status=JobStatus.FAILED if failed else JobStatus.COMPLETED)
        returned.return_value = value
        return returned

    @property
    def jobs(self):
        return [job for batch in self.batches for job in batch]


class Sweeps:
    """Runs commands in a fresh directory; `launcher` is the one they were given."""

    def __init__(self, monkeypatch):
        self.monkeypatch, self.launcher = monkeypatch, Notebook()

    def __call__(self, *arguments, **launcher):
        """The status of the command."""
        self.launcher = Notebook(**launcher)

        def instead(plugins, *, hydra_context, task_function, config):
            self.launcher.config, self.launcher.loader = config, hydra_context.config_loader
            return self.launcher

        self.monkeypatch.setattr(Plugins, "instantiate_launcher", instead)
        return train_py(Path(), *arguments)


@pytest.fixture
def sweep(tmp_path, monkeypatch):
    """`sweep("-m", "seed=0,1")`, in a directory of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("yaml.SafeLoader", yaml.CSafeLoader)  # Hydra reads its files at each start: a quarter of it
    monkeypatch.setattr("hydra_plugins._report.DRAWN", {})  # plots take a second
    return Sweeps(monkeypatch)
