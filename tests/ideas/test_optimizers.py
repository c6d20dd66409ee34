"""Lion and Muon: the papers' formulas, written out here for one matrix at a time."""

import math

import pytest
import torch
from torch import nn

from fmnist.config.schema import load_ideas
from fmnist.ideas.muon import orthogonalised
from fmnist.nn.layers import Linear
from fmnist.nn.optim import RULES, Flat, Optimizer, Rule

load_ideas()
F64 = {"dtype": torch.float64}
CLOSE = {"rtol": 1e-12, "atol": 1e-14}
LR = (0.1, 0.05, 0.02, 0.01)


def rand(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), **F64)


def network(runs):
    model = nn.Sequential(Linear(5, 4, (runs,), **F64), Linear(4, 7, (runs,), **F64))
    with torch.no_grad():
        for number, p in enumerate(model.parameters()):
            p.copy_(rand(*p.shape, seed=number))
    return model


def trained(name, settings):
    """The weights before, the gradients of each step, and the weights after, of runs with settings of their own."""
    model = network(len(settings))
    optimizer = Optimizer(name, Flat(model), settings)
    before = [p.detach().clone() for p in model.parameters()]
    gradients = [[rand(*p.shape, seed=100 * step + n) for n, p in enumerate(before)] for step in range(len(LR))]
    for lr, step in zip(LR, gradients, strict=True):
        for p, g in zip(model.parameters(), step, strict=True):
            p.grad.copy_(g)
        optimizer.step([lr] * len(settings))
    return before, gradients, [p.detach() for p in model.parameters()]


LION = [{"betas": [0.9, 0.99], "weight_decay": None}, {"betas": [0.6, 0.8], "weight_decay": 0.3}]


@pytest.mark.parametrize("settings", [LION[:1], LION[1:], LION], ids=["default", "other", "apart"])
def test_lion_is_algorithm_2_of_its_paper(settings):
    before, gradients, after = trained("lion", settings)
    for run, own in enumerate(settings):
        (beta1, beta2), decay = own["betas"], own["weight_decay"] or 0.0
        for n, start in enumerate(before):
            p, m = start[run], torch.zeros_like(start[run])
            for lr, step in zip(LR, gradients, strict=True):
                g = step[n][run]
                c = beta1 * m + (1 - beta1) * g
                p = p - lr * (c.sign() + decay * p)
                m = beta2 * m + (1 - beta2) * g
            torch.testing.assert_close(after[n][run], p, **CLOSE)


def newton_schulz(g):
    """The iteration of Jordan et al. 2024, for one matrix: X = a X + b (X X^T) X + c (X X^T)^2 X, five times."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = g / g.square().sum().sqrt()
    wide = x if g.shape[0] <= g.shape[1] else x.T
    for _ in range(5):
        s = wide @ wide.T
        wide = a * wide + b * s @ wide + c * s @ s @ wide
    return wide if g.shape[0] <= g.shape[1] else wide.T


MUON = [
    {"momentum": 0.95, "betas": [0.9, 0.999], "eps": 1e-8, "weight_decay": None},
    {"momentum": 0.5, "betas": [0.6, 0.9], "eps": 1e-3, "weight_decay": 0.3},
]


@pytest.mark.parametrize("settings", [MUON[:1], MUON[1:], MUON], ids=["default", "other", "apart"])
def test_muon_is_momentum_made_orthogonal_and_adamw_for_what_is_no_matrix(settings):
    before, gradients, after = trained("muon", settings)
    for run, own in enumerate(settings):
        decay = own["weight_decay"] or 0.0
        for n, start in enumerate(before):
            p = start[run].clone()
            if p.dim() == 1:
                p.requires_grad_()
                adamw = torch.optim.AdamW([p], betas=own["betas"], eps=own["eps"], weight_decay=decay)
                for lr, step in zip(LR, gradients, strict=True):
                    adamw.param_groups[0]["lr"] = lr
                    p.grad = step[n][run]
                    adamw.step()
                torch.testing.assert_close(after[n][run], p.detach(), **CLOSE)
                continue
            m = torch.zeros_like(p)
            for lr, step in zip(LR, gradients, strict=True):
                g = step[n][run]
                m = own["momentum"] * m + g
                direction = newton_schulz(g + own["momentum"] * m)  # Nesterov's
                p = p - lr * (0.2 * math.sqrt(max(p.shape)) * direction + decay * p)
            torch.testing.assert_close(after[n][run], p, rtol=1e-6, atol=1e-6)  # ours divides by a norm + 1e-7


def test_muon_is_torchs_but_for_its_bfloat16():
    settings = {"momentum": 0.95, "betas": [0.9, 0.999], "eps": 1e-8, "weight_decay": 0.1}
    before, gradients, after = trained("muon", [settings])
    matrices = [n for n, start in enumerate(before) if start.dim() == 3]
    for n in matrices:
        p = before[n][0].clone().requires_grad_()
        theirs = torch.optim.Muon([p], momentum=0.95, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
        for lr, step in zip(LR, gradients, strict=True):
            theirs.param_groups[0]["lr"] = lr
            p.grad = step[n][0]
            theirs.step()
        moved, expected = after[n][0] - before[n][0], p.detach() - before[n][0]
        assert (moved - expected).norm() < 0.02 * expected.norm()
    assert len(matrices) == 2


@pytest.mark.parametrize("shape", [(6, 6), (4, 9), (9, 4), (1, 5), (5, 1)], ids=str)
def test_orthogonalised_matrices_keep_their_singular_vectors_and_lose_their_lengths(shape):
    matrices = rand(3, *shape)
    found = orthogonalised(matrices)
    for one, all_ in zip(matrices, found, strict=True):
        u, _, vh = torch.linalg.svd(one, full_matrices=False)
        middle = u.T @ all_ @ vh.T
        values = middle.diagonal()
        torch.testing.assert_close(middle, values.diag(), rtol=0, atol=1e-10)
        assert (values < 1.3).all()
        assert (values > 0.5).all()
        torch.testing.assert_close(all_, newton_schulz(one), rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(orthogonalised(one[None])[0], all_, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(orthogonalised(matrices.mT), found.mT, rtol=1e-12, atol=1e-12)
    assert orthogonalised(torch.zeros(2, *shape)).eq(0).all()


def test_a_rule_for_matrices_is_given_them_as_blocks_of_all_runs(monkeypatch):
    given = []

    def noting(parameters, gradients, *states, lr, settings, steps):
        given.append(([tuple(p.shape) for p in parameters], lr, settings, int(steps)))

    monkeypatch.setitem(RULES, "noting", Rule(("a", "b"), noting, elementwise=False))
    settings = [{"x": 1}, {"x": 2}]
    optimizer = Optimizer("noting", Flat(network(2)), settings)
    optimizer.step([0.1, 0.2])
    optimizer.step([0.3, 0.3])
    shapes = [(2, 4, 5), (2, 4), (2, 7, 4), (2, 7)]
    assert given == [(shapes, [0.1, 0.2], settings, 1), (shapes, [0.3, 0.3], settings, 2)]
