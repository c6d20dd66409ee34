"""What is searched, and the file in which Optuna keeps what was tried. Imported only for a search."""

import random
import shutil
import warnings
from collections.abc import Collection, Iterable
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import optuna
from hydra_plugins._space import Space, tried
from optuna.distributions import check_distribution_compatibility
from optuna.exceptions import ExperimentalWarning
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, Trial, TrialState

from fmnist import UserError
from fmnist.launch.locks import alone
from fmnist.launch.names import job_name
from fmnist.launch.runs import writing_to
from fmnist.program.files import replacing
from fmnist.program.reading import check_plain, contents

FILE = "study.jsonl"
LARGEST = 1 << 30  # bytes of that file


class Alone(JournalFileOpenLock):
    """No lock of Optuna's, which is made and removed for each line: the search has a lock as long as it lives."""

    def acquire(self) -> bool:
        """Do nothing."""
        return True

    def release(self) -> None:
        """Do nothing."""


class Search:
    """An Optuna search over a space; `open` loads or makes its file in the sweep's directory.

    The file is Optuna's journal, one line of JSON a step, and no database: there is nothing to migrate, and it may lie
    on a network drive. Only one command writes it at a time: see fmnist.launch.locks.
    """

    def __init__(self, space: Space, sampler: str, seed: int) -> None:
        self.space, self.sampler, self.seed = space, sampler, seed
        self.refused: OSError | None = None

    def open(self, directory: Path, metric: str, direction: str, may_change: Collection[str]) -> None:
        """Load the search of this directory or begin one. Errors: UserError if it holds another, or another command
        is there; OSError. Where the directory cannot be written to, `refused` says why and a copy is loaded: what is
        finished can be shown.

        metric: what trials are ranked by, in words. direction: maximize or minimize. may_change: knobs that may have
        other values than the search began with.
        """
        self.directory, self.metric = directory, metric
        check_plain(directory, [FILE, f"{FILE}.pid"])
        with ExitStack() as lock:
            with writing_to("hydra.sweep.dir", directory):
                file = directory / FILE
                try:
                    lock.enter_context(alone(directory))
                except OSError as error:
                    if not file.exists():
                        raise
                    self.refused = error
                    file = Path(shutil.copy(file, lock.enter_context(TemporaryDirectory())))
                self._load(file, direction, may_change)
            self._lock = lock.pop_all()

    def _load(self, file: Path, direction: str, may_change: Collection[str]) -> None:
        _mend(file)
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        try:
            journal = JournalFileBackend(str(file), Alone(str(file)))
            self.optuna = optuna.create_study(
                storage=JournalStorage(journal), study_name="search", load_if_exists=True,
                direction=StudyDirection[direction.upper()], pruner=optuna.pruners.MedianPruner(),
            )  # fmt: skip
            asked = {name: text for name, text in self.space.asked.items() if name not in may_change}
            before = {**self.optuna.user_attrs.get("asked", asked)}
        except OSError:
            raise
        except Exception as error:  # Optuna checks nothing of what it reads
            raise UserError(f"{self.directory / FILE} is damaged ({error!r}): choose another hydra.sweep.dir") from None
        changed = [f"{name}={before.get(name)} there, {asked.get(name)} here" for name in {**before, **asked}
                   if before.get(name) != asked.get(name)]  # fmt: skip
        if self.optuna.direction.name.lower() != direction:
            changed.append(f"{self.optuna.direction.name.lower()} there, {direction} here")
        if changed := changed or self._chosen_otherwise():
            what = f"{self.directory} holds another search ({'; '.join(changed)})"
            raise UserError(f"{what}: choose another hydra.sweep.dir")
        self.optuna.set_user_attr("asked", asked)

    def _chosen_otherwise(self) -> list[str]:
        """What the trials so far have chosen from other values: seeds in an older version, files that there were."""
        found: dict[str, str] = {}
        trial: Any
        for trial in self.optuna.get_trials(deepcopy=False):
            if trial.state.is_finished():  # all was chosen
                lacking = [name for name in self.space.groups if name not in trial.params]
                found |= {name: f"its trials choose no {name}" for name in lacking}
            for name, values in trial.distributions.items():
                try:
                    check_distribution_compatibility(values, self.space.values[name])
                except (KeyError, ValueError):
                    found[name] = f"its trials choose {name} from {', '.join(map(str, tried(values)))}"
        return [*found.values()]

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
        new = range(len(known), min(n_trials, (first // n_jobs + 1) * n_jobs))
        return [self._proposal(trial) for trial in [*unfinished, *(None for _ in new)]]

    def _proposal(self, begun: FrozenTrial | None) -> Trial:
        """A new trial, or one that was begun: what a killed process had not yet drawn of it is drawn now."""
        trial = Trial(self.optuna, begun._trial_id) if begun else self.optuna.ask()
        for name in self.space.groups:
            self._draw(trial, name)
        for name in self.space.knobs(trial.params):
            self._draw(trial, name)
        return trial

    def _draw(self, trial: Trial, name: str) -> None:
        """Each draw has a seed of its own: it does not depend on which ones the same process has made before."""
        if name not in trial.params:
            self.optuna.sampler = self._sampler(trial.number, "")
            _ = trial.relative_params  # what is drawn together is drawn here, once a trial
            self.optuna.sampler = self._sampler(trial.number, name)
            trial._suggest(name, self.space.values[name])

    def _sampler(self, number: int, name: str) -> optuna.samplers.BaseSampler:
        seed = random.Random(f"{self.seed}/{number}/{name}").getrandbits(32)
        if self.sampler == "random":
            return optuna.samplers.RandomSampler(seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)  # of group: trials may have different knobs
            return optuna.samplers.TPESampler(seed=seed, constant_liar=True, multivariate=True, group=True)

    def overrides(self, trial: Any) -> list[str]:
        """All overrides of a trial but for seeds, as one types them."""
        return [*self.space.fixed(trial.params), *self.space.proposed(trial.params)]

    def in_words(self, trial: Any) -> str:
        """A trial by its number and what it tries."""
        return f"trial {trial.number}: {' '.join(self.space.proposed(trial.params))}"

    def directories(self, trial: Any) -> list[Path]:
        """The directory of each run of a trial."""
        name = f"trial-{trial.number:03d}"
        return [self.directory / "+".join([name, *([job_name([], run)] if run else [])]) for run in self.space.seeds]

    def step(self, trial: Trial) -> int:
        """The last step that was reported, -1 if none."""
        last = self.optuna.get_trials(deepcopy=False)[trial.number].last_step
        return -1 if last is None else last

    def repeated(self, trials: Iterable[Trial]) -> dict[Trial, int]:
        """Those of the trials that try what an earlier one has tried, each with the number of the first that did."""
        first: dict[tuple[str, ...], int] = {}
        for known in self.optuna.get_trials(deepcopy=False):
            first.setdefault(tuple(self.overrides(known)), known.number)
        found = {trial: first[tuple(self.overrides(trial))] for trial in trials}
        return {trial: number for trial, number in found.items() if number != trial.number}

    def tell_as(self, trial: Trial, earlier: int) -> None:
        """Tell Optuna that a trial ends as an earlier one has."""
        known = self.optuna.get_trials(deepcopy=False)[earlier]
        if known.state == TrialState.FAIL:
            self.tell_failed(trial, known.user_attrs.get("error", "its log says why"))
        else:
            for step, value in known.intermediate_values.items():
                trial.report(value, step)
            self.optuna.tell(trial, known.value if known.state == TrialState.COMPLETE else None, known.state)

    def tell(self, trial: Trial, value: float) -> None:
        """Tell Optuna what a trial has reached that is done."""
        self.optuna.tell(trial, value)

    def tell_pruned(self, trial: Trial) -> None:
        """Tell Optuna that a trial was stopped because it is worse than the median; what it had reached is kept."""
        self.optuna.tell(trial, state=TrialState.PRUNED)

    def tell_failed(self, trial: Trial, why: str) -> None:
        """Tell Optuna that a trial has failed."""
        trial.set_user_attr("error", why)
        self.optuna.tell(trial, state=TrialState.FAIL)


def _mend(file: Path) -> None:
    """Remove what a killed process has left: Optuna's lock, of older versions, and a last line that is not whole."""
    file.with_name(file.name + ".lock").unlink(missing_ok=True)
    if file.exists():
        text = contents(file, LARGEST)
        whole = text[: text.rfind(b"\n") + 1]
        if whole != text:
            with replacing(file, "wb") as mended:
                mended.write(whole)
