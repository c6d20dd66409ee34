"""A rule relies on nothing that it has not kept: layers in any order step on the tape as they do by autograd.

FMNIST_ORDERS says how many orders are tried (`make fuzz-layers` tries 10,000, `make test-long` 300).
"""

import os
from contextlib import ExitStack
from unittest import mock

import pytest
import torch
from hypothesis import HealthCheck, event, example, given, settings
from hypothesis import strategies as st
from speed.orders import Made, Spec, make, specs

from fmnist.data.batches import Batch
from fmnist.nn.losses import Classification
from fmnist.nn.optim import Flat, Optimizer
from fmnist.nn.step import Step
from fmnist.speed import native
from fmnist.speed.kernels import Kernels
from fmnist.speed.step import TapedStep

ORDERS = int(os.environ.get("FMNIST_ORDERS", "50"))
INPUTS = 4
ROUNDING = 1e-11  # of a gradient, relative to its largest number
FLOAT32 = 1e-5  # the same in float32
SGD = {"momentum": 0.0, "nesterov": None, "weight_decay": None}


def of_features(self, out, keep, rescale=True):
    """A mask that does not depend on the order in which chunks are worked through. See Noise.keep_mask."""
    for mask, share in zip(out, keep, strict=True):
        dropped = torch.arange(mask.shape[-2]) % 3 == 1 if share < 1 else torch.zeros(mask.shape[-2], dtype=torch.bool)
        mask.copy_(torch.where(dropped, 0.0, 1 / share)[:, None].expand_as(mask))


def batch_of(rows, runs, classes, seed):
    """Rows for all runs, or with runs for each run its own."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(*runs, rows, INPUTS, generator=generator, dtype=torch.float64)
    labels = torch.randint(classes, (*runs, rows), generator=generator)
    return Batch(x, labels, torch.zeros(x.shape, dtype=torch.uint8))


def stepping(kind, made, loss, rows, precision="float64"):
    runs = len(made.noise.generators)
    optimizer = Optimizer("sgd", Flat(made.model), [SGD] * runs)
    given = (rows,) if kind is TapedStep else ()
    return kind(made.model, Classification(loss), optimizer, precision, *given)


def after_each(step, made, batches):
    """The gradient, the totals and the model's statistics after each of some batches."""
    for number, batch in enumerate(batches):
        made.start(number)
        step.gradient(batch)
        totals = {tag: total.clone() for tag, total in step.totals.up_to_date().items()}
        yield step.optimizer.flat.grad.clone(), totals, {k: v.clone() for k, v in made.model.named_buffers()}


def counting_ties(step):
    """The rows so far whose two likeliest classes are as likely: either may be taken for the likeliest."""
    found = [0]

    def count(module, given, output):
        by_class = output.log_softmax(-2) if step.criterion.couples_rows else output
        first, second = by_class.detach().topk(2).values.unbind(-1)
        found[0] += int((first - second < 1e-9).sum())

    step.model.register_forward_hook(count)
    return found


def error_of(ours, theirs):
    """Of a gradient, relative to the largest number."""
    return float((ours - theirs).abs().max()) / (float(theirs.abs().max()) or 1.0)


def rounding(order, runs, loss, batches):
    """The error of the gradients by autograd in float64, about: that in float32, times how much finer float64 is. It is
    large where a gradient is a small difference of large numbers."""
    found = []
    for dtype in (torch.float32, torch.float64):
        made = make(order, INPUTS, runs, seed=7)
        made.model.to(dtype)
        converted = [batch._replace(x=batch.x.to(dtype)) for batch in batches]
        step = stepping(Step, made, loss, 0)
        found.append([gradient.double() for gradient, *_ in after_each(step, made, converted)])
    return max(map(error_of, *found)) * 2.0**-29


def assert_steps_as_autograd_does(order: list[Spec], runs: int, shared: bool, chunk: int, rows: int, loss: str) -> None:
    """Each pair of buffers is used twice, with other contents, and another one comes between."""
    made: list[Made] = [make(order, INPUTS, runs, seed=7) for _ in range(2)]
    axes = () if shared else (runs,)
    first, second, wider = (batch_of(n, axes, made[0].width, n + i) for i, n in enumerate((rows, rows, rows + 5)))
    fast = stepping(TapedStep, made[1], loss, rows)
    slow = stepping(Step, made[0], loss, rows)
    ties = counting_ties(slow)
    with ExitStack() as stack:
        stack.enter_context(mock.patch("fmnist.nn.step.chunk_rows", return_value=chunk))
        if slow.one_chunk and not fast.one_chunk:
            stack.enter_context(mock.patch("fmnist.nn.noise.Noise.keep_mask", of_features))
            stack.enter_context(mock.patch("speed.orders.Jitter.forward", lambda self, x: 1.1 * x))
        buffers = Batch(*(part.clone() for part in first[:3]))

        def fed(whole=(first, second, wider, first)):
            for batch in whole:
                if batch is wider:
                    yield wider
                    continue
                for buffer, contents in zip(buffers[:3], batch[:3], strict=True):
                    buffer.copy_(contents)
                yield buffers
                assert torch.equal(buffers.x, batch.x)  # the data are nobody's to write over

        expected = after_each(slow, made[0], (first, second, wider, first))
        for ours, theirs in zip(after_each(fast, made[1], fed()), expected, strict=True):
            error, allowed = error_of(ours[0], theirs[0]), ROUNDING
            if error > ROUNDING:
                event("rounding is amplified")
                allowed = 1000 * rounding(order, runs, loss, (first, second, wider))
            assert error <= allowed
            close = {"rtol": max(1e-10, allowed), "atol": max(1e-11, allowed)}
            right = [each[1].pop("accuracy") for each in (ours, theirs)]
            torch.testing.assert_close(*right, rtol=0, atol=ties[0])
            torch.testing.assert_close(ours[1], theirs[1], **close)
            torch.testing.assert_close(ours[2], theirs[2], **close)


TRIED = settings(
    max_examples=ORDERS, derandomize=ORDERS <= 1000, database=None, suppress_health_check=list(HealthCheck),
    report_multiple_bugs=False,
)  # fmt: skip
MORE = settings(TRIED, max_examples=300, derandomize=True)
ORDER = given(
    order=specs(2), runs=st.integers(1, 3), shared=st.booleans(), chunk=st.sampled_from([1000, 1000, 4, 7]),
    rows=st.integers(2, 12), loss=st.sampled_from(["cross_entropy", "brier", "report", "report_rows"]),
)  # fmt: skip


def known(*layers, runs=1, shared=True, chunk=1000):
    """An order that was once done wrongly, or could be by a mistake that is easily made."""
    return example(order=[*layers], runs=runs, shared=shared, chunk=chunk, rows=9, loss="cross_entropy")


@known(("linear", 4), ("relu",), ("batch norm",), ("linear", 3))
@known(("linear", 4), ("sigmoid",), ("tanh",), ("layer norm",), runs=2)
@known(("batch norm",), ("linear", 3))  # a view of the data is the data
@known(("plain",), ("batch norm",), runs=2)  # what the runs share cannot be written over by each
@known(("sigmoid",), ("linear", 3), runs=3)  # nor has it one gradient
@known(("residual", [("gelu",)], True))  # oneDNN has none for tensors of other dimensions
@known(("relu",), ("plain",), ("layer norm",), runs=2, chunk=4)
@known(("residual", [("batch norm",), ("linear", 4)], True), ("linear", 3), runs=2)
@known(("residual", [("tanh",)], True), ("batch norm",), runs=2, chunk=4)
@known(("gated", [("linear", 4), ("relu",)], [("linear", 4), ("sigmoid",)]), ("linear", 3))
@known(("linear", 4), ("gated", [], []), ("tanh",), runs=2)  # the square of what comes before
@known(("gated", [], [("linear", 4)]), ("gated", [("linear", 3)], []), runs=2)  # the data as one of both
@known(("linear", 4), ("gated", [("batch norm",)], [("tanh",)]), ("relu",), runs=2, chunk=4)
@known(("layer norm",), runs=2, shared=False)  # the output lies in memory as the data do
@known(("linear", 4), ("constant",), ("linear", 3))
@known(("doubled", 4), ("gelu",), ("doubled", 3), runs=2, chunk=4)
@TRIED
@ORDER
def test_layers_in_any_order_step_as_autograd_does(order, runs, shared, chunk, rows, loss):
    assert_steps_as_autograd_does(order, runs, shared, chunk, rows, loss)


@pytest.mark.long
@MORE
@ORDER
def test_layers_in_many_orders_step_as_autograd_does(order, runs, shared, chunk, rows, loss):
    assert_steps_as_autograd_does(order, runs, shared, chunk, rows, loss)


COMPILED = pytest.mark.skipif(native.library() is None, reason="not compiled for this processor")


@pytest.mark.long
@COMPILED
@known(("residual", [("gelu",)], True))  # in float32
@TRIED
@ORDER
def test_layers_in_any_order_step_by_programs_as_without(order, runs, shared, chunk, rows, loss):
    assert_steps_by_programs_as_without(order, runs, shared, chunk, rows, loss)


@pytest.mark.long
@COMPILED
@MORE
@ORDER
def test_layers_in_many_orders_step_by_programs_as_without(order, runs, shared, chunk, rows, loss):
    assert_steps_by_programs_as_without(order, runs, shared, chunk, rows, loss)


def assert_steps_by_programs_as_without(order, runs, shared, chunk, rows, loss):
    """In float32, where the native library does what it knows, in an order of its own."""
    axes, found = () if shared else (runs,), []
    for programs in (False, True):
        made = make(order, INPUTS, runs, seed=7)
        made.model.float()
        batches = [batch_of(n, axes, made.width, n) for n in (rows, rows + 5)]
        single = [batch._replace(x=batch.x.float()) for batch in batches]
        kernels = Kernels(programs=programs)
        with (
            mock.patch("fmnist.nn.step.chunk_rows", return_value=chunk),
            mock.patch("fmnist.speed.step.choose", return_value=kernels),
        ):
            step = stepping(TapedStep, made, loss, rows, "float32")
            found.append([gradient for gradient, *_ in after_each(step, made, [*single, single[0]])])
    error = max(map(error_of, *found))
    if not error <= FLOAT32:
        event("rounding is amplified")
        assert error <= 1000 * 2.0**29 * rounding(order, runs, loss, [*batches, batches[0]])
