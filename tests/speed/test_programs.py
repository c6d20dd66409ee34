"""Programs do what their operations do one after another, in whatever order they are put."""

import pytest
import torch
from helpers import half_long, make_config
from hypothesis import given, settings
from hypothesis import strategies as st
from speed.twins import AUTOENCODERS, CLASSIFIERS, MODELS, twins

from fmnist.speed import native, tape
from fmnist.speed.kernels import Kernels
from fmnist.speed.programs import Foreign, meet, programs, span
from fmnist.speed.translator import Translator
from fmnist.train.stack import Stack

pytestmark = pytest.mark.skipif(native.library() is None, reason="not compiled for this processor")
RUNS, ROWS, FEATURES = 3, 70, 40
SWITCHES = [{}, {"dropout": 0.3}, {"norm": "batch"}, {"norm": "layer"}, {"skip": True},
            {"skip": True, "dropout": 0.3, "norm": "batch"}]  # fmt: skip


def memory(seed):
    """Tensors that share their memory in many ways: blocks of rows of the batch, by feature and by row, views of parts
    of them, and parameters. Returns all, and a translator that knows how their rows lie."""
    generator = torch.Generator().manual_seed(seed)
    blocks = [torch.randn(RUNS * ROWS * FEATURES, generator=generator) for _ in range(3)]
    parameters = torch.randn(RUNS * FEATURES * 4, generator=generator)
    translate, acts = Translator(), []
    translate.rows = ROWS
    for number, block in enumerate(blocks):
        by_row = number == 2
        for features in (FEATURES, FEATURES // 2, 1):
            part = block[: RUNS * ROWS * features]
            acts.append(part.view(RUNS, ROWS, features) if by_row else part.view(RUNS, features, ROWS).mT)
        translate.batch_step[block.untyped_storage().data_ptr()] = FEATURES if by_row else 1
    halves = [half for x in (acts[0], acts[6]) for half in x.chunk(2, -1)]
    vectors = [part.view(RUNS, 1, -1) for part in parameters.split(RUNS * FEATURES)]
    vectors += [parameters[RUNS * 7 : RUNS * (7 + FEATURES // 2)].view(RUNS, 1, -1)]
    # What lies by row fills whole rows: a view of fewer features has rows elsewhere, as memory that is used again does.
    return [*acts[:7], *halves], vectors, translate


def operation(kind, place, other, third, acts, vectors):
    """One operation of some tensors; None where they do not fit."""
    x, y, vector = acts[place % len(acts)], acts[other % len(acts)], vectors[third % len(vectors)]
    same = x.data_ptr() == y.data_ptr() and x.stride() == y.stride() and x.shape == y.shape
    if not same and meet([span(x)], [span(y)]):  # torch does not allow it either
        return None
    if kind == "sum":
        return (torch.sum, (x, -2), {"out": vector.view(RUNS, -1)}) if vector.shape[-1] == x.shape[-1] else None
    if kind == "whole":
        return (lambda: x.mul_(0.5), (), {})
    if kind == "vector":
        return (x.sub_, (vector,), {"alpha": 0.1}) if vector.shape[-1] == x.shape[-1] else None
    if kind == "foreign":
        return x.clamp_max_, (0.9,), {}
    if kind == "mean":
        return (torch.mean, (x, -1), {"keepdim": True, "out": y}) if y.shape[-1] == 1 else None
    if x.shape != y.shape:
        return None
    return {"add": (x.add_, (y,), {"alpha": 0.3}), "copy": (x.copy_, (y,), {}),
            "mul": (torch.mul, (x, vector if vector.shape[-1] == x.shape[-1] else 0.5), {"out": y})}[kind]  # fmt: skip


KINDS = ("sum", "vector", "foreign", "mean", "add", "copy", "mul", "whole")


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(KINDS), *[st.integers(0, 20)] * 3), min_size=2, max_size=40), st.integers(0, 9)
)
def test_any_operations_in_the_order_of_programs_do_what_they_do_one_by_one(asked, seed):
    ends = []
    for compiled in (False, True):
        acts, vectors, translate = memory(seed)
        made = [found for each in asked if (found := operation(*each, acts, vectors)) is not None]
        done = made
        if compiled:
            done = programs([one for f, args, kwargs in made
                             for one in translate(f, args, kwargs) or [Foreign((f, args, kwargs))]])  # fmt: skip
        for f, args, kwargs in done:
            f(*args, **kwargs)
        ends.append(torch.cat([x.flatten() for x in (*acts, *vectors)]))
    torch.testing.assert_close(*ends, rtol=1e-3, atol=1e-3, equal_nan=True)


@pytest.mark.few(36)
@pytest.mark.parametrize(("runs", "batch", "switches", "model"), half_long([1, 3], [64, None], SWITCHES, [
    *MODELS, {**AUTOENCODERS[0], "loss": "mse", "noise": 0.2}, {"model": "linear"},
    {**CLASSIFIERS[0], "label_smoothing": 0.1, "model.activation": "tanh", "augment.mixup": 0.5},
    {**CLASSIFIERS[0], "model.activation": "gelu"}, {**CLASSIFIERS[0], "model.activation": "silu"},
]), ids=str)  # fmt: skip
def test_programs_step_as_autograd_does(dataset, monkeypatch, model, switches, batch, runs):
    """As near to autograd in float64 as the same tape is without programs."""
    monkeypatch.setattr("fmnist.nn.step.chunk_rows", lambda device: 70)
    monkeypatch.setattr("fmnist.nn.noise.Noise.normal", lambda self, out: out.fill_(0.3))
    monkeypatch.setattr("fmnist.nn.noise.Noise.keep_mask", lambda self, out, *_: out.fill_(1.2))  # chunk by chunk
    knobs = {**model, **(switches if model["model"] != "linear" else {}), "batch_size": batch}
    configs = {p: [make_config(**knobs, seed=s, precision=p) for s in range(runs)] for p in ("float32", "float64")}
    exact, errors = twins(configs["float64"], dataset)[0], []
    exact.start_noise(1)
    exact.step.gradient(next(exact.feed.epoch(1)))
    truth, totals = exact.optimizer.flat.grad, exact.step.totals.up_to_date()
    for kernels in (Kernels(), Kernels(programs=True), Kernels(programs=True, black=True)):
        monkeypatch.setattr("fmnist.speed.step.choose", lambda *_, kernels=kernels: kernels)
        stack = Stack(configs["float32"], dataset, torch.device("cpu"))
        stack.start_noise(1)
        batch_of = next(stack.feed.epoch(1))
        for _ in range(2):  # what one step leaves in its buffers does not reach the next
            stack.step.totals.reset()
            stack.start_noise(1)
            stack.step.gradient(batch_of)
        errors.append(float((stack.optimizer.flat.grad - truth).norm() / truth.norm()))
        for tag, values in stack.step.totals.up_to_date().items():
            torch.testing.assert_close(values, totals[tag], rtol=2e-5, atol=1e-5)
    assert max(errors[1:]) < max(3 * errors[0], 2e-6), errors


@pytest.mark.parametrize(("knobs", "outside"), [
    ({}, ["keep"]), ({"dropout": 0.5}, ["keep", "keep_mask", "keep_mask"]), ({"skip": True}, ["keep"]),
    ({"norm": "layer"}, ["keep"]), ({"norm": "batch"}, ["add_", "add_", "keep"]),
], ids=str)  # fmt: skip
def test_a_step_is_one_program_but_for_what_counts_or_draws(dataset, monkeypatch, knobs, outside):
    between = []

    def spy(operations):
        between.extend(one.operation[0].__name__ for one in operations if isinstance(one, Foreign))
        return programs(operations)

    monkeypatch.setattr(tape, "programs", spy)
    monkeypatch.setattr("fmnist.speed.step.choose", lambda *_: Kernels(programs=True, black=True))
    stack = Stack([make_config(**CLASSIFIERS[0], **knobs, batch_size=64)], dataset, torch.device("cpu"))
    stack.step.gradient(next(stack.feed.epoch(1)))
    ((written, _),) = stack.step.tapes.values()
    assert sorted(between) == outside
    assert len(written.phases[0]) == len(outside) + 1


@pytest.mark.parametrize("runs", [1, 3])
def test_threads_wait_twice_in_a_step(dataset, monkeypatch, runs):
    """Before the rows of the batch go through all layers and back, and before the gradients that sum over rows."""
    monkeypatch.setattr("fmnist.speed.step.choose", lambda *_: Kernels(programs=True, black=True))
    configs = [make_config(**CLASSIFIERS[0], batch_size=64, seed=seed) for seed in range(runs)]
    stack = Stack(configs, dataset, torch.device("cpu"))
    stack.step.gradient(next(stack.feed.epoch(1)))
    ((written, _),) = stack.step.tapes.values()
    first, *others = [one for f, _, _ in written.operations if isinstance(f, native.Program) for one in f.list]
    assert [one.alone for one in (first, *others) if one.waits] == [1, 0, 1]
