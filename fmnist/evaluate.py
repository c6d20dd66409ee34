"""`python -m fmnist.evaluate`: the metrics of finished runs, from their own configs and weights and nothing else."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch

from fmnist import UserError
from fmnist.nn.losses import Classification
from fmnist.nn.step import outputs
from fmnist.record.result import metrics_in_words, read_result
from fmnist.train.restore import restore
from fmnist.view.measure import codes, test
from fmnist.view.metrics import by_class, probe


def evaluate(directory: Path, weights: str | None = None) -> dict[str, Any]:
    """validation/* and test/* metrics by tag; for classifiers, recall and precision by class name and confusion counts;
    for autoencoders probe/accuracy, of a linear classifier on the code."""
    stack = restore(directory, weights)
    dataset = stack.dataset
    found = stack.measure("validation", dataset.validation) if dataset.validation else {}
    found |= test(stack, dataset.test)
    metrics: dict[str, Any] = {tag: values[0] for tag, values in found.items()}
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
        metrics["probe/accuracy"] = probe(inside, dataset.train.labels, outside, dataset.test.labels)
    return metrics


def table(metrics: dict[str, Any]) -> str:
    """The metrics for a person: one line of totals, then a line for each class with what it was taken for."""
    if "recall" not in metrics:
        return metrics_in_words(metrics)
    names = list(metrics["recall"])
    width = max(map(len, names))
    lines = [metrics_in_words(metrics), "", f"{'':{width}}  recall precision  taken for (test images)"]
    for row, name in enumerate(names):
        counts = metrics["confusion"][row]
        others = sorted((c for c in range(len(names)) if c != row and counts[c]), key=lambda c: -counts[c])[:3]
        taken = ", ".join(f"{names[c]} {counts[c]}" for c in others)
        lines.append(f"{name:{width}}  {metrics['recall'][name]:6.3f} {metrics['precision'][name]:9.3f}  {taken}")
    return "\n".join(lines)


def summary(directories: Sequence[Path]) -> str:
    """The recorded test metrics of several finished runs: mean, standard deviation and range over them."""
    results = [(directory, read_result(directory)) for directory in directories]
    unfinished = [str(directory) for directory, result in results if result is None or result["status"] != "done"]
    if unfinished:
        raise UserError(f"not finished: {', '.join(unfinished)}")
    metrics_of = [result["metrics"] for _, result in results if result]
    tags = [tag for tag in metrics_of[0] if tag.startswith("test/") and all(tag in metrics for metrics in metrics_of)]
    width = max(len(tag) for tag in tags)
    lines = [f"{'':{width}}  {'n':>4} {'mean':>10} {'std':>10} {'min':>10} {'max':>10}"]
    for tag in tags:
        values = [metrics[tag] for metrics in metrics_of]
        metrics = (mean(values), stdev(values), min(values), max(values))
        lines.append(f"{tag:{width}}  {len(values):4} " + " ".join(f"{figure:10.4f}" for figure in metrics))
    return "\n".join(lines)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m fmnist.evaluate",
        description="A finished run's metrics, from its own config and weights; of several, their mean and spread.",
    )
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="directories of finished runs")
    parser.add_argument("--weights", choices=("last", "best", "average"), help="default: those the run was tested with")
    parser.add_argument("--json", action="store_true", help="print everything as JSON (one run)")
    arguments = parser.parse_args()
    try:
        if len(arguments.runs) > 1:
            print(summary(arguments.runs))
            return
        metrics = evaluate(arguments.runs[0], arguments.weights)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    print(json.dumps(metrics, indent=1) if arguments.json else table(metrics))


if __name__ == "__main__":
    main()
