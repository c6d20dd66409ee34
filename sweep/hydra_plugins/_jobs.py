"""Composes and checks the jobs of a sweep, and tells Hydra how each ended."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, JobRuntime, JobStatus, _save_config
from hydra.errors import CompactHydraException
from hydra.types import HydraContext, TaskFunction
from hydra_plugins._compose import Composer
from omegaconf import DictConfig, OmegaConf, grammar_parser, open_dict, read_write
from omegaconf.errors import OmegaConfBaseException

from fmnist import UserError
from fmnist.launch.locks import check_free


class Returned(JobReturn):
    """What a launcher gives to the sweeper for a job.

    A sweeper that asks a failed job for its value gives up. Then `conclude` prints what has failed, and the command
    ends with status 1. Hydra's own class would print an account of the first failure below.
    """

    def __init__(self, conclude: Callable[[], None]) -> None:
        super().__init__()
        self.conclude = conclude

    @property
    def return_value(self) -> Any:
        """The objective."""
        if self.status == JobStatus.FAILED:
            self.conclude()
            raise SystemExit(1)
        return super().return_value

    @return_value.setter
    def return_value(self, value: Any) -> None:
        self._return_value = value


@dataclass
class Job:
    """One job of a sweep. Its composed config takes 140 kB: it is not kept, and is composed again where it is needed.

    checked: its config (fmnist.config.schema.Config); epoch: up to which it was trained before; error: why it is not to
    be trained, or failed; ours: whether its directory is its own, to be written to.
    """

    number: int
    overrides: Sequence[str]
    name: str
    directory: Path
    returned: Returned
    checked: Any = None
    epoch: int = 0
    error: str | None = None
    done: bool = False
    ours: bool = True


class Jobs:
    """Makes the jobs of one sweep and tells Hydra of them. conclude: see Returned."""

    def __init__(
        self, context: HydraContext, task: TaskFunction, master: DictConfig, sweep: Path, conclude: Callable[[], None]
    ) -> None:
        self.context, self.task, self.master, self.sweep, self.conclude = context, task, master, sweep, conclude
        self.compose = Composer(context.config_loader, master)
        self.parsed: dict[str, Any] = {}

    def config(self, overrides: Sequence[str], number: int) -> DictConfig:
        """A job's composed config; ${hydra:...} means it from now on."""
        config = self.compose(overrides)
        with open_dict(config):
            config.hydra.job.id = str(number)
            config.hydra.job.num = number
        HydraConfig.instance().cfg = config  # type: ignore[assignment]  # set_config would copy it
        with read_write(config.hydra.runtime), open_dict(config.hydra.runtime):
            config.hydra.runtime.output_dir = str(self.sweep / str(self._subdir(config.hydra.sweep)))
        return config

    def _subdir(self, sweep: DictConfig) -> Any:
        """`sweep.subdir`. What it interpolates is parsed once for all jobs: that takes longer than to resolve it."""
        node: Any = sweep._get_node("subdir")
        if not node._is_interpolation():
            return sweep.subdir
        text = node._value()
        if text not in self.parsed:
            self.parsed[text] = grammar_parser.parse(text)
        return sweep.resolve_parse_tree(self.parsed[text], node=node, key="subdir")

    def make(self, overrides: Sequence[str], number: int) -> Job:
        """Compose a job, check it, and see what is there of it already; nothing is written."""
        from fmnist.config.parse import check_machine, parse

        job = Job(number, overrides, str(number), self.sweep / str(number), Returned(self.conclude), ours=False)
        try:
            config = self.config(overrides, number)
            job.directory = Path(config.hydra.runtime.output_dir)
            job.name = os.path.relpath(job.directory, self.sweep)
            job.checked = parse(_plain(config))
            if config.hydra.job.env_set != self.master.hydra.job.env_set:
                raise UserError("hydra.job.env_set must be the same for all jobs of a sweep with this launcher")
            job.epoch, job.done, objective = _begun(job)
            job.ours = True
            if not job.done:  # a finished run needs neither its data nor its device
                check_machine(job.checked)
        except UserError as error:
            job.error = str(error)
            job.ours |= job.checked is None  # refused for its config alone
        except OmegaConfBaseException as error:
            job.error = f"hydra.sweep.subdir: {str(error).splitlines()[0]}"
        else:
            if job.done:
                self.end(job, objective)
        return job

    def prepare(self, job: Job) -> None:
        """What Hydra does before it calls a task function: a directory with .hydra/ in it, and callbacks. The job fails
        if the directory cannot be written, or if another command trains there."""
        from fmnist.launch.callbacks import own
        from fmnist.launch.runs import make_folder

        config = self.config(job.overrides, job.number)
        HydraConfig.instance().set_config(config)
        described: Any = HydraConfig.instance().cfg
        try:
            make_folder(job.directory)
            check_free(job.directory)
            if config.hydra.output_subdir is not None:
                folder = job.directory / config.hydra.output_subdir
                _save_config(own(config), "config.yaml", folder)
                _save_config(described, "hydra.yaml", folder)
                _save_config(config.hydra.overrides.task, "overrides.yaml", folder)
        except UserError as error:
            job.error, job.ours = str(error), False
            return
        except OSError as error:
            job.error, job.ours = f"{error.filename or job.directory} cannot be written: {error.strerror}", False
            return
        self.context.callbacks.on_job_start(config=config, task_function=self.task)

    def end(self, job: Job, objective: float | None, error: str | None = None) -> None:
        """Tell Hydra and the sweeper how a job ended."""
        job.error = error
        job.returned.status = JobStatus.COMPLETED if error is None else JobStatus.FAILED
        job.returned.return_value = objective if error is None else CompactHydraException(error)  # as Hydra keeps it
        job.returned.overrides = list(job.overrides)
        job.returned.task_name = JobRuntime.instance().get("name")
        job.returned.working_dir = os.getcwd()

    def call_back(self, job: Job) -> None:
        """Tell Hydra's callbacks that a job has ended."""
        config = self.config(job.overrides, job.number)
        self.context.callbacks.on_job_end(config=config, job_return=job.returned)


def _plain(config: DictConfig) -> dict[str, Any]:
    """A composed config without Hydra's own part, as plain values; no copy is made of it, which takes long."""
    nodes = {str(key): config._get_node(key) for key in config if key != "hydra"}
    return {key: OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else config[key]
            for key, node in nodes.items()}  # fmt: skip


@contextmanager
def hydra_config_kept() -> Iterator[None]:
    """Within it jobs may be composed: afterwards ${hydra:...} means what it meant before."""
    before = HydraConfig.instance().cfg
    try:
        yield
    finally:
        HydraConfig.instance().cfg = before


def refuse_shared_directories(jobs: Sequence[Job]) -> None:
    """Fail the jobs whose directory is that of an earlier one."""
    seen: dict[Path, Job] = {}
    for job in jobs:
        other = seen.setdefault(job.directory, job)
        if other is not job and job.error is None:
            job.error, job.ours = "another job has the same directory: choose another hydra.sweep.subdir", False


def _begun(job: Job) -> tuple[int, bool, float | None]:
    """The epoch up to which a job was trained before, whether it is done, and its objective then. Raises UserError if
    its directory is another run's, or its record is damaged."""
    from fmnist.record.result import check_directory
    from fmnist.sources.fetch import digest

    result = check_directory(job.checked, job.directory, digest)
    if result is None or result["status"] != "done":
        return result["epoch"] if result else 0, False, None
    if "objective" not in result:
        file = job.directory / "result.json"
        raise UserError(f"{file} is damaged (it has no objective): remove it to start this run anew")
    return result["epoch"], True, result["objective"]
