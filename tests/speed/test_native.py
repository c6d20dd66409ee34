"""The native library's operations are torch's, in all layouts, at odd sizes, for any number of threads."""

import itertools

import pytest
import torch
from helpers import make_config
from speed.twins import AUTOENCODERS, CLASSIFIERS

from fmnist.nn.layers import product_with_images
from fmnist.speed import native
from fmnist.speed.kernels import Kernels
from fmnist.speed.native import CODES, Program
from fmnist.speed.translator import Translator
from fmnist.train.stack import Stack

pytestmark = pytest.mark.skipif(native.library() is None, reason="not compiled for this processor")
aten = torch.ops.aten
SIZES = [(1, 1, 1), (1, 3, 5), (3, 17, 70), (2, 65, 9), (3, 64, 33)]  # runs, rows, features


def by_rows(runs, rows, features, by_row):
    """Numbers (runs, rows, features) that lie row by row, or feature by feature."""
    return torch.randn(runs, rows, features) if by_row else torch.randn(runs, features, rows).mT


def translator(rows, *tensors):
    """One that knows how the rows of these tensors lie."""
    found = Translator()
    found.rows = rows
    for x in tensors:
        found.batch_step[x.untyped_storage().data_ptr()] = x.stride(-2)
    return found


def do(translate, f, *args, **kwargs):
    """Do an operation by the library. Returns its codes."""
    known = translate(f, args, kwargs)
    assert known, f
    for each in known:
        each.instruction.waits = 1
        each.instruction.alone = each.kind == (0, 0)
    Program([each.instruction for each in known], [x for each in known for x in each.tensors])()
    return {each.instruction.code for each in known}


OPERATIONS = {  # of x, y, z and w, which writes into x or into out
    "copy": lambda x, y, z, out: (x.copy_, (y,), {}),
    "add": lambda x, y, z, out: (torch.add, (x, y), {"alpha": 0.5, "out": out}),
    "add_": lambda x, y, z, out: (x.add_, (y,), {}),
    "bias": lambda x, y, z, out: (x.add_, (torch.randn(len(x), 1, x.shape[-1]),), {}),
    "of runs": lambda x, y, z, out: (x.sub_, (torch.randn(len(x), 1, 1),), {}),
    "sub": lambda x, y, z, out: (x.sub_, (y,), {"alpha": 3}),
    "mul": lambda x, y, z, out: (torch.mul, (x, y), {"out": out}),
    "addcmul": lambda x, y, z, out: (x.addcmul_, (y, z), {"value": -2}),
    "plus": lambda x, y, z, out: (x.add_, (0.3,), {}),
    "minus": lambda x, y, z, out: (x.sub_, (0.3,), {}),
    "scale": lambda x, y, z, out: (x.mul_, (1.7,), {}),
    "div": lambda x, y, z, out: (torch.div, (x, 2), {"out": out}),
    "rsqrt": lambda x, y, z, out: (x.rsqrt_, (), {}),
    "clamp_min": lambda x, y, z, out: (torch.clamp_min, (x, 0), {"out": out}),
    "threshold_backward": lambda x, y, z, out: (aten.threshold_backward.grad_input, (x, y, 0), {"grad_input": x}),
    "leaky_relu": lambda x, y, z, out: (aten.leaky_relu.out, (x, 0.01), {"out": out}),
    "leaky_relu_backward": lambda x, y, z, out: (
        aten.leaky_relu_backward.grad_input, (x, y, 0.01, True), {"grad_input": x}),
    "exp": lambda x, y, z, out: (torch.exp, (x,), {"out": out}),
    "log": lambda x, y, z, out: (x.log_, (), {}),
    "neg": lambda x, y, z, out: (x.neg_, (), {}),
    "abs": lambda x, y, z, out: (torch.abs, (x,), {"out": out}),
    "sign": lambda x, y, z, out: (x.sign_, (), {}),
    "sigmoid": lambda x, y, z, out: (torch.sigmoid, (x,), {"out": out}),
    "sigmoid_backward": lambda x, y, z, out: (aten.sigmoid_backward.grad_input, (x, y), {"grad_input": x}),
    "tanh": lambda x, y, z, out: (torch.tanh, (x,), {"out": out}),
    "tanh_backward": lambda x, y, z, out: (aten.tanh_backward.grad_input, (x, y), {"grad_input": x}),
    "silu": lambda x, y, z, out: (aten.silu.out, (x,), {"out": out}),
    "silu_backward": lambda x, y, z, out: (aten.silu_backward.grad_input, (x, y), {"grad_input": x}),
    "lerp": lambda x, y, z, out: (x.lerp_, (y, 0.1), {}),
    "sum_rows": lambda x, y, z, out: (torch.sum, (x, -2), {"out": torch.empty(len(x), x.shape[-1])}),
    "mean of rows": lambda x, y, z, out: (
        torch.mean, (x, -2), {"keepdim": True, "out": torch.empty(len(x), 1, x.shape[-1])}),
    "sum_features": lambda x, y, z, out: (
        torch.mean, (x, -1), {"keepdim": True, "out": torch.empty(len(x), x.shape[-2], 1)}),
    "all": lambda x, y, z, out: (torch.sum, (x, (1, 2)), {"out": torch.empty(len(x))}),
    "accumulate": lambda x, y, z, out: (
        torch.randn(len(x), dtype=torch.float64).add_, (x[:, 0, 0].clone(),), {"alpha": 0.2}),
    "accumulate by a factor": lambda x, y, z, out: (
        torch.randn(len(x), dtype=torch.float64).addcmul_, (x[:, 0, 0].clone(), torch.randn(len(x))), {}),
}  # fmt: skip


@pytest.mark.few(350)
@pytest.mark.parametrize("layout", list(itertools.product((False, True), repeat=2)), ids=str)
@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize("name", OPERATIONS)
def test_operations_are_those_of_torch(name, sizes, layout):
    torch.manual_seed(0)
    rows = sizes[1]
    x, y, z, out = (by_rows(*sizes, by_row) for by_row in (*layout, layout[0], layout[0]))
    f, args, kwargs = OPERATIONS[name](x, y, z, out)
    own = getattr(f, "__self__", None)
    target = kwargs.get("out", kwargs.get("grad_input", own))
    before = target.clone()
    f(*args, **kwargs)
    expected = target.clone()
    target.copy_(before)
    codes = do(translator(rows, x, y, z, out), f, *args, **kwargs)
    assert codes
    if name in CODES:
        assert CODES[name] in codes
    torch.testing.assert_close(target, expected, rtol=3e-6, atol=3e-6, equal_nan=True)


def test_there_is_a_case_for_each_operation():
    elsewhere = {"multiply", "multiply_images", "log_softmax", "scatter", "adam"}  # below, and in test_update.py
    assert set(CODES) == elsewhere | (set(OPERATIONS) & set(CODES))


@pytest.mark.parametrize("name", ["exp", "log", "sigmoid", "tanh", "silu", "rsqrt", "sign", "clamp_min"])
def test_special_numbers_are_those_of_torch(name):
    least, most = torch.finfo(torch.float32).tiny, torch.finfo(torch.float32).max
    values = [0.0, 1.0, -1.0, least, most, -most, torch.inf, -torch.inf, torch.nan, 88.7, -87.3, 104.0, 1e-6, -20.0]
    x = torch.cat([torch.tensor(values), torch.linspace(-90, 90, 4001), torch.logspace(-30, 30, 999)])[None, :, None]
    f, args, kwargs = OPERATIONS[name](x, x, x, torch.empty_like(x))
    target = kwargs.get("out", x)
    before = target.clone()
    f(*args, **kwargs)
    expected = target.clone()
    target.copy_(before)
    do(translator(x.shape[1], x), f, *args, **kwargs)
    assert torch.equal(target.isnan(), expected.isnan())
    torch.testing.assert_close(target, expected, rtol=1e-6, atol=1e-37, equal_nan=True)


@pytest.mark.parametrize("transposed", list(itertools.product((False, True), repeat=3)), ids=str)
@pytest.mark.parametrize("sizes", [(1, 1, 1), (7, 300, 33), (13, 5, 64), (100, 257, 17), (6, 16, 32)], ids=str)
@pytest.mark.parametrize(("runs", "add"), [(None, False), (1, True), (3, False)])
def test_products_are_those_of_torch(sizes, transposed, runs, add):
    torch.manual_seed(0)
    n, depth, columns = sizes
    shapes = [(n, depth), (depth, columns), (n, columns)]
    lead = () if runs is None else (runs,)

    def made(shape, turned):
        return torch.randn(*lead, *shape[::-1]).mT if turned else torch.randn(*lead, *shape)

    a, b, out = (made(shape, turned) for shape, turned in zip(shapes, transposed, strict=True))
    expected = a.double() @ b.double() + (out.double() if add else 0)
    plain, adding = (torch.mm, torch.addmm) if runs is None else (torch.bmm, torch.baddbmm)
    do(translator(columns), adding if add else plain, *((out,) if add else ()), a, b, out=out)
    torch.testing.assert_close(out.double(), expected, rtol=1e-5, atol=1e-5 * depth**0.5)


@pytest.mark.parametrize(("n", "images", "pixels"), [
    (1, 1, 1), (7, 31, 5), (105, 65, 63), (209, 64, 65), (200, 33, 784), (17, 530, 100),
])  # fmt: skip
@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize(("along_pixels", "add"), [(True, False), (False, False), (False, True), (True, True)])
@pytest.mark.parametrize("black", [0.0, 0.5, 0.99])
def test_products_with_images_skip_nothing_that_counts(n, images, pixels, shared, along_pixels, add, black):
    torch.manual_seed(0)
    depth, columns = (pixels, images) if along_pixels else (images, pixels)
    x = torch.randint(1, 256, (3, images, pixels + 4), dtype=torch.uint8)
    x = x.masked_fill_(torch.rand(x.shape) < black, 0)[0 if shared else slice(None), :, :pixels]
    a, out = torch.randn(3, n, depth), torch.randn(3, n, columns)
    numbers = x.double() / 255
    expected = a.double() @ (numbers.mT if along_pixels else numbers) + (out.double() if add else 0)
    native.multiply_images(a, x, out, along_pixels, add)
    torch.testing.assert_close(out.double(), expected, rtol=1e-5, atol=1e-6 * depth)


@pytest.mark.parametrize("shared", [False, True])
def test_products_for_evaluation_are_those_of_the_formula(shared):
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(2, 3, 20, 50, generator=generator)
    images = torch.randint(0, 256, (*(() if shared else (2, 3)), 9, 50), generator=generator, dtype=torch.uint8)
    with torch.no_grad():
        exact = product_with_images(weight.double(), images)
        torch.testing.assert_close(native.product(weight, images).double(), exact, rtol=1e-5, atol=1e-5)
    needing = weight.clone().requires_grad_()
    native.product(needing, images).sum().backward()  # by autograd, which the library knows nothing of
    assert needing.grad.abs().sum() > 0


@pytest.mark.parametrize("runs", [1, 3])
@pytest.mark.parametrize("model", [{**CLASSIFIERS[0], "norm": "batch"}, AUTOENCODERS[1]], ids=lambda m: m["model"])
def test_the_number_of_threads_does_not_matter(dataset, monkeypatch, model, runs):
    monkeypatch.setattr("fmnist.nn.step.chunk_rows", lambda device: 70)
    kernels, before, found = Kernels(black=True, programs=True), torch.get_num_threads(), []
    monkeypatch.setattr("fmnist.speed.step.choose", lambda *_: kernels)
    for threads in (1, 2, 3, 4):
        torch.set_num_threads(threads)
        try:
            stack = Stack(
                [make_config(**model, batch_size=90, seed=s) for s in range(runs)], dataset, torch.device("cpu")
            )
            stack.train_epoch(1)
        finally:
            torch.set_num_threads(before)
        found.append(stack.optimizer.flat.data.clone())
    assert all(torch.equal(each, found[0]) for each in found)


def test_what_is_not_known_is_said_to_be_so():
    x = torch.randn(2, 5, 7)
    for f, args, kwargs in [
        (x.double().add_, (1.0,), {}), (x.gelu if hasattr(x, "gelu") else torch.erf, (x,), {"out": x}),
        (torch.sum, (x, 0), {"out": torch.empty(5, 7)}), (x[..., ::2].mul_, (2.0,), {}), (print, (), {}),
        (torch.mm, (x[0], x[0].mT), {"out": torch.empty(5, 10)[:, ::2]}),
    ]:  # fmt: skip
        assert translator(5, x)(f, args, kwargs) is None, f
