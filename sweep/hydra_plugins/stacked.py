"""`hydra/launcher=stacked`: the jobs of a sweep, trained together where they can be, resumed where they were left."""

import atexit
import fcntl
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, JobRuntime, JobStatus, _save_config, configure_log, setup_globals
from hydra.errors import CompactHydraException
from hydra.types import HydraContext, TaskFunction
from hydra_plugins._compose import Composer
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

log = logging.getLogger(__name__)


@dataclass
class StackedLauncherConf:
    """What `hydra.launcher.NAME=VALUE` sets; null: chosen by measurement."""

    _target_: str = "hydra_plugins.stacked.StackedLauncher"
    workers: int | None = None  # processes that train at the same time; the cores are shared out among them
    stack: int | None = None  # most runs that are trained as one stack
    dry_run: bool = False  # say what would be trained, how, and what it would cost; write nothing


ConfigStore.instance().store(group="hydra/launcher", name="stacked", node=StackedLauncherConf, provider="fmnist")


@dataclass
class Job:
    """One job of a sweep: its composed config, its checked one, its directory and what Hydra is to hear of it."""

    config: DictConfig
    directory: Path
    name: str
    returned: JobReturn
    checked: Any = None  # fmnist.config.schema.Config
    error: str | None = None
    done: bool = False
    ours: bool = True  # False: the directory holds another run, and is not touched


class StackedLauncher(BasicLauncher):
    """Trains a task function's jobs in stacks if it is marked by `fmnist.launch.groups.stackable`; others run
    one after another, as with Hydra's basic launcher."""

    def __init__(self, workers: int | None, stack: int | None, dry_run: bool) -> None:
        super().__init__()
        self.workers, self.stack, self.dry_run = workers, stack, dry_run
        self.pool: Any = None
        self.lock: int | None = None

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """See Launcher."""
        super().setup(hydra_context=hydra_context, task_function=task_function, config=config)
        self.dry_run = self.dry_run or bool(OmegaConf.select(config, "dry_run"))
        self.sweep = Path(str(config.hydra.sweep.dir)).absolute()
        self.compose = Composer(hydra_context.config_loader, config)
        if not (self.dry_run or self.sweep.exists()) and getattr(task_function, "stackable", False):
            self._get_ready()  # all of a new sweep is to be trained: its workers import torch while it is composed
        if self.dry_run:  # the sweeper writes to the sweep's directory before it calls us: not to the real one
            scratch = tempfile.mkdtemp(prefix="dry-run-")
            atexit.register(shutil.rmtree, scratch, ignore_errors=True)
            config.hydra.sweep.dir = scratch

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """See Launcher."""
        if not getattr(self.task_function, "stackable", False):
            return super().launch(job_overrides, initial_job_idx)
        assert self.config is not None
        setup_globals()
        configure_log(self.config.hydra.hydra_logging, self.config.hydra.verbose)
        with _hydra_config_kept():
            jobs = [self._job(overrides, initial_job_idx + i) for i, overrides in enumerate(job_overrides)]
            self._refuse_shared_directories(jobs)
            todo = [job for job in jobs if job.error is None and not job.done]
            log.info(f"{self.sweep}: {len(jobs)} jobs, {sum(job.done for job in jobs)} done already")
            if self.dry_run:
                return self._tell(jobs, todo)
            self._lock()
            for job in jobs:
                if job.error is not None:
                    self._refuse(job)
            if todo:
                self._train(todo)
        self._conclude(jobs)
        return [job.returned for job in jobs]

    def _lock(self) -> None:
        """Be the only command that trains this sweep, for as long as this process lives."""
        if self.lock is None:
            self.sweep.mkdir(parents=True, exist_ok=True)
            self.lock = os.open(self.sweep / "multirun.yaml", os.O_RDONLY | os.O_CREAT, 0o644)
        try:
            fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CompactHydraException(f"another command is training the runs of {self.sweep}") from None

    def _job(self, overrides: Sequence[str], number: int) -> Job:
        """Compose a job, check it, and see what is there of it already; nothing is written."""
        from fmnist import UserError
        from fmnist.config.parse import parse
        from fmnist.record.result import check_directory

        config = self.compose(overrides)
        with open_dict(config):
            config.hydra.job.id = str(number)
            config.hydra.job.num = number
        HydraConfig.instance().cfg = config  # type: ignore[assignment]  # for ${hydra:...}; set_config would copy it
        name = str(config.hydra.sweep.subdir)
        directory = self.sweep / name
        with read_write(config.hydra.runtime), open_dict(config.hydra.runtime):
            config.hydra.runtime.output_dir = str(directory)
        job = Job(config, directory, name, JobReturn())
        try:
            job.returned.cfg = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
            job.checked = parse(job.returned.cfg)
            job.ours = False
            result = check_directory(job.checked, directory)
            job.ours = True
        except UserError as error:
            job.error = str(error)
        else:
            if result is not None and result["status"] == "done":
                job.done = True
                self._end(job, result["objective"])
        return job

    def _refuse_shared_directories(self, jobs: Sequence[Job]) -> None:
        seen: dict[Path, Job] = {}
        for job in jobs:
            other = seen.setdefault(job.directory, job)
            if other is not job and job.error is None:
                job.error, job.ours = "another job has the same directory: choose another hydra.sweep.subdir", False

    def _end(self, job: Job, objective: float | None, error: str | None = None) -> None:
        """What Hydra and the sweeper hear of a job."""
        job.error = error
        job.returned.status = JobStatus.COMPLETED if error is None else JobStatus.FAILED
        job.returned.return_value = objective if error is None else CompactHydraException(f"{job.name}: {error}")
        job.returned.overrides = list(job.config.hydra.overrides.task)
        job.returned.task_name = JobRuntime.instance().get("name")
        job.returned.working_dir = os.getcwd()

    def _prepare(self, job: Job) -> None:
        """What `run_job` does before it calls the task function: a directory with .hydra/ in it, and callbacks."""
        assert self.hydra_context is not None
        assert self.task_function is not None
        HydraConfig.instance().set_config(job.config)
        described: Any = HydraConfig.instance().cfg
        assert job.returned.cfg is not None
        job.returned.hydra_cfg = described
        job.directory.mkdir(parents=True, exist_ok=True)
        if job.config.hydra.output_subdir is not None:
            folder = job.directory / job.config.hydra.output_subdir
            _save_config(job.returned.cfg, "config.yaml", folder)
            _save_config(described, "hydra.yaml", folder)
            _save_config(job.config.hydra.overrides.task, "overrides.yaml", folder)
        self.hydra_context.callbacks.on_job_start(config=job.config, task_function=self.task_function)

    def _refuse(self, job: Job) -> None:
        """End a job that is not to be trained: its own log says why, unless the directory is another run's."""
        from fmnist.launch.worker import run_log

        error = job.error
        if job.ours:
            self._prepare(job)
            with run_log(job.directory) as own:
                own.error("error: %s", error)
        self._end(job, None, error)
        log.error(f"{job.name}: {error}")

    def _open_pool(self) -> Any:
        """What trains the stacks: see fmnist.launch.pool.Workers."""
        from fmnist.launch.pool import Workers

        return Workers()

    def _plan(self, configs: Sequence[Any], pool: Any) -> Any:
        """In which stacks: a fmnist.launch.plan.Plan."""
        from fmnist.launch.plan import plan

        return plan(configs, pool, self.workers, self.stack)

    def _get_ready(self, most: float = inf) -> None:
        """Start the workers that are asked for, or else one a core and at most so many; each is started once."""
        from fmnist.launch.pool import cores

        if self.pool is None:
            self.pool = self._open_pool()
            atexit.register(self.pool.close)
        self.pool.get_ready(self.workers or int(min(cores(), most)))

    def _train(self, todo: Sequence[Job]) -> None:
        from fmnist.data.fetch import fetch_missing
        from fmnist.launch.pool import Task
        from fmnist.record.progress import progress

        configs = [job.checked for job in todo]
        for name, folder in {(config.data.name, config.data.dir) for config in configs}:
            fetch_missing(name, folder)
        self._get_ready(len(todo))
        for job in todo:
            self._prepare(job)
        chosen = self._plan(configs, self.pool)
        log.info(f"{chosen}")
        tasks = [
            Task([configs[i] for i in stack], [todo[i].directory for i in stack], stack) for stack in chosen.stacks
        ]
        self.pool.grow(chosen.workers, chosen.devices)
        finished = 0
        assert self.hydra_context is not None
        callbacks = self.hydra_context.callbacks
        with progress(sum(config.epochs for config in configs), 0) as bar:

            def ended(index: int, outcome: Any) -> None:
                nonlocal finished
                finished += 1
                job = todo[index]
                self._end(job, outcome.objective, outcome.error)
                told = f"failed: {outcome.error}" if outcome.error else f"objective {outcome.objective:.4f}"
                log.info(f"{finished}/{len(todo)} {job.name}  {told}")
                callbacks.on_job_end(config=job.config, job_return=job.returned)

            stopped = self.pool.train(tasks, chosen.workers, chosen.threads, ended, bar.update)
        if stopped:
            log.info("interrupted: the same command continues it")
            raise SystemExit(128 + stopped)

    def _tell(self, jobs: Sequence[Job], todo: Sequence[Job]) -> Sequence[JobReturn]:
        """The dry run."""
        for job in jobs:
            if job.error is not None:
                self._end(job, None, job.error)
                log.error(f"{job.name}: {job.error}")
        if todo:
            pool = self._open_pool()
            try:
                chosen = self._plan([job.checked for job in todo], pool)
            finally:
                pool.close()
            for number, stack in enumerate(chosen.stacks, start=1):
                log.info(f"stack {number}: {', '.join(todo[i].name for i in stack)}")
            log.info(f"{chosen}")
        for job in todo:
            self._end(job, None)
        return [job.returned for job in jobs]

    def _conclude(self, jobs: Sequence[Job]) -> None:
        """If jobs have failed: the leaderboard, for which Hydra calls nobody at the end then, and all failures."""
        from fmnist.report.leaderboard import Leaderboard, table

        failed = [job for job in jobs if job.error is not None]
        if failed:
            print(f"\n{table(Leaderboard(self.sweep).write())}\n")
            log.error(f"{len(failed)} of {len(jobs)} jobs failed:")
            for job in failed:
                log.error(f"  {job.name}: {job.error}")


@contextmanager
def _hydra_config_kept() -> Iterator[None]:
    before = HydraConfig.instance().cfg
    try:
        yield
    finally:
        HydraConfig.instance().cfg = before
