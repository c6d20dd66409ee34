"""What runs say together: against sums by hand."""

import pytest
import torch
from sklearn import metrics as reference

from fmnist.finished.ensembles import averages, contributions, greedy
from fmnist.view.calibration import log_loss


@pytest.fixture
def said():
    """The logits of four members, (4, 200, 3), the third of which is the best and the first no better than chance."""
    generator = torch.Generator().manual_seed(1)
    labels = torch.randint(3, (200,), generator=generator)
    logits = torch.randn(4, 200, 3, generator=generator, dtype=torch.float64)
    logits[:, torch.arange(200), labels] += torch.tensor([0.0, 1.5, 3.0, 1.5])[:, None]
    return logits, labels


def mean(logits, places, labels):
    """The log loss of the mean of the probabilities of some members."""
    return reference.log_loss(labels, logits[places].softmax(-1).mean(0))


def test_averages_are_means_of_probabilities_and_of_logits(said):
    logits, _ = said
    found = averages(logits)
    torch.testing.assert_close(found["probabilities"].softmax(-1), logits.softmax(-1).mean(0))
    torch.testing.assert_close(found["logits"], logits.mean(0))


def test_each_member_in_greedy_order_is_the_best_of_those_that_are_left(said):
    logits, labels = said
    order = greedy(logits, labels)
    assert sorted(order) == [0, 1, 2, 3]
    assert (order[0], order[-1]) == (2, 0)
    for count in range(1, 4):
        taken = mean(logits, order[:count], labels)
        assert all(taken <= mean(logits, [*order[: count - 1], other], labels) + 1e-12 for other in order[count:])


def test_what_a_member_adds_is_told_by_those_before_it_and_by_all_others(said):
    logits, labels = said
    found = contributions(logits, labels)
    order = [own["place"] for own in found]
    for count, own in enumerate(found, start=1):
        others = [place for place in range(4) if place != own["place"]]
        assert own["alone"]["log_loss"] == pytest.approx(log_loss(logits[own["place"]], labels))
        assert own["together"]["log_loss"] == pytest.approx(mean(logits, order[:count], labels))
        assert own["without"]["log_loss"] == pytest.approx(mean(logits, others, labels))
        predicted = logits[order[:count]].softmax(-1).mean(0).argmax(-1)
        assert own["together"]["accuracy"] == pytest.approx(reference.accuracy_score(labels, predicted))
    assert found[-1]["without"]["log_loss"] < found[-1]["together"]["log_loss"]  # it does harm
