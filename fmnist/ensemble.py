"""`python -m fmnist.ensemble`: averages of finished classifiers, and what each member adds."""

import argparse
import shlex
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import fmnist.launch.threads  # noqa: F401 - before torch

from torch import Tensor

from fmnist import UserError
from fmnist.config.schema import kind
from fmnist.finished.averaged import WeightSum, averaged, check_new, normalisations, save, starts
from fmnist.finished.ensembles import averages_of, contributions, members, said_by, snapshots, tempered
from fmnist.finished.load import Asked
from fmnist.finished.tables import number, short_names
from fmnist.finished.teaching import Teaching
from fmnist.program.arguments import above_0, positive, typed_path
from fmnist.program.output import as_json, printable, run_command
from fmnist.report.comparison import Result, read
from fmnist.report.summary import listed, not_counted
from fmnist.report.tables import Table
from fmnist.report.words import counted
from fmnist.sources.teacher import Teacher
from fmnist.train.stack import Stack
from fmnist.view.calibration import scores
from fmnist.view.views import Views

EXAMPLES = """examples:
  python -m fmnist.ensemble outputs/seed+lr                  all finished runs of a sweep
  python -m fmnist.ensemble --best 5 outputs/seed+lr         its best five by validation
  python -m fmnist.ensemble outputs/cycles --snapshots       the snapshots of a run that was trained with cycles=5
  python -m fmnist.ensemble outputs/seed+lr --teach outputs/teacher.safetensors
  python -m fmnist.ensemble outputs/full --views shift=1,flip --temperature 0.9
  python -m fmnist.ensemble outputs/a outputs/b --save outputs/a+b
"""
BEST = "best member by log loss"
SHOWN = ("accuracy", "log_loss", "ece")


def chosen(found: Sequence[Result], best: int | None, least: int = 2) -> list[Path]:
    """The finished runs, or the best so many of them by validation. Raises UserError where there are fewer than
    `least`."""
    done = [run for run in found if run.status == "done"]
    for run in done:
        if not kind(run.knobs["model.name"]).classifies:
            raise UserError(f"an ensemble is of classifiers: {run.directory} is an autoencoder")
        if best and not run.held_out:
            raise UserError(f"--best chooses by validation: {run.directory} has no validation rows")
    if len(done) < max(least, best or 0):
        raise UserError(f"an ensemble needs {counted(max(least, best or 0), 'finished run')}, found {len(done)}")
    if best and best < least:
        raise UserError(f"--best must be {least} or more: one run is no ensemble")
    if best:
        done = sorted(done, key=lambda run: -run.metrics["objective"])[:best]
    return [run.directory for run in done]


def ensemble(
    directories: Sequence[Path], data: str | None = None, target: Path | None = None, of_snapshots: bool = False,
    views: Views | None = None, given: float | None = None, taught: Path | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Runs together: "members"; n images by part; "scores" by part of the members' mean, of the best one by validation,
    and of the averages of probabilities (of all, and of those that greedy selection takes), logits and weights;
    "temperatures" of the averages of probabilities, by name; "contributions" of the members on the validation rows;
    "remarks". The test images choose nothing.

    target: a directory for the average of the weights. of_snapshots: the members are the snapshots of the runs. views:
    the probabilities over views, too. given: a temperature, where none is to be chosen on the validation rows. taught:
    a file for the probabilities of all rows of the training file (over the views, if there are any), from which other
    runs learn. Raises UserError where the runs cannot be put together.
    """
    if target:
        check_new(target)
    if taught and not taught.absolute().parent.is_dir():
        raise UserError(f"--teach must name a file in an existing folder, got {taught}")
    names, weights = [*directories], None
    if of_snapshots:
        directories, weights = zip(*snapshots(directories), strict=True)
        names = [directory / f"{name}.safetensors" for directory, name in zip(directories, weights, strict=True)]
        if len(names) < 2:
            raise UserError(f"an ensemble needs 2 snapshots or more, found {names[0]} alone")
    summed, teaching = WeightSum(), Teaching(views)

    def each(place: int, stack: Stack, run: int) -> None:
        summed(place, stack, run)
        if taught:
            teaching(place, stack, run)

    found = members(directories, data, each, weights, views)
    parts = {part: said_by(found, part) for part in ("validation", "test") if part in found[0].parts}
    adds = contributions(*parts["validation"]) if "validation" in parts else []
    together = _members(parts, adds)
    temperatures, whole = tempered(averages_of(found, [own["place"] for own in adds[: _selected(adds)]], views), given)
    together |= {name: {part: scores(*said) for part, said in own.items()} for name, own in whole.items()}
    remarks = _average_weights(directories, names, summed, data, found, together, target)
    remarks += [_teach(teaching.teacher(taught, names))] if taught else []
    if not adds:
        remarks.append("no validation rows: nothing tells what each member adds"
                       + ("" if given else ", and no temperature is chosen: --temperature T gives one"))  # fmt: skip
    return {
        "members": [str(name) for name in names],
        "n": {part: len(labels) for part, (_, labels) in parts.items()},
        "scores": together, "temperatures": temperatures, "contributions": adds, "remarks": remarks,
    }  # fmt: skip


def _teach(teacher: Teacher) -> str:
    """Write the file of a teacher; what is to be said of it."""
    teacher.write()
    rows, known = len(teacher.trained), int(teacher.trained.sum())
    said = f"has the probabilities of {rows:,} training rows, of which members were trained on {known:,}"
    return f"{teacher.path} {said}: teacher={shlex.quote(str(teacher.path))} learns from them"


def _members(parts: dict[str, tuple[Tensor, Tensor]], adds: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The scores of the members by part: their mean, and those of the best one by validation, where that is known."""
    found: dict[str, Any] = {"mean of the members": {}} | ({BEST: {}} if adds else {})
    for part, (logits, labels) in parts.items():
        alone = [scores(own, labels) for own in logits]
        found["mean of the members"][part] = {name: fmean(own[name] for own in alone) for name in alone[0]}
        if adds:
            found[BEST][part] = alone[adds[0]["place"]]
    return found


def _selected(adds: Sequence[dict[str, Any]]) -> int:
    """How many members, in greedy order, have the least log loss together; 0 where nothing is known of them."""
    losses = [own["together"]["log_loss"] for own in adds]
    return losses.index(min(losses)) + 1 if losses else 0


def _average_weights(
    directories: Sequence[Path], names: Sequence[Path], summed: WeightSum, data: str | None, found: Sequence[Asked],
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
        save(target, stack, said, directories[0], names)
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
    what = "snapshots" if found["members"][0].endswith(".safetensors") else "runs"
    blocks = [printable(f"{len(names)} {what}{where}; n = {counts}"), Table(["average of", *heads], rows).text()]
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
    parser.add_argument(
        "--snapshots",
        action="store_true",
        help="take the snapshots of the runs, which cycles=N keeps: of one run or of several",
    )
    parser.add_argument(
        "--views",
        type=Views,
        metavar="shift=N,flip",
        help="also the probabilities over views of each image: moved by up to N pixels, down and "
        "across, and turned left to right",
    )
    parser.add_argument("--temperature", type=above_0, metavar="T",
                        help="of the average of probabilities; without it the validation rows choose one")  # fmt: skip
    parser.add_argument("--data", metavar="DIR", help="where the runs' data lie now, if they were moved")
    parser.add_argument("--teach", type=typed_path, metavar="FILE",
                        help="write the average of probabilities of all training rows; a run learns from it with "
                        "teacher=FILE")  # fmt: skip
    parser.add_argument("--save", type=typed_path, metavar="DIR", help="keep the average of the weights as a run")
    parser.add_argument("--json", action="store_true", help="print everything as JSON")
    arguments = parser.parse_args()
    read_runs = read(arguments.runs)
    directories = chosen(read_runs, arguments.best, least=1 if arguments.snapshots else 2)
    found = ensemble(directories, arguments.data, arguments.save, arguments.snapshots, arguments.views,
                     arguments.temperature, arguments.teach)  # fmt: skip
    found["not_counted"] = not_counted(read_runs)
    print(as_json(found) if arguments.json else "\n\n".join([text(found), *listed(found["not_counted"])]))
    return 0


if __name__ == "__main__":
    run_command(main)
