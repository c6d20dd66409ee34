"""What is searched, and the file in which Optuna keeps what was tried. Imported only for a search."""

import itertools
import random
from collections.abc import Collection, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import optuna
from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep
from hydra_plugins.points import knob
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import StudyDirection
from optuna.trial import Trial, TrialState

from fmnist import UserError
from fmnist.record.files import locked, replacing

FILE = "study.jsonl"


class Search:
    """An Optuna search over overrides; `open` loads or makes its file in the sweep's directory.

    The file is Optuna's journal, one line of JSON a step, and no database: there is nothing to migrate, and it may lie
    on a network drive. A lock lets only one process write it at a time.
    """

    def __init__(self, overrides: list[Override], sampler: str, seed: int) -> None:
        self.space = {o.get_key_element(): distribution(o) for o in overrides if o.is_sweep_override()}
        self.fixed = [str(o.input_line) for o in overrides if not o.is_sweep_override()]
        self.sampler, self.seed = sampler, seed
        if not self.space:
            raise UserError("hydra/sweeper=optuna needs a knob to search, e.g. 'lr=tag(log,interval(1e-4,1e-1))'")
        self._asked = {knob(o): str(o.input_line).partition("=")[2] for o in overrides}

    def corners(self) -> Iterator[list[str]]:
        """Overrides that compose in all the ways in which trials will: every choice, and one number of each range."""
        values = [getattr(d, "choices", None) or (getattr(d, "low", None),) for d in self.space.values()]
        for combination in itertools.product(*values):
            yield [f"{key}={value}" for key, value in zip(self.space, combination, strict=True)]

    def open(self, directory: Path, metric: str, direction: str, may_change: Collection[str]) -> None:
        """Load the search of this directory or begin one; UserError if it holds another, or another process searches.

        metric: what trials are ranked by, in words. direction: maximize or minimize. may_change: knobs that may have
        other values than the search began with.
        """
        self.directory, self.metric = directory, metric
        with ExitStack() as lock:
            try:
                lock.enter_context(locked(directory / f"{FILE}.pid", wait=False))
            except BlockingIOError:
                raise UserError(f"{directory} is being searched by another process") from None
            self._load(directory, direction, may_change)
            self._lock = lock.pop_all()

    def _load(self, directory: Path, direction: str, may_change: Collection[str]) -> None:
        _mend(directory / FILE)
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.optuna = optuna.create_study(
            storage=JournalStorage(JournalFileBackend(str(directory / FILE))), study_name="search",
            load_if_exists=True, direction=StudyDirection[direction.upper()], pruner=optuna.pruners.MedianPruner(),
        )  # fmt: skip
        asked = {name: text for name, text in self._asked.items() if name not in may_change}
        before = self.optuna.user_attrs.get("asked", asked)
        changed = [f"{name}={before.get(name)} there, {asked.get(name)} here" for name in {**before, **asked}
                   if before.get(name) != asked.get(name)]  # fmt: skip
        if self.optuna.direction.name.lower() != direction:
            changed.append(f"{self.optuna.direction.name.lower()} there, {direction} here")
        if changed:
            raise UserError(f"{directory} holds another search ({'; '.join(changed)}): choose another hydra.sweep.dir")
        self.optuna.set_user_attr("asked", asked)

    def __enter__(self) -> "Search":
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.close()

    def batch(self, n_trials: int, n_jobs: int) -> list[Trial]:
        """The trials to train next: those that were cut short, and new ones up to a multiple of n_jobs; [] at the end.

        A proposal follows from the seed, its number and the trials before it: a search that was killed and goes on
        proposes what it would have proposed.
        """
        known = self.optuna.get_trials(deepcopy=False)
        unfinished = [trial for trial in known if trial.state == TrialState.RUNNING]
        first = unfinished[0].number if unfinished else len(known)
        for number in range(len(known), min(n_trials, (first // n_jobs + 1) * n_jobs)):
            self.optuna.sampler = self._sampler(number)
            self.optuna.ask(self.space)
        trials = []
        for frozen in self.optuna.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            self.optuna.sampler = self._sampler(frozen.number)
            trial = Trial(self.optuna, frozen._trial_id)
            for name, values in self.space.items():
                trial._suggest(name, values)  # what it has, unless it was killed while it was asked for
            trials.append(trial)
        return trials

    def _sampler(self, number: int) -> optuna.samplers.BaseSampler:
        seed = random.Random(f"{self.seed} {number}").getrandbits(32)
        if self.sampler == "random":
            return optuna.samplers.RandomSampler(seed)
        return optuna.samplers.TPESampler(seed=seed, constant_liar=True)

    def overrides(self, trial: Any) -> list[str]:
        """What a trial tries, as one types it."""
        values = {name: trial.params[name] for name in self.space}
        return [f"{name}={f'{value:.6g}' if isinstance(value, float) else value}" for name, value in values.items()]

    def in_words(self, trial: Any) -> str:
        """A trial by its number and what it tries."""
        return f"trial {trial.number}: {' '.join(self.overrides(trial))}"

    def directory_of(self, trial: Any) -> Path:
        """The directory of a trial's run."""
        return self.directory / f"trial-{trial.number:03d}"

    def log_of(self, trial: Any) -> Path:
        """The log of a trial's run."""
        return self.directory_of(trial) / "train.log"

    def step(self, trial: Trial) -> int:
        """The last step that was reported, -1 if none."""
        last = self.optuna.get_trials(deepcopy=False)[trial.number].last_step
        return -1 if last is None else last

    def tell(self, trial: Trial, value: float) -> None:
        """Tell Optuna what a trial has reached that is done."""
        self.optuna.tell(trial, value)

    def tell_pruned(self, trial: Trial) -> None:
        """Tell Optuna that a trial was stopped because it is worse than the median; what it had reached is kept."""
        self.optuna.tell(trial, state=TrialState.PRUNED)

    def tell_failed(self, trial: Trial) -> None:
        """Tell Optuna that a trial has failed; the record of its run says why."""
        self.optuna.tell(trial, state=TrialState.FAIL)


def distribution(override: Override) -> BaseDistribution:
    """What Hydra's choice(...), range(...), interval(...), tag(log, ...) and a,b,c are for Optuna."""
    sweep: Any = override.value()
    line = override.input_line
    tags: set[str] = getattr(sweep, "tags", set())
    log = "log" in tags
    if tags - {"log"}:
        raise UserError(f"{line}: the only tag that is known is log, got {', '.join(sorted(tags))}")
    try:
        step: Any = None
        if isinstance(sweep, IntervalSweep):
            numbers: list[Any] = [sweep.start, sweep.end]
        elif isinstance(sweep, RangeSweep):
            values: Any = override.sweep_iterator()
            numbers, step = sorted(values) or [1, 0], abs(sweep.step)
        else:
            return CategoricalDistribution(list(override.sweep_string_iterator()))
        low, high = numbers[0], numbers[-1]
        if isinstance(low, int):
            return IntDistribution(low, high, log=log, step=step or 1)
        return FloatDistribution(low, high, log=log, step=step)
    except ValueError as error:
        raise UserError(f"{line}: {error}") from None


def _mend(file: Path) -> None:
    """Remove what a killed process has left: Optuna's lock, and a last line that was not written whole."""
    file.with_name(file.name + ".lock").unlink(missing_ok=True)
    if file.exists():
        text = file.read_bytes()
        whole = text[: text.rfind(b"\n") + 1]
        if whole != text:
            with replacing(file, "wb") as mended:
                mended.write(whole)
