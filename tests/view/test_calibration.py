"""Scores of probabilities against scikit-learn, scipy and counting by hand."""

import math

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar
from sklearn import metrics as reference
from sklearn.calibration import calibration_curve

from fmnist.nn import losses
from fmnist.view import calibration
from fmnist.view.metrics import by_class, f1


@pytest.fixture
def answers():
    """Logits (500, 4), right more often than not and far too sure, and labels."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(4, (500,), generator=generator)
    logits = 5 * torch.randn(500, 4, generator=generator)
    logits[torch.arange(500), labels] += 5
    return logits, labels


def test_scores_are_those_of_scikit_learn(answers):
    logits, labels = answers
    p, found = logits.double().softmax(-1).numpy(), calibration.scores(*answers)
    assert found["accuracy"] == pytest.approx(reference.accuracy_score(labels, p.argmax(-1)))
    assert found["top_2_accuracy"] == pytest.approx(reference.top_k_accuracy_score(labels, p, k=2))
    assert found["log_loss"] == pytest.approx(reference.log_loss(labels, p))
    assert found["brier"] == pytest.approx(np.square(p - np.eye(4)[labels]).sum(-1).mean())
    assert found["brier"] == pytest.approx(losses.brier(logits, labels).mean().item())


def test_the_calibration_error_is_that_of_the_curve_of_scikit_learn(answers):
    logits, labels = answers
    p = logits.double().softmax(-1).numpy()
    right, confidence = p.argmax(-1) == labels.numpy(), p.max(-1)
    share, mean = calibration_curve(right, confidence, n_bins=15)
    counts = np.histogram(confidence, np.linspace(0, 1, 16))[0]
    bins = calibration.reliability(logits, labels)
    assert [own.examples for own in bins] == counts[counts > 0].tolist()
    assert [own.accuracy for own in bins] == pytest.approx(share.tolist())
    assert [own.confidence for own in bins] == pytest.approx(mean.tolist())
    expected = (counts[counts > 0] * abs(share - mean)).sum() / len(labels)
    assert calibration.calibration_error(logits, labels) == pytest.approx(expected)
    assert expected > 0.1


def test_f1_is_that_of_scikit_learn(answers):
    logits, labels = answers
    predicted = logits.argmax(-1) % 3  # nothing is taken for the last class
    _, recall, precision = by_class(predicted, labels, 4)
    expected = reference.f1_score(labels, predicted, average=None, zero_division=0.0)
    assert f1(recall, precision) == pytest.approx(expected.tolist())
    assert expected[3] == 0


def test_the_temperature_makes_the_log_loss_least(answers):
    logits, labels = answers
    found = calibration.temperature(logits, labels)
    best = minimize_scalar(lambda t: reference.log_loss(labels, (logits.double() / t).softmax(-1).numpy()),
                           bounds=(0.1, 20), method="bounded")  # fmt: skip
    assert found == pytest.approx(best.x, rel=1e-3)
    assert found > 1.5
    assert calibration.log_loss(logits / found, labels) < calibration.log_loss(logits, labels)
    assert calibration.temperature(logits * 3, labels) == pytest.approx(3 * found, rel=1e-3)


def test_of_equal_classes_the_first_ones_count():
    logits = torch.zeros(2, 3)
    assert calibration.top(logits, torch.tensor([1, 2])) == 0.5
    assert calibration.top(logits, torch.tensor([0, 1]), 1) == 0.5


def test_what_is_not_defined_is_nan():
    labels = torch.tensor([0, 1])
    for logits in (torch.full((2, 3), math.nan), torch.full((2, 3), math.inf)):
        assert all(math.isnan(value) for value in calibration.scores(logits, labels).values())
        assert math.isnan(calibration.temperature(logits, labels))
    assert math.isnan(calibration.temperature(torch.zeros(0, 3), labels[:0]))
    right = torch.eye(3)[labels]
    assert calibration.COLDEST <= calibration.temperature(right, labels) < 0.05
