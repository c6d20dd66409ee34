"""`python -m fmnist.ensemble`: averages of finished classifiers, and what each member adds."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from fmnist import UserError
from fmnist.config.schema import kind
from fmnist.finished.averaged import WeightSum, averaged, check_new, normalisations, save, starts
from fmnist.finished.ensembles import averages, contributions, members, said_by
from fmnist.finished.load import Asked
from fmnist.finished.tables import number, short_names
from fmnist.program.arguments import positive, typed_path
from fmnist.program.output import as_json, printable, run_command
from fmnist.report.comparison import Result, read
from fmnist.report.summary import listed, not_counted
from fmnist.report.tables import Table
from fmnist.view.calibration import scores

EXAMPLES = """examples:
  python -m fmnist.ensemble outputs/seed+lr                  all finished runs of a sweep
  python -m fmnist.ensemble --best 5 outputs/seed+lr         its best five by validation
  python -m fmnist.ensemble outputs/a outputs/b --save outputs/a+b
"""
BEST = "best member by log loss"
SHOWN = ("accuracy", "log_loss", "ece")


def chosen(found: Sequence[Result], best: int | None) -> list[Path]:
    """The finished runs, or the best so many of them by validation. Raises UserError where there are too few."""
    done = [run for run in found if run.status == "done"]
    for run in done:
        if not kind(run.knobs["model.name"]).classifies:
            raise UserError(f"an ensemble is of classifiers: {run.directory} is an autoencoder")
        if best and not run.held_out:
            raise UserError(f"--best chooses by validation: {run.directory} has no validation rows")
    if len(done) < max(2, best or 0):
        raise UserError(f"an ensemble needs {max(2, best or 0)} finished runs, found {len(done)}")
    if best == 1:
        raise UserError("--best must be 2 or more: one run is no ensemble")
    if best:
        done = sorted(done, key=lambda run: -run.metrics["objective"])[:best]
    return [run.directory for run in done]


def ensemble(directories: Sequence[Path], data: str | None = None, target: Path | None = None) -> dict[str, Any]:
    """Runs together: "members"; n images by part; "scores" by part of the members' mean, of the best one by validation,
    and of the averages of probabilities (of all, and of those that greedy selection takes), logits and weights;
    "contributions" of the members on the validation rows; "remarks". The test images choose nothing.

    target: a directory for the average of the weights. Raises UserError where the runs cannot be put together.
    """
    if target:
        check_new(target)
    summed = WeightSum()
    found = members(directories, data, summed)
    parts = {part: said_by(found, part) for part in ("validation", "test") if part in found[0].parts}
    adds = contributions(*parts["validation"]) if "validation" in parts else []
    together: dict[str, Any] = {name: {} for name in ("mean of the members", BEST, "probabilities")}
    for part, (logits, labels) in parts.items():
        alone = [scores(own, labels) for own in logits]
        together["mean of the members"][part] = {name: fmean(own[name] for own in alone) for name in alone[0]}
        for name, own in averages(logits).items():
            together.setdefault(name, {})[part] = scores(own, labels)
        if adds:
            together[BEST][part] = alone[adds[0]["place"]]
            greedy = [own["place"] for own in adds[: _selected(adds)]]
            name = f"probabilities, {len(greedy)} by greedy selection"
            together.setdefault(name, {})[part] = scores(averages(logits[greedy])["probabilities"], labels)
    remarks = _average_weights(directories, summed, data, found, together, target)
    if not adds:
        remarks.append("no validation rows: nothing tells what each member adds")
    return {
        "members": [str(member.directory) for member in found],
        "n": {part: len(labels) for part, (_, labels) in parts.items()},
        "scores": {name: own for name, own in together.items() if own}, "contributions": adds, "remarks": remarks,
    }  # fmt: skip


def _selected(adds: Sequence[dict[str, Any]]) -> int:
    """How many members, in greedy order, have the least log loss together."""
    losses = [own["together"]["log_loss"] for own in adds]
    return losses.index(min(losses)) + 1


def _average_weights(
    directories: Sequence[Path], summed: WeightSum, data: str | None, found: Sequence[Asked],
    together: dict[str, Any], target: Path | None,
) -> list[str]:  # fmt: skip
    """Put the scores of the average of the weights beside the others, where there is one; what is to be said of it."""
    if not summed.agree:
        if target:
            raise UserError("--save keeps an average of weights: these runs are of several networks")
        return ["no average of weights: the runs are of several networks"]
    stack, said = averaged(directories[0], summed, data)
    together["weights"] = {part: scores(own.logits, own.labels) for part, own in said.items() if own.logits is not None}
    remarks = []
    if (count := starts([member.config for member in found])) > 1:
        remarks.append(f"weights: the runs began from {count} different initial weights; the average of such runs is "
                       "near chance")  # fmt: skip
    if normalisations(stack):
        remarks.append("weights: the statistics of batch normalisation were estimated anew on the training rows")
    if target:
        save(target, stack, said, directories)
        remarks.append(f"the average of the weights is in {target}")
    return remarks


def text(found: dict[str, Any]) -> str:
    """What `ensemble` gives, for a person."""
    names, folder = short_names(found["members"])
    parts = found["n"]
    where = f" in {folder}" * bool(folder)
    counts = ", ".join(f"{n:,} {part} images" for part, n in parts.items())
    heads = [head for part in parts for head in (f"{part} accuracy", "log loss", "ECE")]
    rows = [
        [name, *(number(own[part][each]) for part in parts for each in SHOWN)] for name, own in found["scores"].items()
    ]
    blocks = [printable(f"{len(names)} runs{where}; n = {counts}"), Table(["average of", *heads], rows).text()]
    if found["contributions"]:
        head = "what each member adds, on the validation images; without it: what the average of all others gains"
        blocks.append(f"{head}\n{_contributions(found, names)}")
    return "\n\n".join([*blocks, *filter(None, ["\n".join(map(printable, found["remarks"]))])])


def _contributions(found: dict[str, Any], names: dict[str, str]) -> str:
    """Members in greedy order; how the average of all changes when one is left out."""
    whole = found["contributions"][-1]["together"]
    rows = []
    for own in found["contributions"]:
        cells = [number(own[how][metric]) for how in ("alone", "together") for metric in ("accuracy", "log_loss")]
        lost = [f"{own['without'][metric] - whole[metric]:+.4f}" for metric in ("accuracy", "log_loss")]
        rows.append([names[found["members"][own["place"]]], *cells, *lost])
    heads = ["accuracy alone", "log loss", "accuracy up to it", "log loss", "without it: accuracy", "log loss"]
    return Table(["greedy order", *heads], rows).text()


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m fmnist.ensemble", epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Finished classifiers together: averages of their probabilities, logits and weights, and what\n"
        "each member adds. Validation chooses; the test images are measured at the end.",
    )  # fmt: skip
    parser.add_argument("runs", type=typed_path, nargs="+", metavar="RUN", help="directories of runs, or of sweeps")
    parser.add_argument("--best", type=positive, metavar="K", help="take the best K of the runs by validation")
    parser.add_argument("--data", metavar="DIR", help="where the runs' data lie now, if they were moved")
    parser.add_argument("--save", type=typed_path, metavar="DIR", help="keep the average of the weights as a run")
    parser.add_argument("--json", action="store_true", help="print everything as JSON")
    arguments = parser.parse_args()
    read_runs = read(arguments.runs)
    found = ensemble(chosen(read_runs, arguments.best), arguments.data, arguments.save)
    found["not_counted"] = not_counted(read_runs)
    print(as_json(found) if arguments.json else "\n\n".join([text(found), *listed(found["not_counted"])]))
    return 0


if __name__ == "__main__":
    run_command(main)
