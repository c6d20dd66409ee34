"""What Hydra calls: refuse a mistake early, dry run, leaderboard. They do not import hydra."""

import errno
import sys
import tempfile
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from fmnist import UserError
from fmnist.config.parse import check_machine, parse
from fmnist.launch.commands import curves, near, python
from fmnist.launch.costs import (
    PROCESS,
    SPEED,
    START,
    aside,
    beside,
    bound,
    data_memory,
    memory,
    parameters,
    steps,
    work,
)
from fmnist.launch.locks import alone, check_free
from fmnist.launch.runs import one_line, writing_to
from fmnist.launch.trouble import trouble
from fmnist.program.progress import duration
from fmnist.record.result import check_directory
from fmnist.report.leaderboard import Leaderboard, table
from fmnist.sources.fetch import digest

READ_ONLY = (errno.EROFS, errno.EACCES, errno.EPERM)
LONGEST = ".hydra/overrides.yaml"  # of what Hydra writes to a run's directory


class Callback:
    """What Hydra calls at certain times, without importing hydra: does nothing at any of them."""

    def _ignore(self, config: Any, **_: Any) -> None: ...

    on_run_start = on_run_end = on_job_start = on_job_end = _ignore
    on_multirun_start = on_multirun_end = on_compose_config = _ignore


def own(config: Any) -> Any:
    """A composed config without Hydra's own part."""
    return OmegaConf.masked_copy(config, [key for key in config if key != "hydra"])


class RefuseEarly(Callback):
    """Hydra callback: a mistake in a single run is refused before Hydra creates or touches the run's directory, and so
    is a second command."""

    def __init__(self) -> None:
        self.lock = ExitStack()  # held until the command ends

    def on_run_start(self, config: Any, **_: Any) -> None:
        """Check the composed config; leave with one line if it is refused."""
        with one_line():
            checked = parse(own(config))
            check_machine(checked)
            try:
                directory = Path(config.hydra.run.dir)
            except OmegaConfBaseException:  # only known once the job runs: train.py checks it again then
                return
            with writing_to("hydra.run.dir", directory):
                (directory.absolute() / LONGEST).exists()  # raises where the paths of its files would be too long
            there = check_directory(checked, directory, digest)
            if not config.get("dry_run"):
                _make(directory, self.lock, done=there is not None and there["status"] == "done")

    def on_multirun_start(self, config: Any, **_: Any) -> None:
        """Let the resolver `typed` see the sweep's own command line before any job's."""
        with suppress(OmegaConfBaseException):  # such as ${hydra.job.num}, known to jobs alone
            str(config.hydra.sweep.subdir)


def _make(directory: Path, lock: ExitStack, done: bool = False) -> None:
    """Make a run's directory, and have `lock` hold it. Raises UserError, or OSError for a full disk, where that cannot
    be done, also if another command trains there or in a sweep around it. Where the run is done, the command ends then:
    Hydra would write to the directory, and there is nothing to train."""
    try:
        with writing_to("hydra.run.dir", directory):
            if directory.exists():  # what is new is no run of a sweep that is being trained
                check_free(*directory.absolute().parents)
            lock.enter_context(alone(directory))
            with tempfile.TemporaryFile(dir=directory) as file:
                file.write(bytes(65536))  # there is room for Hydra's own files: it would say no reason
    except (UserError, OSError):
        if not done:
            raise
        print(f"{directory} is done already: nothing to train\ncurves: {curves(directory)}")
        raise SystemExit(0) from None


class UpdateLeaderboard(Callback):
    """Hydra callback: keeps the leaderboard of a sweep while its runs end, whichever launcher starts them."""

    def __init__(self) -> None:
        self.leaderboards: dict[Path, Leaderboard] = {}

    def _leaderboard(self, config: Any) -> Leaderboard:
        sweep = _sweep(config)
        return self.leaderboards.setdefault(sweep, Leaderboard(sweep))

    def on_job_end(self, config: Any, **_: Any) -> None:
        """Write the leaderboard soon after a run of a sweep has ended."""
        if config.hydra.mode.name == "MULTIRUN":
            self._leaderboard(config).write_soon()

    def on_multirun_end(self, config: Any, **_: Any) -> None:
        """Show the leaderboard at the end of a sweep in which no run has failed. Where it cannot be written, the status
        is 1: the work is not whole."""
        text, whole = ending(self._leaderboard(config))
        print(text, end="\n" * bool(text))
        if not whole:
            print("error: leaderboard.csv could not be written, all else is there", file=sys.stderr)
            raise SystemExit(1)


def _sweep(config: Any) -> Path:
    """The directory of a sweep: a relative one lies where the command was started, whatever hydra.job.chdir does."""
    return Path(str(config.hydra.runtime.cwd), str(config.hydra.sweep.dir))


def ending(leaderboard: Leaderboard) -> tuple[str, bool]:
    """What is printed at the end of a sweep: its runs as a table, and the commands that show them, to be pasted; and
    whether all is on the disk that can be: a finished sweep may be shown where nothing can be written."""
    csv, whole = str(near(leaderboard.sweep / "leaderboard.csv")), True
    try:
        found = leaderboard.write()
    except OSError as error:  # such as a full disk: it must not hide what has failed
        found, whole = leaderboard.comparisons(), error.errno in READ_ONLY
        csv = f"the leaderboard cannot be written: {trouble(error).text}"
    return f"\n{table(found)}\n\n{csv}\n{_where_to_look(leaderboard.sweep)}" if found else "", whole


def _where_to_look(sweep: Path) -> str:
    """The commands that show the runs of a sweep, as one pastes them."""
    return f"curves: {curves(sweep)}\nreport: {python('-m', 'fmnist.report', near(sweep))}"


class DryRun(Callback):
    """Hydra callback: with dry_run=true a single run says what it would do, and ends before anything is written."""

    def on_run_start(self, config: Any, **_: Any) -> None:
        """Say what the run would do and cost, and end the command."""
        if not config.get("dry_run"):
            return
        checked = parse(own(config))
        seconds = START + aside([checked], 1, 1) + beside(checked) + (work(checked) + bound(checked)) / SPEED
        room = PROCESS + data_memory(checked) + memory(checked)
        print(
            f"{checked.model.name}: {parameters(checked):,} parameters, {checked.epochs:,} epochs, "
            f"{steps(checked):,} steps in {config.hydra.run.dir}; "
            f"about {duration(seconds)} on one core and {room / 1e9:.1f} GB"
        )
        raise SystemExit(0)

    def on_multirun_start(self, config: Any, **_: Any) -> None:
        """Refuse what other launchers cannot do: they would train."""
        if config.get("dry_run") and not str(config.hydra.launcher._target_).startswith("hydra_plugins.stacked"):
            print("error: dry_run must be null unless hydra/launcher is stacked or stacked_slurm", file=sys.stderr)
            raise SystemExit(2)
