"""What is known of finished runs as text for a terminal."""

import os
from collections.abc import Sequence
from math import isnan, nan
from typing import Any

from fmnist.program.output import printable
from fmnist.record.result import metrics_in_words
from fmnist.report.summary import listed
from fmnist.report.tables import Table, fixed, p_value
from fmnist.report.words import counted

NAMES = {"macro_f1": "macro F1", "top_2_accuracy": "top-2 accuracy", "log_loss": "log loss", "brier": "Brier score",
         "ece": "ECE (15 bins)", "temperature": "T", "ece_at_temperature": "ECE at T",
         "accuracy_over_views": "accuracy over views", "log_loss_over_views": "log loss over views",
         "ece_over_views": "ECE over views"}  # fmt: skip
SHORT = {"top_2_accuracy": "top-2", "brier": "Brier", "ece": "ECE"}
WIDEST = 20  # classes of a confusion matrix that a terminal shows


def of_one(metrics: dict[str, Any]) -> str:
    """What `fmnist.evaluate.evaluate` gives, for a person: totals, and for a classifier scores, confusion matrix and a
    line for each class with what it was taken for."""
    numbers = {tag: nan if value is None else value for tag, value in metrics.items()}
    totals = metrics_in_words({tag: value for tag, value in numbers.items() if isinstance(value, float)})
    if "test images" in metrics:
        totals = f"test images: {printable(metrics['test images'])}\n{totals}"
    if "recall" not in metrics:
        return totals
    blocks = [totals, _scores(metrics)]
    if over := metrics.get("over views"):
        blocks.append(f"over {over['count']} views of each image ({over['views']}): their mean probabilities\n"
                      f"{_scores(over)}")  # fmt: skip
    return "\n\n".join([*blocks, *_confusion(metrics), _by_class(metrics)])


def _scores(metrics: dict[str, Any]) -> str:
    parts: dict[str, dict[str, float]] = metrics["scores"]
    heads = {"test at temperature": f"test at temperature {metrics['temperature']:.4g}"}
    rows = [[NAMES.get(name, name), *(number(own[name]) for own in parts.values())] for name in parts["test"]]
    text = Table(["", *(heads.get(part, part) for part in parts)], rows).text()
    return text if "validation" in parts else f"{text}\nno validation rows: no temperature is chosen"


def _confusion(metrics: dict[str, Any]) -> list[str]:
    counts = metrics["confusion"]
    if len(counts) > WIDEST:
        return [f"the confusion matrix of {len(counts)} classes is in --json, and a picture of it in --pictures FOLDER"]
    rows = [[f"{place} {name}", *map(str, counts[place])] for place, name in enumerate(metrics["recall"])]
    return [Table(["taken for", *map(str, range(len(counts)))], rows).text()]


def _by_class(metrics: dict[str, Any]) -> str:
    names, rows = [printable(name) for name in metrics["recall"]], []
    for row, name in enumerate(metrics["recall"]):
        counts = metrics["confusion"][row]
        others = sorted((c for c in range(len(names)) if c != row and counts[c]), key=lambda c: -counts[c])[:3]
        taken = ", ".join(f"{names[c]} {counts[c]}" for c in others) if any(counts) else "no test images"
        rows.append([names[row], *(f"{metrics[each][name]:.3f}" for each in ("recall", "precision", "f1")), taken])
    return Table(["", "recall", "precision", "F1", "taken for (test images)"], rows).text()


def number(value: float | None) -> str:
    """Four decimals; nothing where it is not defined."""
    return "" if value is None or isnan(value) else fixed(value, 4)


def short_names(runs: Sequence[str]) -> tuple[dict[str, str], str]:
    """Names of runs for a table: their paths below the folder that they share; and that folder, "" without any."""
    if len(runs) < 2:
        return {run: run for run in runs}, ""
    shared = os.path.commonpath([os.path.abspath(run) for run in runs])
    names = {run: os.path.relpath(run, shared) for run in runs}
    return (names, os.path.relpath(shared)) if "." not in names.values() else ({run: run for run in runs}, "")


def of_several(found: dict[str, Any]) -> str:
    """What `fmnist.finished.scores.several` gives, for a person."""
    which = [printable(f"test images: {found['test images']}")] if "test images" in found else []
    return "\n\n".join([*which, *(_of_group(group) for group in found["groups"]), *listed(found["not_counted"])])


def _of_group(group: dict[str, Any]) -> str:
    """Runs that can be compared: a row for each, mean and deviation of those that differ in their seeds alone; the
    paired tests."""
    names, folder = short_names([run["run"] for run in group["runs"]])
    columns = list(dict.fromkeys(name for run in group["runs"] for name in run["metrics"]))
    rows = []
    for configuration in group["configurations"]:
        own = [run for run in group["runs"] if run["configuration"] == configuration["configuration"]]
        rows += [[names[run["run"]], *(number(run["metrics"].get(name)) for name in columns)] for run in own]
        if len(own) > 1:
            lines = {"mean": f"mean of {counted(len(own), 'run')}, {configuration['configuration']}", "std": "std"}
            for kind, what in lines.items():
                spread = (configuration["metrics"].get(name, {}).get(kind) for name in columns)
                rows.append([what, *map(number, spread)])
    head = f"{group['title']}, test metrics{' of runs in ' * bool(folder)}{folder}"
    heads = [SHORT.get(name, NAMES.get(name, name.replace("_", " "))) for name in columns]
    notes = [printable(f"{names[run['run']]}: as recorded, for it cannot be measured: {run['note']}")
             for run in group["runs"] if "note" in run]  # fmt: skip
    blocks = ["\n".join([printable(head), Table(["run", *heads], rows).text(), *notes])]
    return "\n\n".join([*blocks, *_paired(group, names), *_over_seeds(group)])


HEADS = ("difference [95 % interval]", "p", "p, Bonferroni")


def _paired(group: dict[str, Any], names: dict[str, str]) -> list[str]:
    """The tests against the baseline over the images; then those that are missing, and why."""
    tests = [test for test in group["paired"] if "missing" not in test]
    lines = [printable(f"{names[test['run']]}: no paired test: {test['missing']}")
             for test in group["paired"] if "missing" in test]  # fmt: skip
    if tests:
        of_images = "metrics" in tests[0]
        how = "paired t test" if of_images else "paired bootstrap, McNemar's exact test"
        head = f"against {printable(names[group['baseline']])} on the same test images ({how})"
        lines = [head, (_t_tests if of_images else _mcnemars)(tests, names).text(), *lines]
    return ["\n".join(lines)] if lines else []


def _mcnemars(tests: Sequence[dict[str, Any]], names: dict[str, str]) -> Table:
    rows = [[names[test["run"]], f"{test['n']:,}", str(test["only_one"]), str(test["only_other"]),
             *_difference(test, len(tests))] for test in tests]  # fmt: skip
    return Table(["run", "images", "right alone", "wrong alone", *HEADS], rows)


def _t_tests(tests: Sequence[dict[str, Any]], names: dict[str, str]) -> Table:
    rows = [[names[test["run"]], f"{test['n']:,}", name, *_difference(own, len(tests))]
            for test in tests for name, own in test["metrics"].items() if name in ("loss", "mse")]  # fmt: skip
    return Table(["run", "images", "metric", *HEADS], rows)


def _difference(test: dict[str, float], many: int) -> list[str]:
    """A difference with its interval and p, which is also corrected for so many comparisons."""
    interval = f"{test['difference']:+.4f} [{test['low']:+.4f}, {test['high']:+.4f}]"
    return [interval, p_value(test["p"]), p_value(min(1.0, test["p"] * many))]


def _over_seeds(group: dict[str, Any]) -> list[str]:
    seeds = group["over_seeds"]
    if not seeds["tests"]:
        return []
    rows = [[test["configuration"], str(test["pairs"]), *_difference(test, len(seeds["tests"]))]
            for test in seeds["tests"]]  # fmt: skip
    head = f"test {seeds['metric']} against {seeds['baseline']}, seed by seed (paired t test)"
    return [f"{printable(head)}\n{Table(['configuration', 'seeds', *HEADS], rows).text()}"]
