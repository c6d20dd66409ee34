"""How much each knob decides."""

import itertools
import random

import numpy as np
import pytest
from report.made_up import comparison_of, sweep

from fmnist.report import importance as module
from fmnist.report.importance import Unseen, importance, importances


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(module, "TREES", 10)
    monkeypatch.setattr(module, "REPEATS", 2)


def product(root, result):
    """A sweep over lr, dropout and an optimizer; result: the accuracy by these."""
    values = itertools.product((1e-3, 1e-2, 1e-1), (None, 0.2, 0.5), ("adam", "sgd", "lion"))
    return sweep(root, [({"lr": r, "dropout": d, "optim": o}, [result(r, d, o)]) for r, d, o in values])


@pytest.mark.few(1)
@pytest.mark.parametrize(("decides", "result"), [
    ("lr", lambda rate, drop, optim: 0.9 - rate), ("dropout", lambda rate, drop, optim: 0.9 - (drop or 0) / 2),
    ("optim.name", lambda rate, drop, optim: {"adam": 0.6, "sgd": 0.9, "lion": 0.7}[optim]),
])  # fmt: skip
def test_the_knob_that_decides_is_the_important_one(decides, result, tmp_path, quick, monkeypatch):
    noise = random.Random(0)
    comparison = comparison_of(product(tmp_path, lambda *knobs: result(*knobs) + noise.gauss(0, 0.003)))
    found = importances(comparison)
    means = {name: np.mean(drops) for name, drops in found.drops.items()}
    assert max(means, key=means.get) == decides
    assert means[decides] > 5 * max(abs(mean) for name, mean in means.items() if name != decides)
    assert min(found.r2) > 0.6
    monkeypatch.setattr(module, "importances", lambda _: found)
    picture = importance(comparison)
    (axes,) = picture.figure.axes
    assert len(axes.patches) == 3  # optim.betas, which only follow from the optimizer, are none of them
    assert [label.get_text() for label in axes.get_yticklabels()][-1].startswith(
        {"lr": "learning rate", "dropout": "dropout", "optim.name": "optim"}[decides]
    )
    assert "27 configurations" in picture.caption


def test_forests_are_asked_about_what_they_have_not_seen():
    """Each of ten configurations has a value of its own: a forest that had seen them all would know them."""
    X, y = np.arange(10)[:, None], np.array([0.0, 1.0] * 5)
    assert np.corrcoef(Unseen([0], 0).fit(X, y).predict(X), y)[0, 1] < 0.2


def test_too_few_and_unpredictable_configurations_are_a_sentence(grid, tmp_path, quick):
    assert importance(comparison_of(grid)) == (
        "The importance of the knobs is shown from 12 finished configurations on; here are 9."
    )
    noise = random.Random(1)
    said = importance(comparison_of(product(tmp_path, lambda *_: noise.random())))
    assert "cannot tell the rank of a configuration that it has not seen" in said
