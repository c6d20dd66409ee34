"""What has no rule goes by autograd: layers, activations, losses, and classes that change what their base computes."""

import pytest
import torch
from helpers import make_config
from speed.orders import Doubled, Jitter, Tracking
from speed.twins import AUTOENCODERS, CLASSIFIERS, assert_same_steps, twins
from torch import nn

from fmnist.nn.layers import ACTIVATIONS, Elementwise
from fmnist.nn.losses import CLASSIFICATION, RECONSTRUCTION, Classification, Reconstruction, cross_entropy
from fmnist.nn.models import MLP, Parts
from fmnist.nn.optim import Flat, Optimizer
from fmnist.nn.step import Step
from fmnist.speed.step import TapedStep
from fmnist.speed.taped import by_autograd, multiplies_only
from fmnist.speed.taped_losses import loss_rule
from fmnist.train.stack import Stack

KNOBS = {**CLASSIFIERS[1], "precision": "float64", "batch_size": 64}


def after_each_hidden_layer(monkeypatch, make):
    """Let each hidden layer end with a layer of one's own."""
    original = Parts.hidden
    monkeypatch.setattr(Parts, "hidden", lambda *args, **kwargs: [*original(*args, **kwargs), make()])


class Unknown(nn.Module):
    """A layer that nobody taught to write itself."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((1, 1, 1), 0.7, dtype=torch.float64))

    def forward(self, x):
        return torch.sin(x * self.weight)


@pytest.mark.parametrize("chunk", [6000, 30])
@pytest.mark.parametrize("layer", [Unknown, lambda: nn.ReLU(inplace=True), lambda: nn.Softplus(beta=2)],
                         ids=["learnt", "written over its input", "torch's"])  # fmt: skip
def test_a_layer_without_a_rule_goes_by_autograd(dataset, monkeypatch, chunk, layer):
    monkeypatch.setattr("fmnist.nn.step.chunk_rows", lambda device: chunk)
    after_each_hidden_layer(monkeypatch, layer)
    assert_same_steps([make_config(**KNOBS, **{"model.activation": "gelu"})], dataset)


def state_of(model):
    """All that a model and the process could draw from or count in."""
    own = [layer.generator.get_state() for layer in model.modules() if isinstance(layer, Jitter)]
    return [torch.get_rng_state(), *own, *(buffer.clone() for buffer in model.buffers())]


@pytest.mark.parametrize("make", [lambda: Tracking(12, (1,)), Jitter, lambda: nn.Dropout(0.4)],
                         ids=["running statistics", "noise of its own", "the process's noise"])  # fmt: skip
def test_writing_leaves_statistics_and_generators_alone(dataset, monkeypatch, make):
    after_each_hidden_layer(monkeypatch, make)
    slow, fast = twins([make_config(**KNOBS)], dataset)
    before = state_of(fast.model)
    for batch in fast.feed.epoch(1):
        fast.step._write(batch, None)
    torch.testing.assert_close(state_of(fast.model), before, rtol=0, atol=0)
    ends = []
    for stack in (slow, fast):
        torch.manual_seed(3)
        for epoch in (1, 2):
            metrics = stack.train_epoch(epoch)
        assert not all(map(torch.equal, state_of(stack.model), before))
        ends.append((metrics, stack.model.state_dict(), state_of(stack.model)))
    torch.testing.assert_close(ends[0], ends[1], rtol=1e-9, atol=1e-11)


TOYS = {"erf": torch.erf, "sin": torch.sin, "softsign": nn.functional.softsign}


@pytest.mark.parametrize("chunk", [6000, 30])
@pytest.mark.parametrize("name", [*ACTIVATIONS, *TOYS])
def test_an_activation_needs_no_more_than_its_function(dataset, monkeypatch, name, chunk):
    monkeypatch.setattr("fmnist.nn.step.chunk_rows", lambda device: chunk)
    f = TOYS.get(name) or ACTIVATIONS[name].f
    config = make_config(**CLASSIFIERS[0], precision="float64", batch_size=64)
    config.model.activation = "tried"
    gradients = []
    for entry in [ACTIVATIONS.get(name), Elementwise(f)]:
        monkeypatch.setitem(ACTIVATIONS, "tried", entry or Elementwise(f))
        assert_same_steps([config], dataset, epochs=1)
        stack = Stack([config], dataset, torch.device("cpu"))
        stack.step.gradient(next(stack.feed.epoch(1)))
        gradients.append(stack.optimizer.flat.grad)
    torch.testing.assert_close(*gradients, rtol=1e-10, atol=1e-13)


class Wild(nn.Module):
    """A layer without a rule, with one parameter that is trained and one that is not."""

    def __init__(self, width):
        super().__init__()
        self.weight, self.still = (nn.Parameter(torch.ones(1, width, dtype=torch.float64)) for _ in range(2))
        self.still.requires_grad_(False)

    def forward(self, x):
        return x * self.weight[:, None] + self.still[:, None]


@pytest.mark.parametrize("chunk", [6000, 30])
def test_what_needs_no_gradient_stays_as_it_is(dataset, monkeypatch, chunk):
    monkeypatch.setattr("fmnist.nn.step.chunk_rows", lambda device: chunk)
    config = make_config(**CLASSIFIERS[0], precision="float64", batch_size=64)
    found = []
    for kind in (TapedStep, Step):
        stack = Stack([config], dataset, torch.device("cpu"))
        model = nn.Sequential(stack.model[0], Wild(stack.model[0].bias.shape[-1]), *list(stack.model)[1:])
        for frozen in (model[0].weight, model[-1].bias):
            frozen.requires_grad_(False)
        optimizer = Optimizer("adam", Flat(model), [{"betas": [0.9, 0.999], "eps": 1e-8, "weight_decay": None}])
        step = kind(model, stack.criterion, optimizer, "float64", *([64] if kind is TapedStep else []))
        before = [p.clone() for p in model.parameters()]
        for batch in stack.feed.epoch(1):
            step(batch, [0.1], [None])
        still = [torch.equal(p, b) for p, b in zip(model.parameters(), before, strict=True)]
        assert still == [not p.requires_grad for p in model.parameters()]
        found.append(list(model.parameters()))
    torch.testing.assert_close(*found, rtol=1e-10, atol=1e-12)


def hinge(logits, labels):
    """Crammer and Singer's, and no loss of this project."""
    own = logits.gather(-1, labels.expand(logits.shape[:-1])[..., None])
    return (1 + logits - own).relu().square().sum(-1)


def cubed(logits, x):
    return (logits.sigmoid() - x).abs().pow(3).sum(-1)


@pytest.mark.parametrize("runs", [1, 2])
@pytest.mark.parametrize("chunk", [6000, 30])
@pytest.mark.parametrize(("model", "table", "loss"), [
    (CLASSIFIERS[0], CLASSIFICATION, hinge), (AUTOENCODERS[0], RECONSTRUCTION, cubed),
], ids=["classification", "reconstruction"])  # fmt: skip
def test_a_loss_without_a_rule_goes_by_autograd(dataset, monkeypatch, model, table, loss, chunk, runs):
    monkeypatch.setattr("fmnist.nn.step.chunk_rows", lambda device: chunk)
    monkeypatch.setitem(table, "tried", loss)
    configs = [make_config(**model, precision="float64", batch_size=64, seed=seed) for seed in range(runs)]
    for config in configs:
        config.loss = "tried"
    assert_same_steps(configs, dataset)


class Weighted(Classification):
    """A criterion whose base class has a rule, which is not its own."""

    def metrics(self, output, x, labels, training=False, mix=None):
        own = super().metrics(output, x, labels, training, mix)
        return own | {"loss": own["loss"] * (1 + labels), "label": labels.expand(own["loss"].shape).double()}


class Tempered(MLP):
    """A model whose base class has a rule, which is not its own."""

    def forward(self, x):
        return super().forward(x) / 3


@pytest.mark.parametrize("chunk", [6000, 30])
def test_a_class_that_computes_something_else_is_not_given_the_rule_of_its_base(dataset, monkeypatch, chunk):
    monkeypatch.setattr("fmnist.nn.step.chunk_rows", lambda device: chunk)
    with monkeypatch.context() as patch:
        patch.setattr("fmnist.nn.losses.Classification", Weighted)
        assert_same_steps([make_config(**KNOBS)], dataset)
    with monkeypatch.context() as patch:
        patch.setattr("fmnist.nn.models.MLP", Tempered)
        assert_same_steps([make_config(**CLASSIFIERS[0], precision="float64", batch_size=64)], dataset)


def test_a_rule_is_for_what_its_class_computes():
    parts = Parts(runs=(1,))
    assert not by_autograd(MLP(parts, 4, 3, [5]))
    assert multiplies_only(MLP(parts, 4, 3, [5]))
    assert by_autograd(Tempered(parts, 4, 3, [5]))
    assert not multiplies_only(Tempered(parts, 4, 3, [5]))  # it could not be given pixels for numbers
    assert not multiplies_only(nn.Sequential(Doubled(4, 3, (1,))))


@pytest.mark.parametrize("criterion", [Classification, Reconstruction])
def test_every_criterion_names_a_loss_that_there_is(criterion):
    with pytest.raises(KeyError, match="nonsense"):
        criterion("nonsense")


def test_losses_that_have_a_rule_have_that_of_their_formula():
    assert Classification("cross_entropy").loss is cross_entropy
    assert loss_rule.dispatch(Weighted) is loss_rule.dispatch(Classification)  # the table alone would take it
