"""Optimizers and schedules: torch.optim's arithmetic to the last digits, and runs of their own in a stack."""

import pytest
import torch
from torch import nn

from fmnist.config.schema import OPTIMIZERS, load_ideas
from fmnist.nn.layers import Linear
from fmnist.nn.optim import RULES, Flat, Optimizer, schedule

load_ideas()
F64 = {"dtype": torch.float64}
SETTINGS = {
    "sgd": [
        {"momentum": 0.0, "nesterov": None, "weight_decay": None},
        {"momentum": 0.9, "nesterov": None, "weight_decay": 0.1},
        {"momentum": 0.9, "nesterov": True, "weight_decay": None},
    ],
    "adam": [
        {"betas": [0.9, 0.999], "eps": 1e-8, "weight_decay": None},
        {"betas": [0.5, 0.9], "eps": 1e-3, "weight_decay": 0.1},
    ],
    "adamw": [
        {"betas": [0.9, 0.999], "eps": 1e-8, "weight_decay": 0.01},
        {"betas": [0.8, 0.9], "eps": 1e-8, "weight_decay": 0.5},
    ],
    "lion": [
        {"betas": [0.9, 0.99], "weight_decay": None},
        {"betas": [0.5, 0.7], "weight_decay": 0.5},
    ],
    "muon": [
        {"momentum": 0.95, "betas": [0.9, 0.999], "eps": 1e-8, "weight_decay": None},
        {"momentum": 0.5, "betas": [0.8, 0.9], "eps": 1e-3, "weight_decay": 0.5},
    ],
}
TORCH = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}


def network(runs=(), device="cpu"):
    generator = torch.Generator().manual_seed(0)
    model = nn.Sequential(Linear(5, 4, runs, device=device, **F64), Linear(4, 3, runs, device=device, **F64))
    for p in model.parameters():
        p.data.copy_(torch.randn(p.shape[len(runs) :], generator=generator, **F64).expand(p.shape))
    return model


def gradients(step, model):
    """The same made-up gradient for every run, another each step."""
    generator = torch.Generator().manual_seed(step)
    return [torch.randn(p.shape, generator=generator, **F64).to(p.device) for p in model.parameters()]


def test_every_optimizer_of_the_schema_has_a_rule_and_any_other_name_is_an_error():
    assert set(RULES) == set(OPTIMIZERS) >= set(SETTINGS)
    with pytest.raises(KeyError, match="nonsense"):
        Optimizer("nonsense", Flat(network((1,))), [{}])


@pytest.mark.parametrize(("name", "setting"), [(n, i) for n in TORCH for i in range(len(SETTINGS[n]))])
def test_updates_are_those_of_torch_optim(name, setting, device):
    settings = SETTINGS[name][setting]
    ours, theirs = network((1,), device), network(device=device)
    optimizer = Optimizer(name, Flat(ours), [settings])
    given = settings | {"weight_decay": settings["weight_decay"] or 0.0}
    given |= {"nesterov": bool(given["nesterov"])} if name == "sgd" else {}
    reference = TORCH[name](theirs.parameters(), lr=1.0, **given)
    for step in range(5):
        lr = 0.1 / (step + 1)
        reference.param_groups[0]["lr"] = lr
        for p, q, g in zip(ours.parameters(), theirs.parameters(), gradients(step, theirs), strict=True):
            p.grad.copy_(g)
            q.grad = g
        optimizer.step([lr])
        reference.step()
        for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
            torch.testing.assert_close(p[0], q, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", SETTINGS)
def test_a_stack_with_settings_of_its_own_is_its_solos(name):
    settings, lr, limits = SETTINGS[name][:2], [0.1, 0.02], [None, 0.5]
    stack = network((2,))
    solos = [network((1,)) for _ in settings]
    together = Optimizer(name, Flat(stack), settings)
    alone = [Optimizer(name, Flat(solo), [own]) for solo, own in zip(solos, settings, strict=True)]
    for step in range(4):
        for p, g in zip(stack.parameters(), gradients(step, stack), strict=True):
            p.grad.copy_(g)
        for run, solo in enumerate(solos):
            for p, g in zip(solo.parameters(), gradients(step, stack), strict=True):
                p.grad.copy_(g[run : run + 1])
        together.clip(limits)
        together.step(lr)
        for run, optimizer in enumerate(alone):
            optimizer.clip([limits[run]])
            optimizer.step([lr[run]])
    for run, solo in enumerate(solos):
        for p, q in zip(stack.parameters(), solo.parameters(), strict=True):
            torch.testing.assert_close(p[run], q[0], rtol=1e-12, atol=1e-14)
        ours, theirs = together.state_of(run), alone[run].state_of(0)
        assert ours["steps"] == theirs["steps"] == 4
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", SETTINGS)
def test_state_put_back_goes_on_bit_for_bit(name):
    def train(model, optimizer, steps):
        for step in steps:
            for p, g in zip(model.parameters(), gradients(step, model), strict=True):
                p.grad.copy_(g)
            optimizer.step([0.1])

    settings = SETTINGS[name][1:2]
    straight = network((1,))
    train(straight, Optimizer(name, Flat(straight), settings), range(6))
    first = network((1,))
    stopped = Optimizer(name, Flat(first), settings)
    train(first, stopped, range(3))
    second = network((1,))
    resumed = Optimizer(name, Flat(second), settings)
    resumed.load_state_of(0, stopped.state_of(0))
    second.load_state_dict(first.state_dict())
    train(second, resumed, range(3, 6))
    for p, q in zip(straight.parameters(), second.parameters(), strict=True):
        assert torch.equal(p, q)


def test_clipping_is_torchs_for_each_run():
    model = network((2,))
    flat = Flat(model)
    optimizer = Optimizer("adam", flat, SETTINGS["adam"][:1] * 2)
    flat.grad.copy_(torch.randn(flat.grad.shape, generator=torch.Generator().manual_seed(1), **F64))
    copies = [[p.grad[run].clone() for p in model.parameters()] for run in range(2)]
    parameters = [nn.Parameter(torch.zeros_like(g)) for g in copies[1]]
    for p, g in zip(parameters, copies[1], strict=True):
        p.grad = g
    torch.nn.utils.clip_grad_norm_(parameters, 0.7)
    optimizer.clip([1e6, 0.7])
    for p, untouched, clipped in zip(model.parameters(), copies[0], parameters, strict=True):
        assert torch.equal(p.grad[0], untouched)
        torch.testing.assert_close(p.grad[1], clipped.grad, rtol=1e-12, atol=0)


def test_the_limits_of_clipping_are_looked_up_once_a_step_and_copied_once():
    class Counting(dict):
        looks = 0

        def __getitem__(self, key):
            raise AssertionError("a second look")

        def get(self, key):
            self.looks += 1
            return super().get(key)

    optimizer = Optimizer("adam", Flat(network((2,))), SETTINGS["adam"][:1] * 2)
    optimizer.bounds = Counting()
    for looks in range(1, 4):
        optimizer.clip([1e6, 0.7])
        assert optimizer.bounds.looks == looks
    assert len(optimizer.bounds) == 1


@pytest.mark.parametrize("steps", [10, 37])
@pytest.mark.parametrize("name", ["constant", "cosine", "one_cycle"])
def test_schedules_are_torchs(name, steps):
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.3)
    scheduler = {
        "constant": lambda: torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0),
        "cosine": lambda: torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps),
        "one_cycle": lambda: torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.3, total_steps=steps),
    }[name]()
    for step in range(steps):
        assert schedule(name, 0.3, step, steps) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-9)
        optimizer.step()
        if step < steps - 1:
            scheduler.step()


@pytest.mark.parametrize("steps", [1, 2, 3, 4])
@pytest.mark.parametrize("name", ["constant", "cosine", "one_cycle"])
def test_schedules_of_very_short_runs_stay_in_range(name, steps):
    for step in range(steps):
        assert 0 < schedule(name, 0.3, step, steps) <= 0.3


def test_unknown_schedule_is_refused():
    with pytest.raises(ValueError, match="constant, cosine or one_cycle"):
        schedule("linear", 0.1, 0, 10)


def test_flat_buffers_are_the_parameters():
    model = network((2,))
    before = [p.detach().clone() for p in model.parameters()]
    flat = Flat(model)
    for p, was in zip(model.parameters(), before, strict=True):
        assert torch.equal(p, was)
    flat.data.zero_()
    assert not any(p.any() for p in model.parameters())
    model[0](torch.ones(1, 5, **F64)).sum().backward()
    assert flat.grad.any()
