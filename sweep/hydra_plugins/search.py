"""`hydra/sweeper=optuna`: Optuna proposes trials, several at a time, and the launcher trains them together."""

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from hydra_plugins.points import composed_alike, keep_settings, merged, one_line
from omegaconf import DictConfig, OmegaConf

from fmnist import UserError
from fmnist.config.schema import MODELS, NOT_HASHED, kind
from fmnist.launch.commands import near
from fmnist.launch.runs import correct
from fmnist.record.result import read_result

if TYPE_CHECKING:
    from hydra_plugins._search import Search
    from optuna import Trial

log = logging.getLogger(__name__)


@dataclass
class OptunaSweeperConf:
    """What `hydra.sweeper` may hold with hydra/sweeper=optuna.

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
    n_trials: int = 32
    n_jobs: int = 8
    sampler: str = "tpe"
    seed: int = 0
    prune_at: list[float] = field(default_factory=lambda: [0.25, 0.5])
    direction: str | None = None
    params: dict[str, Any] = field(default_factory=dict)


ConfigStore.instance().store(group="hydra/sweeper", name="optuna", node=OptunaSweeperConf, provider="fmnist")


class OptunaSweeper(Sweeper):
    """Takes batches of trials from the search, launches them part by part, and prunes between the parts."""

    def __init__(self, **settings: Any) -> None:
        plain: Any = OmegaConf.to_container(OmegaConf.create(settings))
        self.settings = OptunaSweeperConf(**plain)
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
        """Search until there are n_trials, then report what was found."""
        with one_line():
            self._check_settings()
            search = self._search(arguments)
        from hydra_plugins._report import report

        with search:
            while trials := search.batch(self.settings.n_trials, self.settings.n_jobs):
                self._train(search, trials)
            report(search)

    def _check_settings(self) -> None:
        s = self.settings
        allowed = {
            "n_trials must be at least 1": s.n_trials >= 1,
            "n_jobs must be at least 1": s.n_jobs >= 1,
            "sampler must be tpe or random": s.sampler in ("tpe", "random"),
            "seed must be at least 0": s.seed >= 0,
            "direction must be maximize, minimize or null": s.direction in ("maximize", "minimize", None),
            "prune_at must be parts of the epochs, in (0, 1)": all(0 < part < 1 for part in s.prune_at),
        }
        for rule, kept in allowed.items():
            if not kept:
                raise UserError(f"hydra.sweeper.{rule}, got {getattr(s, rule.split()[0])}")

    def _search(self, arguments: list[str]) -> "Search":
        assert self.config is not None
        assert self.hydra_context is not None
        try:
            from hydra_plugins._search import Search
        except ModuleNotFoundError as error:
            raise UserError(f"hydra/sweeper=optuna needs {error.name}: pip install -e '.[search]'") from None
        if self.config.get("dry_run"):
            raise UserError("dry_run must be null with hydra/sweeper=optuna: proposals depend on results")
        loader = self.hydra_context.config_loader
        search = Search(merged(arguments, self.settings.params, loader), self.settings.sampler, self.settings.seed)
        alike = composed_alike([search.fixed + corner for corner in search.corners()], loader, ["data.split"])
        composed = [loader.load_sweep_config(self.config, list(job)) for job in alike]
        metrics = {ranked_by(config) for config in composed}
        if len(metrics) != 1:
            names = ", ".join(sorted(name for name, _ in metrics))
            raise UserError(f"a search must rank its trials by one metric, got {names}")
        ((metric, better),) = metrics
        keep_settings(self.config)
        direction = self.settings.direction or ("maximize" if better is max else "minimize")
        search.open(Path(self.config.hydra.sweep.dir), metric, direction, NOT_HASHED)
        return search

    def _train(self, search: "Search", trials: list["Trial"]) -> None:
        """Train a batch: all to each part of the epochs in prune_at, those that are not pruned then to the end."""
        log.info(f"trials {trials[0].number} to {trials[-1].number} of {self.settings.n_trials}")
        for part in sorted(self.settings.prune_at):
            step = round(100 * part)
            behind = [trial for trial in trials if search.step(trial) < step]
            for trial, result in zip(behind, self._launch(search, behind, [f"until={part}"]), strict=True):
                if self._ended(search, trial, result):
                    trials.remove(trial)
                else:
                    trial.report(result.return_value, step)
            for trial in [trial for trial in trials if search.step(trial) == step and trial.should_prune()]:
                correct(search.directory_of(trial), "pruned", None, was=("paused",))
                search.tell_pruned(trial)
                trials.remove(trial)
                log.info(f"{search.in_words(trial)}  pruned at {step} %: worse than the median there")
        for trial, result in zip(trials, self._launch(search, trials, []), strict=True):
            self._ended(search, trial, result)

    def _launch(self, search: "Search", trials: list["Trial"], also: list[str]) -> Sequence[JobReturn]:
        """Train trials as far as `also` says. Each has a directory of its number, whichever others are launched too."""
        assert self.launcher is not None
        assert self.config is not None
        if not trials:
            return []
        folders = [f"hydra.sweep.subdir={search.directory_of(trial).name}" for trial in trials]
        jobs = [[*search.fixed, *search.overrides(trial), *also, folder]
                for trial, folder in zip(trials, folders, strict=True)]  # fmt: skip
        with quiet(self.launcher) if not self.config.hydra.verbose else ExitStack():
            return self.launcher.launch(jobs, initial_job_idx=trials[0].number)

    @staticmethod
    def _ended(search: "Search", trial: "Trial", result: JobReturn) -> bool:
        """Tell the search of a trial that has failed or is done; False for one that is paused."""
        recorded = read_result(search.directory_of(trial)) or {}
        value = result.return_value if result.status == JobStatus.COMPLETED else None
        if value is None or not math.isfinite(value):
            search.tell_failed(trial)
            why = recorded.get("error") or f"{near(search.log_of(trial))} says why"
            log.info(f"{search.in_words(trial)}  failed: {why}")
            return True
        if recorded.get("status") == "paused":
            return False
        search.tell(trial, value)
        log.info(f"{search.in_words(trial)}  {search.metric} {value:.4f}")
        return True


def ranked_by(config: DictConfig) -> tuple[str, Callable[..., Any]]:
    """The metric by which a run with this config is ranked, and what is better, max or min. Raises UserError for a
    model that there is not."""
    part = "training" if config.data.split == 1 else "validation"
    try:
        model = kind(config.model.name)
    except KeyError:
        raise UserError(f"model.name must be one of {', '.join(MODELS)}, got {config.model.name!r}") from None
    return f"{part} {model.judged_by}", model.better


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
