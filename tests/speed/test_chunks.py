"""A batch is worked through in chunks of rows where its rows do not see one another, or wait for one another."""

import pytest
import torch
from helpers import make_config
from speed.twins import CLASSIFIERS, MODELS, assert_same_steps, twins
from torch import nn

from fmnist.nn.layers import BatchNorm
from fmnist.nn.losses import CLASSIFICATION, COUPLING, cross_entropy
from fmnist.nn.models import Parts
from fmnist.nn.noise import Noise
from fmnist.train.stack import Stack


def test_chunks_add_up(dataset, monkeypatch):
    monkeypatch.setattr("fmnist.nn.step.chunk_rows", lambda device: 50)  # of 160 rows: the last chunk is shorter
    for model in MODELS:
        knobs = {**model, "precision": "float64", "batch_size": None, "dropout": 0.3, "skip": True}
        assert_same_steps([make_config(**knobs, seed=seed) for seed in range(2)], dataset)


@pytest.mark.parametrize("runs", [1, 3])
@pytest.mark.parametrize("model", MODELS, ids=lambda model: model["model"])
def test_batch_norm_sees_all_rows_through_the_chunks(dataset, monkeypatch, model, runs):
    monkeypatch.setattr("fmnist.nn.step.chunk_rows", lambda device: 50)  # the reference is not cut
    features = torch.tensor([0.0, 1.5, 2.0])  # a mask that does not depend on the order in which it is drawn
    monkeypatch.setattr(Noise, "keep_mask", lambda self, out, *_: out.copy_(
        features[torch.arange(out.shape[-2], device=out.device) % 3, None]))  # fmt: skip
    monkeypatch.setattr(Noise, "normal", lambda self, out: out.fill_(0.3))
    knobs = {**model, "precision": "float64", "batch_size": None, "batch_norm": True, "dropout": 0.3, "skip": True}
    configs = [make_config(**knobs, seed=seed) for seed in range(runs)]
    assert_same_steps(configs, dataset)
    stack = Stack(configs, dataset, torch.device("cpu"))
    stack.train_epoch(1)
    ((tape, _),) = stack.step.tapes.values()
    assert len(tape.sizes) == 4


class Centred(nn.Module):
    """A layer without a rule that lets rows see one another."""

    couples_rows = True

    def forward(self, x):
        return x - x.mean(-2, keepdim=True)


class Around(nn.Module):
    """A module without a rule, with batch normalisation inside, which has one."""

    def __init__(self):
        super().__init__()
        self.norm = BatchNorm(12, (1,), dtype=torch.float64)

    def forward(self, x):
        return self.norm(x[..., :12])


def coupled(logits, labels):
    """A loss without a rule by which the rows of a batch see one another."""
    return cross_entropy(logits - logits.mean(-2, keepdim=True), labels)


@pytest.mark.parametrize(("knobs", "layer", "chunks"), [
    ({}, nn.Identity, 4), ({"batch_norm": True}, nn.Identity, 4), ({"norm": "layer"}, nn.Identity, 4),
    ({"loss": "report_rows"}, nn.Identity, 1), ({}, Centred, 1), ({"batch_norm": True}, Centred, 1), ({}, Around, 1),
    ({"loss": "coupled"}, nn.Identity, 1),
])  # fmt: skip
def test_batches_are_cut_where_rows_do_not_see_one_another_or_wait(dataset, monkeypatch, knobs, layer, chunks):
    monkeypatch.setattr("fmnist.nn.step.chunk_rows", lambda device: 50)
    monkeypatch.setitem(CLASSIFICATION, "coupled", coupled)
    monkeypatch.setattr("fmnist.nn.losses.COUPLING", {*COUPLING, "coupled"})
    original = Parts.hidden
    monkeypatch.setattr(Parts, "hidden", lambda *args, **kwargs: [*original(*args, **kwargs), layer()])
    loss = knobs.get("loss")
    config = make_config(**CLASSIFIERS[1], precision="float64", batch_size=None, **knobs | {"loss": None})
    config.loss = loss or config.loss
    stack = twins([config], dataset)[1]
    assert len(list(stack.step.chunks(next(stack.feed.epoch(1))))) == chunks
    assert_same_steps([config], dataset)
