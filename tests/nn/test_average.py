"""The running average of weights: the formula, runs of their own, and a state that goes on bit for bit."""

import pytest
import torch
from helpers import make_config
from torch import nn

from fmnist.data.dataset import load
from fmnist.nn.layers import BatchNorm, Linear
from fmnist.nn.optim import Average, Flat
from fmnist.train.stack import Stack

F64 = {"dtype": torch.float64}
CLOSE = {"rtol": 1e-12, "atol": 1e-14}
ALIKE, APART = [0.9, 0.9, 0.9], [0.0, 0.5, 0.999]


def network(runs):
    return nn.Sequential(Linear(4, 3, (runs,), **F64), BatchNorm(3, (runs,), **F64))


def averaged(decays):
    model = network(len(decays))
    return model, Average(model, Flat(model), decays)


@torch.no_grad()
def change(model, step, run=slice(None)):
    """Made-up weights and statistics after a step: of all three runs, or of one as its solo."""
    generator = torch.Generator().manual_seed(step)
    for value in model.state_dict().values():
        drawn = torch.randint(-9, 9, (3, *value.shape[1:]), generator=generator).to(value.dtype)
        value.copy_(drawn[run].view(value.shape))


@pytest.mark.parametrize("decays", [ALIKE, APART], ids=["alike", "apart"])
def test_an_average_is_the_formula_written_out(decays):
    model, average = averaged(decays)
    expected = {name: value.clone() for name, value in model.state_dict().items()}
    for step in range(1, 40):
        change(model, step)
        average.update(step)
        for name, value in model.state_dict().items():
            for run, decay in enumerate(decays):
                kept = min(decay, (1 + step) / (10 + step)) if value.is_floating_point() else 0.0
                expected[name][run] = kept * expected[name][run] + (1 - kept) * value[run]
    for run in range(3):
        state = average.state_of(run)
        assert state.keys() == expected.keys()
        for name, value in state.items():
            torch.testing.assert_close(value, expected[name][run], **CLOSE)
    assert not torch.equal(average.state_of(2)["1.running_mean"], model[1].running_mean[2])  # statistics come along


@pytest.mark.parametrize("decays", [ALIKE, APART], ids=["alike", "apart"])
def test_averages_of_a_stack_are_those_of_its_solos(decays):
    model, average = averaged(decays)
    solos = [averaged([decay]) for decay in decays]
    for step in range(1, 8):
        change(model, step)
        average.update(step)
        for run, (solo, own) in enumerate(solos):
            change(solo, step, slice(run, run + 1))
            own.update(step)
    for run, (_, own) in enumerate(solos):
        torch.testing.assert_close(average.state_of(run), own.state_of(0), rtol=0, atol=0)


@pytest.mark.parametrize("decays", [ALIKE, APART], ids=["alike", "apart"])
def test_no_number_is_copied_to_the_device_in_a_step(decays, monkeypatch):
    model, average = averaged(decays)
    change(model, 1)
    monkeypatch.setattr(torch, "tensor", lambda *_, **__: pytest.fail("a tensor was made of numbers"))
    average.update(1)


@pytest.mark.parametrize("decays", [ALIKE, APART], ids=["alike", "apart"])
def test_an_average_put_back_goes_on_bit_for_bit(decays):
    model, average = averaged(decays)
    for step in range(1, 4):
        change(model, step)
        average.update(step)
    again, resumed = averaged(decays)
    for run in range(3):
        resumed.load_state_of(run, average.state_of(run))
    for step in range(4, 7):
        for each, its in ((model, average), (again, resumed)):
            change(each, step)
            its.update(step)
    for run in range(3):
        torch.testing.assert_close(resumed.state_of(run), average.state_of(run), rtol=0, atol=0)


def test_what_is_given_out_does_not_change_with_what_comes_later():
    model, average = averaged(ALIKE)
    change(model, 1)
    average.update(1)
    state = average.state_of(0)
    before = {name: value.clone() for name, value in state.items()}
    change(model, 2)
    average.update(2)
    torch.testing.assert_close(state, before, rtol=0, atol=0)


def test_training_averages_after_each_step_and_tests_by_the_average_for_a_while():
    dataset = load(**vars(make_config(**{"data.limit": 200}).data))
    knobs = {"model.hidden": [8], "norm": "batch", "batch_size": 50, "precision": "float64", "ema": 0.5}
    selects = ["average", "last"]
    configs = [make_config(**knobs, seed=seed, select=select) for seed, select in enumerate(selects)]
    stack = Stack(configs, dataset, torch.device("cpu"))
    assert Stack([make_config(model="linear")], dataset, torch.device("cpu")).average is None
    seen, original = [stack.model.state_dict()["0.weight"][0].clone()], stack.average.update

    def noting(step):
        seen.append(stack.model.state_dict()["0.weight"][0].clone())
        assert step == len(seen) - 1
        original(step)

    stack.average.update = noting
    stack.train_epoch(1), stack.train_epoch(2)
    assert len(seen) == 1 + 2 * 4  # 160 rows in fifties
    expected = seen[0]
    for step, weights in enumerate(seen[1:], start=1):
        kept = min(0.5, (1 + step) / (10 + step))
        expected = kept * expected + (1 - kept) * weights
    last = [stack.weights(run) for run in range(2)]
    with stack.tested_weights():
        within = [stack.weights(run) for run in range(2)]
        torch.testing.assert_close(within[0], stack.average.state_of(0), rtol=0, atol=0)
    torch.testing.assert_close(within[0]["0.weight"], expected, **CLOSE)
    torch.testing.assert_close(within[1], last[1], rtol=0, atol=0)
    for run in range(2):
        torch.testing.assert_close(stack.weights(run), last[run], rtol=0, atol=0)
