"""Metrics of predictions, with optional leading run axes."""

import math

import torch
from torch import Tensor


def confusion(predicted: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Counts of class i taken for class j: predicted (*runs, n), labels (n,) -> (*runs, classes, classes)."""
    cells = labels * classes + predicted
    counts = torch.zeros(*predicted.shape[:-1], classes * classes, dtype=torch.int64, device=predicted.device)
    counts.scatter_add_(-1, cells, torch.ones_like(cells))
    return counts.view(*predicted.shape[:-1], classes, classes)


def recall(counts: Tensor) -> Tensor:
    """The accuracy on each class: confusion (*runs, classes, classes) -> (*runs, classes); nan if absent."""
    return counts.diagonal(dim1=-2, dim2=-1) / counts.sum(-1)


def precision(counts: Tensor) -> Tensor:
    """The share of right ones among what was taken for a class: like `recall`; nan for a class never predicted."""
    return counts.diagonal(dim1=-2, dim2=-1) / counts.sum(-2)


def auroc(scores: Tensor, positive: Tensor) -> float:
    """The probability that a positive example scores higher than a negative one: scores (n,), positive (n,) bool; nan
    where a score is none."""
    from sklearn.metrics import roc_auc_score

    if not scores.isfinite().all():
        return math.nan
    return float(roc_auc_score(positive.cpu().numpy(), scores.double().cpu().numpy()))


def probe(train: Tensor, train_labels: Tensor, test: Tensor, test_labels: Tensor) -> float:
    """How much of the class a code still holds: the test accuracy of a logistic regression on it (Alain & Bengio 2016).

    train, test: codes (n, code), standardised here; labels (n,).
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    fitted = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(train.cpu(), train_labels.cpu())
    return float(fitted.score(test.cpu(), test_labels.cpu()))


def holes(points: Tensor, seed: int = 0) -> float:
    """The share of the latent space without an image: of points drawn from the Gaussian with the codes' own mean and
    covariance, how many lie farther from every code than 99 % of the codes lie from their nearest other one.

    points (n, code). 0.01 where the codes fill their Gaussian; near 1 where they lie in scattered clumps.
    """
    import numpy as np
    from sklearn.neighbors import NearestNeighbors

    known = points.double().cpu().numpy()
    nearest = NearestNeighbors().fit(known)
    usual = np.quantile(nearest.kneighbors(known, n_neighbors=2)[0][:, 1], 0.99)
    drawn = np.random.default_rng(seed).multivariate_normal(known.mean(0), np.cov(known.T), size=len(known))
    return float((nearest.kneighbors(drawn, n_neighbors=1)[0][:, 0] > usual).mean())
