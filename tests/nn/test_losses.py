"""Losses against torch and against the formulas, in float64."""

import pytest
import torch
from torch.nn import functional

from fmnist.nn.losses import (
    Classification,
    Reconstruction,
    absolute,
    bernoulli,
    brier,
    cross_entropy,
    floor,
    kl,
    report,
    squared,
)

GENERATOR = torch.Generator().manual_seed(0)
LOGITS = torch.randn(6, 10, generator=GENERATOR, dtype=torch.float64) * 3
LABELS = torch.randint(10, (6,), generator=GENERATOR)
CLOSE = {"rtol": 1e-12, "atol": 1e-12}


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.9])
def test_cross_entropy_is_torchs(smoothing):
    ours, theirs = LOGITS.clone().requires_grad_(), LOGITS.clone().requires_grad_()
    loss = cross_entropy(ours, LABELS, smoothing)
    expected = functional.cross_entropy(theirs, LABELS, reduction="none", label_smoothing=smoothing)
    torch.testing.assert_close(loss, expected, **CLOSE)
    loss.sum().backward(), expected.sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad, **CLOSE)


@pytest.mark.parametrize("dim", [1, 0], ids=["classes", "rows"])
def test_the_reports_loss_is_binary_cross_entropy_on_softmax_outputs(dim):
    p = LOGITS.softmax(dim)
    target = functional.one_hot(LABELS, 10).double()
    expected = functional.binary_cross_entropy(p, target, reduction="none").sum(1)
    torch.testing.assert_close(report(LOGITS, LABELS, over_rows=dim == 0), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("over_rows", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_reports_loss_stays_finite_where_a_probability_rounds_to_one(over_rows, dtype):
    logits = torch.zeros(3, 10, dtype=dtype)
    logits[:, 2] = torch.tensor([1000.0, 0.0, -1000.0])
    logits.requires_grad_()
    loss = report(logits, torch.tensor([1, 2, 3]), over_rows)
    loss.sum().backward()
    assert loss.isfinite().all()
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize(
    "loss",
    [
        lambda z: cross_entropy(z, LABELS),
        lambda z: cross_entropy(z, LABELS, 0.2),
        lambda z: report(z, LABELS),
        lambda z: report(z, LABELS, over_rows=True),
        lambda z: brier(z, LABELS),
    ],
    ids=["cross_entropy", "smoothed", "report", "report_rows", "brier"],
)
def test_gradients_in_float64_against_finite_differences(loss):
    assert torch.autograd.gradcheck(loss, LOGITS.clone().requires_grad_())


@pytest.mark.parametrize("name", ["cross_entropy", "brier", "report", "report_rows"])
def test_losses_and_measures_of_a_stack_are_those_of_its_solos(name):
    logits = torch.stack([LOGITS, LOGITS.flip(0), -LOGITS])
    smoothing = torch.tensor([0.0, 0.1, 0.2], dtype=torch.float64) if name == "cross_entropy" else None
    x = torch.empty(0)
    stack = Classification(name, smoothing)
    for run in range(3):
        solo = Classification(name, None if smoothing is None else smoothing[run : run + 1])
        alone = logits[run : run + 1]
        for training in (False, True):
            together = stack.metrics(logits, x, LABELS, training)
            own = solo.metrics(alone, x, LABELS, training)
            torch.testing.assert_close(together["loss"][run], own["loss"][0], **CLOSE)
            assert torch.equal(together["accuracy"][run], own["accuracy"][0])


def test_each_run_may_have_labels_of_its_own():
    logits, labels = torch.stack([LOGITS, LOGITS]), torch.stack([LABELS, LABELS.flip(0)])
    torch.testing.assert_close(cross_entropy(logits, labels)[1], cross_entropy(LOGITS, LABELS.flip(0)), **CLOSE)


def test_accuracy_counts_the_right_ones_and_row_softmax_counts_by_its_own_scores():
    logits = torch.tensor([[2.0, 0.0], [3.0, 1.5], [9.0, 1.0]])  # the first class is likelier in every row ...
    labels = torch.tensor([0, 0, 0])
    x = torch.empty(0)
    assert Classification("cross_entropy").metrics(logits, x, labels)["accuracy"].tolist() == [1, 1, 1]
    by_rows = logits.softmax(0).argmax(1)  # ... but the first column's probability lies in the last row
    expected = (by_rows == labels).float().tolist()
    assert Classification("report_rows").metrics(logits, x, labels)["accuracy"].tolist() == expected
    assert expected != [1, 1, 1]


X = torch.rand(6, 10, generator=GENERATOR, dtype=torch.float64)
MEAN = torch.randn(6, 3, generator=GENERATOR, dtype=torch.float64)
LOG_VARIANCE = torch.randn(6, 3, generator=GENERATOR, dtype=torch.float64)


def test_the_bernoulli_likelihood_is_torchs():
    expected = functional.binary_cross_entropy_with_logits(LOGITS, X, reduction="none").sum(-1)
    torch.testing.assert_close(bernoulli(LOGITS, X), expected, **CLOSE)
    zero = torch.zeros(1, 2, requires_grad=True)
    bernoulli(zero, torch.tensor([[1.0, 0.25]])).sum().backward()
    assert zero.grad.tolist() == [[-0.5, 0.25]]  # sigmoid(0) - x
    far = torch.tensor([[1e4, -1e4]], requires_grad=True)
    bernoulli(far, torch.tensor([[1.0, 0.5]])).sum().backward()
    assert far.grad.isfinite().all()


def test_kl_is_that_of_torch_distributions():
    q = torch.distributions.Normal(MEAN, (LOG_VARIANCE / 2).exp())
    expected = torch.distributions.kl_divergence(q, torch.distributions.Normal(0.0, 1.0)).sum(-1)
    torch.testing.assert_close(kl(MEAN, LOG_VARIANCE), expected, **CLOSE)


@pytest.mark.parametrize("loss", [absolute, squared, bernoulli])
def test_reconstruction_gradients_against_finite_differences(loss):
    assert torch.autograd.gradcheck(lambda z: loss(z, X), LOGITS.clone().requires_grad_())


def test_kl_gradient_against_finite_differences():
    assert torch.autograd.gradcheck(kl, (MEAN.clone().requires_grad_(), LOG_VARIANCE.clone().requires_grad_()))


def test_the_floor_of_the_bernoulli_loss_is_the_entropy_of_the_grey_levels():
    entropy = torch.distributions.Bernoulli(X).entropy().sum(-1)
    torch.testing.assert_close(bernoulli(X.logit(), X), entropy, **CLOSE)
    torch.testing.assert_close(floor(X), entropy, **CLOSE)
    assert floor(torch.tensor([[0.0, 1.0]])).item() == 0


def test_an_autoencoders_metrics_are_per_pixel_and_its_accuracy_has_a_ceiling():
    x = torch.tensor([[0.0, 1.0, 0.5, 0.25]])
    output = torch.tensor([[-9.0, 9.0, 0.0, -9.0]], dtype=torch.float64)  # right, right, right but not countable, wrong
    criterion = Reconstruction("mae")
    metrics = criterion.metrics(output, x, LABELS) | criterion.evaluation_only(output, x, LABELS)
    assert metrics["mae"].item() == pytest.approx(0.25 / 4, abs=1e-3)
    assert metrics["loss"].item() == pytest.approx(4 * metrics["mae"].item())
    assert metrics["mse"].item() == pytest.approx(0.0625 / 4, abs=1e-3)
    assert metrics["psnr"].item() == pytest.approx(-10 * torch.tensor(0.0625 / 4).log10().item(), abs=0.1)
    assert metrics["within_16th"].item() == 0.75
    assert metrics["accuracy"].item() == metrics["accuracy_ceiling"].item() == 0.5
