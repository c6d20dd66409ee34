"""`hydra/launcher=stacked_slurm`: the stacked launcher on a SLURM cluster, each stack a task of one job array.

It has the settings of `hydra/launcher=submitit_slurm` and those of the stacked launcher, and needs the extra `slurm`.
The tasks and the command share the file system alone: how far a run has come is in its directory.
"""

import logging
import math
import os
import re
import shlex
import subprocess
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.errors import CompactHydraException
from hydra.types import HydraContext, TaskFunction
from hydra_plugins._jobs import Job
from hydra_plugins.points import check_count
from hydra_plugins.stacked import StackedLauncher
from omegaconf import DictConfig, OmegaConf

from fmnist import ROOT, UserError
from fmnist.launch.runs import one_line

log = logging.getLogger(__name__)

with suppress(ImportError):  # without the extra there is no such launcher
    from hydra_plugins.hydra_submitit_launcher.config import SlurmQueueConf

    @dataclass
    class StackedSlurmLauncherConf(SlurmQueueConf):  # type: ignore[misc]
        """What `hydra.launcher.NAME=VALUE` sets: the stacked launcher's own, and all that submitit_slurm has."""

        _target_: str = "hydra_plugins.stacked_slurm.StackedSlurmLauncher"
        workers: Any = None  # share each group of runs among so many tasks, or more if `stack` asks for it
        stack: Any = None  # most runs that are trained as one stack; null: 8 on a CPU, all on a GPU
        dry_run: bool = False  # say what would be trained, how, and what it would cost; write nothing
        max_num_timeout: int = 100  # a task that meets the time limit is queued again, and its runs go on

    ConfigStore.instance().store("stacked_slurm", StackedSlurmLauncherConf, group="hydra/launcher", provider="fmnist")

REFRESH = 1.0  # seconds between two looks at the array
ALONE = ("nodes", "tasks_per_node", "ntasks", "ntasks_per_node")  # settings with which a stack is trained several times
LEAVING = 5.0  # seconds that a task which has written its outcomes may take to leave the queue


class StackedSlurmLauncher(StackedLauncher):
    """The stacked launcher, but for who trains: an array of SLURM tasks, not processes of this machine."""

    def __init__(self, workers: int | None, stack: int | None, dry_run: bool, **queue: Any) -> None:
        super().__init__(workers=workers, stack=stack, dry_run=dry_run)
        plain = OmegaConf.to_container(OmegaConf.create(queue), resolve=True)
        assert isinstance(plain, dict)
        self.queue = {str(name): value for name, value in plain.items() if value is not None}

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """See Launcher."""
        with one_line():
            check_count("hydra.launcher.array_parallelism", self.queue["array_parallelism"])
            also = {
                f"additional_parameters.{name}": value for name, value in self.queue["additional_parameters"].items()
            }
            for name, value in (self.queue | also).items():
                if name.rpartition(".")[2].replace("-", "_") in ALONE and str(value) != "1":
                    raise UserError(f"hydra.launcher.{name} must be 1, got {value}: one task trains a whole stack")
        super().setup(hydra_context=hydra_context, task_function=task_function, config=config)

    def _make_team(self) -> Any:
        assert self.config is not None
        return Array(self.queue, {name: str(value) for name, value in self.config.hydra.job.env_set.items()})

    def _plan(self, todo: Sequence[Job]) -> Any:
        """In which stacks: a fmnist.launch.plan.Plan. Nothing is measured: this machine is none of the nodes."""
        from fmnist.launch.machine import Machine
        from fmnist.launch.plan import plan

        gpus = any(self.queue.get(name) for name in ("gpus_per_node", "gpus_per_task", "gres"))
        memory = self.queue.get("mem_gb", math.inf) * 1e9
        node = Machine(self.queue.get("cpus_per_task", 1), memory, int(gpus))
        configs, begun = [job.checked for job in todo], [job.epoch for job in todo]
        return plan(configs, node, self.workers, self.stack, tasks=self.queue["array_parallelism"], begun=begun)


class StackTask:
    """What a task of the array does. A task that is queued again does the same; its runs go on from checkpoints."""

    def __call__(self, *arguments: Any) -> Any:
        """Train a stack; see fmnist.launch.worker.train_group."""
        from fmnist.launch.worker import train_group

        return train_group(*arguments)

    def checkpoint(self, *arguments: Any) -> Any:
        """Submitit calls this in a task that the time limit or another job is about to end."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self, *arguments)


class Array:
    """Stands in for fmnist.launch.pool.Workers; SLURM starts the tasks itself. environment: their variables."""

    def __init__(self, queue: dict[str, Any], environment: dict[str, str]) -> None:
        self.queue, self.environment = queue, environment
        self.folder = Path(queue["submitit_folder"]).absolute()  # of a task, with %j for its id

    def get_ready(self, workers: int) -> None:
        """Does nothing: no process is started here."""

    def shrink(self, count: int) -> None:
        """Does nothing: a task that is done ends."""

    def close(self) -> None:
        """Does nothing: an array ends by itself."""

    def train(self, tasks: Sequence[Any], workers: int, threads: int | None, progress: Any) -> int | None:
        """See Workers.train. Epochs are known by the rows of runs. A signal ends all tasks, and the runs are saved."""
        from fmnist.program.signals import catching

        self._refuse_if_queued()
        waiting = self._submit(tasks, workers, threads)
        progress.planned([task.runs for task in tasks], workers)
        with catching(lambda caught: _cancel(waiting)) as caught:
            while waiting:
                for job in [job for job in waiting if job.done(force_check=bool(caught))]:
                    task = waiting.pop(job)
                    if not caught and (smaller := self._end(job, task, progress)):
                        waiting |= self._submit(smaller, workers, threads)
                        if caught:  # meanwhile
                            _cancel(waiting)
                progress.look()
                time.sleep(REFRESH if waiting else 0)
        return caught[0] if caught else None

    def _refuse_if_queued(self) -> None:
        """Refuse to write to the same directories as an array that has outlived the command that submitted it."""
        own = {path.name.split("_")[0] for path in self.folder.parent.glob("*")}
        deadline = time.monotonic() + LEAVING
        while queued := own & _queued():
            if time.monotonic() > deadline:
                job = min(queued)
                raise CompactHydraException(f"SLURM job {job} still trains this sweep: wait for it, or scancel {job}")
            time.sleep(REFRESH / 4)

    def _submit(self, tasks: Sequence[Any], workers: int, threads: int | None) -> dict[Any, Any]:
        """The tasks by their jobs of submitit. SLURM bounds the size of an array: more tasks are several arrays."""
        from submitit.core.utils import FailedJobError, FailedSubmissionError

        from fmnist.report.words import counted

        most = _largest_array()
        parts = [tasks[start : start + most] for start in range(0, len(tasks), most)]
        jobs: list[Any] = []
        try:
            for part in parts:
                executor = self._executor(max(1, workers // len(parts)))
                given = [t.configs for t in part], [t.directories for t in part], [threads for _ in part]
                jobs += executor.map_array(StackTask(), *given)
        except (FailedJobError, FailedSubmissionError) as error:
            _cancel(jobs)  # of the arrays before
            raise CompactHydraException(f"SLURM refuses the job array: {error}") from None
        arrays = _arrays(jobs)
        log.info(f"SLURM {'job' if len(arrays) == 1 else 'jobs'} {', '.join(arrays)}: {counted(len(jobs), 'task')}; "
                 f"their logs are in {self.folder.parent}")  # fmt: skip
        return dict(zip(jobs, tasks, strict=True))

    def _executor(self, at_once: int) -> Any:
        """Submitit's executor with the settings of this launcher; at_once: tasks of an array that run at a time."""
        from hydra_plugins.hydra_submitit_launcher.config import BaseQueueConf
        from submitit import AutoExecutor

        given = self.queue | {"array_parallelism": at_once}
        paths = [str(ROOT), str(ROOT / "sweep"), *filter(None, [os.environ.get("PYTHONPATH")])]
        variables = {"PYTHONPATH": os.pathsep.join(paths)} | self.environment
        if "cpus_per_task" in given:  # srun does not take it over from sbatch
            variables["SRUN_CPUS_PER_TASK"] = str(given["cpus_per_task"])
        exports = [f"export {name}={shlex.quote(value)}" for name, value in variables.items()]
        given["setup"] = [*given.get("setup", []), *exports]
        executor = AutoExecutor(
            given.pop("submitit_folder"), cluster="slurm", slurm_max_num_timeout=given.pop("max_num_timeout")
        )
        common = BaseQueueConf.__dataclass_fields__  # what submitit has under one name for all kinds of clusters
        executor.update_parameters(**{name if name in common else f"slurm_{name}": given[name] for name in given})
        return executor

    def _end(self, job: Any, task: Any, progress: Any) -> list[Any]:
        """Tell how the runs of a stack have ended, by its task or, where that was killed, by their records. If it was
        killed for want of memory, those that have not ended are to go on as the tasks that this gives."""
        from submitit.core.utils import FailedJobError, UncompletedJobError

        from fmnist.launch.pool import halved
        from fmnist.launch.runs import give_up

        try:
            for run, outcome in zip(task.runs, job.result(), strict=True):
                progress.ended(run, outcome)
            return []
        except (FailedJobError, UncompletedJobError):
            died = f"SLURM job {job.job_id} ended as {job.state} without a result ({job.paths.stderr})"
        for run, directory in task.directories_left():
            if (recorded := _recorded(directory)) is not None:
                task.left.discard(run)
                progress.ended(run, recorded)
        if job.state == "OUT_OF_MEMORY" and len(task.runs) > 1:
            return halved(task, died, progress)
        for run, directory in task.directories_left():
            progress.ended(run, give_up(directory, "interrupted", died))
        return []


def _recorded(directory: Path) -> Any:
    """How a run has ended by its record, if it has: a fmnist.record.result.Outcome."""
    from fmnist.record.result import Outcome, read_result

    with suppress(UserError):  # of a record that is damaged: it says nothing
        result = read_result(directory)
        if result is not None and result["status"] in ("done", "failed"):
            return Outcome(result.get("objective"), result.get("metrics", {}), result.get("error"))
    return None


def _arrays(jobs: Iterable[Any]) -> list[str]:
    """The arrays that jobs of submitit belong to."""
    return [*dict.fromkeys(job.job_id.split("_")[0] for job in jobs)]


def _cancel(jobs: Iterable[Any]) -> None:
    """End the arrays of these jobs."""
    if arrays := _arrays(jobs):
        subprocess.run(["scancel", *arrays])


def _queued() -> set[str]:
    """The arrays of this user that wait or run."""
    return set(_ask("squeue", "--me", "--noheader", "--states=PENDING,RUNNING,SUSPENDED", "--format=%F").split())


def _largest_array() -> int:
    """The most tasks of an array; SLURM's own default where the cluster does not say."""
    found = re.search(r"^MaxArraySize\s*=\s*(\d+)", _ask("scontrol", "show", "config"), re.MULTILINE)
    return max(1, int(found[1])) if found else 1001


def _ask(*command: str) -> str:
    """What one of SLURM's programs prints."""
    try:
        return subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace").stdout
    except FileNotFoundError:
        message = f"hydra/launcher=stacked_slurm needs a SLURM cluster: no {command[0]} here"
        raise CompactHydraException(message) from None
