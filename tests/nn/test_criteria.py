"""What models are trained and measured by: smoothing and mixing are of training alone, names are looked up, and the
knobs of each run are its own."""

import pytest
import torch
from helpers import make_config
from torch import nn
from torch.nn import functional

from fmnist import UserError
from fmnist.config import schema
from fmnist.config.schema import load_ideas
from fmnist.nn.layers import Linear
from fmnist.nn.losses import (
    CLASSIFICATION,
    RECONSTRUCTION,
    Classification,
    NegativeELBO,
    Reconstruction,
    brier,
    cross_entropy,
)
from fmnist.nn.models import Encoded, imported
from fmnist.nn.step import means

GENERATOR = torch.Generator().manual_seed(0)
LOGITS = torch.randn(3, 6, 10, generator=GENERATOR, dtype=torch.float64) * 3
LABELS, OTHER = torch.randint(10, (2, 6), generator=GENERATOR)
SHARE = torch.rand(6, generator=GENERATOR) / 2 + 0.5
SMOOTHING = torch.tensor([0.0, 0.1, 0.4], dtype=torch.float64)
EMPTY = torch.empty(0)
CLOSE = {"rtol": 1e-12, "atol": 1e-12}
FACTORY = {"dtype": torch.float64, "device": "cpu"}


@pytest.mark.parametrize("labels", [LABELS, LABELS.expand(3, 6)], ids=["of all runs", "of each run"])
def test_brier_is_the_squared_distance_from_the_one_hot_label(labels):
    expected = (LOGITS.softmax(-1) - functional.one_hot(labels, 10)).square().sum(-1)
    torch.testing.assert_close(brier(LOGITS, labels), expected, **CLOSE)
    certain = torch.zeros(2, 10).index_fill(1, torch.tensor([3]), 1e4)
    assert brier(certain, torch.tensor([3, 4])).tolist() == [0, 2]


def test_label_smoothing_is_of_training_alone():
    smoothed, plain = Classification("cross_entropy", SMOOTHING), Classification("cross_entropy")
    measured, trained = (smoothed.metrics(LOGITS, EMPTY, LABELS, training=t)["loss"] for t in (False, True))
    without = plain.metrics(LOGITS, EMPTY, LABELS, training=True)["loss"]
    assert torch.equal(measured, without)
    for run, amount in enumerate(SMOOTHING.tolist()):
        expected = functional.cross_entropy(LOGITS[run], LABELS, reduction="none", label_smoothing=amount)
        torch.testing.assert_close(trained[run], expected, **CLOSE)
    assert not torch.equal(trained[2], measured[2])


def test_losses_of_runs_that_were_smoothed_in_other_ways_can_be_compared():
    model = nn.Sequential(Linear(10, 10, (3,), **FACTORY))
    with torch.no_grad():
        model[0].weight.copy_(torch.eye(10) * 3)
    found = means(model, Classification("cross_entropy", SMOOTHING), LOGITS[0], LABELS, "float64")
    assert found["loss"].unique().numel() == 1


@pytest.mark.parametrize("smoothing", [None, SMOOTHING], ids=["hard", "smoothed"])
@pytest.mark.parametrize("name", ["cross_entropy", "brier", "report", "report_rows"])
def test_the_loss_of_mixed_images_is_the_mean_of_both_losses_by_their_shares(name, smoothing):
    if name != "cross_entropy" and smoothing is not None:
        smoothing = None  # it is for cross-entropy alone
    criterion = Classification(name, smoothing)
    own, other = (criterion.metrics(LOGITS, EMPTY, labels, training=True)["loss"] for labels in (LABELS, OTHER))
    for share in (SHARE, SHARE.expand(3, 6)):
        mixed = criterion.metrics(LOGITS, EMPTY, LABELS, training=True, mix=(OTHER, share))
        torch.testing.assert_close(mixed["loss"], share.double() * own + (1 - share.double()) * other, **CLOSE)
        of_own = criterion.metrics(LOGITS, EMPTY, LABELS)["accuracy"]
        assert torch.equal(mixed["accuracy"], of_own)


def test_mixing_an_image_with_itself_changes_nothing():
    criterion = Classification("cross_entropy")
    plain = criterion.metrics(LOGITS, EMPTY, LABELS, training=True)["loss"]
    mixed = criterion.metrics(LOGITS, EMPTY, LABELS, training=True, mix=(LABELS, SHARE))["loss"]
    torch.testing.assert_close(mixed, plain, **CLOSE)


@pytest.mark.parametrize(("criterion", "table", "name"), [
    (Classification, CLASSIFICATION, "mae"), (Reconstruction, RECONSTRUCTION, "cross_entropy"),
    (Classification, CLASSIFICATION, "nonsense"), (Reconstruction, RECONSTRUCTION, ""),
])  # fmt: skip
def test_a_name_that_is_in_no_table_is_an_error(criterion, table, name):
    assert name not in table
    with pytest.raises(KeyError):
        criterion(name)


@pytest.mark.parametrize("knobs", [
    {"loss": "nonsense"}, {"loss": "mae"}, {"model": "vae", "loss": "cross_entropy"}, {"norm": "nonsense"},
    {"model.activation": "nonsense"}, {"optim": "nonsense"}, {"augment.nonsense": 1}, {"model": "nonsense"},
    {"model": "autoencoder", "model.code": "nonsense"},
], ids=str)  # fmt: skip
def test_a_name_that_no_one_knows_is_the_users_mistake(knobs):
    with pytest.raises(UserError, match=r"must be one of|unknown knob") as refused:
        make_config(**knobs)
    assert "\n" not in str(refused.value)


def test_every_loss_of_the_schema_has_a_formula():
    load_ideas()
    assert set(CLASSIFICATION) == set(schema.CLASS_LOSSES)
    for kind in schema.MODELS.values():
        if imported(kind.criterion) is Reconstruction:
            assert set(kind.losses) == set(RECONSTRUCTION)
        if imported(kind.criterion) is Classification:
            assert set(kind.losses) == set(CLASSIFICATION)


def test_a_criterion_is_made_of_the_knobs_of_its_runs():
    configs = [make_config(label_smoothing=amount, loss="cross_entropy") for amount in (0.0, 0.2)]
    made = Classification.of(configs, FACTORY)
    assert made.loss is cross_entropy
    assert made.label_smoothing.tolist() == [0.0, 0.2]
    assert made.label_smoothing.dtype == torch.float64
    assert Classification.of(configs[:1], FACTORY).label_smoothing is None
    assert Classification.of([make_config(loss="report_rows")], FACTORY).couples_rows
    assert not Classification.of([make_config(loss="brier")], FACTORY).couples_rows
    assert Reconstruction.of([make_config("autoencoder", loss="mse")], FACTORY).loss is RECONSTRUCTION["mse"]
    vaes = [make_config("vae", **{"model.beta": beta}) for beta in (0.5, 4.0)]
    assert NegativeELBO.of(vaes, FACTORY).beta.tolist() == [[0.5], [4.0]]


def test_beta_weighs_the_divergence_of_each_run_in_its_loss_alone():
    output = Encoded(LOGITS[:2], LOGITS[:2, :, :3], LOGITS[:2, :, 3:6])
    x = torch.rand(6, 10, generator=GENERATOR, dtype=torch.float64)
    metrics = NegativeELBO(torch.tensor([0.5, 4.0], dtype=torch.float64)).metrics(output, x, LABELS)
    for run, beta in enumerate((0.5, 4.0)):
        torch.testing.assert_close(metrics["loss"][run], metrics["nll"][run] + beta * metrics["kl"][run], **CLOSE)
    torch.testing.assert_close(metrics["negative_elbo"], metrics["nll"] + metrics["kl"], **CLOSE)
