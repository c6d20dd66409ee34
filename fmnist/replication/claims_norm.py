"""The report's claims of batch normalisation as statements about runs. No torch.

Each function gives two tables: the statements that decide, and those on runs at the report's own size.
"""

from itertools import pairwise
from math import nan
from typing import Any

from fmnist.replication.evidence import Metric, Of, Runs, Sample, at_best_rate, mean, minus, together
from fmnist.replication.metrics import ACCURACIES, EPOCH, TEST, after, at, average, each, generalisation_gap, reaching
from fmnist.replication.statements import Exceeds, Tables
from fmnist.replication.systems import TWO, system
from fmnist.report.comparison import Result

NETWORKS: dict[str, dict[str, Any]] = {
    "784-300-100-10, ReLU": {"model__hidden": TWO}, "3 x 100 sigmoids": {"model__hidden": [100, 100, 100]},
}  # fmt: skip
NEAR = 0.005  # half a point below the best accuracy of the plain network: reached


def pair(runs: Runs, **knobs: Any) -> tuple[Runs, Runs]:
    """The plain network, and the same with batch normalisation."""
    return runs.where(batch_norm=None, **knobs), runs.where(batch_norm=True, **knobs)


def speed(plain: Runs, part: str, last: int, scale: float = 1.0) -> tuple[float, Metric]:
    """The accuracy that the plain network has after the last epoch at its best learning rate, less half a point; and
    the epochs, times scale, that a network takes to it at its own best rate."""
    target = mean(at_best_rate(at(last, ACCURACIES[part]))(plain)) - NEAR
    return target, at_best_rate(reaching(target, ACCURACIES[part], scale), -1)


def sooner(where: str, both: tuple[Runs, Runs], part: str, last: int, scale: float = 1.0) -> Exceeds:
    """The statement that batch normalisation takes fewer iterations."""
    target, iterations = speed(both[0], part, last, scale)
    return Exceeds(f"batch norm takes fewer iterations to the plain network's {part} accuracy{where}", *both,
                   iterations, unit="iterations", note=f"to {target:.3f}: ")  # fmt: skip


def cost_of(rate: float) -> Metric:
    """How much accuracy a learning rate costs, compared with the best one."""
    last = after(1500)
    return lambda runs: minus(at_best_rate(last)(runs), last(runs.where(lr=rate)))


def drift(run: Result) -> float:
    """The mean shift of the medians of the watched units from one row to the next, in widths of their distribution:
    its range from 15 to 85 %."""
    tags = sorted(tag.removesuffix("_50") for tag in run.rows[-1] if tag.endswith("_50")) if run.rows else []
    shifts = [abs(b[f"{tag}_50"] - a[f"{tag}_50"]) / max(b[f"{tag}_85"] - b[f"{tag}_15"], 1e-12)
              for tag in tags for a, b in pairwise(run.rows)]  # fmt: skip
    return sum(shifts) / len(shifts) if shifts else nan


def norm_speed(of: Of) -> Tables:
    """Iterations to what the plain network reaches, the largest learning rate, how far the inputs of a layer move."""
    rows, largest = [], max(of["claim_norm_speed"].by("lr"), default=nan)
    full = pair(of["confirm"], watch="fit", dropout=None)
    for network, knobs in NETWORKS.items():
        both = pair(of["claim_norm_speed"], **knobs)
        rows += [sooner(f" ({network})", both, part, 1500 // EPOCH, EPOCH) for part in ACCURACIES]
        rows += [Exceeds(f"with batch norm the largest learning rate costs less accuracy ({network})", *both,
                         cost_of(largest), note=f"at {largest:g}: ")]  # fmt: skip
    rows += [Exceeds("with batch norm the inputs of the last sigmoid move less (medians, from pass to pass, in widths "
                     "of their distribution)", *pair(of["claim_norm_inputs"]), each(drift), unit="widths")]  # fmt: skip
    return rows, [sooner(", full batch, lr 0.001", full, part, 1000) for part in ACCURACIES]


def range_over_scales(accuracy: Metric) -> Metric:
    """How far the accuracies of a seed lie apart over the scales of the initial weights."""

    def metric(runs: Runs) -> Sample:
        values = together([accuracy(own) for own in runs.by("init_scale").values()])
        return {seed: max(own) - min(own) for seed, own in values.items()}

    return metric


def norm_init(of: Of) -> Tables:
    """Accuracy by the scale of the initial weights."""
    full = pair(of["confirm"], model__hidden=TWO, watch=None)
    return [
        Exceeds(f"with batch norm accuracy differs less over four decades of initial scale (lr {lr:g})", *pair(runs),
                range_over_scales(after(800))) for lr, runs in of["claim_norm_init"].by("lr").items()
    ], [
        Exceeds("with batch norm accuracy differs less between scales of 0.03 and 30, full batch, 1,000 iterations",
                *full, range_over_scales(at(1000))),
    ]  # fmt: skip


def norm_dropout(of: Of) -> Tables:
    """Two by two: neither, batch normalisation, dropout, both."""
    runs, last, gap = of["claim_norm_dropout"], after(5000), generalisation_gap
    (neither, norm), (dropped, both) = (pair(runs, dropout=p) for p in (0.0, 0.5))
    full = pair(of["confirm"], watch="fit", dropout=None)

    def gain(runs: Runs) -> Sample:
        plain, norm = pair(runs)
        return minus(last(norm), last(plain))

    return [
        Exceeds("batch norm alone narrows the gap in accuracy", neither, norm, after(5000, gap)),
        Exceeds("batch norm alone raises validation accuracy", norm, neither, last),
        Exceeds("with dropout, batch norm raises validation accuracy", both, dropped, last),
        Exceeds("with batch norm, dropout raises validation accuracy", both, norm, last),
        Exceeds("batch norm gains more with dropout than without (interaction)", runs.where(dropout=0.5),
                runs.where(dropout=0.0), gain),
    ], [
        Exceeds("batch norm alone narrows the gap, full batch, 1,000 iterations", *full, at(1000, gap)),
        Exceeds("with dropout, batch norm raises test accuracy, full batch, 1,000 iterations",
                of["confirm"].where(batch_norm=True, dropout=0.5), system("q1_2_1", of), TEST),
    ]  # fmt: skip


SURFACE = {"surface/loss_range": ("range of the loss along the gradient", "share of the loss"),
           "surface/gradient_change": ("change of the gradient", "share of its norm"),
           "surface/smoothness": ("effective beta-smoothness", "1 / step")}  # fmt: skip
SURFACES = {"784-300-100-10": "mlp", "ten layers of 100": "deep"}  # the networks whose loss surface is watched


def smoothness(of: Of) -> Tables:
    """How the loss and its gradient change along the gradient, averaged over training."""
    full = pair(of["confirm"], optim__name="sgd")
    return [
        Exceeds(f"batch norm has a smaller {words} ({network}, lr {lr:g})", *pair(runs), average(tag), unit="")
        for network, model in SURFACES.items()
        for lr, runs in of["claim_surface"].where(model__name=model).by("lr").items()
        for tag, (words, _) in SURFACE.items()
    ], [
        Exceeds(f"batch norm has a smaller {words}, full batch, lr 0.1", *full, average(tag), unit="")
        for tag, (words, _) in SURFACE.items()
    ]  # fmt: skip
