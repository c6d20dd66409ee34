"""`hydra/sweeper=optuna`: Optuna proposes trials, several at a time, and the launcher trains them together."""

import logging
import math
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.errors import CompactHydraException
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from hydra_plugins._compose import Composer
from hydra_plugins.points import check_count, keep_settings, merged, ranked_by
from omegaconf import DictConfig, OmegaConf

from fmnist import UserError
from fmnist.config.schema import NOT_HASHED
from fmnist.launch.commands import near
from fmnist.launch.runs import LOG, correct, one_line, writing_to
from fmnist.launch.trouble import of_a_kill, of_the_machine, trouble
from fmnist.program.files import naming
from fmnist.record.result import read_result

if TYPE_CHECKING:
    from hydra_plugins._search import Search
    from optuna import Trial

log = logging.getLogger(__name__)


@dataclass
class OptunaSweeperConf:
    """What `hydra.sweeper` may hold with hydra/sweeper=optuna. The sweeper checks it, not Hydra: in one line.

    n_trials: trials in all; the same command again runs only those that are missing, of more than before too.
    n_jobs: proposals at a time, which the launcher is given together.
    sampler: tpe | random.
    seed: of the proposals; with the results so far it decides them.
    prune_at: parts of a run's epochs, in (0, 1), after which it is stopped if its result is worse than the median of
    what the finished trials had there; [] trains all to the end.
    direction: maximize | minimize; null is as the models are judged.
    params: what is searched, beside the command line, e.g. {lr: "tag(log, interval(1e-4, 1e-1))"}.
    """

    _target_: str = "hydra_plugins.search.OptunaSweeper"
    n_trials: Any = 32
    n_jobs: Any = 8
    sampler: Any = "tpe"
    seed: Any = 0
    prune_at: Any = field(default_factory=lambda: [0.25, 0.5])
    direction: Any = None
    params: dict[str, Any] = field(default_factory=dict)


ConfigStore.instance().store(group="hydra/sweeper", name="optuna", node=OptunaSweeperConf, provider="fmnist")


class OptunaSweeper(Sweeper):
    """Takes batches of trials from the search, launches them part by part, and prunes between the parts."""

    def __init__(self, **settings: Any) -> None:
        plain: Any = OmegaConf.to_container(OmegaConf.create(settings))
        known = [f.name for f in fields(OptunaSweeperConf)]
        self.unknown = [name for name in plain if name not in known]
        self.settings = OptunaSweeperConf(**{name: plain[name] for name in plain if name in known})
        self.launcher: Launcher | None = None
        self.config: DictConfig | None = None
        self.hydra_context: HydraContext | None = None

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Hydra calls it before `sweep`."""
        self.hydra_context, self.config = hydra_context, config
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> None:
        """Search until there are n_trials, then report what was found. A full disk, say, is one line and status 1."""
        with one_line():
            self._check_settings()
            search = self._search(arguments)
            metric, better = self._ranked_by(search)
        with one_line(), naming(self.directory):
            self._until_the_end(search, metric, better)

    def _check_settings(self) -> None:
        s = self.settings
        for name in self.unknown:
            there = ", ".join(f.name for f in fields(s) if f.name != "_target_")
            raise UserError(f"unknown setting hydra.sweeper.{name}: there are {there}")
        check_count("hydra.sweeper.n_trials", s.n_trials)
        check_count("hydra.sweeper.n_jobs", s.n_jobs)
        parts = s.prune_at if isinstance(s.prune_at, list) else [s.prune_at]
        allowed = {
            "sampler must be tpe or random": s.sampler in ("tpe", "random"),
            "seed must be a whole number of at least 0": type(s.seed) is int and s.seed >= 0,
            "direction must be maximize, minimize or null": s.direction in ("maximize", "minimize", None),
            "prune_at must be a list of parts of the epochs, in (0, 1)":
                parts is s.prune_at and all(type(part) is float and 0 < part < 1 for part in parts),
        }  # fmt: skip
        for rule, kept in allowed.items():
            if not kept:
                raise UserError(f"hydra.sweeper.{rule}, got {getattr(s, rule.split()[0])!r}")

    def _search(self, arguments: list[str]) -> "Search":
        assert self.config is not None
        assert self.hydra_context is not None
        try:
            from hydra_plugins._search import Search
            from hydra_plugins._space import Space
        except ModuleNotFoundError as error:
            raise UserError(f"hydra/sweeper=optuna needs {error.name}: pip install -e '.[search]'") from None
        for name, off in (("dry_run", "null"), ("hydra.launcher.dry_run", "false")):
            if OmegaConf.select(self.config, name):
                raise UserError(f"{name} must be {off} with hydra/sweeper=optuna: proposals depend on results")
        loader = self.hydra_context.config_loader
        overrides = merged(arguments, self.settings.params, loader)
        space = Space(overrides, lambda key: bool(loader.get_group_options(key)), Composer(loader, self.config))
        return Search(space, self.settings.sampler, self.settings.seed)

    @staticmethod
    def _ranked_by(search: "Search") -> tuple[str, Callable[..., Any]]:
        """The metric of all trials, see `ranked_by`. Composes a job of each kind, so that a mistake is found early."""
        metrics = {ranked_by(config) for config in search.space.corners(telling=("data.split", "model.name"))}
        if len(metrics) != 1:
            names = ", ".join(sorted(name for name, _ in metrics))
            raise UserError(f"a search must rank its trials by one metric, got {names}")
        return metrics.pop()

    def _until_the_end(self, search: "Search", metric: str, better: Callable[..., Any]) -> None:
        from hydra_plugins._report import report

        direction = self.settings.direction or ("maximize" if better is max else "minimize")
        search.open(self.directory, metric, direction, NOT_HASHED)
        with search:
            if search.refused is None:
                keep_settings(self.config)  # not before: the folder may be another search's
            while trials := search.batch(self.settings.n_trials, self.settings.n_jobs):
                if search.refused is not None:
                    with writing_to("hydra.sweep.dir", self.directory):
                        raise search.refused
                self._train(search, trials)
            report(search)

    @property
    def directory(self) -> Path:
        """Of the search."""
        assert self.config is not None
        return Path(self.config.hydra.sweep.dir)

    def _train(self, search: "Search", trials: list["Trial"]) -> None:
        """Train a batch: all to each part of the epochs in prune_at, those that are not pruned then to the end. A trial
        that tries what an earlier one has tried would train the same runs: it ends as that one has."""
        log.info(f"trials {trials[0].number} to {trials[-1].number} of {self.settings.n_trials}")
        repeated = search.repeated(trials)
        trials = [trial for trial in trials if trial not in repeated]
        for part in sorted(self.settings.prune_at):
            step = round(100 * part)
            behind = [trial for trial in trials if search.step(trial) < step]
            for trial, value in self._launch(search, behind, [f"until={part}"]):
                if value is None:
                    trials.remove(trial)
                else:
                    trial.report(value, step)
            for trial in [trial for trial in trials if search.step(trial) == step and waits(search, trial)]:
                if not trial.should_prune():
                    continue
                abandon(search, trial, None)
                search.tell_pruned(trial)
                trials.remove(trial)
                log.info(f"{search.in_words(trial)}  pruned at {step} %: worse than the median there")
        self._launch(search, trials, [])
        for trial, earlier in repeated.items():
            search.tell_as(trial, earlier)
            log.info(f"{search.in_words(trial)}  the same as trial {earlier}: not trained again")

    def _launch(self, search: "Search", trials: list["Trial"], also: list[str]) -> list[tuple["Trial", float | None]]:
        """Train all runs of trials together, as far as `also` says. Each trial with what its runs have reached, or None
        once it has ended. A run's directory is named by its trial and seeds, whichever others are launched too."""
        assert self.launcher is not None
        assert self.config is not None
        if not trials:
            return []
        runs = [(trial, run, directory) for trial in trials
                for run, directory in zip(search.space.seeds, search.directories(trial), strict=True)]  # fmt: skip
        jobs = [[*search.overrides(trial), *run, *also, f"hydra.sweep.subdir={directory.name}"]
                for trial, run, directory in runs]  # fmt: skip
        count = len(search.space.seeds)
        with quiet(self.launcher) if not self.config.hydra.verbose else ExitStack():
            results = self._results(jobs, trials[0].number * count, [directory for _, _, directory in runs])
        ended = [(trial, self._ended(search, trial, results[place * count :][:count]))
                 for place, trial in enumerate(trials)]  # fmt: skip
        for trial, reached in ended:
            if isinstance(reached, str):
                print(
                    f"error: trial {trial.number}: {reached}; once this is mended the same command goes on",
                    file=sys.stderr,
                )
                raise SystemExit(1)
        return [(trial, reached) for trial, reached in ended if not isinstance(reached, str)]

    def _results(self, jobs: list[list[str]], first: int, directories: Sequence[Path]) -> list[JobReturn]:
        """Launch jobs. One whose worker was killed is launched once more: after an accident it trains. Where it was
        killed because it takes too much memory, it fails then."""
        assert self.launcher is not None
        results = list(self.launcher.launch(jobs, initial_job_idx=first))
        for place, (job, directory) in enumerate(zip(jobs, directories, strict=True)):
            if results[place].status == JobStatus.FAILED and of_a_kill(reason(directory, results[place])):
                (results[place],) = self.launcher.launch([job], initial_job_idx=first + place)
        return results

    @staticmethod
    def _ended(search: "Search", trial: "Trial", results: Sequence[JobReturn]) -> float | str | None:
        """The mean of what the runs of a trial have reached. If one has failed, or all are done, the search is told and
        there is nothing more to reach: None. Where the disk is to blame the search is told nothing: what the disk has
        said."""
        reached: list[float] = []
        for run, directory, result in zip(search.space.seeds, search.directories(trial), results, strict=True):
            value = result.return_value if result.status == JobStatus.COMPLETED else None
            if value is None or not math.isfinite(value):
                why = ": ".join([*([" ".join(run)] if run else []), reason(directory, result)])
                if of_the_machine(why):
                    return why
                abandon(search, trial, f"the run of trial {trial.number} with another seed has failed")
                search.tell_failed(trial, why)
                log.info(f"{search.in_words(trial)}  failed: {why}")
                return None
            reached.append(value)
        mean = statistics.fmean(reached)
        if waits(search, trial):
            return mean
        search.tell(trial, mean)
        log.info(f"{search.in_words(trial)}  {search.metric} {mean:.4f}{of_runs(len(reached))}")
        return None


def waits(search: "Search", trial: "Trial") -> bool:
    """Whether a run of a trial has been stopped at a part of its epochs. What has been trained to the end when a search
    is killed must not be judged again, beside trials of its own batch that are finished by then."""
    found = set()
    for directory in search.directories(trial):
        with suppress(UserError):
            found.add((read_result(directory) or {}).get("status"))
    return bool(found & {"paused", "pruned"})


def reason(directory: Path, result: JobReturn) -> str:
    """Why a run has failed: what its launcher says, or else its record, where there are such."""
    try:
        recorded = read_result(directory) or {}
    except UserError as error:
        return str(error)
    told = result._return_value
    if isinstance(told, Exception):
        return str(told) if isinstance(told, CompactHydraException) else trouble(told).text
    return recorded.get("error") or f"{near(directory / LOG)} says why"


def abandon(search: "Search", trial: "Trial", why: str | None) -> None:
    """Correct the records of a trial's runs that wait to go on: they will not."""
    for directory in search.directories(trial):
        correct(directory, "pruned", why, was=("paused",))


def of_runs(count: int) -> str:
    """Behind a value: that it is a mean."""
    return f" (mean of {count} runs)" if count > 1 else ""


@contextmanager
def quiet(launcher: Launcher) -> Iterator[None]:
    """Keep what a launcher says of its jobs from the console, but for warnings and errors: the search has a line for
    each trial."""
    loggers = [logging.getLogger(base.__module__) for base in type(launcher).__mro__]
    before = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.WARNING)
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
