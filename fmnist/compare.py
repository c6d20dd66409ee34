"""`python -m fmnist.compare`: two runs side by side: what differs, where their curves part, which is better."""

import argparse
from pathlib import Path
from typing import Any

import fmnist.launch.threads  # noqa: F401 - before torch

from fmnist import UserError
from fmnist.finished.load import Asked, ask
from fmnist.finished.pairs import not_comparable, tested, together
from fmnist.program.arguments import typed_path, which_weights
from fmnist.program.files import replacing
from fmnist.program.output import as_json, printable, run_command
from fmnist.report import pair
from fmnist.report.comparison import Result
from fmnist.report.gallery import FORMATS
from fmnist.report.tables import Table, fixed, p_value
from fmnist.report.words import counted, in_words, short, value_in_words

EXAMPLES = """examples:
  python -m fmnist.compare outputs/a outputs/b
  python -m fmnist.compare outputs/a outputs/b --picture outputs/curves.svg --pictures outputs/disagreement
  python -m fmnist.compare outputs/a outputs/b --json
"""


def compare(
    directories: tuple[Path, Path], weights: str | None = None, data: str | None = None, pictures: Path | None = None
) -> dict[str, Any]:
    """Two runs, compared: see `fmnist.report.pair` for "differences", "parting" and "curves". "metrics" are the
    recorded final ones, by tag. "paired" is the test over the test images: see `tested`; or what is "missing" for it.
    "disagreement" are the test images of which they say the most different things, the first first, by their rows.
    pictures: a folder for a picture of these. Raises UserError where there are no two runs of one kind."""
    one, other = (pair.record_of(directory) for directory in directories)
    pair.check_kinds(one, other)
    tags = [tag for tag in {**one.metrics, **other.metrics} if tag != "objective"]
    found: dict[str, Any] = {
        "runs": [_facts(run) for run in (one, other)],
        "differences": pair.differences(one, other), "parting": pair.parting(one, other),
        "curves": pair.curves(one, other),
        "metrics": {tag: [run.metrics.get(tag) for run in (one, other)] for tag in tags},
        "same_loss": pair.same_loss(one, other),
    }  # fmt: skip
    mine, theirs = ask(directories, weights, data, pictures=pictures is not None)
    if not (isinstance(mine, Asked) and isinstance(theirs, Asked)):
        problem = mine if isinstance(mine, UserError) else theirs
        return found | {"paired": {"missing": str(problem)}}
    if reason := not_comparable(mine, theirs):
        return found | {"paired": {"missing": reason}}
    from fmnist.view import predictions  # matplotlib comes with it

    said = together(mine, theirs)
    found |= {"paired": tested(mine, theirs), "disagreement": predictions.most_different(*said)}
    if pictures is not None and found["disagreement"]:
        names = (printable(str(one.directory)), printable(str(other.directory)))
        drawn = {"disagreement": lambda: predictions.disagreement(mine.dataset, *said, names)}
        found["pictures"] = [str(file) for file in predictions.draw(drawn, pictures)]
    return found


def _facts(run: Result) -> dict[str, Any]:
    return {"run": str(run.directory), "status": run.status, "epochs": run.epoch, "seconds": run.seconds}


def text(found: dict[str, Any]) -> str:
    """What `compare` gives, for a person."""
    blocks = [_runs(found["runs"]), _differences(found["differences"]), _curves(found), _metrics(found),
              _paired(found["paired"])]  # fmt: skip
    return "\n\n".join(
        filter(None, [*blocks, "\n".join(printable(f"picture: {file}") for file in found.get("pictures", []))])
    )


def _runs(runs: list[dict[str, Any]]) -> str:
    rows = [[name, run["run"], run["status"], counted(run["epochs"], "epoch"), f"{run['seconds']:.1f} s"]
            for name, run in zip(("one", "other"), runs, strict=True)]  # fmt: skip
    return Table(["", "run", "status", "trained", "in"], rows).text()


def _differences(found: dict[str, Any]) -> str:
    rows = [
        [short(name), *(value_in_words(value, name) for value in values)] for name, values in found["knobs"].items()
    ]
    knobs = Table(["knob", "one", "other"], rows).text() if rows else "all knobs are the same"
    data = {True: "the same", False: "other bytes", None: "not recorded by both"}[found["same_data"]]
    lines = [knobs, "", f"data: {data}; the same: {', '.join(found['same_facts']) or 'nothing else'}"]
    facts = [[name, *map(str, values)] for name, values in found["facts"].items()]
    return "\n".join([*lines, *([Table(["differs", "one", "other"], facts).text()] if facts else [])])


def _curves(found: dict[str, Any]) -> str:
    parting = found["parting"]
    if not parting["epochs"]:
        return "curves: no epoch is recorded by both"
    where = {name: parting[name] and f"in epoch {parting[name]['epoch']} ({', '.join(parting[name]['metrics'])})"
             for name in ("at_all", "rounding")}  # fmt: skip
    rounding = f"by more than rounding, 1 part in {1 / pair.ROUNDING:,.0f}"
    if where["at_all"] == where["rounding"]:
        lines = [f"the curves part {rounding}: {where['at_all']}" if where["at_all"] else "the curves are the same"]
    else:
        lines = [f"the curves part {where['at_all']}", f"{rounding}: {where['rounding'] or 'nowhere'}"]
    rows = [[in_words(tag), *(f"{fixed(own[at], 4)} ({own[f'{at}_epoch']})" for own in pair for at in PLACES)]
            for tag, pair in found["curves"].items()]  # fmt: skip
    heads = [f"{run}, {at}" for run in ("one", "other") for at in PLACES]
    return "\n".join([*lines, *([Table(["metric (epoch)", *heads], rows).text()] if rows else [])])


PLACES = ("first", "best", "last")


def _metrics(found: dict[str, Any]) -> str:
    rows = []
    for tag, (one, other) in found["metrics"].items():
        same = None not in (one, other) and (found["same_loss"] or not tag.endswith("/loss"))
        apart = f"{one - other:+.4f}" if same else ""
        rows.append([in_words(tag), *("" if value is None else fixed(value, 4) for value in (one, other)), apart])
    return Table(["final metric", "one", "other", "one - other"], rows).text() if rows else "no final metrics"


def _paired(test: dict[str, Any]) -> str:
    if "missing" in test:
        return printable(f"no paired test over the test images: {test['missing']}")
    head = f"paired test on the same {test['n']:,} test images"
    if "metrics" in test:
        rows = [[name, *_difference(own)] for name, own in test["metrics"].items()]
        return f"{head} (t test)\n{Table(['metric', 'one - other [95 % interval]', 'p'], rows).text()}"
    interval, p = _difference(test)
    counts = [["one right", f"{test['both']:,}", f"{test['only_one']:,}"],
              ["one wrong", f"{test['only_other']:,}", f"{test['neither']:,}"]]  # fmt: skip
    return (f"{head}\naccuracy, one - other: {interval} (95 % interval by the paired bootstrap)\n"
            f"p by McNemar's exact test: {p}\n{Table(['', 'other right', 'other wrong'], counts).text()}")  # fmt: skip


def _difference(test: dict[str, float]) -> tuple[str, str]:
    return f"{test['difference']:+.4f} [{test['low']:+.4f}, {test['high']:+.4f}]", p_value(test["p"]) or "undefined"


def draw(directories: tuple[Path, Path], file: Path) -> None:
    """Both learning curves as a picture. Raises UserError where they have none in common."""
    from fmnist.report.plots import two_curves

    one, other = (pair.record_of(directory) for directory in directories)
    if not (tags := pair.curve_tags(one, other)):
        raise UserError(f"--picture: {one.directory} and {other.directory} have recorded no curve of the same metric")
    figure = two_curves(one, other, tags)
    file.parent.mkdir(parents=True, exist_ok=True)
    with replacing(file, "wb") as stream:
        figure.savefig(stream, dpi=110, format=file.suffix[1:])


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m fmnist.compare", epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Two runs side by side: what differs between them, where their curves part, their metrics, and a\n"
        "paired test over the test images. Without weights or data, what the records say.",
    )  # fmt: skip
    parser.add_argument("runs", type=typed_path, nargs=2, metavar="RUN", help="directory of a run")
    parser.add_argument("--weights", type=which_weights, metavar="last|best|average|snapshot-N",
                        help="default: those the run was tested with")  # fmt: skip
    parser.add_argument("--data", metavar="DIR", help="where the runs' data lie now, if they were moved")
    parser.add_argument(
        "--picture", type=typed_path, metavar="FILE", help="draw both learning curves: .png, .svg, .pdf"
    )
    parser.add_argument("--pictures", type=typed_path, metavar="FOLDER",
                        help="draw the test images on which they disagree most")  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print everything as JSON")
    arguments = parser.parse_args()
    runs = tuple(arguments.runs)
    if arguments.picture and arguments.picture.suffix not in FORMATS:
        raise UserError(f"--picture must end in one of {', '.join(FORMATS)}, got {arguments.picture}")
    if arguments.picture:
        draw(runs, arguments.picture)
    found = compare(runs, arguments.weights, arguments.data, arguments.pictures)
    found["pictures"] = [*map(str, filter(None, [arguments.picture])), *found.get("pictures", [])]
    print(as_json(found) if arguments.json else text(found))
    return 0


if __name__ == "__main__":
    run_command(main)
