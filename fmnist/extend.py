"""`python -m fmnist.extend`: train runs for more epochs than they were first given, in their own directories."""

import argparse
import re
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

import fmnist.launch.threads  # noqa: F401 - before torch

from fmnist import UserError
from fmnist.config.parse import check_machine, config_hash, parse
from fmnist.config.schema import Config
from fmnist.finished.averaged import STATUS as AVERAGED
from fmnist.launch.groups import groups
from fmnist.launch.locks import alone, check_free
from fmnist.launch.progress import Progress
from fmnist.launch.worker import train_group
from fmnist.program.arguments import typed_path
from fmnist.program.output import as_json, printable, run_command
from fmnist.record import checkpoint
from fmnist.record.result import Outcome, metrics_in_words, of_run, read_result, write_result
from fmnist.report.comparison import find


def extended(directory: Path, epochs: int) -> Config:
    """The config of a run with so many epochs. Raises UserError where it has more already, or cannot go on."""
    config, result = of_run(directory), read_result(directory) or {}
    if result["status"] == "failed":
        raise UserError(f"{directory} has failed, there is nothing to go on with: {result.get('error')}")
    if result["status"] == AVERAGED:
        raise UserError(f"{directory} has an average of weights, which cannot be trained on")
    if epochs < config.epochs:
        raise UserError(f"epochs must be {config.epochs} or more, which {directory} was given, got {epochs}")
    changed = {"epochs": epochs, "until": None, "device": result["config"].get("device", "auto")}
    if config.cycles:  # more cycles of the same length: the snapshots so far stay what they are
        if epochs % (cycle := config.epochs // config.cycles):
            raise UserError(f"epochs must be a multiple of {cycle}, a cycle of {directory}, got {epochs}")
        changed["cycles"] = epochs // cycle
    config = parse(asdict(config) | changed)
    check_machine(config)
    return config


def remarks(directory: Path, config: Config) -> list[str]:
    """In what way the run will differ from one that was given so many epochs at once."""
    before, found = of_run(directory), []
    if before.epochs == config.epochs:
        return []
    if config.schedule != "constant" and not config.cycles:
        found.append(f"{directory}: schedule={config.schedule} depends on the last epoch: the learning rate goes on as "
                     f"epochs={config.epochs} has it, and up to here it was another")  # fmt: skip
    if config.anneal:
        found.append(f"{directory}: anneal depends on the last epoch: its values go on as epochs={config.epochs} has "
                     "them, and up to here they were others")  # fmt: skip
    if not config.measured(before.epochs):
        found.append(f"{directory}: epoch {before.epochs} was measured as the last one; with epochs={config.epochs} "
                     f"from the start eval_every={config.eval_every} would have left it out")  # fmt: skip
    return found


def reopen(directory: Path, config: Config) -> None:
    """Let the records say that the run has so many epochs, and goes on. A crash at any moment leaves a run that the
    same command extends."""
    result, hashed = read_result(directory) or {}, config_hash(config)
    if result["config_hash"] == hashed:
        return
    file = checkpoint.find(directory)
    if file:  # else no epoch is saved, and it begins anew
        checkpoint.save(file, checkpoint.load(file) | {"config_hash": hashed})
    write_result(directory, result | {"config": asdict(config), "config_hash": hashed, "status": "paused"})


class _Group:
    """Tells a progress how a group of its runs trains, in this process. runs: their places."""

    def __init__(self, progress: Progress, runs: Sequence[int]) -> None:
        self.progress, self.runs = progress, runs
        progress.handed("this process", runs)

    def reached(self, runs: Sequence[int], epoch: int) -> None:
        """See fmnist.launch.worker.Listener, also below."""
        self.progress.reached([self.runs[run] for run in runs], epoch)
        self.progress.look()

    def ended(self, run: int, outcome: Outcome) -> None:
        self.progress.ended(self.runs[run], outcome)

    def halved(self, runs: Sequence[int], what: str, why: str) -> None:
        self.progress.halved([self.runs[run] for run in runs], what, why)

    def remarked(self, text: str) -> None:
        self.progress.remarked(printable(text))


def extend(directories: Sequence[Path], epochs: int, say: Callable[[str], object] = print) -> list[Outcome]:
    """Train runs on to so many epochs, those of one kind together; how each ended, which `say` is told at once. Raises
    UserError where one cannot be trained on, before anything is changed, and where another command trains one of them.
    """
    configs = [extended(directory, epochs) for directory in directories]
    outcomes: dict[int, Outcome] = {}

    def tell(run: int, outcome: Outcome) -> None:
        test = {tag: value for tag, value in outcome.metrics.items() if tag.startswith("test/")}
        text = f"failed: {outcome.error}" if outcome.error else metrics_in_words(test)
        say(printable(f"{directories[run]}: {text}"))

    with ExitStack() as held:
        for directory in directories:
            check_free(*directory.absolute().parents)
            held.enter_context(alone(directory))
        begun = [(read_result(directory) or {})["epoch"] for directory in directories]
        for directory, config in zip(directories, configs, strict=True):
            for remark in remarks(directory, config):
                print(printable(remark), file=sys.stderr)
            reopen(directory, config)
        progress = Progress(
            [epochs] * len(configs), begun, 0, tell, names=[printable(str(directory)) for directory in directories],
            configs=configs, directories=directories, say=lambda line: print(line, file=sys.stderr),
        )  # fmt: skip
        progress.planned(groups(configs), 1)
        with progress:
            for group in groups(configs):
                own = [configs[place] for place in group], [directories[place] for place in group]
                outcomes |= zip(group, train_group(*own, listener=_Group(progress, group)), strict=True)
    return [outcomes[place] for place in range(len(directories))]


def _epochs(word: str) -> int:
    """N of "epochs=N"."""
    if not re.fullmatch(r"epochs=[1-9][0-9]*", word, re.ASCII):
        raise argparse.ArgumentTypeError(f"must be epochs=N, with a whole number, got {word!r}")
    return int(word.removeprefix("epochs="))


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m fmnist.extend",
        description="Train runs for more epochs than they were first given, in their own directories. Where the "
        "schedule does not depend on the last epoch and nothing is annealed, they end as if they had been given so "
        "many at once, bit for bit. So do those with cycles, which get more cycles of the same length.",
        epilog="examples: python -m fmnist.extend outputs/mine epochs=100; "
        "python -m fmnist.extend outputs/seed+lr epochs=100 --json",
    )
    parser.add_argument("runs", type=typed_path, nargs="+", metavar="RUN", help="directories of runs, or of sweeps")
    parser.add_argument("epochs", type=_epochs, metavar="epochs=N", help="how many epochs the runs are to have in all")
    parser.add_argument("--json", action="store_true", help="print how each run has ended as JSON, once all have")
    arguments = parser.parse_args()
    directories = find(arguments.runs)
    outcomes = extend(directories, arguments.epochs, (lambda _: None) if arguments.json else print)
    if arguments.json:
        print(as_json({str(directory): asdict(own) for directory, own in zip(directories, outcomes, strict=True)}))
    return int(any(outcome.error for outcome in outcomes))


if __name__ == "__main__":
    run_command(main)
