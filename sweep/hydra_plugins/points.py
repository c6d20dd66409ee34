"""The default sweeper: products of lists, as Hydra's basic sweeper makes them, and lists of points that go together."""

import itertools
import json
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_loader import ConfigLoader
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.utils import setup_globals
from hydra.types import HydraContext, TaskFunction
from hydra_plugins._jobs import Jobs, hydra_config_kept
from omegaconf import DictConfig, OmegaConf

from fmnist import UserError
from fmnist.config.parse import flat
from fmnist.config.schema import MODELS
from fmnist.launch.locks import alone
from fmnist.launch.progress import judged_by
from fmnist.launch.runs import one_line, writing_to
from fmnist.program.files import naming
from fmnist.program.reading import check_plain
from fmnist.report.words import in_words


@dataclass
class PointsSweeperConf:
    """What `hydra.sweeper` may hold.

    params: knobs with their values as on the command line, e.g. {seed: range(10)}; the jobs are their product.
    points: sets of overrides that go together, e.g. [{batch_size: 32, lr: 1e-3}, {batch_size: 128, lr: 2e-3}]; each
    is combined with each job of the product.
    max_batch_size: jobs that the launcher is given at a time; null is all.
    """

    _target_: str = "hydra_plugins.points.PointsSweeper"
    max_batch_size: int | None = None
    params: dict[str, Any] = field(default_factory=dict)
    points: list[dict[str, Any]] | None = None


ConfigStore.instance().store(group="hydra/sweeper", name="points", node=PointsSweeperConf, provider="fmnist")


class PointsSweeper(BasicSweeper):
    """Launches each point with each combination of the other values; the command line replaces a study's params."""

    def __init__(self, max_batch_size: int | None, params: Any, points: Any) -> None:
        super().__init__(max_batch_size, dict(params))
        self.points: list[dict[str, Any]] = []
        self.lock = ExitStack()  # held until the command ends

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Hydra calls it before `sweep`."""
        super().setup(hydra_context=hydra_context, task_function=task_function, config=config)
        asked: Any = OmegaConf.to_container(config.hydra.sweeper, resolve=False)
        self.task = task_function
        self.points = asked["points"] or []  # not the constructor's, in which ${seed} is the sweep's, not the job's

    def sweep(self, arguments: list[str]) -> Any:
        """Launch all jobs; raises the first failure once all have ended."""
        assert self.config is not None
        assert self.launcher is not None
        with one_line():
            check_count("hydra.sweeper.max_batch_size", self.max_batch_size, -1, None)  # -1: all, as Hydra has it
            jobs = self.jobs(arguments)
        self.validate_batch_is_legal(jobs)
        with one_line():
            try:
                directory = Path(self.config.hydra.sweep.dir)
                with writing_to("hydra.sweep.dir", directory):
                    self.lock.enter_context(alone(directory))
                keep_settings(self.config)
            except (UserError, OSError):  # what is done can be shown even where nothing can be written
                if not self._done(jobs):
                    raise
                return []
        results, start = [], 0
        for batch in self.split_overrides_to_chunks(jobs, self.max_batch_size):
            results.append(self.launcher.launch(batch, initial_job_idx=start))
            start += len(batch)
        for result in itertools.chain(*results):
            _ = result.return_value
        return results

    def _done(self, jobs: Sequence[Sequence[str]]) -> bool:
        """Whether all jobs are done already; if so, say it."""
        from fmnist.report.words import counted

        assert self.config is not None
        assert self.hydra_context is not None
        sweep = Path(str(self.config.hydra.sweep.dir)).absolute()
        setup_globals()
        made = Jobs(self.hydra_context, self.task, self.config, sweep, lambda: None)
        with hydra_config_kept():
            done = all(made.make(overrides, number).done for number, overrides in enumerate(jobs))
        if done:
            print(f"{sweep}: {counted(len(jobs), 'job')}, {len(jobs)} done already: nothing to train")
        return done

    def jobs(self, arguments: list[str]) -> list[list[str]]:
        """The overrides of every job, points in the outermost loop. Raises UserError where they cannot be combined."""
        assert self.hydra_context is not None
        overrides = merged(arguments, self.params, self.hydra_context.config_loader)
        for override in overrides:
            if override.is_interval_sweep():
                raise UserError(f"{override.input_line} needs hydra/sweeper=optuna: an interval has no list of values")
        (product,) = self.split_arguments(overrides, None)
        points = [self._point(number, overrides, arguments) for number in range(len(self.points))]
        if not product:
            raise UserError(f"a list of values is empty in {' '.join(str(o.input_line) for o in overrides)}")
        return [point + rest for point in points or [[]] for rest in product]

    def _point(self, number: int, others: list[Override], arguments: list[str]) -> list[str]:
        assert self.hydra_context is not None
        overrides = parsed(as_overrides(self.points[number]), self.hydra_context.config_loader)
        given = {knob(o): "on the command line" if o.input_line in arguments else "in hydra.sweeper.params"
                 for o in others}  # fmt: skip
        for override in overrides:
            if override.is_sweep_override():
                raise UserError(f"hydra.sweeper.points must have one value a knob, got {override.input_line}: lists "
                                "of values belong in hydra.sweeper.params")  # fmt: skip
            if knob(override) in given:
                raise UserError(f"{knob(override)} must not be given {given[knob(override)]}: it is among "
                                "hydra.sweeper.points (hydra.sweeper.points=null drops these)")  # fmt: skip
        return [str(override.input_line) for override in overrides]

    def validate_batch_is_legal(self, batch: Sequence[Sequence[str]]) -> None:
        """Compose one job of each kind, so that a mistake is found before any job starts.

        Values are the launcher's to check: it composes every job once more, which takes long for a thousand.
        """
        assert self.hydra_context is not None
        super().validate_batch_is_legal(composed_alike(batch, self.hydra_context.config_loader))


def composed_alike(jobs: Sequence[Sequence[str]], loader: ConfigLoader) -> list[Sequence[str]]:
    """One of each kind of jobs: of those that choose the same groups and set the same knobs, whatever the values."""
    keys = {override.partition("=")[0] for job in jobs for override in job}
    groups = {key for key in keys if loader.get_group_options(key.lstrip("+").partition("@")[0])}

    def kind(job: Sequence[str]) -> tuple[str, ...]:
        pairs = [(override, override.partition("=")[0]) for override in job]
        return tuple(override if key in groups else key for override, key in pairs)

    return list({kind(job): job for job in reversed(jobs)}.values())


def as_overrides(values: dict[str, Any]) -> list[str]:
    """{"lr": 0.1, "model": {"depth": "1,2"}} -> ["lr=0.1", "model.depth=1,2"]: text is taken as on the command line."""
    return [f"{key}={value if isinstance(value, str) else json.dumps(value, separators=(',', ':'))}"
            for key, value in flat(values).items()]  # fmt: skip


def parsed(overrides: list[str], loader: ConfigLoader) -> list[Override]:
    """By Hydra's own parser."""
    return OverridesParser.create(config_loader=loader).parse_overrides(overrides)


def knob(override: Override) -> str:
    """What an override sets: `dropout` for dropout=0.5, +dropout=0.5 and ++dropout=0.5 alike."""
    return override.get_key_element().lstrip("+~")


def merged(arguments: list[str], params: dict[str, Any], loader: ConfigLoader) -> list[Override]:
    """params and the command line as one list; what the command line sets replaces the param of that name."""
    given = parsed(arguments, loader)
    for override in given:
        if knob(override) == "study" and override.is_sweep_override():
            raise UserError(f"study must be one name, got {override.input_line}")
    set_there = {knob(override) for override in given}
    return [o for o in parsed(as_overrides(params), loader) if knob(o) not in set_there] + given


def keep_settings(config: Any) -> None:
    """Write what the sweep was asked for to its directory, as Hydra's sweepers do. Raises UserError, or OSError
    for a full disk, where it cannot be written. The directory is there."""
    directory = Path(config.hydra.sweep.dir)
    with writing_to("hydra.sweep.dir", directory):
        check_plain(directory, ["multirun.yaml"])
        with naming(directory / "multirun.yaml"):
            OmegaConf.save(config, directory / "multirun.yaml")


def check_count(name: str, value: Any, *others: int | None) -> None:
    """Raise UserError for what is neither a number of things nor one of the other values."""
    if value not in others and (type(value) is not int or value < 1):
        also = "".join(f" or {'null' if other is None else other}" for other in others)
        raise UserError(f"{name} must be a whole number of at least 1{also}, got {value!r}")


def ranked_by(config: Any) -> tuple[str, Callable[..., Any]]:
    """The metric by which a run with this config is ranked, and what is better, max or min. Raises UserError for a
    model that there is not."""
    try:
        tag, better = judged_by(config)
    except KeyError:
        raise UserError(f"model.name must be one of {', '.join(MODELS)}, got {config.model.name!r}") from None
    return in_words(tag), better
