"""Layers: parity with torch.nn in float64, gradients against finite differences, and runs stacked equal runs alone."""

import copy

import pytest
import torch
from torch import nn

from fmnist.config import schema
from fmnist.config.schema import load_ideas
from fmnist.nn.layers import ACTIVATIONS, Activation, BatchNorm, Gated, LayerNorm, Linear, Residual
from fmnist.nn.models import NORMS, Parts

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


TWINS = {"relu": nn.ReLU, "leaky_relu": nn.LeakyReLU, "gelu": nn.GELU, "silu": nn.SiLU, "sigmoid": nn.Sigmoid,
         "tanh": nn.Tanh}  # fmt: skip


@pytest.mark.parametrize(("name", "twin"), TWINS.items())
def test_activation_is_its_torch_twin(name, twin):
    assert_twins(Activation(name), twin(), rand(5, 6), rand(5, 6, seed=1))


def test_names_are_those_of_the_schema_and_any_other_is_an_error():
    """A file of fmnist/ideas/ adds its names to both tables."""
    load_ideas()
    assert {*ACTIVATIONS, "identity"} == set(schema.ACTIVATIONS)
    assert set(NORMS) == set(schema.NORMS)
    for refused in (lambda: Activation("nonsense"), lambda: Parts(norm="nonsense").hidden(2, 2),
                    lambda: Parts(activation="nonsense").hidden(2, 2)):  # fmt: skip
        with pytest.raises(KeyError, match="nonsense"):
            refused()


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


@pytest.mark.parametrize("training", [True, False])
def test_layer_norm_is_torch_layer_norm(device, training):
    ours, theirs = filled(LayerNorm(6, device=device, **F64)), nn.LayerNorm(6, device=device, **F64)
    ours.train(training), theirs.train(training)
    x = rand(8, 6, device=device) * 3 + 1
    x[0] = 2.0  # alike in all features: what remains is beta
    assert_twins(ours, theirs, x, rand(8, 6, seed=9, device=device))
    torch.testing.assert_close(ours(x)[0], ours.bias, **CLOSE)


def test_layer_norm_of_an_example_does_not_depend_on_the_others():
    layer, x = filled(LayerNorm(6, (2,), **F64)), rand(2, 5, 6)
    alone = torch.cat([layer(x[:, row : row + 1]) for row in range(5)], 1)
    torch.testing.assert_close(layer(x), alone, **CLOSE)


def test_residual_adds_identity_or_projection():
    x = rand(5, 4)
    inner, projection = filled(Linear(4, 4, **F64)), filled(Linear(4, 3, **F64))
    torch.testing.assert_close(Residual(inner)(x), x + inner(x), **CLOSE)
    wide = filled(Linear(4, 3, **F64), seed=6)
    torch.testing.assert_close(Residual(wide, projection)(x), projection(x) + wide(x), **CLOSE)


def test_gated_is_torch_glu():
    ours = filled(Gated(Linear(6, 4, **F64), nn.Sequential(Linear(6, 4, **F64), Activation("sigmoid"))))
    product = nn.Linear(6, 8, **F64)
    product.load_state_dict({name: torch.cat([p, ours.state_dict()[f"gate.0.{name}"]])
                             for name, p in ours.inner.state_dict().items()})  # fmt: skip
    x, g = rand(5, 6), rand(5, 4, seed=1)
    theirs = nn.Sequential(product, nn.GLU())
    y, dx, by = gradients(ours, x, g)
    y_theirs, dx_theirs, by_theirs = gradients(theirs, x, g)
    torch.testing.assert_close(y, y_theirs, **CLOSE)
    torch.testing.assert_close(dx, dx_theirs, **CLOSE)
    for name in ("weight", "bias"):
        torch.testing.assert_close(torch.cat([by[f"inner.{name}"], by[f"gate.0.{name}"]]), by_theirs[f"0.{name}"],
                                   **CLOSE)  # fmt: skip


@pytest.mark.parametrize("norm", [None, "batch"])
def test_a_hidden_layer_with_a_gate_is_its_formula(norm):
    """SwiGLU (Shazeer 2020): (silu(W x + b)) (V x + c), with the normalisation on the side of W alone."""
    parts = Parts(activation="silu", gate="identity", norm=norm, dropout=[0.5], factory=F64)
    layer = filled(nn.Sequential(*parts.hidden(6, 4))).eval()
    w, b, *statistics, v, c = [value for value in layer.state_dict().values() if value.is_floating_point()]
    x = rand(5, 6)
    z = x @ w.T + b
    if norm:
        gamma, beta, mean, variance = statistics
        z = nn.functional.batch_norm(z, mean, variance, gamma, beta)
    torch.testing.assert_close(layer(x), nn.functional.silu(z) * (x @ v.T + c), **CLOSE)


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
        lambda: LayerNorm(6, (3,), **F64),
        lambda: Residual(Linear(6, 6, (3,), **F64)),
        lambda: Residual(Linear(6, 4, (3,), **F64), Linear(6, 4, (3,), **F64)),
        lambda: Gated(Linear(6, 4, (3,), **F64), Linear(6, 4, (3,), **F64)),
        lambda: nn.Sequential(Linear(6, 5, (3,), **F64), BatchNorm(5, (3,), **F64), Activation("gelu"),
                              Linear(5, 2, (3,), **F64)),
    ],
    ids=["Linear", "BatchNorm", "LayerNorm", "Residual", "projection", "Gated", "Sequential"],
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
        lambda: LayerNorm(5, **F64),
        lambda: Residual(Linear(5, 5, **F64)),
        lambda: Residual(Linear(5, 3, **F64), Linear(5, 3, **F64)),
        lambda: Gated(Linear(5, 3, **F64), nn.Sequential(Linear(5, 3, **F64), Activation("sigmoid"))),
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
