"""`python -m fmnist.evaluate`: the metrics of finished runs, from their own configs and weights and nothing else."""

import argparse
import json
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from math import isnan, nan
from pathlib import Path
from typing import Any

import torch

from fmnist import UserError
from fmnist.data.dataset import Dataset, Split, values
from fmnist.nn.losses import Classification
from fmnist.nn.step import outputs
from fmnist.program.arguments import typed_path
from fmnist.program.output import run_command
from fmnist.record.result import defined, metrics_in_words
from fmnist.report.comparison import Configuration, comparisons, read
from fmnist.report.tables import Table, fixed, printable
from fmnist.sources import fetch
from fmnist.train.restore import restore
from fmnist.view.measure import codes, final
from fmnist.view.metrics import by_class, probe


def evaluate(
    directory: Path, weights: str | None = None, data: str | None = None, test: str | None = None,
    rows: slice = slice(None),
) -> dict[str, Any]:  # fmt: skip
    """validation/* and test/* metrics by tag; for classifiers, recall and precision by class name and confusion counts;
    for autoencoders probe/accuracy, of a linear classifier on the code. None for a metric that is not defined.

    data: where the run's data lie now. test: where other test images are. rows: of the test images, those to measure.
    Then "test images" says which and how many they are.
    """
    stack = restore(directory, weights, data)
    metrics: dict[str, Any] = {}
    if test is not None or rows != slice(None):
        stack.dataset = with_test(stack.dataset, test, rows)
        which = "" if rows == slice(None) else f", rows {rows.start or 0}:{rows.stop or ''}"
        metrics["test images"] = f"{test or 'its own'}{which}, {len(stack.dataset.test.labels):,} images"
    dataset = stack.dataset
    metrics |= dict(defined({tag: values[0] for tag, values in final(stack).items()}))
    if isinstance(stack.criterion, Classification):
        x, labels = stack.input(dataset.test), dataset.test.labels
        chunks = outputs(stack.model, stack.criterion, x, labels, stack.common.precision)
        predicted = torch.cat([stack.criterion.predict(output)[0] for output, _, _ in chunks])
        counts, recall, precision = by_class(predicted, labels, dataset.classes)
        for name, values in (("recall", recall), ("precision", precision)):
            metrics[name] = dict(zip(dataset.names, values, strict=True))
        metrics["confusion"] = counts
    else:
        inside, outside = (codes(stack, part)[0] for part in (dataset.train, dataset.test))
        accuracy = probe(inside, dataset.train.labels, outside, dataset.test.labels)
        metrics |= defined({"probe/accuracy": accuracy})
    return metrics


def with_test(dataset: Dataset, test: str | None, rows: slice) -> Dataset:
    """The same with other test rows, of the files in `test` or of its own. Raises UserError where images have another
    size, or classes that it does not know."""
    split = dataset.test
    if test is not None:
        images, labels = map(values, fetch.test_set(test, dataset.labels, dataset.names))
        if (size := images.shape[1:]) != (dataset.height, dataset.width):
            raise UserError(
                f"--test: images in {test} are {size[0]}x{size[1]}, must be {dataset.height}x{dataset.width}"
            )
        split = Split(images.flatten(1), labels.long()).to(split.images.device)
    if not len(split.labels[rows]):
        raise UserError(f"--rows must be some of the {len(split.labels):,} test images, FIRST:END counted from 0")
    return replace(dataset, test=Split(split.images[rows], split.labels[rows]))


def table(metrics: dict[str, Any]) -> str:
    """The metrics for a person: one line of totals, then a line for each class with what it was taken for."""
    numbers = {tag: nan if value is None else value for tag, value in metrics.items()}
    totals = metrics_in_words({tag: value for tag, value in numbers.items() if isinstance(value, float)})
    if "test images" in metrics:
        totals = f"test images: {printable(metrics['test images'])}\n{totals}"
    if "recall" not in metrics:
        return totals
    names, rows = [printable(name) for name in metrics["recall"]], []
    for row, name in enumerate(metrics["recall"]):
        counts = metrics["confusion"][row]
        others = sorted((c for c in range(len(names)) if c != row and counts[c]), key=lambda c: -counts[c])[:3]
        taken = ", ".join(f"{names[c]} {counts[c]}" for c in others) if any(counts) else "no test images"
        rows.append([names[row], f"{metrics['recall'][name]:.3f}", f"{metrics['precision'][name]:.3f}", taken])
    return f"{totals}\n\n{Table(['', 'recall', 'precision', 'taken for (test images)'], rows).text()}"


def summary(directories: Sequence[Path]) -> str:
    """The recorded test metrics of all finished runs in or below some directories, over the runs of each configuration:
    mean, standard deviation and range; then the runs that do not count. Raises UserError where no run is finished."""
    found = read(directories)
    blocks = [f"{printable(f'{comparison.title}, {configuration.label}')}\n{_spread(configuration)}"
              for comparison in comparisons(found) for configuration in comparison.finished]  # fmt: skip
    others = [printable(f"{run.directory}: {run.status}{f', {run.error}' if run.error else ''}")
              for run in found if run.status != "done"]  # fmt: skip
    if not blocks:
        raise UserError(f"no run is finished: {'; '.join(others)}")
    return "\n\n".join([*blocks, *(["\n".join(["not counted:", *others])] if others else [])])


def _spread(configuration: Configuration) -> str:
    """The test metrics of a configuration's finished runs, as a table."""
    rows: list[list[str]] = []
    tags = (tag for run in configuration.done for tag in [*run.metrics, *run.undefined] if tag.startswith("test/"))
    for tag in dict.fromkeys(tags):
        values, seen = configuration.values(tag).values(), configuration.interval(tag)
        numbers = (seen.mean, seen.sd, min(values, default=nan), max(values, default=nan))
        lacking = sum(tag in run.undefined for run in configuration.done)
        count = f"{seen.n}, {lacking} undefined" if lacking else str(seen.n)
        rows.append([tag, count, *("" if isnan(value) else fixed(value, 4) for value in numbers)])
    return Table(["", "n", "mean", "std", "min", "max"], rows).text()


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m fmnist.evaluate",
        description="A finished run's metrics, from its own config and weights; of several, their mean and spread.",
    )
    parser.add_argument(
        "runs", type=typed_path, nargs="+", metavar="RUN", help="directories of finished runs, or of sweeps"
    )
    parser.add_argument("--weights", choices=("last", "best", "average"), help="default: those the run was tested with")
    parser.add_argument("--data", metavar="DIR", help="where the run's data lie now, if they were moved (one run)")
    parser.add_argument("--test", metavar="DIR", help="measure the test images in a folder of IDX files (one run)")
    parser.add_argument("--rows", metavar="FIRST:END", type=_rows, default=slice(None),
                        help="of the test images, measure these: 0:10000 for the first 10,000 (one run)")  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print everything as JSON (one run)")
    arguments = parser.parse_args()
    options = (arguments.weights, arguments.data, arguments.test, arguments.rows)
    several = len(arguments.runs) > 1 or _is_a_sweep(arguments.runs[0])
    try:
        if several and (arguments.json or options != (None, None, None, slice(None))):
            raise UserError(
                "--json and --weights are for one run, as are --data, --test and --rows; "
                "of several the recorded metrics are summarised"
            )
        if several:
            text = summary(arguments.runs)
        else:
            metrics = evaluate(arguments.runs[0], *options)
            text = json.dumps(metrics, indent=1) if arguments.json else table(metrics)
    except UserError as error:
        print(printable(f"error: {error}"), file=sys.stderr)
        sys.exit(2)
    print(text)


def _rows(text: str) -> slice:
    """FIRST:END as a slice; either may be missing."""
    found = re.fullmatch(r"([0-9]*):([0-9]*)", text)
    if not found:
        raise argparse.ArgumentTypeError(f"must be FIRST:END, counted from 0, got {text!r}")
    return slice(int(found[1] or 0), int(found[2]) if found[2] else None)


def _is_a_sweep(directory: Path) -> bool:
    """Whether it has runs below it, and is none."""
    return not os.path.exists(directory / "result.json") and any(directory.rglob("result.json"))


if __name__ == "__main__":
    run_command(main)
