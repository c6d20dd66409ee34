"""The recorded step is the formulas' step: gradients, metrics and statistics of autograd, for all there is."""

import itertools
from types import FunctionType, MethodType

import pytest
import torch
from helpers import make_config
from torch import nn

from fmnist.data.dataset import load
from fmnist.nn.layers import Linear
from fmnist.nn.models import Parts
from fmnist.nn.noise import Noise
from fmnist.nn.step import Step
from fmnist.speed import integers
from fmnist.speed.graphs import CudaGraphs, capture_on, perform
from fmnist.speed.kernels import FLOAT32_ERROR, Kernels, choose, float32_products
from fmnist.train.stack import Stack

CLASSIFIERS = [{"model": "mlp", "model.hidden": [20, 12]}, {"model": "deep", "model.width": 12, "model.depth": 4}]
AUTOENCODERS = [{"model": "autoencoder", "model.hidden": [20, 6]},
                {"model": "vae", "model.hidden": [20], "model.latent": 4}]  # fmt: skip
SWITCHES = [dict(zip(("dropout", "batch_norm", "skip"), on, strict=True))
            for on in itertools.product((None, 0.4), (None, True), (None, True))]  # fmt: skip

PRECISIONS = ("float32", "float64")


@pytest.fixture(scope="module")
def dataset():
    return load(**vars(make_config(**{"data.limit": 200}).data))


def twins(configs, dataset, device="cpu"):
    """Two stacks alike, one stepping by autograd and one by the tape."""
    stacks = [Stack(configs, dataset.to(device), torch.device(device)) for _ in range(2)]
    slow = stacks[0]
    slow.step = Step(slow.model, slow.criterion, slow.optimizer, configs[0].precision)
    return stacks


def assert_same_steps(configs, dataset, device="cpu", rtol=1e-11, atol=1e-12, steps=3):
    """The first step's gradient and, after some steps, weights, running statistics and metrics agree."""
    slow, fast = twins(configs, dataset, device)
    for stack in (slow, fast):
        stack.start_noise(1)
        stack.step.gradient(next(stack.feed.epoch(1)))
    scale = slow.optimizer.flat.grad.abs().max()
    torch.testing.assert_close(fast.optimizer.flat.grad / scale, slow.optimizer.flat.grad / scale, rtol=rtol, atol=atol)
    for epoch in range(1, steps + 1):
        metrics = [stack.train_epoch(epoch) for stack in (slow, fast)]
        assert metrics[0].keys() == metrics[1].keys()
        for tag, values in metrics[0].items():
            assert metrics[1][tag] == pytest.approx(values, rel=rtol * 100, abs=1e-12), tag
    torch.testing.assert_close(fast.model.state_dict(), slow.model.state_dict(), rtol=rtol * 1e4, atol=atol * 1e4)


@pytest.mark.parametrize("runs", [1, 3])
@pytest.mark.parametrize("switches", SWITCHES, ids=str)
@pytest.mark.parametrize(
    ("model", "loss"),
    [(model, loss) for model in CLASSIFIERS for loss in ("cross_entropy", "report", "report_rows")]
    + [(AUTOENCODERS[0], loss) for loss in ("mae", "mse", "bce")] + [(AUTOENCODERS[1], "bce")],
    ids=lambda value: value if isinstance(value, str) else value["model"],
)  # fmt: skip
def test_every_model_loss_and_switch_steps_as_autograd_does(model, loss, switches, runs, dataset, device):
    knobs = {**model, **switches, "loss": loss, "precision": "float64", "batch_size": 64}
    assert_same_steps([make_config(**knobs, seed=seed) for seed in range(runs)], dataset, device)


@pytest.mark.parametrize("knobs", [
    *[{**CLASSIFIERS[0], "model.activation": name} for name in ("relu", "gelu", "sigmoid", "tanh")],
    *[{**CLASSIFIERS[1], "model.activation": name, "skip": True} for name in ("gelu", "sigmoid")],
    *[{**CLASSIFIERS[0], "model.activation": name, "dropout": 0.3, "batch_norm": True} for name in ("sigmoid", "tanh")],
    {**CLASSIFIERS[0], "model.hidden": [784, 12], "skip": True},  # an identity across the data itself
    {**CLASSIFIERS[0], "label_smoothing": 0.2},
    {**CLASSIFIERS[0], "optim": "sgd", "grad_clip": 0.1},
    {**CLASSIFIERS[0], "batch_size": None},
    {**AUTOENCODERS[0], "model.code": "identity"},
    {**AUTOENCODERS[0], "noise": 0.2, "mask": 0.3},
    {**CLASSIFIERS[0], "dropout": 0.3, "dropout_rescale": False},
    {**AUTOENCODERS[1], "noise": 0.2, "model.beta": 3.0, "dropout": 0.2},
    {**AUTOENCODERS[1], "batch_size": None, "model.activation": "gelu"},
], ids=str)  # fmt: skip
@pytest.mark.parametrize("order", ["one order", "own orders"])
def test_activations_noise_and_the_rest_too(knobs, order, dataset, device):
    configs = [make_config(**{"precision": "float64", "batch_size": 64, **knobs, "seed": seed,
                              "order_seed": 0 if order == "one order" else seed}) for seed in range(2)]  # fmt: skip
    assert_same_steps(configs, dataset, device)


def test_runs_may_differ_in_their_knobs(dataset):
    knobs = {**CLASSIFIERS[0], "precision": "float64", "batch_size": 64}
    own = [{"dropout": 0.5, "label_smoothing": 0.1, "lr": 0.01}, {"dropout": 0.0, "label_smoothing": 0.0}]
    assert_same_steps([make_config(**knobs, **each) for each in own], dataset)
    sizes = {**AUTOENCODERS[1], "precision": "float64", "batch_size": 64}
    assert_same_steps([make_config(**sizes, **{"model.beta": beta}) for beta in (0.0, 2.0)], dataset)


@pytest.mark.parametrize("model", [*CLASSIFIERS, *AUTOENCODERS], ids=lambda model: model["model"])
def test_float32_agrees_to_float32_rounding(model, dataset):
    configs = [make_config(**model, batch_size=64, seed=seed, batch_norm=True) for seed in range(2)]
    assert_same_steps(configs, dataset, rtol=2e-4, atol=5e-6, steps=1)


def test_chunks_add_up(dataset, monkeypatch):
    monkeypatch.setattr("fmnist.nn.step.CHUNK", 50)  # of 160 rows: the last chunk is shorter
    for model in (*CLASSIFIERS, *AUTOENCODERS):
        knobs = {**model, "precision": "float64", "batch_size": None, "dropout": 0.3, "skip": True}
        assert_same_steps([make_config(**knobs, seed=seed) for seed in range(2)], dataset)


@pytest.mark.parametrize("runs", [1, 3])
@pytest.mark.parametrize("model", [*CLASSIFIERS, *AUTOENCODERS], ids=lambda model: model["model"])
def test_batch_norm_sees_all_rows_through_the_chunks(dataset, monkeypatch, model, runs):
    monkeypatch.setattr("fmnist.nn.step.CHUNK", 50)  # the reference is not cut
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
    """A layer that lets rows see one another, and that nobody taught to record itself."""

    couples_rows = True

    def forward(self, x):
        return x - x.mean(-2, keepdim=True)


@pytest.mark.parametrize(("knobs", "layer", "pieces"), [
    ({}, nn.Identity, 4), ({"batch_norm": True}, nn.Identity, 4), ({"loss": "report_rows"}, nn.Identity, 1),
    ({}, Centred, 1), ({"batch_norm": True}, Centred, 1),
])  # fmt: skip
def test_batches_are_cut_where_rows_do_not_see_one_another_or_wait(dataset, monkeypatch, knobs, layer, pieces):
    monkeypatch.setattr("fmnist.nn.step.CHUNK", 50)
    original = Parts.hidden
    monkeypatch.setattr(Parts, "hidden", lambda *args, **kwargs: [*original(*args, **kwargs), layer()])
    configs = [make_config(**CLASSIFIERS[0], precision="float64", batch_size=None, **knobs)]
    stack = twins(configs, dataset)[1]
    assert len(list(stack.step.chunks(next(stack.feed.epoch(1))))) == pieces
    assert_same_steps(configs, dataset)


class StandIn:
    """What captures, without a device that can: groups of operations, some of which it refuses."""

    def __init__(self, refused=()):
        self.refused, self.groups, self.warmed = refused, [], 0

    def warm_up(self, operations):
        perform(operations)
        self.warmed += 1

    def __call__(self, operations):
        self.groups.append(operations)
        if len(self.groups) - 1 in self.refused:
            raise RuntimeError("operation not permitted when stream is capturing")
        return lambda: perform(operations)


@pytest.mark.parametrize("refused", [(), (0, 2), range(1000)], ids=["all", "some", "none"])
@pytest.mark.parametrize("model", [*CLASSIFIERS, *AUTOENCODERS], ids=lambda model: model["model"])
def test_captured_steps_are_the_steps(dataset, monkeypatch, model, refused):
    stand_in = StandIn(refused)
    monkeypatch.setattr("fmnist.speed.step.capture_on", lambda device: stand_in)
    monkeypatch.setattr("fmnist.nn.step.CHUNK", 50)
    monkeypatch.setattr("fmnist.data.batches.GATHERED", 64)  # so that each pair of buffers is used many times
    for batch_size in (None, 80):
        knobs = {**model, "precision": "float64", "batch_size": batch_size, "dropout": 0.3, "skip": True}
        assert_same_steps([make_config(**knobs, seed=seed) for seed in range(2)], dataset)
    assert stand_in.warmed
    functions = {f for group in stand_in.groups for f, _, _ in group}
    assert torch.bmm in functions
    assert not any(isinstance(f, FunctionType | MethodType) for f in functions)  # they may draw noise, or count


def test_only_cuda_devices_capture():
    assert capture_on(torch.device("cpu")) is None
    assert isinstance(capture_on(torch.device("cuda")), CudaGraphs)


class Unknown(nn.Module):
    """A layer that nobody taught to record itself."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((1, 1, 1), 0.7, dtype=torch.float64))

    def forward(self, x):
        return torch.sin(x * self.weight)


@pytest.mark.parametrize("chunk", [6000, 30])
def test_a_layer_without_a_recording_goes_by_way_of_autograd(dataset, monkeypatch, chunk):
    monkeypatch.setattr("fmnist.nn.step.CHUNK", chunk)
    original = Parts.hidden
    monkeypatch.setattr(Parts, "hidden", lambda *args, **kwargs: [*original(*args, **kwargs), Unknown()])
    assert_same_steps([make_config(**CLASSIFIERS[0], precision="float64", batch_size=64)], dataset)


def test_the_probe_takes_no_rounding_for_float32():
    kernels = choose(torch.device("cpu"), "float32", 128)
    generator = torch.Generator().manual_seed(3)
    a, b = torch.randn(300, 784, generator=generator), torch.randn(784, 500, generator=generator)
    with float32_products(kernels.wide):
        error = ((a @ b).double() - a.double() @ b.double()).abs().max() / (a.double() @ b.double()).abs().max()
    assert error <= FLOAT32_ERROR
    assert torch.get_float32_matmul_precision() == "highest"
    assert choose(torch.device("cpu"), "float64", 128) == Kernels()


@pytest.mark.parametrize("capability", ["AVX2", "AVX512"])
@pytest.mark.parametrize("error", [1e-7, 1e-3])
def test_a_run_goes_on_with_its_kernels_where_they_serve(monkeypatch, error, capability):
    monkeypatch.setattr("fmnist.speed.kernels.medium_error", lambda: error)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    monkeypatch.setattr(integers, "library", lambda: None)
    cpu, medium, rounding = torch.device("cpu"), Kernels(wide="medium"), Kernels("medium", "medium")
    exact = error < 1e-5
    serves = exact and capability == "AVX512"
    assert choose(cpu, "float32", 128) == (medium if serves else Kernels())
    assert choose(cpu, "float32", 128, before=medium) == (medium if serves else Kernels())
    assert choose(cpu, "float32", 128, before=Kernels()) == Kernels()
    assert choose(cpu, "bfloat16", 128) == (None if exact else rounding)
    assert choose(cpu, "bfloat16", 128, before=rounding) == (None if exact else rounding)


@pytest.mark.skipif(integers.library() is None, reason="the processor has no AMX")
@pytest.mark.parametrize("switches", [{}, {"batch_norm": True, "dropout": 0.2}, {"skip": True}], ids=str)
@pytest.mark.parametrize("model", [*CLASSIFIERS, *AUTOENCODERS, {**AUTOENCODERS[0], "noise": 0.1}], ids=str)
@pytest.mark.parametrize("runs", [1, 3])
@pytest.mark.parametrize("batch", [None, "one order", "own orders"])
def test_whole_grey_levels_give_the_gradient_of_float32(dataset, monkeypatch, model, runs, switches, batch):
    """In float32 with chunks, against autograd in float64: as near to it as float32 products are. And so in evaluation;
    where the network takes the pixels as they are, too."""
    monkeypatch.setattr("fmnist.nn.step.CHUNK", 70)
    monkeypatch.setattr(Noise, "keep_mask", lambda self, out, *_: out.fill_(1.2))
    monkeypatch.setattr(Noise, "normal", lambda self, out: out.fill_(0.1))
    errors, losses = {}, {}
    for by_integers in (True, False):
        kernels = Kernels(integers=by_integers)
        monkeypatch.setattr("fmnist.speed.step.choose", lambda *_, kernels=kernels: kernels)
        knobs = {**model, **switches, "batch_size": None if batch is None else 90}
        seeds = [{"seed": seed, "order_seed": seed if batch == "own orders" else 0} for seed in range(runs)]
        configs = {p: [make_config(**knobs, **seed, precision=p) for seed in seeds] for p in PRECISIONS}
        exact = twins(configs["float64"], dataset)[0]
        fast = Stack(configs["float32"], dataset, torch.device("cpu"))
        assert fast.step.takes_pixels == (by_integers and model in CLASSIFIERS)
        for stack in (exact, fast):
            stack.start_noise(1)
            stack.step.gradient(next(stack.feed.epoch(1)))
        first = next(layer for layer in fast.model.modules() if isinstance(layer, Linear)).weight.grad
        truth = next(layer for layer in exact.model.modules() if isinstance(layer, Linear)).weight.grad
        errors[by_integers] = float((first - truth).norm() / truth.norm())
        ((tape, _),) = fast.step.tapes.values()
        used = any(getattr(f, "__func__", None) is integers.Digits.multiply for f, _, _ in tape.operations)
        assert used == (by_integers and "noise" not in model)
        losses[by_integers] = fast.measure("validation", dataset.validation)["validation/loss"]
        assert losses[by_integers] == pytest.approx(
            exact.measure("validation", dataset.validation)["validation/loss"], rel=1e-5)  # fmt: skip
    assert errors[True] < max(3 * errors[False], 1e-6)


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


def test_recording_draws_no_noise(dataset):
    config = make_config(**CLASSIFIERS[0], dropout=0.5, batch_size=64)
    stack = Stack([config], dataset, torch.device("cpu"))
    batch = next(stack.feed.epoch(1))
    stack.start_noise(1)
    before = stack.noise.generators[0].get_state()
    stack.step._write(batch, stack.step.kernels)
    assert torch.equal(stack.noise.generators[0].get_state(), before)
    assert isinstance(stack.noise, Noise)
