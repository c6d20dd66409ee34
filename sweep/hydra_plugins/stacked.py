"""`hydra/launcher=stacked`: trains the jobs of a sweep together where it can, and goes on where a sweep was stopped."""

import atexit
import logging
import re
import shutil
import signal
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn, configure_log, setup_globals
from hydra.types import HydraContext, TaskFunction
from hydra_plugins._jobs import Job, Jobs, hydra_config_kept, refuse_shared_directories
from hydra_plugins.points import check_count, ranked_by
from omegaconf import DictConfig, OmegaConf

from fmnist.launch.locks import alone
from fmnist.launch.runs import one_line, writing_to
from fmnist.program.signals import catching

log = logging.getLogger(__name__)

IDLE = 60.0  # seconds of training from which on idle workers are ended: each has some of the memory


@dataclass
class StackedLauncherConf:
    """What `hydra.launcher.NAME=VALUE` sets; null: chosen by measurement."""

    _target_: str = "hydra_plugins.stacked.StackedLauncher"
    workers: Any = None  # processes that train at the same time; the cores are shared out among them
    stack: Any = None  # most runs that are trained as one stack
    dry_run: bool = False  # say what would be trained, how, and what it would cost; write nothing


ConfigStore.instance().store(group="hydra/launcher", name="stacked", node=StackedLauncherConf, provider="fmnist")


class StackedLauncher(BasicLauncher):
    """Trains the jobs of a task function in stacks if it is marked by `fmnist.launch.groups.stackable`. Those of any
    other task function run one after another, as with Hydra's basic launcher."""

    def __init__(self, workers: int | None, stack: int | None, dry_run: bool) -> None:
        super().__init__()
        self.workers, self.stack, self.dry_run = workers, stack, dry_run
        self.team: Any = None
        self.lock: ExitStack | None = None
        self.failed: list[Job] = []
        self.bests: Any = None  # what runs have reached
        self.remarks: set[str] = set()  # on the data, say, that were shown
        self.launched = 0

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """See Launcher."""
        super().setup(hydra_context=hydra_context, task_function=task_function, config=config)
        with one_line():
            for name in ("workers", "stack"):
                check_count(f"hydra.launcher.{name}", getattr(self, name), None)
        self.dry_run = self.dry_run or bool(OmegaConf.select(config, "dry_run"))
        self.sweep = Path(str(config.hydra.sweep.dir)).absolute()
        self.jobs = Jobs(hydra_context, task_function, config, self.sweep, self._conclude)
        with one_line():
            with writing_to("hydra.sweep.dir", self.sweep):
                new = not self.sweep.exists()  # raises where its path is too long
            if new and not self.dry_run and getattr(task_function, "stackable", False):
                self._get_ready(1)  # something is to be trained: torch is imported while the jobs are made
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
        try:
            with catching(_leave), hydra_config_kept(), one_line():
                jobs = self._launch(job_overrides, initial_job_idx)
        except KeyboardInterrupt as leaving:  # before training began: while stacks train, `Workers.train` heeds signals
            self._interrupted(128 + (leaving.args or (signal.SIGINT,))[0])
        return [job.returned for job in jobs]

    def _launch(self, job_overrides: Sequence[Sequence[str]], first: int) -> Sequence[Job]:
        from fmnist.report.words import counted

        assert self.config is not None
        if not self.dry_run:
            self._lock()
            if not any(path.is_dir() for path in self.sweep.glob("*")):
                self._get_ready(len(job_overrides))  # all are to be trained: torch is imported meanwhile
        jobs = [self.jobs.make(overrides, first + i) for i, overrides in enumerate(job_overrides)]
        self.launched += len(jobs)
        refuse_shared_directories(jobs)
        log.info(f"{self.sweep}: {counted(len(jobs), 'job')}, {sum(job.done for job in jobs)} done already")
        if self.config.hydra.job.chdir:
            log.warning("hydra.job.chdir has no effect with this launcher: a process trains several runs at a time")
        for job in [job for job in jobs if job.error is not None]:
            self._refuse(job)
        todo = [job for job in jobs if job.error is None and not job.done]
        if todo and self.dry_run:
            self._tell(todo)
        elif todo:
            self._train(todo, [job for job in jobs if job.done])
        return jobs

    def _lock(self) -> None:
        """Refuse to train a sweep that another command trains; keep others out as long as this process lives."""
        if self.lock is None:
            self.lock = ExitStack()
            with writing_to("hydra.sweep.dir", self.sweep):
                self.lock.enter_context(alone(self.sweep))

    def _refuse(self, job: Job) -> None:
        """End a job that is not to be trained. Its log says why, unless its directory is another run's."""
        from fmnist.launch.runs import run_log

        error = job.error
        if job.ours and not self.dry_run:
            self.jobs.prepare(job)
            run_log(job.directory).error("error: %s", error)
        self.jobs.end(job, None, error)
        self.failed.append(job)
        log.error(f"{job.name}: {error}")

    def _make_team(self) -> Any:
        """The workers that train the stacks: see fmnist.launch.pool.Workers."""
        from fmnist.launch.pool import Workers

        assert self.config is not None
        return Workers({name: str(value) for name, value in self.config.hydra.job.env_set.items()})

    def _plan(self, todo: Sequence[Job]) -> Any:
        """In which stacks: a fmnist.launch.plan.Plan. A dry run measures nothing: it starts no workers."""
        from fmnist.launch.machine import this_machine
        from fmnist.launch.plan import plan, wants_cuda

        configs, pace = [job.checked for job in todo], None if self.dry_run else self.team.pace
        machine = this_machine(self.team.cuda_devices() if wants_cuda(configs) else 0)
        return plan(configs, machine, self.workers, self.stack, pace, begun=[job.epoch for job in todo])

    def _get_ready(self, jobs: int) -> None:
        """Start the workers that are asked for, or else as many as the machine has room for; each is started once."""
        from fmnist.launch.costs import PROCESS
        from fmnist.launch.machine import this_machine

        if self.team is None:
            self.team = self._make_team()
            atexit.register(self.team.close)
        self.team.get_ready(min(jobs, self.workers or this_machine().workers(PROCESS)))

    def _train(self, todo: Sequence[Job], before: Sequence[Job]) -> None:
        """Train the jobs that are to be trained. before: those that were done already."""
        from fmnist.launch.pool import Task
        from fmnist.launch.progress import Progress
        from fmnist.sources.fetch import fetch_missing

        for name, folder in {(job.checked.data.name, job.checked.data.dir) for job in todo}:
            fetch_missing(name, folder)
        self._get_ready(len(todo))
        for job in todo:
            self.jobs.prepare(job)
            if job.error is not None:
                self._refuse(job)
        todo = [job for job in todo if job.error is None]
        if not todo:
            return
        chosen = self._plan(todo)
        log.info(f"{chosen}")
        if chosen.seconds > IDLE:
            self.team.shrink(chosen.workers)
        if chosen.paces:
            log.debug(f"microseconds a run and step, by workers x runs in a stack: {', '.join(chosen.paces)}")
        tasks = [
            Task([todo[run].checked for run in stack], [todo[run].directory for run in stack], stack)
            for stack in chosen.stacks
        ]
        finished = 0

        def ended(run: int, outcome: Any) -> None:
            nonlocal finished
            finished += 1
            job = todo[run]
            self.jobs.end(job, outcome.objective, outcome.error)
            self.failed += [job] if outcome.error else []
            log.info(f"{finished}/{len(todo)} {job.name}  {_how(job, outcome)}")
            self.jobs.call_back(job)

        progress = Progress(
            [job.checked.last_epoch for job in todo], [job.epoch for job in todo],
            sum(job.checked.last_epoch for job in before), ended, names=[job.name for job in todo],
            configs=[job.checked for job in todo], directories=[job.directory for job in todo], done=len(before),
            remarks=self.remarks,
        )  # fmt: skip
        self.bests = progress.bests = self.bests or progress.bests  # of all batches of a search
        for job in before:
            progress.bests.note(job.checked, job.name, job.returned.return_value)
        with progress:
            stopped = self.team.train(tasks, chosen.workers, chosen.threads, progress)
        if stopped:
            self._interrupted(128 + stopped)

    def _tell(self, todo: Sequence[Job]) -> None:
        """The dry run: say what would be trained."""
        self.team = self._make_team()
        try:
            chosen = self._plan(todo)
        finally:
            self.team.close()
        for number, stack in enumerate(chosen.stacks, start=1):
            log.info(f"stack {number}: {_in_short([todo[i].name for i in stack])}")
        log.info(f"{chosen}")
        for job in todo:
            self.jobs.end(job, None)

    def _ending(self) -> str:
        """See fmnist.launch.callbacks.ending."""
        from fmnist.launch.callbacks import ending
        from fmnist.report.leaderboard import Leaderboard

        return ending(Leaderboard(self.sweep))[0]

    def _interrupted(self, status: int) -> NoReturn:
        """End the command: show what is finished, and the command that goes on."""
        from fmnist.launch.commands import command, near, quoted

        if any(self.sweep.glob("*/result.json")):
            print(self._ending())
        typed = [quoted("hydra.sweep.dir", near(self.sweep)) if re.match(r"hydra.sweep.dir=.*\$\{", word) else word
                 for word in sys.argv[1:]]  # fmt: skip
        log.info(f"interrupted; this continues it: {command(*typed)}")
        raise SystemExit(status)

    def _conclude(self) -> None:
        """Print the end of a sweep of which jobs have failed. Hydra calls no callback then."""
        if not self.dry_run:
            print(self._ending())
        log.error(f"{len(self.failed)} of {self.launched} jobs failed:")
        for job in self.failed:
            log.error(f"  {job.name}: {job.error}")


def _leave(caught: Sequence[int]) -> None:
    """End what the launcher does, for whichever signal."""
    raise KeyboardInterrupt(caught[0])


def _in_short(names: Sequence[str]) -> str:
    """The names of the runs of a stack; of many, the first two, the last and their number."""
    if len(names) <= 4:
        return ", ".join(names)
    return f"{names[0]}, {names[1]}, ..., {names[-1]} ({len(names)} runs)"


def _how(job: Job, outcome: Any) -> str:
    """How a job ended, in words."""
    if outcome.error or outcome.objective is None:
        return f"failed: {outcome.error}" if outcome.error else "ended without a result"
    return f"{ranked_by(job.checked)[0]} {outcome.objective:.4f}"
