"""The optimizer's update within a step's programs is the optimizer's own."""

import pytest
import torch
from helpers import make_config
from speed.twins import twins

from fmnist.speed.native import CODES, Program, library
from fmnist.speed.update import Update

pytestmark = pytest.mark.skipif(library() is None, reason="the native library is not compiled")

SETTINGS = {
    "alike": ({"lr": 0.01}, {"lr": 0.01}, {"lr": 0.01}),
    "rates": ({"lr": 0.01}, {"lr": 0.003}, {"lr": 0.1}),
    "all": (
        {"lr": 0.01, "optim.betas": [0.5, 0.7]}, {"optim.weight_decay": 0.1}, {"optim.eps": 1e-3, "schedule": "cosine"},
    ),
}  # fmt: skip


def stepped(configs, dataset, steps, update=True):
    """A stack after some steps; without the update in its programs it is done by the optimizer."""
    stack = twins(configs, dataset)[1]
    stack.start_noise(1)
    assert isinstance(stack.step.update, Update)
    if not update:
        stack.step.update = None
    for number, batch in enumerate(stack.feed.epoch(1)):
        if number == steps:
            break
        stack.step(batch, [c.lr / (number + 1) for c in configs], [c.grad_clip for c in configs])
    return stack


def programs_of(stack):
    return [f for tape, _ in stack.step.tapes.values() for f, _, _ in tape.operations if isinstance(f, Program)]


def updates(stack):
    return sum(instruction.code == CODES["adam"] for program in programs_of(stack) for instruction in program.list)


@pytest.mark.parametrize("runs", [1, 3])
@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("optim", ["adam", "adamw"])
@pytest.mark.parametrize("batch_size", [64, None])
def test_weights_and_moments_are_those_of_the_optimizer(dataset, batch_size, optim, settings, runs):
    knobs = {"model.hidden": [20, 13], "batch_size": batch_size, "optim": optim}
    configs = [make_config(**{**knobs, **own}, seed=run) for run, own in enumerate(SETTINGS[settings][:runs])]
    one, other = (stepped(configs, dataset, 3, update) for update in (True, False))
    assert updates(one)
    assert not updates(other)
    for run in range(runs):
        found, wanted = (stack.optimizer.state_of(run) for stack in (one, other))
        assert found["steps"] == wanted["steps"] > 0
        torch.testing.assert_close(one.weights(run), other.weights(run), rtol=1e-3, atol=1e-6)
        for moments in ("exp_avg", "exp_avg_sq"):
            torch.testing.assert_close(found[moments], wanted[moments], rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize("optim", ["adam", "adamw"])
def test_a_weight_whose_gradient_was_too_large_to_be_squared_stays_where_it_is(dataset, optim):
    config = make_config(**{"model.hidden": [20], "batch_size": 64}, optim=optim)
    found = []
    for update in (True, False):
        stack = twins([config], dataset)[1]
        stack.step.update = stack.step.update if update else None
        stack.optimizer.states["exp_avg_sq"].fill_(torch.inf)
        before = stack.optimizer.flat.data.clone()
        stack.start_noise(1)
        stack.step(next(iter(stack.feed.epoch(1))), [0.01], [None])
        found.append(bool(updates(stack)))
        assert torch.equal(stack.optimizer.flat.data, before)
        assert stack.optimizer.states["exp_avg_sq"].isinf().all()
    assert found == [True, False]


def test_a_limit_for_the_gradient_is_heeded(dataset):
    config = make_config(**{"model.hidden": [20], "batch_size": 64}, grad_clip=1e-3, optim="adam")
    one, other = (stepped([config], dataset, 3, update) for update in (True, False))
    assert not updates(one)
    assert torch.equal(one.optimizer.flat.data, other.optimizer.flat.data)


@pytest.mark.parametrize("knobs", [{"optim": "sgd"}, {"optim": "lion"}, {"optim": "muon"}, {"precision": "float64"}])
def test_other_rules_stay_the_optimizers(dataset, knobs):
    stack = twins([make_config(**{"model.hidden": [20], "batch_size": 64}, **knobs)], dataset)[1]
    assert stack.step.update is None


def test_a_gradient_alone_changes_no_weight(dataset):
    (config,) = (make_config(**{"model.hidden": [20], "batch_size": 64}),)
    stack = stepped([config], dataset, 1)
    before = stack.optimizer.flat.data.clone()
    stack.step.gradient(next(iter(stack.feed.epoch(1))))
    assert torch.equal(stack.optimizer.flat.data, before)
