"""What runs are worth by what they say of the test images: one run, and several beside one another."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from math import isfinite, isnan, nan
from pathlib import Path
from statistics import fmean
from typing import Any

from fmnist import UserError
from fmnist.config.schema import kind
from fmnist.finished.load import Asked, ask
from fmnist.finished.pairs import not_comparable, tested
from fmnist.program.progress import progress
from fmnist.report.comparison import Comparison, Configuration, Result, comparisons, find, read
from fmnist.report.summary import not_counted, why
from fmnist.train.stack import Stack
from fmnist.view.answers import Answers
from fmnist.view.calibration import reliability, scores, temperature
from fmnist.view.measure import bound, once
from fmnist.view.metrics import by_class, f1

OVER_VIEWS = ("accuracy", "log_loss", "ece")  # scores of several runs over views


def quality(validation: Answers | None, test: Answers, classes: int) -> dict[str, Any]:
    """What the probabilities of a classifier are worth: "scores" of the parts, "temperature" (chosen on the validation
    rows; nan without any), scores of the test images "at temperature", and their "reliability": see
    fmnist.view.calibration."""
    assert test.logits is not None
    parts = {"validation": validation, "test": test} if validation else {"test": test}
    found: dict[str, Any] = {"scores": {part: _scores(said, classes) for part, said in parts.items()}}
    best = nan
    if validation is not None and validation.logits is not None:
        best = temperature(validation.logits, validation.labels)
    found["temperature"] = best
    if not isnan(best):
        found["scores"]["test at temperature"] = _scores(replace(test, logits=test.logits / best), classes)
    if test.logits.isfinite().all():
        found["reliability"] = [own._asdict() for own in reliability(test.logits, test.labels)]
    return found


def _scores(said: Answers, classes: int) -> dict[str, float]:
    assert said.logits is not None
    _, recall, precision = by_class(said.predicted, said.labels, classes)
    found: dict[str, float] = scores(said.logits, said.labels)
    return {"accuracy": found.pop("accuracy"), "macro_f1": fmean(f1(recall, precision))} | found


def numbers(asked: Asked) -> dict[str, float]:
    """The test metrics of a run for a row of a table."""
    if asked.test.logits is None:
        return asked.test.means()
    found = quality(asked.validation, asked.test, asked.dataset.classes)
    after = found["scores"].get("test at temperature", {}).get("ece", nan)
    own: dict[str, float] = found["scores"]["test"]
    seen = _scores(over, asked.dataset.classes) if (over := asked.viewed.get("test")) else {}
    viewed = {f"{name}_over_views": seen[name] for name in OVER_VIEWS if seen}
    return own | {"temperature": found["temperature"], "ece_at_temperature": after} | viewed


def several(
    directories: Sequence[Path], again: bool = False, samples: int | None = None, **options: Any
) -> dict[str, Any]:
    """Finished runs, measured again by their own configs, data and weights, and compared with the first one that is
    named.

    options: see `ask`. again: whether they ask for other numbers than the recorded ones; if not, these stand for a run
    that cannot be measured. samples: of the importance-weighted bound of variational autoencoders. Gives "groups" of
    runs that can be compared: see `_group`; and the runs that are "not_counted". Raises UserError where no run is
    finished.
    """
    found = read(directories)
    others = not_counted(found)
    done = [run for run in found if run.status == "done"]
    if not done:
        raise UserError(f"no run is finished: {'; '.join(map(why, others))}")
    places, more = [run.directory for run in done], dict[Path, dict[str, float]]()
    of_stack: dict[str, list[float]] = {}

    def measure(place: int, stack: Stack, run: int) -> None:
        nonlocal of_stack
        if run == 0 and (again or samples):
            of_stack = (once if again else bound)(stack, stack.dataset.test, samples, bar)
        more[places[place]] = {name: values[run] for name, values in of_stack.items()}

    bar = partial(progress, unit="sample")
    asked = dict(zip(places, ask(places, each=measure, **options), strict=True))
    if samples and not any("negative_iwae" in own for own in more.values()):
        raise UserError("--samples is for variational autoencoders, and no run is one that can be measured")
    said = {place: each for place, each in asked.items() if isinstance(each, Asked)}
    notes = {place: str(each) for place, each in asked.items() if isinstance(each, UserError)}
    if again:
        if not said:
            raise UserError(next(iter(notes.values())))
        others += [{"run": str(place), "status": "not measured", "error": note} for place, note in notes.items()]
        done = [run for run in done if run.directory in said]
    measured = [_measured(run, said.get(run.directory), more.get(run.directory, {}), again) for run in done]
    baseline = find(directories[:1])[0].resolve()
    groups = [_group(comparison, said, notes, baseline) for comparison in comparisons(measured)]
    return {"groups": groups, "not_counted": others}


def _measured(run: Result, asked: Asked | None, more: dict[str, float], again: bool) -> Result:
    """The run with the test metrics that were measured, and more; recorded ones stay where there are no others."""
    stale = {"test/loss"} if kind(run.knobs["model.name"]).classifies else set()  # its log loss says more
    stale |= {tag for tag in run.metrics if tag.startswith("test/") and again}
    own = {} if asked is None else {f"test/{name}": value for name, value in (numbers(asked) | more).items()}
    kept = {tag: value for tag, value in run.metrics.items() if tag not in stale}
    return replace(run, metrics=kept | {tag: value for tag, value in own.items() if isfinite(value)})


def _group(comparison: Comparison, said: dict[Path, Asked], notes: dict[Path, str], baseline: Path) -> dict[str, Any]:
    """Runs that can be compared: their "title"; "runs", each with its "configuration" and test "metrics", and a "note"
    where these are the recorded ones; "configurations" with n, mean and std; "paired" tests of all runs against the
    "baseline" by what was said of the images, see `tested`; the same "over_seeds" for configurations that share some.
    """
    tags = dict.fromkeys(tag for run in comparison.runs for tag in run.metrics if tag.startswith("test/"))
    pairs = [(configuration, run) for configuration in comparison.finished for run in configuration.done]
    own, first = next(((c, run) for c, run in pairs if run.directory.resolve() == baseline), pairs[0])
    runs: list[dict[str, Any]] = []
    tests: list[dict[str, Any]] = []
    for configuration, run in pairs:
        metrics = {tag.removeprefix("test/"): run.metrics[tag] for tag in tags if tag in run.metrics}
        note = {"note": notes[run.directory]} if run.directory in notes else {}
        runs.append({"run": str(run.directory), "configuration": configuration.label, "metrics": metrics} | note)
        if run is not first and run.directory in said and first.directory in said:
            one, other = said[run.directory], said[first.directory]
            reason = not_comparable(one, other)
            tests.append({"run": str(run.directory)} | ({"missing": reason} if reason else tested(one, other)))
    return {
        "title": comparison.title, "runs": runs, "baseline": str(first.directory), "paired": tests,
        "configurations": [_spread(configuration, tags) for configuration in comparison.finished],
        "over_seeds": _over_seeds(comparison, own),
    }  # fmt: skip


def _spread(configuration: Configuration, tags: Iterable[str]) -> dict[str, Any]:
    found = {tag.removeprefix("test/"): configuration.interval(tag) for tag in tags}
    metrics = {name: {"n": seen.n, "mean": seen.mean, "std": seen.sd} for name, seen in found.items()}
    return {"configuration": configuration.label, "n": len(configuration.done), "metrics": metrics}


def _over_seeds(comparison: Comparison, baseline: Configuration) -> dict[str, Any]:
    """Paired t tests of the configurations against that of the baseline, over the seeds that both have."""
    tests = []
    for configuration in comparison.finished:
        difference, p = configuration.minus(baseline, comparison.test)
        if configuration is not baseline and difference.n > 1:
            tests.append({"configuration": configuration.label, "pairs": difference.n, "difference": difference.mean,
                          "low": difference.low, "high": difference.high, "p": p})  # fmt: skip
    return {"baseline": baseline.label, "metric": comparison.metric, "tests": tests}
