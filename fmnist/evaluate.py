"""`python -m fmnist.evaluate`: the metrics of finished runs, from their own configs and weights and nothing else."""

import argparse
import os
import re
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import fmnist.launch.threads  # noqa: F401 - before torch

from fmnist import UserError
from fmnist.data.dataset import Dataset, Split, binarised, values
from fmnist.finished.scores import quality, several
from fmnist.finished.tables import of_one as table
from fmnist.finished.tables import of_several
from fmnist.nn.losses import Classification
from fmnist.nn.models import VAE
from fmnist.program.arguments import positive, typed_path, which_weights
from fmnist.program.output import as_json, printable, run_command
from fmnist.program.progress import progress
from fmnist.record.result import defined
from fmnist.report.summary import summarised, summary
from fmnist.sources import fetch
from fmnist.train.restore import restore
from fmnist.view.answers import answers, over_views
from fmnist.view.measure import codes, final
from fmnist.view.metrics import by_class, f1, probe
from fmnist.view.views import Views

PIXELS = {"grey": False, "binarised": True}
EXAMPLES = """examples:
  python -m fmnist.evaluate outputs/mine                            one run, class by class
  python -m fmnist.evaluate outputs/mine --pictures outputs/mine/pictures
  python -m fmnist.evaluate outputs/seed+lr                         a sweep, from its records
  python -m fmnist.evaluate outputs/seed+lr/*/                      its runs, measured again, against the first
  python -m fmnist.evaluate outputs/mine --views shift=1,flip       also the mean over 18 views of each image
  python -m fmnist.evaluate outputs/a outputs/b --baseline outputs/c --json
  python -m fmnist.evaluate outputs/vae --samples 5000              its bound by so many importance samples
  python -m fmnist.evaluate outputs/vae --pixels grey --samples 50  the same of grey images, where it was trained on
                                                                    binarised ones
"""


def evaluate(
    directory: Path, weights: str | None = None, data: str | None = None, test: str | None = None,
    rows: slice = slice(None), pictures: Path | None = None, views: Views | None = None,
    binarise: bool | None = None, samples: int | None = None,
) -> dict[str, Any]:  # fmt: skip
    """validation/* and test/* metrics by tag. For classifiers recall, precision and F1 by class name, confusion counts,
    scores of the probabilities, temperature and reliability (see `quality`). For autoencoders probe/accuracy, of a
    linear classifier on the code. None for a metric that is not defined.

    data: where the run's data lie now. test: where other test images are. rows: of the test images, those to measure.
    Then "test images" says which and how many they are. pictures: a folder for pictures, whose files are "pictures".
    views: the probabilities' quality "over views", too. binarise: whether images are binarised; None: as in training.
    samples: of the bound of a VAE; None: as its config says.
    """
    stack = restore(directory, weights, data)
    metrics: dict[str, Any] = {}
    if (test, rows, binarise) != (None, slice(None), None):
        stack.dataset = with_test(stack.dataset, test, rows, binarise)
        metrics["test images"] = f"{_which(test, rows, binarise)}, {len(stack.dataset.test.labels):,} images"
    dataset = stack.dataset
    if samples and not isinstance(stack.model, VAE):
        raise UserError(f"--samples is for variational autoencoders, and {directory} is none")
    found = final(stack, samples, partial(progress, unit="sample"), both=test is None and rows == slice(None))
    metrics |= dict(defined({tag: values[0] for tag, values in found.items()}))
    (said,) = answers(stack, "test", dataset.test, pictures=pictures is not None)
    if isinstance(stack.criterion, Classification):
        counts, recall, precision = by_class(said.predicted, said.labels, dataset.classes)
        for name, values in (("recall", recall), ("precision", precision), ("f1", f1(recall, precision))):
            metrics[name] = dict(zip(dataset.names, values, strict=True))
        metrics["confusion"] = counts
        held_out = answers(stack, "validation", dataset.validation)[0] if dataset.validation else None
        metrics |= quality(held_out, said, dataset.classes)
    else:
        inside, outside = (codes(stack, part)[0] for part in (dataset.train, dataset.test))
        accuracy = probe(inside, dataset.train.labels, outside, dataset.test.labels)
        metrics |= defined({"probe/accuracy": accuracy})
    if views:
        held_out = over_views(stack, dataset.validation, views)[0] if dataset.validation else None
        over = quality(held_out, over_views(stack, dataset.test, views)[0], dataset.classes)
        metrics["over views"] = {"views": views.text, "count": len(views)} | over
    if pictures is not None:
        from fmnist.view import predictions  # matplotlib comes with it

        drawn = {"worst": lambda: predictions.worst(dataset, said)}
        if said.logits is not None:
            drawn = predictions.of_classifier(dataset, said, metrics["confusion"], metrics["temperature"])
        metrics["pictures"] = [str(file) for file in predictions.draw(drawn, pictures)]
    return metrics


def with_test(dataset: Dataset, test: str | None, rows: slice, binarise: bool | None = None) -> Dataset:
    """The same with other test rows, of the files in `test` or of its own. binarise: whether images are binarised;
    None: as they were. Raises UserError where images have another size, or classes that it does not know."""
    if binarise is not None and binarise != bool(dataset.grey):
        dataset = dataset.grey or dataset.binarised()
    split = dataset.test
    if test is not None:
        images, labels = map(values, fetch.test_set(test, dataset.labels, dataset.names))
        if (size := images.shape[1:]) != (dataset.height, dataset.width):
            raise UserError(
                f"--test: images in {test} are {size[0]}x{size[1]}, must be {dataset.height}x{dataset.width}"
            )
        pixels = images.flatten(1)
        if dataset.grey is not None:
            pixels = binarised(pixels)
        split = Split(pixels, labels.long()).to(split.images.device)
    if not len(split.labels[rows]):
        raise UserError(f"--rows must be some of the {len(split.labels):,} test images, FIRST:END counted from 0")
    return replace(dataset, test=Split(split.images[rows], split.labels[rows]))


def _which(test: str | None, rows: slice, binarise: bool | None) -> str:
    """Which test images are measured, in words."""
    some = "" if rows == slice(None) else f", rows {rows.start or 0}:{rows.stop or ''}"
    return (test or "its own") + some + {None: "", True: ", binarised", False: ", grey"}[binarise]


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m fmnist.evaluate", epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter,
        description="The metrics of finished runs, from their own configs, data and weights: of one run class by\n"
        "class, of several a table with paired tests against the first. Of a sweep's directory the recorded metrics.",
    )  # fmt: skip
    parser.add_argument(
        "runs", type=typed_path, nargs="+", metavar="RUN", help="directories of finished runs, or of sweeps"
    )
    parser.add_argument("--baseline", type=typed_path, metavar="RUN", help="test against this run, not the first one")
    parser.add_argument("--weights", type=which_weights, metavar="last|best|average|snapshot-N",
                        help="default: those the run was tested with")  # fmt: skip
    parser.add_argument("--data", metavar="DIR", help="where the runs' data lie now, if they were moved")
    parser.add_argument("--test", metavar="DIR", help="measure the test images in a folder of IDX files")
    parser.add_argument("--rows", metavar="FIRST:END", type=_rows, default=slice(None),
                        help="of the test images, measure these: 0:10000 for the first 10,000")  # fmt: skip
    parser.add_argument("--views", type=Views, metavar="shift=N,flip",
                        help="also the mean of the probabilities over views of each image: moved by up to N pixels, "
                        "down and across, and turned left to right")  # fmt: skip
    parser.add_argument("--pixels", choices=PIXELS,
                        help="measure grey images, or images whose pixels are black or white, drawn by a fixed seed; "
                        "default: as in training")  # fmt: skip
    parser.add_argument("--samples", type=positive, metavar="N",
                        help="of variational autoencoders also the importance-weighted bound by N samples: "
                        "test/negative_iwae; of one run that has validation rows also validation/negative_iwae. If it "
                        "is interrupted, the same command goes on")  # fmt: skip
    parser.add_argument("--pictures", type=typed_path, metavar="FOLDER",
                        help="draw the worst images, the most confused classes, the confusion matrix and the "
                        "calibration as PNG (one run)")  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print everything as JSON")
    arguments = parser.parse_args()
    print(_answer(arguments))


def _answer(arguments: argparse.Namespace) -> str:
    """What is to be printed."""
    runs: Sequence[Path] = [*filter(None, [arguments.baseline]), *arguments.runs]
    weights, data, test, rows = arguments.weights, arguments.data, arguments.test, arguments.rows
    views, binarise, samples = arguments.views, PIXELS.get(arguments.pixels), arguments.samples
    again = (weights, data, test, rows, views, binarise, samples) != (None, None, None, slice(None), None, None, None)
    if len(runs) == 1 and not _is_a_sweep(runs[0]):
        metrics = evaluate(runs[0], weights, data, test, rows, arguments.pictures, views, binarise, samples)
        files = [f"\npicture: {printable(file)}" for file in metrics.get("pictures", [])]
        return as_json(metrics) if arguments.json else table(metrics) + "\n" * bool(files) + "".join(files)
    if arguments.pictures:
        raise UserError("--pictures is for one run")
    if not again and not arguments.baseline and all(map(_is_a_sweep, runs)):
        return as_json(summarised(runs)) if arguments.json else summary(runs)
    others = (test, rows, binarise) != (None, slice(None), None)
    asked = others or weights is not None or views is not None
    found = several(runs, asked, samples, weights=weights, data=data, views=views,
                    of=partial(with_test, test=test, rows=rows, binarise=binarise))  # fmt: skip
    if others:
        found = {"test images": _which(test, rows, binarise)} | found
    return as_json(found) if arguments.json else of_several(found)


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
