"""`python -m fmnist.report`: tables and pictures of runs, once or while they train."""

import argparse
import os
import shlex
import sys
from functools import partial
from pathlib import Path

from fmnist import UserError
from fmnist.program.arguments import typed_path
from fmnist.program.output import as_json, printable, run_command
from fmnist.program.reading import check_plain
from fmnist.report.comparison import newest_sweep
from fmnist.report.page import report
from fmnist.report.summary import compared
from fmnist.report.watching import EVERY, watch

LEAST, MOST = 0.1, 86_400.0  # seconds between two looks


EXAMPLES = """examples:
  python -m fmnist.report                                     the newest sweep in outputs/
  python -m fmnist.report outputs/lr_dropout --baseline dropout=null
  python -m fmnist.report outputs/lr outputs/depth --output outputs/both
  python -m fmnist.report outputs/lr_dropout --watch          while the sweep runs: open report/index.html in a browser
  python -m fmnist.report outputs/lr_dropout --json           the same in numbers, to a program
"""


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m fmnist.report",
        description="Tables and pictures of runs, grouped over seeds: Markdown, CSV, LaTeX, SVG, and one HTML page.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    found = "sweeps or runs: all runs in or below them; default: the newest sweep in outputs/"
    parser.add_argument("directories", type=typed_path, nargs="*", metavar="DIR", help=found)
    parser.add_argument(
        "--output", type=typed_path, help="where to put it; default: report/ in DIR, or in what DIRs share"
    )
    other = "compare with this configuration, not with the best; repeat it for several knobs"
    parser.add_argument("--baseline", action="append", default=[], metavar="KNOB=VALUE", help=other)
    often = f"keep it up to date until no command trains there any more; seconds between two looks: {EVERY:g}"
    parser.add_argument("--watch", nargs="?", const=f"{EVERY:g}", metavar="SECONDS", help=often)
    numbers = "print groups, means, deviations and paired tests as JSON, and write no report"
    parser.add_argument("--json", action="store_true", help=numbers)
    arguments = parser.parse_args()
    every = _seconds(arguments)
    if arguments.json and (arguments.output or every):
        raise UserError("--json prints and writes nothing: leave --output and --watch out")
    directories = arguments.directories or [newest_sweep()]
    if arguments.json:
        print(as_json(compared(directories, arguments.baseline)))
        return
    shared = Path(os.path.commonpath([d.resolve() for d in directories]))
    if not arguments.output:
        check_plain(shared, ["report"])
    output = arguments.output or shared / "report"
    command = shlex.join(["python", "-m", "fmnist.report", *sys.argv[1:]])
    if not arguments.directories:
        print(printable(f"the newest sweep: {directories[0]}"))
        command += f" {shlex.quote(str(directories[0]))}"
    given = directories, output, arguments.baseline, command
    if every is None:
        print(*report(*given), sep="\n")
    else:
        watch(*given, every, partial(print, flush=True))
    print(printable(f"report: {os.path.relpath(output / 'index.html')}"))


def _seconds(arguments: argparse.Namespace) -> float | None:
    """Between two looks; None for a report that is written once. What follows --watch may also be a directory."""
    if arguments.watch is None:
        return None
    try:
        seconds = float(arguments.watch)
    except ValueError:
        arguments.directories.append(typed_path(arguments.watch))
        return EVERY
    if not LEAST <= seconds <= MOST:
        raise UserError(f"--watch must be {LEAST:g} to {MOST:,g} seconds, got {arguments.watch}")
    return seconds


if __name__ == "__main__":
    run_command(main)
