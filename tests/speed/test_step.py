"""The taped step is the formulas' step: gradients, metrics and statistics of autograd, for all there is."""

import itertools

import pytest
import torch
from helpers import make_config
from speed.twins import AUTOENCODERS, CLASSIFIERS, MODELS, assert_same_steps

from fmnist.config.annealing import at
from fmnist.nn.noise import Noise
from fmnist.train.stack import Stack

SWITCHES = [dict(zip(("dropout", "norm", "skip"), on, strict=True))
            for on in itertools.product((None, 0.4), (None, "batch", "layer"), (None, True))]  # fmt: skip


@pytest.mark.few(54)
@pytest.mark.parametrize(("switches", "runs"), [(each, 3) for each in SWITCHES] + [(each, 1) for each in SWITCHES[::3]],
                         ids=str)  # fmt: skip
@pytest.mark.parametrize(
    ("model", "loss"),
    [(model, loss) for model in CLASSIFIERS for loss in ("cross_entropy", "report", "report_rows")]
    + [(AUTOENCODERS[0], loss) for loss in ("mae", "mse", "bce")] + [(AUTOENCODERS[1], "bce")],
    ids=lambda value: value if isinstance(value, str) else value["model"],
)  # fmt: skip
def test_every_model_loss_and_switch_steps_as_autograd_does(model, loss, switches, runs, dataset, device):
    knobs = {**model, **switches, "loss": loss, "precision": "float64", "batch_size": 64}
    assert_same_steps([make_config(**knobs, seed=seed) for seed in range(runs)], dataset, device)


@pytest.mark.few(26)
@pytest.mark.parametrize("knobs", [
    *[{**CLASSIFIERS[0], "model.activation": name} for name in ("relu", "gelu", "sigmoid", "tanh")],
    *[{**CLASSIFIERS[1], "model.activation": name, "skip": True} for name in ("gelu", "sigmoid", "silu")],
    *[{**CLASSIFIERS[0], "model.activation": name, "dropout": 0.3, "norm": norm}
      for name, norm in (("sigmoid", "batch"), ("leaky_relu", "layer"))],
    {"model": "linear"}, {"model": "linear", "loss": "brier"},
    {**CLASSIFIERS[0], "model.hidden": [784, 12], "skip": True},  # an identity across the data itself
    {**CLASSIFIERS[0], "label_smoothing": 0.2},
    {**CLASSIFIERS[0], "optim": "sgd", "grad_clip": 0.1},
    {**CLASSIFIERS[0], "optim": "lion"}, {**CLASSIFIERS[1], "optim": "muon"},
    {**CLASSIFIERS[0], "batch_size": None},
    {**AUTOENCODERS[0], "model.code": "identity"},
    {**AUTOENCODERS[0], "noise": 0.2, "mask": 0.3}, {**CLASSIFIERS[0], "noise": 0.2, "mask": 0.3, "norm": "batch"},
    {"model": "linear", "mask": 0.3}, {**CLASSIFIERS[1], "mask": 0.3, "skip": True, "batch_size": None},
    {**CLASSIFIERS[0], "model.activation": "identity", "gate": "sigmoid", "norm": "batch", "dropout": 0.3},
    {**CLASSIFIERS[1], "model.activation": "silu", "gate": "identity", "norm": "layer", "skip": True},
    {**CLASSIFIERS[0], "gate": "relu", "loss": "report_rows", "batch_size": None},
    {**CLASSIFIERS[1], "skip": True, "drop_path": 0.6, "dropout": 0.2, "norm": "batch"},
    {**CLASSIFIERS[0], "skip": True, "drop_path": 0.5, "batch_size": None},
    {**AUTOENCODERS[1], "skip": True, "drop_path": 0.5},
    {**AUTOENCODERS[0], "gate": "gelu", "model.code": "identity", "skip": True}, {**AUTOENCODERS[1], "gate": "tanh"},
    {**CLASSIFIERS[0], "dropout": 0.3, "dropout_rescale": False},
    {**AUTOENCODERS[1], "noise": 0.2, "model.beta": 3.0, "dropout": 0.2},
    {**AUTOENCODERS[1], "batch_size": None, "model.activation": "gelu"},
    {**CLASSIFIERS[0], "augment.mixup": 0.5},
    {**CLASSIFIERS[0], "augment.mixup": 0.5, "augment.shift": 2, "label_smoothing": 0.1},
    {**CLASSIFIERS[1], "augment.mixup": 0.5, "loss": "brier", "batch_size": None},
    {**CLASSIFIERS[1], "augment.mixup": 0.5, "loss": "report_rows"},
    {**AUTOENCODERS[0], "augment.flip": 0.5, "augment.cutout": 8},
], ids=str)  # fmt: skip
@pytest.mark.parametrize("order", ["one order", "own orders"])
def test_activations_noise_and_the_rest_too(knobs, order, dataset, device):
    configs = [make_config(**{"precision": "float64", "batch_size": 64, **knobs, "seed": seed,
                              "order_seed": 0 if order == "one order" else seed}) for seed in range(2)]  # fmt: skip
    assert_same_steps(configs, dataset, device)


@pytest.mark.parametrize(("model", "moved"), [
    (CLASSIFIERS[0], {"dropout": [0, 0.4, 0.2], "label_smoothing": [0, 0.2]}),
    ({**CLASSIFIERS[1], "skip": True}, {"drop_path": [0, 0.6], "mixup": [0, 1]}),
    (CLASSIFIERS[1], {"shift": [2, 0], "mixup": [0.5, 0], "label_smoothing": [0.1, 0]}),
    (AUTOENCODERS[0], {"noise": [0.2, 0], "mask": [0, 0.3], "dropout": [0.3, 0]}),
    (AUTOENCODERS[1], {"beta": [0, 1, 0.5], "noise": [0.1, 0.2]}),
], ids=str)  # fmt: skip
def test_what_is_annealed_moves_on_the_tape_as_it_does_by_autograd(model, moved, dataset, device):
    """A run of three epochs; none of them is a run with constant values."""
    knobs = {**model, "anneal": moved, "precision": "float64", "batch_size": 64, "epochs": 3}
    configs = [make_config(**knobs, seed=seed) for seed in range(2)]
    assert_same_steps(configs, dataset, device, epochs=3)
    annealed, constant = (Stack([one], dataset.to(device), torch.device(device))
                          for one in (configs[0], make_config(**{**knobs, "anneal": {}})))  # fmt: skip
    assert annealed.train_epoch(2)["train/loss"] != constant.train_epoch(2)["train/loss"]


def test_each_epoch_has_the_values_of_a_run_that_has_them_always(dataset):
    """In whatever order the epochs come: what is on the tape from one is not left to the next."""
    knobs = {"precision": "float64", "batch_size": 64, "epochs": 4}
    for model, moved in (
        (CLASSIFIERS[0], {"dropout": [0, 0.6], "label_smoothing": [0.3, 0]}),
        (AUTOENCODERS[1], {"beta": [0, 3], "mask": [0.5, 0]}),
    ):
        annealed = make_config(**model, **knobs, anneal=moved)
        stack = Stack([annealed], dataset, torch.device("cpu"))
        start = stack.weights(0)
        for epoch in (1, 3, 4, 2):
            then = at(annealed, epoch)
            then.anneal = {}
            constant = Stack([then], dataset, torch.device("cpu"))
            constant.load_weights(0, start)
            stack.load_weights(0, start)
            for each in (stack, constant):
                each.start_noise(epoch)
            stack._anneal(epoch)
            for each in (stack, constant):
                each.step.totals.reset()
                each.step.gradient(next(each.feed.epoch(1)))
            torch.testing.assert_close(stack.optimizer.flat.grad, constant.optimizer.flat.grad, rtol=1e-12, atol=1e-14)
            losses = [each.step.totals.up_to_date()["loss"] for each in (stack, constant)]
            torch.testing.assert_close(*losses, rtol=1e-12, atol=0)


def test_runs_may_differ_in_their_knobs(dataset):
    knobs = {**CLASSIFIERS[0], "precision": "float64", "batch_size": 64}
    own = [{"dropout": 0.5, "label_smoothing": 0.1, "lr": 0.01}, {"dropout": 0.0, "label_smoothing": 0.0}]
    assert_same_steps([make_config(**knobs, **each) for each in own], dataset)
    sizes = {**AUTOENCODERS[1], "precision": "float64", "batch_size": 64}
    assert_same_steps([make_config(**sizes, **{"model.beta": beta}) for beta in (0.0, 2.0)], dataset)


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model["model"])
def test_float32_agrees_to_float32_rounding(model, dataset):
    configs = [make_config(**model, batch_size=64, seed=seed, batch_norm=True) for seed in range(2)]
    assert_same_steps(configs, dataset, rtol=2e-4, atol=5e-6, epochs=1)


def test_an_error_in_the_middle_of_a_replay_leaves_the_process_as_it_was(dataset):
    stack = Stack([make_config(**CLASSIFIERS[0], batch_size=64)], dataset, torch.device("cpu"))
    batch = next(stack.feed.epoch(1))
    stack.step.gradient(batch)
    ((tape, _),) = stack.step.tapes.values()

    def broken():
        torch.set_float32_matmul_precision("medium")
        raise RuntimeError("broken")

    tape(broken)
    with pytest.raises(RuntimeError, match="broken"):
        stack.step.gradient(batch)
    assert torch.get_float32_matmul_precision() == "highest"


def test_writing_draws_no_noise(dataset):
    config = make_config(**CLASSIFIERS[0], dropout=0.5, batch_size=64)
    stack = Stack([config], dataset, torch.device("cpu"))
    batch = next(stack.feed.epoch(1))
    stack.start_noise(1)
    before = stack.noise.generators[0].get_state()
    stack.step._write(batch, None)
    assert torch.equal(stack.noise.generators[0].get_state(), before)
    assert isinstance(stack.noise, Noise)
