"""What is measured once: holes, AUROC, bounds; and that a split is measured and no other."""

import math

import pytest
import torch
from helpers import SMALL, make_config
from training import KINDS

from fmnist.nn.step import by_tag, evaluating, means
from fmnist.train.restore import assemble
from fmnist.view import measure, metrics


def stack_of(kind, **knobs):
    return assemble([make_config(**{**SMALL, **KINDS[kind], **knobs, "seed": seed}) for seed in (0, 1)])


@pytest.mark.parametrize("kind", KINDS)
def test_each_split_is_measured_whatever_was_measured_before(kind):
    stack = stack_of(kind)
    first = stack.measure("some", stack.dataset.test)
    other = stack.measure("some", stack.dataset.train)  # the same name, other rows
    assert other != first == stack.measure("some", stack.dataset.test)
    stack.start_noise("some")
    train = stack.dataset.train
    x = train.images.to(stack.dtype) / 255
    assert other == by_tag("some/", means(stack.model, stack.criterion, x, train.labels, stack.common.precision))


def test_holes_and_auroc_of_a_stack_are_those_of_its_codes_and_scores():
    stack = stack_of("code")
    found = measure.test(stack, stack.dataset.test)["test/holes"]
    codes = measure.codes(stack, stack.dataset.test)
    assert found == [metrics.holes(codes[0]), metrics.holes(codes[1])]
    stack = stack_of("one class", loss="mse")
    found, split = measure.test(stack, stack.dataset.test)["test/auroc"], stack.dataset.test
    with torch.no_grad():
        x = split.images.to(stack.dtype) / 255
        errors = (stack.model(x).sigmoid() - x).square().sum(-1)
    others = split.labels != 1
    for run in range(2):
        pairs = errors[run][others][:, None] > errors[run][~others]
        assert found[run] == pytest.approx(pairs.double().mean().item())


@pytest.mark.parametrize("normal", [1, [0, 2]])
@pytest.mark.parametrize("kind", ["one class", "vae of one class"])
def test_the_scaled_auroc_is_that_of_errors_in_lightness_over_what_is_usual_for_a_pixel(kind, normal):
    stack = stack_of(kind, **{"anomaly.normal": normal})
    split, normal = stack.dataset.test, torch.tensor(normal)
    found = measure.test(stack, split)["test/auroc_scaled"]

    def errors(own):  # (runs, rows, pixels), by the definition of L*
        said = stack.model(own.images.to(stack.dtype) / 255)
        image = (said if isinstance(said, torch.Tensor) else said.logits).detach().sigmoid()
        return (image ** (1 / 3) - (own.images / 255) ** (1 / 3)) ** 2

    with evaluating(stack.model):
        stack.start_noise("test")
        usual = errors(stack.dataset.train).mean(1, keepdim=True)
        stack.start_noise("test")
        scores = (errors(split) / (usual + 0.1 * usual.mean(2, keepdim=True))).sum(2)
    others = ~torch.isin(split.labels, normal)
    assert 0 < others.sum() < len(others)
    for run in range(2):
        pairs = scores[run][others][:, None] > scores[run][~others]
        assert found[run] == pytest.approx(pairs.double().mean().item())


def test_measuring_changes_nothing_of_a_stack():
    for kind in KINDS:
        one, other = stack_of(kind), stack_of(kind)
        measure.test(other, other.dataset.test)
        assert one.train_epoch(1) == other.train_epoch(1)
        assert all(torch.equal(value, other.weights(1)[name]) for name, value in one.weights(1).items())


NORMAL = torch.randn(10, 2, generator=torch.Generator().manual_seed(0))
DEGENERATE = {
    "one place": torch.zeros(10, 2), "nan": NORMAL * math.nan, "infinite": NORMAL * math.inf, "none": NORMAL[:0],
    "one": NORMAL[:1], "two": NORMAL[:2], "far": NORMAL * 1e30,
}  # fmt: skip


@pytest.mark.parametrize("name", DEGENERATE)
def test_holes_of_degenerate_codes_are_a_share_or_undefined(name):
    found = measure._or_nan(metrics.holes, DEGENERATE[name])
    assert math.isnan(found) or 0 <= found <= 1
