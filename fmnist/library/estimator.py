"""A classifier with scikit-learn's interface, for cross_val_score, GridSearchCV and pipelines on arrays in memory."""

import math
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from fmnist import UserError
from fmnist.library.fitting import fit
from fmnist.sources.idx import MOST

DEFAULTS = {"data__split": 1, "figures": False}  # scikit-learn splits: all rows that are given are trained on


class Estimator(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """One run a fit: Estimator("mlp2", dropout=0.5, epochs=10). Nothing of it stays on the disk.

    model: a name in conf/model/. progress: whether bars show how it goes. knobs: as for `fmnist.fit`, "__" stands for
    ".": model__hidden=[20], augment__shift=2. All are parameters: set_params, clone and grids take them.

    X: (n, pixels) or (n, height, width). Rows of pixels are square images where they can be, else one line. Pixels are
    256 grey levels inside: uint8 as they are, numbers in [0, 1] times 255, and all others from the smallest of the
    training rows to the largest. y: at most 256 labels of any kind, numbers or text.

    classes_: the labels, ascending. network_: the trained `fmnist.library.model.Model`. range_: the numbers that become
    black and white.
    """

    def __init__(self, model: str = "mlp2", progress: bool = False, **knobs: Any) -> None:
        self.model, self.progress, self.knobs = model, progress, knobs

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """All parameters that were given, by name."""
        return {"model": self.model, "progress": self.progress, **self.knobs}

    def set_params(self, **params: Any) -> "Estimator":
        """Set parameters; whether there is such a knob is checked by `fit`."""
        for name, value in params.items():
            if name in ("model", "progress"):
                setattr(self, name, value)
            else:
                self.knobs = {**self.knobs, name: value}
        return self

    def fit(self, X: Any, y: Any) -> "Estimator":
        """Train on all rows. Raises ValueError for arrays that are none, UserError for a mistake in the knobs."""
        X, y = validate_data(self, X, y, allow_nd=True)
        check_classification_targets(y)
        self.classes_, numbers = np.unique(y, return_inverse=True)
        if len(self.classes_) > MOST:
            raise ValueError(f"y has {len(self.classes_)} classes, at most {MOST} can be told apart")
        self.range_ = _range(X)
        images = self._images(X)
        with tempfile.TemporaryDirectory(prefix="fmnist-") as folder:
            network = fit(
                model=self.model, directory=Path(folder, "run"), images=images, labels=numbers, progress=self.progress,
                test_images=images[:1], test_labels=numbers[:1], **(DEFAULTS | self.knobs),
            )  # fmt: skip
            if not network.classifies:
                raise UserError(f"model must be a classifier, got {self.model}")
            network.history  # noqa: B018 - it is read while there are files
        self.network_ = network
        return self

    def predict(self, X: Any) -> np.ndarray:
        """The label of each row."""
        check_is_fitted(self)
        labels: np.ndarray = self.classes_[self.network_.predict(self._checked(X))]
        return labels

    def predict_proba(self, X: Any) -> np.ndarray:
        """The probability of each class, (n, classes), in the order of `classes_`."""
        check_is_fitted(self)
        return self.network_.probabilities(self._checked(X))

    def _checked(self, X: Any) -> np.ndarray:
        return self._images(validate_data(self, X, reset=False, allow_nd=True))

    def _images(self, X: np.ndarray) -> np.ndarray:
        """X as images in 256 grey levels, (n, height, width)."""
        if X.ndim not in (2, 3):
            raise ValueError(f"X must have the shape (n, pixels) or (n, height, width), got {X.shape}")
        low, high = self.range_
        if X.dtype != np.uint8 or (low, high) != (0, 255):
            share = (X.astype(np.float64) - low) / ((high - low) or 1)
            X = np.rint(np.clip(share, 0, 1) * 255).astype(np.uint8)
        side = math.isqrt(X.shape[1])
        size = (side, side) if side**2 == X.shape[1] else (1, X.shape[1])
        return X if X.ndim == 3 else X.reshape(len(X), *size)


def _range(X: np.ndarray) -> tuple[float, float]:
    """The numbers that become black and white."""
    if X.dtype == np.uint8:
        return 0, 255
    low, high = float(X.min()), float(X.max())
    return (0.0, 1.0) if 0 <= low <= high <= 1 else (low, high)
