"""What is measured once: holes, AUROC, bounds; and that a split is measured and no other."""

import math

import numpy as np
import pytest
import torch
from helpers import SMALL, make_config
from scipy.spatial.distance import cdist
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
    found = measure.once(stack, stack.dataset.test)["holes"]
    codes = measure.codes(stack, stack.dataset.test)
    assert found == [metrics.holes(codes[0]), metrics.holes(codes[1])]
    stack = stack_of("one class", loss="mse")
    found, split = measure.once(stack, stack.dataset.test)["auroc"], stack.dataset.test
    with torch.no_grad():
        x = split.images.to(stack.dtype) / 255
        errors = (stack.model(x).sigmoid() - x).square().sum(-1)
    others = split.labels != 1
    for run in range(2):
        pairs = errors[run][others][:, None] > errors[run][~others]
        assert found[run] == pytest.approx(pairs.double().mean().item())


@pytest.mark.parametrize("normal", [1, [0, 2]])
@pytest.mark.parametrize("kind", ["one class", "vae of one class"])
def test_the_scores_of_anomalies_are_as_they_are_defined(kind, normal):
    stack = stack_of(kind, **{"anomaly.normal": normal})
    split, known = stack.dataset.test, stack.dataset.train
    found = measure.once(stack, split)

    def errors(own):  # (runs, rows, pixels), by the definition of L*
        stack.start_noise("test")
        with evaluating(stack.model):
            said = stack.model(own.images.to(stack.dtype) / 255)
        image = (said if isinstance(said, torch.Tensor) else said.logits).detach().sigmoid()
        return (image ** (1 / 3) - (own.images / 255) ** (1 / 3)) ** 2

    usual = errors(known).mean(1, keepdim=True)
    usual = usual + 0.1 * usual.mean(2, keepdim=True)
    scaled, of_known = ((errors(rows) / usual).sum(2) for rows in (split, known))
    codes, known_codes = measure.codes(stack, split), measure.codes(stack, known)
    remote = torch.stack([metrics.remoteness(*pair) for pair in zip(known_codes, codes, strict=True)])
    others = ~torch.isin(split.labels, torch.tensor(normal))
    assert 0 < others.sum() < len(others)
    for name, scores in {
        "scaled": scaled,
        "with_code": scaled / of_known.std(1, correction=0, keepdim=True) + remote,
    }.items():
        for run in range(2):
            pairs = scores[run][others][:, None] > scores[run][~others]
            assert found[f"auroc_{name}"][run] == pytest.approx(pairs.double().mean().item())


def test_measuring_changes_nothing_of_a_stack():
    for kind in KINDS:
        one, other = stack_of(kind), stack_of(kind)
        measure.final(other)
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


@pytest.mark.parametrize(("normal", "rows"), [(9, 1), (2, 2), ([2, 9], 3)])
def test_of_a_class_with_few_rows_the_distance_of_codes_is_undefined_or_a_share(normal, rows):
    stack = stack_of("one class", **{"data.limit": 10, "data.split": 1, "batch_size": 1, "anomaly.normal": normal})
    assert len(stack.dataset.train.labels) == rows
    found = measure.anomaly(stack, stack.dataset.test)  # warnings are errors
    assert all(0 <= share <= 1 for share in found["auroc_scaled"])
    assert all(math.isnan(share) if rows < 3 else 0 <= share <= 1 for share in found["auroc_with_code"])


def test_remoteness_is_the_mahalanobis_distance_to_the_nearest_known_code_in_units_of_its_deviation():
    known, codes = (torch.randn(n, 3, generator=torch.Generator().manual_seed(n)) for n in (50, 20))
    known, codes = known * torch.tensor([1, 10, 0]), codes * torch.tensor([1, 10, 1])  # the last number never varies
    covariance = np.cov(known.numpy().T)
    inverse = np.linalg.inv(covariance + 0.1 * np.diag(covariance).mean() * np.eye(3))
    apart = cdist(known, known, "mahalanobis", VI=inverse)
    usual = (apart + np.diag([np.inf] * 50)).min(1).std()
    expected = cdist(codes, known, "mahalanobis", VI=inverse).min(1) / usual
    assert metrics.remoteness(known, codes).tolist() == pytest.approx(expected.tolist())


@pytest.mark.parametrize("name", DEGENERATE)
@pytest.mark.parametrize("as_known", [True, False])
def test_remoteness_of_degenerate_codes_is_a_number_or_undefined(name, as_known):
    pair = (DEGENERATE[name], NORMAL) if as_known else (NORMAL, DEGENERATE[name])
    found = metrics.remoteness(*pair)
    assert found.shape == pair[1].shape[:1]
    assert all(math.isnan(far) or 0 <= far < math.inf for far in found.tolist())
