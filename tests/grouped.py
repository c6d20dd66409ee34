"""What the tests of groups of runs share: runs that were stopped, what runs leave, and a listener."""

import json

import pytest
from helpers import Crash, crash_in, make_config

from fmnist.train import engine


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


def result_of(directory):
    return json.loads((directory / "result.json").read_text(encoding="utf-8"))


def log_of(directory):
    return (directory / "train.log").read_text(encoding="utf-8")


class Notes:
    """A listener that keeps what it is told."""

    def __init__(self):
        self.epochs, self.ends, self.halves, self.remarks = [], [], [], []

    def reached(self, runs, epoch):
        self.epochs.append((list(runs), epoch))

    def ended(self, run, outcome):
        self.ends.append(run)

    def halved(self, runs, what, why):
        self.halves.append((list(runs), what))

    def remarked(self, text):
        self.remarks.append(text)
