"""`hydra/launcher=stacked_slurm`: the stacked launcher on a SLURM cluster, each stack a task of one job array.

It takes the settings of `hydra/launcher=submitit_slurm` besides those of the stacked launcher; the extra is the same.
All that the tasks and the command share is the file system; what a run has reached stands in its directory.
"""

import logging
import math
import os
import shlex
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.errors import CompactHydraException
from hydra_plugins.stacked import StackedLauncher
from omegaconf import OmegaConf

from fmnist import ROOT

log = logging.getLogger(__name__)

with suppress(ImportError):  # without the extra there is no such launcher
    from hydra_plugins.hydra_submitit_launcher.config import SlurmQueueConf

    @dataclass
    class StackedSlurmLauncherConf(SlurmQueueConf):  # type: ignore[misc]
        """What `hydra.launcher.NAME=VALUE` sets: the stacked launcher's own, and all that submitit_slurm has."""

        _target_: str = "hydra_plugins.stacked_slurm.StackedSlurmLauncher"
        workers: int | None = None  # share each group of runs among so many tasks, or more if `stack` asks for it
        stack: int | None = None  # most runs that are trained as one stack; null: 8 on a CPU, all on a GPU
        dry_run: bool = False  # say what would be trained, how, and what it would cost; write nothing
        max_num_timeout: int = 100  # a task that meets the time limit is queued again, and its runs go on

    ConfigStore.instance().store("stacked_slurm", StackedSlurmLauncherConf, group="hydra/launcher", provider="fmnist")

REFRESH = 1.0  # seconds between two looks at the array
LEAVING = 5.0  # seconds that a task which has told its outcomes may take to leave the queue


class StackedSlurmLauncher(StackedLauncher):
    """As the stacked launcher; the stacks are trained by an array of SLURM tasks instead of by processes here."""

    def __init__(self, workers: int | None, stack: int | None, dry_run: bool, **queue: Any) -> None:
        super().__init__(workers=workers, stack=stack, dry_run=dry_run)
        plain = OmegaConf.to_container(OmegaConf.create(queue), resolve=True)
        assert isinstance(plain, dict)
        self.queue = {str(name): value for name, value in plain.items() if value is not None}

    def _open_pool(self) -> Any:
        return Array(self.queue)

    def _plan(self, configs: Sequence[Any], pool: Any) -> Any:
        """Nothing is measured: the nodes may be another kind of machine, and are asked for before they are there."""
        from fmnist.launch.costs import PROCESS, SPEED, START, data_memory, memory, work
        from fmnist.launch.groups import stacks
        from fmnist.launch.plan import STACK, Plan

        gpus = any(self.queue.get(name) for name in ("gpus_per_node", "gpus_per_task", "gres"))
        cores = self.queue.get("cpus_per_task", 1)
        base = PROCESS + max(data_memory(config) for config in configs)
        room = max(self.queue["mem_gb"] * 1e9 - base, 1.0) if "mem_gb" in self.queue and not gpus else math.inf
        pieces = stacks(configs, self.stack or (len(configs) if gpus else STACK), self.workers or 1, room)
        tasks = min(len(pieces), self.queue["array_parallelism"])
        seconds = START + sum(work(config) for config in configs) / (SPEED * (50 if gpus else cores) * tasks)
        most = base + max(sum(memory(configs[run]) for run in piece) for piece in pieces)
        why = "an array of SLURM tasks, nothing measured"
        return Plan(pieces, tasks, None if gpus else cores, int(gpus), seconds, most * tasks, why)


class StackTask:
    """What a task of the array does; queued again, it does the same: its runs go on from their checkpoints."""

    def __call__(self, *arguments: Any) -> Any:
        """Train a stack; see fmnist.launch.worker.train_group."""
        from fmnist.launch.worker import train_group

        return train_group(*arguments)

    def checkpoint(self, *arguments: Any) -> Any:
        """Called by submitit in a task that is about to be ended by the time limit or for another job."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self, *arguments)


class Array:
    """Stands in for the worker processes of fmnist.launch.pool.Workers."""

    def __init__(self, queue: dict[str, Any]) -> None:
        self.queue = queue
        self.folder = Path(queue["submitit_folder"]).absolute()  # of a task, with %j for its id

    def get_ready(self, workers: int) -> None:
        """There is nothing to start ahead of the array."""

    def grow(self, count: int, devices: int = 0) -> None:
        """Nor later."""

    def close(self) -> None:
        """An array ends by itself."""

    def train(
        self, tasks: Sequence[Any], workers: int, threads: int | None, ended: Callable[[int, Any], None],
        epoch: Callable[[int], None],
    ) -> int | None:  # fmt: skip
        """See Workers.train; of epochs it hears when a stack has ended. A signal ends the array, whose runs are saved."""
        from fmnist.train.signals import catching

        self._refuse_if_queued()
        jobs = self._submit(tasks, threads)
        first = jobs[0].job_id.split("_")[0]
        log.info(f"SLURM job {first}: {len(jobs)} tasks; their logs are in {self.folder.parent}")
        waiting = dict(zip(jobs, tasks, strict=True))
        with catching(lambda heard: subprocess.run(["scancel", first])) as caught:
            while waiting:
                for job in [job for job in waiting if job.done(force_check=bool(caught))]:
                    task = waiting.pop(job)
                    if not caught:
                        for run, outcome in zip(task.runs, self._outcomes(job, task), strict=True):
                            ended(run, outcome)
                        epoch(sum(config.epochs for config in task.configs))
                time.sleep(REFRESH if waiting else 0)
        return caught[0] if caught else None

    def _refuse_if_queued(self) -> None:
        """Two arrays must not write to the same directories: one may have outlived the command that submitted it."""
        own = {path.name.split("_")[0] for path in self.folder.parent.glob("*")}
        deadline = time.monotonic() + LEAVING
        while queued := own & _queued():
            if time.monotonic() > deadline:
                job = min(queued)
                raise CompactHydraException(f"SLURM job {job} still trains this sweep: wait for it, or scancel {job}")
            time.sleep(REFRESH / 4)

    def _submit(self, tasks: Sequence[Any], threads: int | None) -> Any:
        from hydra_plugins.hydra_submitit_launcher.config import BaseQueueConf
        from submitit import AutoExecutor
        from submitit.core.utils import FailedJobError, FailedSubmissionError

        given = dict(self.queue)
        paths = [str(ROOT), str(ROOT / "sweep"), *filter(None, [os.environ.get("PYTHONPATH")])]
        given["setup"] = [*given.get("setup", []), f"export PYTHONPATH={shlex.quote(os.pathsep.join(paths))}"]
        if "cpus_per_task" in given:  # srun does not take it over from sbatch
            given["setup"].append(f"export SRUN_CPUS_PER_TASK={given['cpus_per_task']}")
        executor = AutoExecutor(
            given.pop("submitit_folder"), cluster="slurm", slurm_max_num_timeout=given.pop("max_num_timeout")
        )
        common = BaseQueueConf.__dataclass_fields__  # what submitit has under one name for all kinds of clusters
        executor.update_parameters(**{name if name in common else f"slurm_{name}": given[name] for name in given})
        try:
            return executor.map_array(
                StackTask(), [t.configs for t in tasks], [t.directories for t in tasks], [threads for _ in tasks]
            )
        except (FailedJobError, FailedSubmissionError) as error:
            raise CompactHydraException(f"SLURM refuses the job array: {error}") from None

    def _outcomes(self, job: Any, task: Any) -> list[Any]:
        """How the runs of a stack have ended: told by its task or, where that was killed, by their records."""
        from submitit.core.utils import FailedJobError, UncompletedJobError

        from fmnist.record.result import Outcome, read_result

        try:
            outcomes: list[Any] = job.result()
            return outcomes
        except (FailedJobError, UncompletedJobError):
            died = f"SLURM job {job.job_id} ended as {job.state} without a result ({job.paths.stderr}): "
        found = []
        for directory in task.directories:
            result = read_result(directory)
            if result is not None and result["status"] in ("done", "failed"):
                found.append(Outcome(result.get("objective"), result["metrics"], result["error"]))
            else:
                found.append(Outcome(None, {}, died + "the same command continues it"))
        return found


def _queued() -> set[str]:
    """The arrays of this user that wait or run."""
    command = ["squeue", "--me", "--noheader", "--states=PENDING,RUNNING,SUSPENDED", "--format=%F"]
    try:
        return set(subprocess.run(command, capture_output=True, text=True).stdout.split())
    except FileNotFoundError:
        raise CompactHydraException("hydra/launcher=stacked_slurm needs a SLURM cluster: no squeue here") from None
