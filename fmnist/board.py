"""`python -m fmnist.board`: TensorBoard for a sweep or for runs, opened where there is something to see."""

import argparse
import logging
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fmnist import UserError
from fmnist.config.schema import kind
from fmnist.mirror.mirror import EVENTS, Mirror
from fmnist.program.arguments import typed_path
from fmnist.program.output import printable, run_command
from fmnist.program.progress import progress
from fmnist.program.reading import check_plain
from fmnist.record.result import KEPT, of_run, read_result, read_rows
from fmnist.report.comparison import find, newest_sweep, read

log = logging.getLogger(__name__)

MOST = 20  # runs that are shown: TensorBoard shows none at first where there are more than 40, and a run here is two


def chosen(directories: Sequence[Path], most: int | None) -> list[Path]:
    """The runs to show: all that have files for TensorBoard or, where there are more than `most`, the best ones of each
    model by validation. Raises UserError where there are none."""
    found = [run for run in find(directories) if any(run.glob(f"*/{EVENTS}"))]
    if not found:
        names = ", ".join(map(str, directories))
        raise UserError(f"no run in {names} has files for TensorBoard: --write makes those of finished runs")
    if most is None or len(found) <= most:
        return found
    ranked: dict[str, list[tuple[float, Path]]] = {}
    for result in read(found):
        if "objective" in result.metrics:
            model = str(result.knobs["model.name"])
            sign = -1 if kind(model).better is max else 1
            ranked.setdefault(model, []).append((sign * result.metrics["objective"], result.directory))
    places = {run: place for own in ranked.values() for place, (_, run) in enumerate(sorted(own))}
    best = set(sorted(found, key=lambda run: places.get(run, len(found)))[:most])
    return [run for run in found if run in best]


def link(runs: Sequence[Path], folder: Path) -> None:
    """Give some runs a folder of their own, by links: to TensorBoard they have the names that they have below what they
    share."""
    shared = Path(os.path.commonpath([run.resolve().parent for run in runs]))
    for run in runs:
        place = folder / run.resolve().relative_to(shared)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(run.resolve(), target_is_directory=True)


@dataclass
class _Run:
    """A finished run whose files are written anew; see fmnist.view.show.Shown."""

    directory: Path
    epoch: int
    board: Mirror
    log: logging.Logger = log
    index: int = 0
    error: str | None = None


def write(directory: Path, data: str | None = None) -> None:
    """Write TensorBoard's files of a finished run anew: its curves from its record, and all that is shown beside them
    from its weights and data. Raises UserError where it is not finished, or where its data are not there."""
    from fmnist.train.restore import restore
    from fmnist.view.show import show

    result = read_result(directory) or {}
    if result.get("status") != "done":
        raise UserError(f"{directory} is not finished: its files are written while it trains")
    check_plain(directory, KEPT)
    stack = restore(directory, data=data)
    board = Mirror(of_run(directory), directory, [row for row in read_rows(directory) if row], log)
    show(stack, [_Run(directory, result["epoch"], board)], points=True)
    board.end(result)


def serve(folder: Path, more: Sequence[str]) -> None:
    """TensorBoard of a folder, to this machine alone, until it is ended. more: options of its own."""
    from tensorboard import default, program

    server = program.TensorBoard(default.get_plugins())
    server.configure(["tensorboard", "--logdir", str(folder), "--host", "127.0.0.1", *more])
    server.main()


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m fmnist.board",
        description="TensorBoard for a sweep or for runs, to this machine alone. All other options are TensorBoard's.",
        epilog="examples: python -m fmnist.board outputs/seed+lr; python -m fmnist.board outputs/mine --port 6007; "
        "python -m fmnist.board --write outputs/seed+lr",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    place = "sweeps or runs; default: the newest sweep in outputs/, or all of outputs/ where there is none"
    parser.add_argument("directories", type=typed_path, nargs="*", metavar="DIR", help=place)
    best = f"show only the best runs where there are more than so many (default {MOST}; 0: show all)"
    parser.add_argument("--best", type=int, default=MOST, metavar="N", help=best)
    again = "only write TensorBoard's files of finished runs anew, with pictures, graph and projector"
    parser.add_argument("--write", action="store_true", help=again)
    parser.add_argument("--data", metavar="DIR", help="with --write: where the runs' data lie now, if they were moved")
    arguments, more = parser.parse_known_args()
    directories = arguments.directories or [_newest()]
    if arguments.write:
        return _write_all(find(directories), arguments.data)
    runs = chosen(directories, arguments.best or None)
    total = len(find(directories))
    few = f": the {len(runs)} best of {total} runs (--best 0: all)" if len(runs) < total else ""
    print(printable(f"{', '.join(map(str, directories))}{few}"))
    with tempfile.TemporaryDirectory(prefix="fmnist-board-") as folder:
        whole = len(directories) == 1 and not few and directories[0].resolve() != runs[0].resolve()
        if not whole:
            link(runs, Path(folder))
        serve(directories[0] if whole else Path(folder), more)
        return 0


def _newest() -> Path:
    try:
        return newest_sweep()
    except UserError:
        if not any(Path("outputs").glob("*")):
            raise UserError("there are no runs in outputs/ yet: `make train` trains the first") from None
        return Path("outputs")


def _write_all(runs: Sequence[Path], data: str | None) -> int:
    failed = 0
    with progress(len(runs), 0) as bar:
        for run in runs:
            try:
                write(run, data)
            except UserError as error:
                failed += 1
                print(printable(f"error: {error}"), file=sys.stderr)
            bar.update()
    return min(failed, 1)


if __name__ == "__main__":
    run_command(main)
