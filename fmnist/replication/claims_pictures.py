"""The pictures and tables on the pages of the claims. No torch."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from math import isnan, nan
from typing import Any

from fmnist.replication.claims_norm import NEAR, NETWORKS, SURFACE, SURFACES, pair, speed
from fmnist.replication.claims_training import PASSES, SMALL, by_switches, passes_in_time
from fmnist.replication.evidence import Metric, Of, Runs, best_rate, mean, over
from fmnist.replication.metrics import (
    ACCURACIES,
    ACCURACY,
    EPOCH,
    OPEN,
    TEST,
    OfRow,
    after,
    at,
    average,
    error,
    final,
    generalisation_gap,
    of_tag,
    opening,
)
from fmnist.replication.systems import ONE, TWO
from fmnist.report import landscapes
from fmnist.report.comparison import comparisons
from fmnist.report.intervals import curve
from fmnist.report.plots import Line, Panel, Picture, panels
from fmnist.report.tables import Table, spread

Shown = tuple[list[Picture], list[Table]]
Groups = Mapping[Any, Runs]  # runs by the words for them: one, or several where a table has several columns of them


def percent(metric: Metric) -> Callable[[Runs], str]:
    """Mean and deviation of shares, in per cent."""
    return lambda runs: spread(over({seed: 100 * value for seed, value in metric(runs).items()}))


def plainly(metric: Metric) -> Callable[[Runs], str]:
    """Mean and deviation."""
    return lambda runs: spread(over(metric(runs)))


def table(header: Sequence[str], groups: Groups, *cells: Callable[[Runs], str]) -> Table:
    """A row for each group: its words, then its cells."""
    return Table([*header], [[*([words] if isinstance(words, str) else words), *(cell(runs) for cell in cells)]
                             for words, runs in groups.items()])  # fmt: skip


def line(label: str, runs: Runs, value: OfRow, scale: float = 1.0) -> Line:
    """The mean of a metric over the seeds, by epoch times scale, with a band from the smallest to the largest."""
    drawn = curve([{int(row["epoch"]): known for row in run.rows if not isnan(known := value(row))}
                   for run in runs.counted])  # fmt: skip
    failed = f" ({len(runs.failed)} failed)" if runs.failed else ""
    return Line(label + failed, [epoch * scale for epoch in drawn.epochs], drawn.mean, drawn.low, drawn.high)


def lines(groups: Groups, value: OfRow, scale: float = 1.0) -> list[Line]:
    """One line for each group."""
    return [line(label, runs, value, scale) for label, runs in groups.items()]


def spans(label: str, runs: Runs, knob: str, metric: Metric) -> Line:
    """The means of a metric with their 95 % intervals as a band, by the values of a knob."""
    seen = {value: over(metric(own)) for value, own in runs.by(knob).items()}
    means, low, high = ([getattr(i, name) for i in seen.values()] for name in ("mean", "low", "high"))
    return Line(label, [*seen], means, low, high)


def with_norm(runs: Runs, **knobs: Any) -> dict[str, Runs]:
    """The plain network and the one with batch normalisation, by name."""
    return dict(zip(("plain", "batch norm"), pair(runs, **knobs), strict=True))


def layers(of: Of) -> Shown:
    """Accuracy by iteration."""
    names = {"one hidden layer": ONE, "two hidden layers": TWO}
    groups = {f"{name}, {split:.0%} of the rows": of["claim_layers"].where(model__hidden=hidden, data__split=split)
              for name, hidden in names.items() for split in (0.8, 0.7)}  # fmt: skip
    shown = [Panel("", "iteration", "validation accuracy (share of images)", lines(groups, ACCURACY, EPOCH))]
    return [panels("claim_layers", shown, "Validation accuracy by iteration: means and bands over the seeds.")], []


def gap_opening(of: Of) -> Shown:
    """The generalisation gap by iteration."""
    limits = of["claim_gap"].by("data.limit")
    groups = {f"{limit * 4 // 5:,} training rows": runs for limit, runs in reversed(limits.items())}
    shown = [Panel(f"{measure} gap", "iteration", unit, lines(groups, partial(generalisation_gap, measure=measure)))
             for measure, unit in (("accuracy", "share of images"), ("loss", "nats"))]  # fmt: skip
    caption = ("The gap between training and validation by iteration, one hidden layer, full batch: means and bands. A "
               "gap opens where it grows over a point of accuracy, or 0.05 nats of loss, and stays so.")  # fmt: skip
    header = ["", "gap in accuracy opens at iteration", "gap in loss opens at iteration (610: later)"]
    opened = table(header, groups, *(plainly(opening(measure)) for measure in OPEN))
    return [panels("claim_gap", shown, caption, same_y=False)], [opened]


def dropout(of: Of) -> Shown:
    """The generalisation gap and the accuracy by p."""
    scaled, unscaled = (of["claim_dropout"].where(dropout_rescale=rescale) for rescale in (True, False))
    sides = {"yes": scaled, "no": unscaled}
    groups = {(f"{p:g}", rescaled): own for p in scaled.by("dropout") for rescaled, side in sides.items()
              if (own := side.where(dropout=p)).counted}  # fmt: skip
    iterations = (100, 1000, 5000)
    header = ["p", "rescaled", *(f"gap after {n:,} (points)" for n in iterations), "validation accuracy (%)"]
    cells = [*(percent(after(n, generalisation_gap)) for n in iterations), percent(after(5000))]
    drawn = [(n, scaled, "") for n in iterations] + [(5000, unscaled, ", not rescaled")]
    shown = [Panel(title, "dropout p", unit, [
                spans(f"{n:,} iterations{words}", side, "dropout", after(n, value)) for n, side, words in drawn])
             for title, unit, value in (("gap", "share of images", generalisation_gap),
                                        ("validation accuracy", "", ACCURACY))]  # fmt: skip
    caption = ("Accuracy gap (training rows measured without dropout, less validation rows) and validation accuracy by "
               "p: means with 95 % intervals over the seeds.")  # fmt: skip
    return [panels("claim_dropout", shown, caption, same_y=False)], [table(header, groups, *cells)]


def batch_size(of: Of) -> Shown:
    """Error by passes and by seconds, at the learning rates that are best for each."""
    sizes, (cost, in_time) = of["claim_batch_size"].by("batch_size"), passes_in_time(of)
    seconds = f"{PASSES * cost[32]:.1f}"
    rows: list[list[str]] = []
    drawn: dict[str, list[Line]] = {"by passes": [], "by time": []}
    for size, runs in sizes.items():
        name = f"batches of {size:,}" if size else "full batch"
        cells = []
        for by, passes, scale in (("by passes", PASSES, 1.0), ("by time", in_time[size], cost[size])):
            rate = best_rate(runs, at(passes))
            cells.append([percent(at(passes))(runs.where(lr=rate)), f"{rate:g}"])
            drawn[by].append(line(name, runs.where(lr=rate), lambda row: 1 - ACCURACY(row), scale))
        rows.append([name, f"{1000 * cost[size]:.0f}", *cells[0], str(in_time[size]), *cells[1]])
    header = ["", "ms a pass", f"accuracy after {PASSES} passes (%)", "its lr", f"passes in {seconds} s",
              "accuracy then (%)", "its lr"]  # fmt: skip
    axes = {"by passes": "pass over the training rows", "by time": "seconds of training, alone"}
    shown = [Panel(by, x, "validation error (share of images)", drawn[by], log_y=True) for by, x in axes.items()]
    caption = (f"Validation error of the one-layer network on 48,000 rows, at the learning rate that is best after "
               f"{PASSES} passes (left) and after {seconds} seconds (right): means and bands.")  # fmt: skip
    return [panels("claim_batch_size", shown, caption)], [Table(header, rows)]


def norm_speed(of: Of) -> Shown:
    """Accuracy by learning rate, and the inputs of the last layer of sigmoids."""
    rows, shown, last = [], [], after(1500)
    for network, knobs in NETWORKS.items():
        groups = with_norm(of["claim_norm_speed"], **knobs)
        for name, runs in groups.items():
            row = [network, name]
            for part in ACCURACIES:
                _, steps = speed(groups["plain"], part, 1500 // EPOCH, EPOCH)
                rate = best_rate(runs, steps, -1)
                row += [plainly(steps)(runs.where(lr=rate)), f"{rate:g}"]
            means = {rate: mean(last(own)) for rate, own in runs.by("lr").items()}
            best = means.get(best_rate(runs, last), nan)
            borne = max((rate for rate, value in means.items() if value >= best - 2 * NEAR), default=nan)
            rows.append([*row, f"{100 * best:.2f}", f"{borne:g}"])
        shown.append(Panel(network, "learning rate", "validation accuracy after 1,500 iterations",
                           [spans(name, runs, "lr", last) for name, runs in groups.items()], log_x=True))  # fmt: skip
    header = ["network", "", "iterations to the plain one's training accuracy", "at lr", "to its validation accuracy",
              "at lr", "best validation accuracy (%)", "largest lr within a point of it"]  # fmt: skip
    moved = of["claim_norm_inputs"]
    inputs = [Panel(name, "iteration", "input of the last sigmoid, one unit", [
                line(f"{p} % of the rows lie below", one, of_tag(f"input/0_{p}"), EPOCH) for p in (15, 50, 85)])
              for name, runs in with_norm(moved).items()
              for one in [*runs.by("seed").values()][:1]]  # fmt: skip
    caption = "Validation accuracy after 1,500 iterations by learning rate: means with 95 % intervals over the seeds."
    seen = "What goes into the first unit of the last of three sigmoid layers, over 1,000 training rows, of one run."
    pictures = [panels("claim_norm_speed", shown, caption), panels("claim_norm_inputs", inputs, seen)]
    return pictures, [Table(header, rows)]


def norm_init(of: Of) -> Shown:
    """Accuracy by the scale of the initial weights."""
    runs, maps = of["claim_norm_init"], []
    for name, own in with_norm(runs).items():
        (comparison,) = comparisons([replace(run, status="done") for run in own.counted])
        drawn = landscapes.heat_map(comparison)
        maps.append(Picture(f"claim_norm_init_{name.replace(' ', '_')}", drawn.figure, f"{name}: {drawn.caption}"))
    shown = [Panel(f"learning rate {lr:g}", "initial weights, in He's scale", "validation accuracy (share of images)",
                   [spans(name, group, "init_scale", after(800)) for name, group in with_norm(own).items()], log_x=True)
             for lr, own in runs.by("lr").items()]  # fmt: skip
    caption = "Validation accuracy after 800 iterations by the scale of the initial weights: means with 95 % intervals."
    return [panels("claim_norm_init", shown, caption), *maps], []


def norm_dropout(of: Of) -> Shown:
    """Accuracy and generalisation gap by iteration."""
    plain, norm = pair(of["claim_norm_dropout"])
    groups = {"neither": plain.where(dropout=0.0), "batch norm": norm.where(dropout=0.0),
              "dropout": plain.where(dropout=0.5), "both": norm.where(dropout=0.5)}  # fmt: skip
    header = ["", "gap after 5,000 iterations (points)", "validation accuracy after 1,000 (%)", "after 5,000 (%)",
              "test accuracy (%)"]  # fmt: skip
    cells = [percent(m) for m in (after(5000, generalisation_gap), after(1000), after(5000), TEST)]
    shown = [Panel("validation accuracy", "iteration", "share of images", lines(groups, ACCURACY, EPOCH)),
             Panel("accuracy gap", "iteration", "", lines(groups, generalisation_gap, EPOCH))]  # fmt: skip
    caption = ("Validation accuracy, and its gap to training rows measured without dropout, by iteration: means and "
               "bands.")  # fmt: skip
    return [panels("claim_norm_dropout", shown, caption, same_y=False)], [table(header, groups, *cells)]


def depth(of: Of) -> Shown:
    """Training error by depth; gradients by layer."""
    groups = by_switches(of["claim_depth"]) | {SMALL: of["claim_depth_small"]}
    deepest = {name: runs.where(model__depth=56) for name, runs in groups.items()}
    slopes = []
    for name, runs in deepest.items():
        tags = sorted({tag for run in runs.counted for row in run.rows for tag in row if tag.startswith("gradient/")})
        slopes.append(Line(name, [*range(1, len(tags) + 1)], [mean(at(20, of_tag(tag))(runs)) for tag in tags]))
    errors = [spans(name, runs, "model.depth", at(20, error)) for name, runs in groups.items()]
    shown = [
        Panel("training error after 2,000 iterations", "layers", "share of images", errors, log_x=True),
        Panel("gradient norm by layer, 56 layers", "layer, from the input", "norm", slopes, log_y=True),
    ]
    caption = ("Left: training error by depth, means with 95 % intervals. Right: norms of the weights' gradients after "
               "2,000 iterations, means over the seeds.")  # fmt: skip
    depths = [*groups["plain"].by("model.depth")]
    cells = [lambda runs, d=d: percent(at(20, error))(runs.where(model__depth=d)) for d in depths]
    by_depth = table(["training error (%)", *(f"{d} layers" for d in depths)], groups, *cells)
    return [panels("claim_depth", shown, caption, same_y=False)], [by_depth]


def smoothness(of: Of) -> Shown:
    """The loss and its gradient along the gradient, by iteration."""
    groups: dict[tuple[str, ...], Runs] = {}
    shown = []
    for network, model in SURFACES.items():
        by_rate = of["claim_surface"].where(model__name=model).by("lr")
        groups |= {(network, f"{lr:g}", name): own
                   for lr, runs in by_rate.items() for name, own in with_norm(runs).items()}  # fmt: skip
        shown += [Panel(f"{words.removesuffix(' along the gradient')}\n{network}", "iteration", unit,
                        lines(with_norm(by_rate[max(by_rate)]), of_tag(tag), EPOCH), log_y=True)
                  for tag, (words, unit) in SURFACE.items()]  # fmt: skip
    caption = ("Along the gradient, over steps of 0.5 to 4 learning rates, while SGD trains: means and bands over the "
               "seeds.")  # fmt: skip
    header = ["network", "lr", "", *(f"{words} ({unit})" for words, unit in SURFACE.values())]
    averages = table(header, groups, *(plainly(average(tag)) for tag in SURFACE))
    return [panels("claim_surface", shown, caption, same_y=False)], [averages]


def autoencoder(of: Of) -> Shown:
    """The report's accuracy beside its ceiling and beside measures that see improvement; holes."""
    runs = of["claim_autoencoder"]
    losses = {name: runs.where(loss=name, model__name="autoencoder") for name in ("mae", "mse")}
    latent = {"plain": runs.where(loss="bce", model__name="autoencoder"), "variational": runs.where(model__name="vae")}
    trained = {f"trained by {name}": own for name, own in losses.items()}
    ceiling = line("ceiling", losses["mae"], of_tag("validation/accuracy_ceiling"))
    shown = [
        Panel("the report's accuracy", "pass", "share of pixels", [*lines(trained, ACCURACY), ceiling]),
        Panel("pixels within 1/16", "pass", "share of pixels", lines(trained, of_tag("validation/within_16th"))),
        Panel("absolute error", "pass", "grey level, 0 to 1", lines(trained, of_tag("validation/mae"))),
    ]
    caption = ("The report's autoencoder on validation images: its accuracy against the ceiling of that measure, and "
               "two measures that see improvement.")  # fmt: skip
    header = ["loss", "accuracy (%)", "its ceiling (%)", "MAE", "MSE", "pixels within 1/16 (%)"]
    cells = [percent(TEST), percent(final("test/accuracy_ceiling")), plainly(final("test/mae")),
             plainly(final("test/mse")), percent(final("test/within_16th"))]  # fmt: skip
    holes = table(["latent space", "without an image (%)"], latent, percent(final("test/holes")))
    return [panels("claim_autoencoder", shown, caption, same_y=False)], [table(header, losses, *cells), holes]
