"""Layers: parity with torch.nn in float64, runs stacked equal runs alone, and what dropout and batch norm promise."""

import copy
import math

import pytest
import torch
from torch import nn

from fmnist.nn.layers import ACTIVATIONS, Activation, BatchNorm, Dropout, Linear, Residual, initialise
from fmnist.nn.noise import Corrupt, Noise

F64 = {"dtype": torch.float64}
CLOSE = {"rtol": 1e-12, "atol": 1e-12}


def rand(*shape, seed=0, device="cpu"):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), **F64).to(device)


def gradients(layer, x, g):
    """y, dy/dx and dy/dparameters against g."""
    x = x.clone().requires_grad_()
    layer.zero_grad()
    y = layer(x)
    y.backward(g)
    return y.detach(), x.grad, {name: p.grad.clone() for name, p in layer.named_parameters()}


def assert_twins(ours, theirs, x, g):
    theirs.load_state_dict(ours.state_dict())  # strict: the same names and shapes
    for ours_of, theirs_of in zip(gradients(ours, x, g), gradients(theirs, x, g), strict=True):
        if isinstance(ours_of, dict):
            assert ours_of.keys() == theirs_of.keys()
            for name in ours_of:
                torch.testing.assert_close(ours_of[name], theirs_of[name], **CLOSE)
        else:
            torch.testing.assert_close(ours_of, theirs_of, **CLOSE)


def filled(layer, seed=5):
    """The layer with random parameters and, where it has them, random running statistics."""
    generator = torch.Generator().manual_seed(seed)
    for tensor in layer.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(torch.rand(tensor.shape, generator=generator, **F64) + 0.5)
    return layer


def test_linear_is_torch_linear(device):
    ours = filled(Linear(7, 4, device=device, **F64))
    assert_twins(ours, nn.Linear(7, 4, device=device, **F64), rand(9, 7, device=device), rand(9, 4, device=device))


@pytest.mark.parametrize(
    ("name", "twin"), [("relu", nn.ReLU), ("gelu", nn.GELU), ("sigmoid", nn.Sigmoid), ("tanh", nn.Tanh)]
)
def test_activation_is_its_torch_twin(name, twin):
    assert_twins(Activation(name), twin(), rand(5, 6), rand(5, 6, seed=1))


def test_batch_norm_is_torch_batch_norm_in_training_and_after(device):
    ours, theirs = filled(BatchNorm(6, device=device, **F64)), nn.BatchNorm1d(6, device=device, **F64)
    for step in range(3):  # each call of assert_twins moves the running statistics of both
        x = rand(8, 6, seed=step, device=device) * 3 + step
        assert_twins(ours, theirs, x, rand(8, 6, seed=9, device=device))
        for name, value in ours.state_dict().items():
            torch.testing.assert_close(value, theirs.state_dict()[name], **CLOSE)
    ours.eval(), theirs.eval()
    assert_twins(ours, theirs, rand(8, 6, seed=7, device=device), rand(8, 6, seed=8, device=device))


def test_batch_norm_reproduces_the_reports_example():
    layer = BatchNorm(1, eps=0.0, momentum=1.0, **F64)
    y = layer(torch.tensor([[4.0], [7.0], [5.0]], **F64))
    assert layer.running_mean.item() == pytest.approx(5.33, abs=0.005)
    assert layer.running_var.item() * 2 / 3 == pytest.approx(1.5555, abs=1e-4)  # kept unbiased, used biased
    assert y.var(correction=0).item() == pytest.approx(1.0)


def test_batch_norm_is_centred_before_it_is_squared():
    x = rand(64, 3).float() + 1e4  # the mean of squares minus the square of the mean would lose all digits here
    y = BatchNorm(3)(x)
    torch.testing.assert_close(y, nn.BatchNorm1d(3)(x), rtol=0, atol=2e-3)


def test_batch_norm_refuses_one_example_in_training_only():
    layer = BatchNorm(3)
    with pytest.raises(ValueError, match="at least 2 examples"):
        layer(torch.ones(1, 3))
    layer.eval()
    assert layer(torch.ones(1, 3)).shape == (1, 3)


def test_residual_adds_identity_or_projection():
    x = rand(5, 4)
    inner, projection = filled(Linear(4, 4, **F64)), filled(Linear(4, 3, **F64))
    torch.testing.assert_close(Residual(inner)(x), x + inner(x), **CLOSE)
    wide = filled(Linear(4, 3, **F64), seed=6)
    torch.testing.assert_close(Residual(wide, projection)(x), projection(x) + wide(x), **CLOSE)


def solo_of(layer, run):
    """The textbook layer that one run of a stacked layer is."""
    solo = copy.deepcopy(layer)
    for module, ours in zip(solo.modules(), layer.modules(), strict=True):
        for name, p in ours.named_parameters(recurse=False):
            setattr(module, name, nn.Parameter(p.detach()[run].clone()))
        for name, b in ours.named_buffers(recurse=False):
            setattr(module, name, b[run].clone())
    return solo


@pytest.mark.parametrize("shared", [True, False], ids=["one x for all runs", "an x for each run"])
@pytest.mark.parametrize(
    "build",
    [
        lambda: Linear(6, 6, (3,), **F64),
        lambda: BatchNorm(6, (3,), **F64),
        lambda: Residual(Linear(6, 6, (3,), **F64)),
        lambda: Residual(Linear(6, 4, (3,), **F64), Linear(6, 4, (3,), **F64)),
        lambda: nn.Sequential(Linear(6, 5, (3,), **F64), BatchNorm(5, (3,), **F64), Activation("gelu"),
                              Linear(5, 2, (3,), **F64)),
    ],
    ids=["Linear", "BatchNorm", "Residual", "projection", "Sequential"],
)  # fmt: skip
def test_a_stack_of_layers_is_its_solos(build, shared):
    stack = filled(build())
    solos = [solo_of(stack, run) for run in range(3)]
    x = rand(8, 6) if shared else rand(3, 8, 6)
    y = stack(x)
    g = rand(*y.shape, seed=3)
    y.backward(g)
    for run, solo in enumerate(solos):
        y_solo, _, of_solo = gradients(solo, x if shared else x[run], g[run])
        torch.testing.assert_close(y[run], y_solo, **CLOSE)
        for name, p in stack.named_parameters():
            torch.testing.assert_close(p.grad[run], of_solo[name], **CLOSE)
        for name, buffer in stack.named_buffers():
            torch.testing.assert_close(buffer[run], dict(solo.named_buffers())[name], **CLOSE)


@pytest.mark.parametrize(
    "build",
    [
        lambda: Linear(5, 4, **F64),
        lambda: BatchNorm(5, **F64),
        lambda: Residual(Linear(5, 5, **F64)),
        lambda: Residual(Linear(5, 3, **F64), Linear(5, 3, **F64)),
        *[lambda name=name: Activation(name) for name in ACTIVATIONS],
    ],
)
def test_gradients_in_float64_against_finite_differences(build):
    layer = filled(build())
    names = [name for name, _ in layer.named_parameters()]

    def f(x, *values):
        return torch.func.functional_call(layer, dict(zip(names, values, strict=True)), (x,))

    inputs = [rand(6, 5).requires_grad_(), *[p.detach().clone().requires_grad_() for p in layer.parameters()]]
    assert torch.autograd.gradcheck(f, inputs)


def started(*seeds, device="cpu"):
    noise = Noise(len(seeds), device)
    noise.start(seeds)
    return noise


def test_dropout_keeps_its_share_and_the_mean(device):
    y = Dropout([0.3], started(1, device=device))(torch.ones(1, 400, 500, device=device))
    kept = y != 0
    assert kept.float().mean().item() == pytest.approx(0.7, abs=4 * math.sqrt(0.21 / 200_000))
    torch.testing.assert_close(y[kept], torch.full_like(y[kept], 1 / 0.7), rtol=1e-4, atol=0)
    correlation = torch.corrcoef(kept[0].float()[:, :50].T.cpu()) - torch.eye(50)
    assert correlation.abs().max() < 6 / math.sqrt(400)  # units are dropped independently


def test_dropout_is_the_identity_for_p_0_and_in_evaluation_and_draws_nothing():
    x = rand(1, 4, 5)
    for layer in (Dropout([0.0], started(1)), Dropout([0.9], started(1)).eval()):
        before = layer.noise.generators[0].get_state()
        assert layer(x) is x
        assert torch.equal(layer.noise.generators[0].get_state(), before)


def test_dropout_passes_the_gradient_of_what_it_kept():
    x = torch.ones(1, 50, 40, requires_grad=True)
    y = Dropout([0.5], started(3))(x)
    y.sum().backward()
    assert torch.equal(x.grad, y.detach())


def test_dropout_masks_of_a_stack_are_those_of_its_solos(device):
    seeds, p = (4, 5, 4), (0.5, 0.0, 0.5)
    x = torch.ones(3, 33, 7, device=device)
    stack = Dropout(p, started(*seeds, device=device))(x)
    for run in range(3):
        solo = Dropout([p[run]], started(seeds[run], device=device))(x[run])
        assert torch.equal(stack[run], solo)
    assert torch.equal(stack[0], stack[2])
    assert torch.equal(stack[1], x[1])


def test_dropout_refuses_bad_probabilities():
    for p in (-0.1, 1.0, math.nan):
        with pytest.raises(ValueError, match=r"in \[0, 1\)"):
            Dropout([p], Noise(1))


def test_dropout_without_rescaling_leaves_what_it_keeps():
    layer = Dropout([0.4], started(1), rescale=False)
    x = torch.rand(500, 40) + 1
    y = layer(x)
    kept = y != 0
    assert kept.float().mean().item() == pytest.approx(0.6, abs=0.02)
    assert torch.equal(y[kept], x[kept])
    assert torch.equal(layer.eval()(x), x)


def test_noise_is_a_function_of_the_seed():
    first, again, other = (started(seed).normal(torch.empty(1, 50)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize(
    ("kind", "mean", "deviation"),
    [
        ("he", 0, math.sqrt(2 / 400)),
        ("glorot", 0, math.sqrt(2 / 700)),
        ("report", 0, 0.05),
        ("report_weights", 0, 0.05),
        ("report_biases", 0, math.sqrt(2 / 400)),
    ],
)
def test_initialisers_draw_what_they_say(kind, mean, deviation):
    model = nn.Sequential(Linear(400, 300, (2,)), Linear(300, 200, (2,)), Linear(200, 100, (2,)))
    initialise(model, 1, kind, 2.0, torch.Generator().manual_seed(0))
    first = model[0].weight[1]
    assert first.mean().item() == pytest.approx(mean, abs=0.002)
    assert first.std().item() == pytest.approx(2 * deviation, rel=0.02)
    assert not model[0].weight[0].any()  # the other run is left alone
    if kind in ("report", "report_weights"):
        for layer, (mean, deviation) in zip(model[1:], ((0.1, 0.08), (0.2, 0.03)), strict=True):
            assert layer.weight[1].mean().item() == pytest.approx(2 * mean, rel=0.02)
            assert layer.weight[1].std().item() == pytest.approx(2 * deviation, rel=0.05)
    for layer in model:
        if kind in ("report", "report_biases"):
            assert layer.bias[1].std().item() == pytest.approx(1.0, rel=0.3)
        else:
            assert not layer.bias[1].any()


def test_initial_weights_are_the_same_for_every_precision():
    drawn = []
    for dtype in (torch.float32, torch.float64):
        model = Linear(20, 10, (1,), dtype=dtype)
        initialise(model, 0, "he", 1.0, torch.Generator().manual_seed(3))
        drawn.append(model.weight.detach())
    assert torch.equal(drawn[0], drawn[1].float())


def test_unknown_initialiser_is_refused():
    with pytest.raises(ValueError, match="one of he, glorot, report,"):
        initialise(Linear(2, 2, (1,)), 0, "xavier", 1.0, torch.Generator())


def test_corrupt_adds_noise_and_drops_pixels_and_nothing_else(device):
    x = torch.full((400, 50), 0.5, device=device)
    noisy = Corrupt([0.1], None, started(1, device=device))(x)
    assert noisy.std().item() == pytest.approx(0.1, rel=0.05)
    assert noisy.mean().item() == pytest.approx(0.5, abs=0.005)
    wild = Corrupt([5.0], None, started(1, device=device))(x)
    assert 0 <= wild.min() <= wild.max() <= 1
    masked = Corrupt(None, [0.25], started(1, device=device))(x)
    assert set(masked.unique().tolist()) == {0.0, 0.5}
    assert (masked == 0).float().mean().item() == pytest.approx(0.25, abs=0.02)
    assert torch.equal(x, torch.full_like(x, 0.5))


def test_corruption_of_a_stack_is_that_of_its_solos(device):
    seeds, deviation, share = (4, 5, 4), (0.5, 0.1, 0.5), (0.5, 0.0, 0.5)
    x = torch.rand(33, 7, device=device)
    stack = Corrupt(deviation, share, started(*seeds, device=device))(x)
    for run in range(3):
        solo = Corrupt([deviation[run]], [share[run]], started(seeds[run], device=device))(x)
        assert torch.equal(stack[run], solo[0])
    assert not torch.equal(stack[0], stack[1])
