"""The estimator, in scikit-learn's hands: cross-validation, grids, pipelines, and its own checks of estimators."""

import pickle

import numpy as np
import pytest
from helpers import refuses
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import estimator_checks
from training import quick_disk  # noqa: F401 - a fixture that serves each test

from fmnist import Estimator

X, Y = (array[:150] for array in load_digits(return_X_y=True))
QUICK = {"epochs": 12, "batch_size": 15, "lr": 0.01, "model__hidden": [32]}
# Knobs are parameters by whatever name a config has: they are kept together, in one attribute that is no parameter.
EXEMPT = {"check_no_attributes_set_in_init": "any knob is a parameter: `knobs` keeps those that were given"}


@pytest.mark.long
def test_cross_validation_and_a_grid_on_arrays_in_memory():
    estimator = Estimator("mlp", **QUICK)
    scores = cross_val_score(estimator, X, Y, cv=2)
    assert scores.min() > 0.7
    grid = GridSearchCV(estimator, {"lr": [1e-5, 1e-2], "model__hidden": [[8]]}, cv=2).fit(X, Y)
    assert grid.best_params_ == {"lr": 1e-2, "model__hidden": [8]}
    assert grid.predict(X).shape == Y.shape
    assert clone(estimator).get_params() == estimator.get_params() == {"model": "mlp", "progress": False, **QUICK}


def test_labels_may_be_text_images_may_be_images_and_numbers_of_any_range():
    names = np.array([f"digit {label}" for label in Y])
    plain = Estimator("mlp", **QUICK).fit(X, names)
    assert plain.classes_.tolist() == sorted(set(names))
    assert plain.score(X, names) > 0.9
    shares = plain.predict_proba(X)
    assert np.array_equal(plain.classes_[shares.argmax(1)], plain.predict(X))
    for form in (X.reshape(-1, 8, 8), X / 16, np.rint(X / 16 * 255).astype(np.uint8), 100 - 5 * X):
        other = Estimator("mlp", **QUICK).fit(form, names)
        same = np.array_equal(other.predict_proba(form), shares)
        assert same == (form.min() >= 0 and form[0].flatten()[0] == X[0, 0])  # the last is another picture: inverted
        assert other.score(form, names) > 0.9
    piped = make_pipeline(StandardScaler(), Estimator("mlp", **QUICK)).set_params(estimator__lr=0.02).fit(X, names)
    assert piped.score(X, names) > 0.8


def test_a_fitted_one_is_pickled_and_leaves_no_files(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    fitted = Estimator("linear", epochs=2, batch_size=30).fit(X, Y)
    assert not list(tmp_path.iterdir())
    again = pickle.loads(pickle.dumps(fitted))
    assert np.array_equal(again.predict_proba(X), fitted.predict_proba(X))
    assert len(fitted.network_.history) == 2


def test_mistakes():
    with pytest.raises(NotFittedError):
        Estimator().predict(X)
    refuses(lambda: Estimator("vae", epochs=1).fit(X, Y), "model must be a classifier, got vae")
    refuses(lambda: Estimator("mlp1", droput=0.5).fit(X, Y), "unknown knob droput: did you mean dropout?")
    with pytest.raises(ValueError, match="300 classes, at most 256"):
        Estimator("linear").fit(np.zeros((900, 4)), np.arange(900) // 3)
    with pytest.raises(ValueError, match=r"X must have the shape \(n, pixels\)"):
        Estimator("linear").fit(np.zeros((30, 4, 4, 3)), np.arange(30) // 3)


@pytest.mark.parametrize("check", [
    estimator_checks.check_estimator_cloneable, estimator_checks.check_estimator_repr,
    estimator_checks.check_parameters_default_constructible, estimator_checks.check_get_params_invariance,
    estimator_checks.check_set_params, estimator_checks.check_n_features_in,
])  # fmt: skip
def test_it_keeps_the_rules_of_scikit_learn(check):
    estimator = Estimator("linear", epochs=1)
    check("Estimator", estimator)


@pytest.mark.long
@pytest.mark.filterwarnings("ignore")
def test_it_passes_the_checks_of_scikit_learn():
    estimator = Estimator("mlp", **QUICK | {"epochs": 30, "batch_size": 32})
    done = estimator_checks.check_estimator(estimator, expected_failed_checks=EXEMPT, on_fail=None)
    assert len(done) > 50
    assert {each["check_name"] for each in done if each["status"] in ("failed", "xfail")} == EXEMPT.keys()
