"""Metrics of a whole set of predictions or codes, by scikit-learn; nan where one is not defined."""

import math

import torch
from torch import Tensor

RARE = 0.1  # of what is usual on average is added to each: some pixels and numbers of codes hardly vary in known images


def by_class(predicted: Tensor, labels: Tensor, classes: int) -> tuple[list[list[int]], list[float], list[float]]:
    """Counts of class i taken for class j, and recall and precision of each class, 0 where there is nothing to count:
    predicted, labels (n,)."""
    from sklearn.metrics import precision_recall_fscore_support

    counts = torch.bincount(labels * classes + predicted, minlength=classes**2).view(classes, classes)
    known, given, every = labels.cpu().numpy(), predicted.cpu().numpy(), list(range(classes))
    precision, recall, _, _ = precision_recall_fscore_support(known, given, labels=every, zero_division=0.0)
    return counts.tolist(), recall.tolist(), precision.tolist()


def f1(recall: list[float], precision: list[float]) -> list[float]:
    """The harmonic mean of recall and precision of each class; 0 where both are 0."""
    return [2 * r * p / (r + p) if r + p else 0.0 for r, p in zip(recall, precision, strict=True)]


def auroc(scores: Tensor, positive: Tensor) -> float:
    """The probability that a positive example scores higher than a negative one: scores (n,), positive (n,) bool; nan
    where a score is no number, or where all examples are of one kind."""
    from sklearn.metrics import roc_auc_score

    if not scores.isfinite().all() or positive.all() or not positive.any():
        return math.nan
    return float(roc_auc_score(positive.cpu().numpy(), scores.double().cpu().numpy()))


def probe(train: Tensor, train_labels: Tensor, test: Tensor, test_labels: Tensor) -> float:
    """How much of the class a code still holds: the test accuracy of a logistic regression on it (Alain & Bengio 2016).

    train, test: codes (n, code), standardised here; labels (n,). nan for codes that are no numbers, or of one class.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if len(torch.unique(train_labels)) < 2 or not (train.isfinite().all() and test.isfinite().all()):
        return math.nan
    fitted = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(train.cpu(), train_labels.cpu())
    return float(fitted.score(test.cpu(), test_labels.cpu()))


def remoteness(known: Tensor, codes: Tensor) -> Tensor:
    """How far each code lies from the nearest known one, in units of how much that varies among the known codes
    themselves. Distances are Mahalanobis distances by the known codes' covariance.

    known (m, code), codes (n, code) -> (n,); nan where codes are no numbers, or the known ones fewer than three or all
    at one distance.
    """
    from sklearn.neighbors import NearestNeighbors

    own, given = known.double().cpu(), codes.double().cpu()
    if not (len(own) > 2 and len(given) and own.isfinite().all() and given.isfinite().all() and own.std(0).any()):
        return codes.new_full((len(codes),), math.nan)
    covariance = own.T.cov().reshape(own.shape[1], -1)
    covariance += RARE * covariance.diagonal().mean() * torch.eye(len(covariance), dtype=torch.float64)
    whiten = torch.linalg.cholesky(torch.linalg.inv(covariance))
    nearest = NearestNeighbors().fit(own @ whiten)
    usual = nearest.kneighbors(own @ whiten, 2)[0][:, 1]  # the nearest of all is the code itself
    far = nearest.kneighbors(given @ whiten, 1)[0][:, 0]
    return torch.from_numpy(far / (usual.std() or math.nan)).to(codes.device)


def holes(points: Tensor, seed: int = 0) -> float:
    """The share of the latent space without an image: of points drawn from the Gaussian with the codes' own mean and
    covariance, how many lie farther from every code than 99 % of the codes lie from their nearest other one.

    points (n, code). 0.01 where the codes fill their Gaussian; near 1 where they lie in scattered clumps; nan for codes
    that are no numbers, or fewer than two.
    """
    import numpy as np
    from sklearn.neighbors import NearestNeighbors

    if len(points) < 2 or not points.isfinite().all():
        return math.nan
    known = points.double().cpu().numpy()
    nearest = NearestNeighbors().fit(known)
    usual = np.quantile(nearest.kneighbors(known, n_neighbors=2)[0][:, 1], 0.99)
    drawn = np.random.default_rng(seed).multivariate_normal(known.mean(0), np.cov(known.T), size=len(known))
    return float((nearest.kneighbors(drawn, n_neighbors=1)[0][:, 0] > usual).mean())
