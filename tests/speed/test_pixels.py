"""Steps and evaluation that take images as bytes are as near to the truth as those that take them as numbers."""

from dataclasses import replace

import pytest
import torch
from helpers import make_config
from speed.twins import AUTOENCODERS, CLASSIFIERS, MODELS, twins

from fmnist.data.dataset import Split
from fmnist.nn.layers import Linear, product_with_images
from fmnist.nn.noise import Noise
from fmnist.speed import integers
from fmnist.speed.kernels import Kernels
from fmnist.train.stack import Stack

PRECISIONS = ("float32", "float64")


def multiply(self, a, pixels, out, along_pixels, add):
    """What integers.c computes, without it. See Digits.multiply."""
    if a is not None:
        self.of_last = a.clone()
    product = self.of_last.double() @ ((pixels.mT if along_pixels else pixels).double() / 255)
    out.copy_(out + product if add else product)


@pytest.fixture(params=[
    pytest.param("compiled", marks=pytest.mark.skipif(integers.library() is None, reason="the processor has no AMX")),
    "by torch",
])  # fmt: skip
def whole(request, monkeypatch):
    """Products with whole grey levels, by integers.c or by what stands in for it."""
    if request.param == "by torch":
        monkeypatch.setattr(integers, "library", object)
        monkeypatch.setattr(integers.Digits, "multiply", multiply)
    return integers.Digits.multiply


@pytest.mark.few(48)
@pytest.mark.parametrize(("runs", "batch"), [(1, None), (1, "one order"), (3, None), (3, "own orders")])
@pytest.mark.parametrize("switches", [{}, {"batch_norm": True, "dropout": 0.2}, {"skip": True}], ids=str)
@pytest.mark.parametrize("model", [*MODELS, {**AUTOENCODERS[0], "noise": 0.1}, {"model": "linear"}], ids=str)
def test_whole_grey_levels_give_the_gradient_of_float32(dataset, monkeypatch, whole, model, runs, switches, batch):
    """In float32 with chunks, against autograd in float64: as near to it as float32 products are. And so in evaluation;
    where the network takes the pixels as they are, too."""
    monkeypatch.setattr("fmnist.nn.step.chunk_rows", lambda device: 70)
    monkeypatch.setattr(Noise, "keep_mask", lambda self, out, *_: out.fill_(1.2))
    monkeypatch.setattr(Noise, "normal", lambda self, out: out.fill_(0.1))
    knobs = {**model, **(switches if model["model"] != "linear" else {}), "batch_size": None if batch is None else 90}
    seeds = [{"seed": seed, "order_seed": seed if batch == "own orders" else 0} for seed in range(runs)]
    configs = {p: [make_config(**knobs, **seed, precision=p) for seed in seeds] for p in PRECISIONS}
    exact, errors = twins(configs["float64"], dataset)[0], {}
    exact.step.gradient(next(exact.feed.epoch(1)))
    truth = next(layer for layer in exact.model.modules() if isinstance(layer, Linear)).weight.grad
    loss = exact.measure("validation", dataset.validation)["validation/loss"]
    for by_integers in (True, False):
        kernels = Kernels(integers=by_integers)
        monkeypatch.setattr("fmnist.speed.step.choose", lambda *_, kernels=kernels: kernels)
        fast = Stack(configs["float32"], dataset, torch.device("cpu"))
        assert fast.step.takes_pixels == (by_integers and model["model"] in ("mlp", "deep", "linear"))
        fast.start_noise(1)
        fast.step.gradient(next(fast.feed.epoch(1)))
        first = next(layer for layer in fast.model.modules() if isinstance(layer, Linear)).weight.grad
        errors[by_integers] = float((first - truth).norm() / truth.norm())
        ((tape, _),) = fast.step.tapes.values()
        used = any(getattr(f, "__func__", None) is whole for f, _, _ in tape.operations)
        assert used == (by_integers and "noise" not in model)
        assert fast.measure("validation", dataset.validation)["validation/loss"] == pytest.approx(loss, rel=1e-5)
    assert errors[True] < max(3 * errors[False], 1e-6)


@pytest.mark.parametrize("pixels", [1, 2])
@pytest.mark.parametrize("rows", [1, 2, 32])
def test_images_of_few_pixels_have_the_gradient_of_float32(dataset, monkeypatch, whole, pixels, rows):
    """What is summed over is said, and not told by the strides: those of a column are those of a row."""
    few = Split(dataset.train.images[:, 400 : 400 + pixels].contiguous(), dataset.train.labels)
    narrow = replace(dataset, train=few, height=1, width=pixels)
    config = make_config(model="linear", batch_size=rows)
    exact = twins([make_config(model="linear", batch_size=rows, precision="float64")], narrow)[0]
    monkeypatch.setattr("fmnist.speed.step.choose", lambda *_: Kernels(integers=True))
    fast = Stack([config], narrow, torch.device("cpu"))
    assert fast.step.takes_pixels
    for stack in (exact, fast):
        stack.step.gradient(next(stack.feed.epoch(1)))
    torch.testing.assert_close(fast.optimizer.flat.grad.double(), exact.optimizer.flat.grad, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("runs", [1, 2])
@pytest.mark.parametrize("knobs", [{}, {"augment.shift": 2, "augment.mixup": 0.5}], ids=str)
def test_runs_trained_on_bytes_are_runs_trained_on_numbers(dataset, monkeypatch, whole, knobs, runs):
    ends = []
    for by_integers in (True, False):
        kernels = Kernels(integers=by_integers)
        monkeypatch.setattr("fmnist.speed.step.choose", lambda *_, kernels=kernels: kernels)
        configs = [make_config(**CLASSIFIERS[0], **knobs, batch_size=50, seed=seed) for seed in range(runs)]
        stack = Stack(configs, dataset, torch.device("cpu"))
        assert next(stack.feed.epoch(1)).x.dtype == (torch.uint8 if by_integers else torch.float32)
        assert stack.input(dataset.validation).dtype == (torch.uint8 if by_integers else torch.float32)
        assert stack.model[0].of_images is (integers.product if by_integers else product_with_images)
        metrics = [stack.train_epoch(epoch) for epoch in (1, 2)]
        ends.append([*metrics, stack.measure("validation", dataset.validation)])
    for ours, theirs in zip(*ends, strict=True):
        assert ours.keys() == theirs.keys()
        for tag, values in ours.items():
            assert values == pytest.approx(theirs[tag], rel=2e-3 if "loss" in tag else 0.05), tag


@pytest.mark.parametrize("runs", [(), (2,), (2, 3)], ids=str)
@pytest.mark.parametrize("shared", [False, True])
def test_a_layer_multiplies_images_by_what_is_put_in_its_place(runs, shared):
    layer, given = Linear(50, 20, runs, dtype=torch.float64), []

    def twice(weight, images):
        given.append(images)
        return 2 * product_with_images(weight, images)

    with torch.no_grad():
        layer.weight.normal_()
        layer.bias.normal_()
    images = torch.randint(0, 256, (*(() if shared else runs), 9, 50), dtype=torch.uint8)
    numbers = images.double() / 255
    torch.testing.assert_close(layer(images), layer(numbers), rtol=1e-12, atol=1e-12)
    layer.of_images = twice
    torch.testing.assert_close(layer(images), 2 * layer(numbers) - layer.bias[..., None, :], rtol=1e-12, atol=1e-12)
    assert len(given) == 1  # numbers go by the layer's own product
    assert given[0] is images


@pytest.mark.parametrize("shared", [False, True])
def test_products_for_evaluation_are_those_of_the_formula(whole, shared):
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(3, 20, 50, generator=generator)
    images = torch.randint(0, 256, (*(() if shared else (3,)), 9, 50), generator=generator, dtype=torch.uint8)
    expected = product_with_images(weight.double(), images)
    with torch.no_grad():
        torch.testing.assert_close(integers.product(weight, images).double(), expected, rtol=1e-5, atol=1e-5)
    needing = weight.clone().requires_grad_()
    integers.product(needing, images).sum().backward()  # by autograd, which whole grey levels know nothing of
    sums = images.double().sum(-2) / 255
    torch.testing.assert_close(needing.grad.double(), sums.expand(3, 50)[:, None].expand(3, 20, 50), rtol=1e-5, atol=0)
