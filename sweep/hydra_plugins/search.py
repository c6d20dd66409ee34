"""`hydra/sweeper=optuna`: proposals by Optuna, several at a time, which the launcher trains together."""

import logging
from collections.abc import Sequence
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
from fmnist.config.schema import MODELS, NOT_HASHED
from fmnist.record.record import restate
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
    prune_at: parts of a run's epochs, in (0, 1), after which it is stopped if its validation result is worse than the
    median of what the finished trials had there; [] trains all to the end.
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
    """Asks for batches of trials, launches them part by part, prunes between the parts, and tells what came out."""

    def __init__(self, **settings: Any) -> None:
        plain: Any = OmegaConf.to_container(OmegaConf.create(settings))
        self.settings = OptunaSweeperConf(**plain)
        self.launcher: Launcher | None = None
        self.config: DictConfig | None = None
        self.hydra_context: HydraContext | None = None

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """See Sweeper."""
        self.hydra_context, self.config = hydra_context, config
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> None:
        """Search until there are n_trials, then say what was found."""
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
        kinds = composed_alike([search.fixed + corner for corner in search.corners()], loader)
        composed = [loader.load_sweep_config(self.config, list(job)) for job in kinds]
        kinds_of = [MODELS[config.model.name] for config in composed if config.model.name in MODELS]
        judged = {(kind.judged_by, kind.better) for kind in kinds_of}
        if len(judged) != 1:
            raise UserError("a search must be over models that are judged alike")
        ((measure, better),) = judged
        keep_settings(self.config)
        direction = self.settings.direction or ("maximize" if better is max else "minimize")
        search.open(Path(self.config.hydra.sweep.dir), f"validation {measure}", direction, NOT_HASHED)
        return search

    def _train(self, search: "Search", trials: list["Trial"]) -> None:
        """Train a batch: all to each part of the epochs in prune_at, those that are not pruned then to the end."""
        for part in sorted(self.settings.prune_at):
            step = round(100 * part)
            behind = [trial for trial in trials if search.step(trial) < step]
            for trial, result in zip(behind, self._launch(search, behind, [f"until={part}"]), strict=True):
                if self._ended(search, trial, result):
                    trials.remove(trial)
                else:
                    trial.report(result.return_value, step)
            for trial in [trial for trial in trials if search.step(trial) == step and trial.should_prune()]:
                log.info(f"{search.directory_of(trial).name} is pruned: worse than the median after {step} %")
                restate(search.directory_of(trial), "pruned")
                search.tell_pruned(trial)
                trials.remove(trial)
        for trial, result in zip(trials, self._launch(search, trials, []), strict=True):
            self._ended(search, trial, result)

    def _launch(self, search: "Search", trials: list["Trial"], also: list[str]) -> Sequence[JobReturn]:
        """Each trial has a directory of its number, whichever others are launched with it."""
        assert self.launcher is not None
        log.info(f"trials {', '.join(str(trial.number) for trial in trials)}: {' '.join(also) or 'to the end'}")
        jobs = [[*search.fixed, *search.overrides(trial), *also, f"hydra.sweep.subdir={search.directory_of(trial).name}"]
                for trial in trials]  # fmt: skip
        return self.launcher.launch(jobs, initial_job_idx=trials[0].number) if trials else []

    @staticmethod
    def _ended(search: "Search", trial: "Trial", result: JobReturn) -> bool:
        """Tell the search of a trial that has failed or is done; False of one that is paused."""
        if result.status != JobStatus.COMPLETED or result.return_value is None:
            search.tell_failed(trial)
            return True
        recorded = read_result(search.directory_of(trial))
        if recorded and recorded["status"] == "paused":
            return False
        search.tell(trial, result.return_value)
        return True
