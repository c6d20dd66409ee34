"""What the tests of training share: data that are read once, kinds of runs, the plain step in the fast one's place."""

import json

import pytest
import torch
from helpers import Crash, assert_same_run, crash_in

from fmnist.nn.step import Step
from fmnist.record import checkpoint
from fmnist.sources.fetch import read_ahead
from fmnist.train import engine
from fmnist.train.restore import assemble


@pytest.fixture(autouse=True)
def data_kept():
    """Fashion-MNIST is read and verified once, and not for each run of a test."""
    read_ahead("fashion", None, keep=True)


@pytest.fixture(autouse=True)
def quick_disk(monkeypatch):
    """Nothing waits for the disk, which takes most of the time of a very small run. No test here loses power."""
    monkeypatch.setattr("os.fsync", lambda descriptor: None)


class PlainStep(Step):
    """The textbook's step, by autograd, for a stack that asks for a TapedStep."""

    def __init__(self, model, criterion, optimizer, precision, *_):
        super().__init__(model, criterion, optimizer, precision)


def strict(text):
    """JSON as its standard has it: NaN and Infinity are none."""

    def refuse(name):
        raise ValueError(f"{name} is no JSON")

    return json.loads(text, parse_constant=refuse)


def assert_valid(directory):
    """The record of a run is JSON that any reader takes."""
    strict((directory / "result.json").read_text(encoding="utf-8"))
    for line in (directory / "metrics.jsonl").read_text(encoding="utf-8").splitlines():
        strict(line)


def assert_all_weights_have_moved(config, directory):
    """Training has reached every parameter of a run's model, and left it finite."""
    before = assemble([config]).weights(0)
    after = checkpoint.load(directory / "last.safetensors")["weights"]
    assert before.keys() == after.keys()
    for name, value in after.items():
        assert value.isfinite().all(), name
        assert not torch.equal(value, before[name].cpu()), name


def assert_stacked_and_resumed_alike(configs, folder, monkeypatch, epoch):
    """The last of some runs is the same in a stack of them, alone, and gone on with after it died in that epoch. What
    is alone is left in folder / "solo"."""
    stacked = [folder / f"stack{run}" for run in range(len(configs))]
    engine.fit(configs, stacked)
    engine.fit(configs[-1:], [folder / "solo"])
    assert_same_run(stacked[-1], folder / "solo", rel=1e-6, abs=1e-6)
    with monkeypatch.context() as patch:
        crash_in(patch, epoch)
        with pytest.raises(Crash):
            engine.fit(configs[-1:], [folder / "resumed"])
    engine.fit(configs[-1:], [folder / "resumed"])
    assert_same_run(folder / "solo", folder / "resumed")


# Every kind of model and of final metric, as small as it can be; for what else they need see their users.
KINDS = {
    "linear": {"model": "linear"},
    "mlp": {"model.hidden": [20, 12]},
    "deep": {"model": "deep", "model.width": 12, "model.depth": 4},
    "code": {"model": "autoencoder", "model.hidden": [20, 2], "model.code": "identity"},
    "one class": {"model": "autoencoder", "model.hidden": [20, 6], "anomaly.normal": 1},
    "vae": {"model": "vae", "model.hidden": [20], "model.latent": 2, "model.iwae_samples": 3},
    "vae of one class": {"model": "vae", "model.hidden": [20], "model.latent": 2, "anomaly.normal": 1},
}
