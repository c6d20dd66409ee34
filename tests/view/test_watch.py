"""What is watched while a model trains: right by a reference in torch.nn, the same in a stack, and without effect."""

import json

import numpy as np
import pytest
import torch
from helpers import make_config, rows_of
from torch import nn
from torch.nn import functional as F

from fmnist import UserError
from fmnist.data.dataset import as_input, load
from fmnist.train import engine
from fmnist.train.restore import assemble
from fmnist.train.stack import Stack
from fmnist.view.watch import watch

SMALL = {"data.limit": 600, "epochs": 2, "batch_size": 100, "precision": "float64", "model.hidden": [20, 12]}


@pytest.fixture
def stack():
    configs = [make_config(**SMALL, seed=seed, lr=lr, watch="gradients") for seed, lr in ((0, 0.1), (1, 0.3))]
    return Stack(configs, load(**vars(configs[0].data)), torch.device("cpu"))


def reference(stack, run):
    """The same network in torch.nn, and its loss as a function of nothing."""
    layers = []
    for weight, bias in zip(*[iter(stack.weights(run).values())] * 2, strict=True):
        layers += [nn.Linear(*weight.T.shape, dtype=weight.dtype), nn.ReLU()]
        layers[-2].load_state_dict({"weight": weight, "bias": bias})
    network = nn.Sequential(*layers[:-1])
    train = stack.dataset.train
    x, labels = as_input(train.images, torch.float64), train.labels.long()
    return network, x, lambda: F.cross_entropy(network(x), labels)


@pytest.mark.parametrize("run", [0, 1])
def test_gradients_and_surface_are_those_of_torch(stack, run):
    found = watch(stack)
    network, _, loss = reference(stack, run)
    gradient = torch.autograd.grad(loss(), [*network.parameters()])
    norms = [part.norm().item() for part in gradient[::2]]
    assert [found[f"gradient/{layer:03d}"][run] for layer in (1, 2, 3)] == pytest.approx(norms)

    for config in stack.configs:
        config.watch = "surface"
    found, lr = watch(stack), stack.configs[run].lr
    origin = [p.detach().clone() for p in network.parameters()]
    length = torch.cat([part.flatten() for part in gradient]).norm()
    losses, changes, smoothness = [loss().item()], [], []
    for step in (0.5, 1, 2, 4):
        with torch.no_grad():
            for p, start, part in zip(network.parameters(), origin, gradient, strict=True):
                p.copy_(start - step * lr * part)
        losses.append(loss().item())
        there = torch.autograd.grad(loss(), [*network.parameters()])
        moved = torch.cat([(a - b).flatten() for a, b in zip(there, gradient, strict=True)]).norm()
        changes.append((moved / length).item())
        smoothness.append((moved / (step * lr * length)).item())
    assert found["surface/loss_range"][run] == pytest.approx((max(losses) - min(losses)) / losses[0])
    assert found["surface/gradient_change"][run] == pytest.approx(max(changes))
    assert found["surface/smoothness"][run] == pytest.approx(max(smoothness))


def test_inputs_are_percentiles_over_the_rows(stack):
    for config in stack.configs:
        config.watch = "inputs"
    network, x, _ = reference(stack, 1)
    with torch.no_grad():
        before = network[:3](x).numpy()
    found = watch(stack)
    for unit in range(10):
        for percentile in (15, 50, 85):
            expected = np.percentile(before[:, unit], percentile)
            assert found[f"input/{unit}_{percentile}"][1] == pytest.approx(expected)


def test_fit_measures_training_rows_without_dropout(tmp_path):
    knobs = {**SMALL, "data.split": 1, "dropout": 0.5, "epochs": 8, "lr": 1e-2}
    engine.fit([make_config(**knobs, watch="fit")], [tmp_path])
    last = rows_of(tmp_path)[-1]
    assert last["fit/accuracy"] > last["train/accuracy"] + 0.05
    assert last["fit/loss"] < last["train/loss"]


@pytest.mark.few(4)
@pytest.mark.parametrize("watch", ["fit", "gradients", "inputs", "surface"])
@pytest.mark.parametrize("model", ["mlp", "autoencoder", "vae"])
def test_watching_changes_nothing_and_a_stack_sees_what_its_solos_see(model, watch, tmp_path):
    knobs = {**SMALL, "dropout": 0.3, "batch_norm": True, "figures": False}
    configs = [make_config(model, **knobs, seed=seed, lr=lr) for seed, lr in ((0, 1e-3), (1, 3e-3))]
    watched = [make_config(model, **knobs, seed=c.seed, lr=c.lr, watch=watch) for c in configs]
    together = [tmp_path / f"stack{run}" for run in range(2)]
    engine.fit(watched, together)
    for run in range(2):
        engine.fit([configs[run]], [tmp_path / f"plain{run}"])
        engine.fit([watched[run]], [tmp_path / f"solo{run}"])
        plain, solo, stacked = (rows_of(tmp_path / f"{kind}{run}") for kind in ("plain", "solo", "stack"))
        for a, b, c in zip(plain, solo, stacked, strict=True):
            assert a == {tag: b[tag] for tag in a}
            assert b.keys() > a.keys()
            assert b == pytest.approx(c, rel=1e-7, abs=1e-9)
        weights = [json.loads((tmp_path / f"{kind}{run}/result.json").read_text())["metrics"]["test/loss"]
                   for kind in ("plain", "solo")]  # fmt: skip
        assert weights[0] == weights[1]


def test_the_change_of_the_gradient_is_none_where_nothing_moves_though_units_are_dropped():
    knobs = {**SMALL, "model.activation": "tanh", "lr": 1e-14, "dropout": 0.5, "watch": "surface"}
    configs = [make_config(**knobs, seed=seed) for seed in (0, 1)]
    found = watch(assemble(configs))
    assert found["surface/gradient_change"] == pytest.approx([0, 0], abs=1e-9)
    assert found["surface/loss_range"] == pytest.approx([0, 0], abs=1e-9)


def test_a_model_without_activations_has_no_inputs_to_watch():
    stack = assemble([make_config(**SMALL, watch="inputs")])
    stack.model = nn.Sequential(stack.model[0])
    with pytest.raises(UserError, match="watch must not be inputs for this model: it has no activation"):
        watch(stack)
