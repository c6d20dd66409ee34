"""What a search may try: knobs with their values, which of them there are with which choices, and seeds."""

import difflib
import functools
import itertools
import json
import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep
from hydra.errors import HydraException
from hydra_plugins.points import knob
from omegaconf import DictConfig, OmegaConf
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from fmnist import UserError
from fmnist.config.parse import flat, parse
from fmnist.config.schema import SEEDS, Config
from fmnist.launch.names import parser

Values = CategoricalDistribution | FloatDistribution | IntDistribution
Choices = tuple[tuple[str, Any], ...]  # config groups, each with the file that is chosen


class Space:
    """What the overrides of a search ask for.

    Config groups are chosen first: they decide which other knobs there are. A knob that some choices have (momentum, of
    optim=sgd) is proposed, or set, with these alone. Seeds are no knob: each proposal is trained with all of them.

    values: what is proposed, by key; groups: the keys that choose files. seeds: the overrides of each run of a
    proposal, [[]] where it has one run; typed_seeds: the same as they were typed. asked: all that was typed, by knob.
    """

    def __init__(
        self, overrides: Sequence[Override], is_group: Callable[[str], bool],
        compose: Callable[[Sequence[str]], DictConfig],
    ) -> None:  # fmt: skip
        """is_group: whether a key chooses files. compose: the config of a job with some overrides."""
        repeated = [o for o in overrides if knob(o) in SEEDS and o.is_sweep_override()]
        self.seeds = [list(run) for run in itertools.product(*map(_seeds, repeated))]
        self.typed_seeds = [str(o.input_line) for o in repeated]
        rest = [o for o in overrides if o not in repeated]
        self.values = {o.get_key_element(): distribution(o) for o in rest if o.is_sweep_override()}
        if not self.values:
            raise UserError("hydra/sweeper=optuna needs a knob to search beside seeds, e.g. "
                            "'lr=tag(log,interval(1e-4,1e-1))'")  # fmt: skip
        self.groups = [o.get_key_element() for o in rest if o.is_sweep_override() and is_group(o.key_or_group)]
        for group in self.groups:
            if not isinstance(self.values[group], CategoricalDistribution):
                raise UserError(f"{group} must be names of files, such as choice(a,b), got a range of numbers")
        self._fixed = [o for o in rest if not o.is_sweep_override()]
        self._files = [str(o.input_line) for o in self._fixed if is_group(o.key_or_group)]
        self._settable = [o for o in rest if not (is_group(o.key_or_group) or o.is_hydra_override())]
        self.asked = {knob(o): str(o.input_line).partition("=")[2] for o in overrides}
        self._compose = compose
        self._config = functools.cache(self._composed)

    def fixed(self, params: Mapping[str, Any]) -> list[str]:
        """What is not searched, for a trial that tries `params`."""
        missing = {knob(o) for o in self._settable} - self._there(params)
        return [str(o.input_line) for o in self._fixed if knob(o) not in missing]

    def knobs(self, params: Mapping[str, Any]) -> list[str]:
        """What is proposed beside the groups, once these have been chosen."""
        there = self._there(params)
        return [key for key in self.values if key not in self.groups and key.lstrip("+") in there]

    def proposed(self, params: Mapping[str, Any]) -> list[str]:
        """What a trial tries, as one types it."""
        return [f"{key}={_text(params[key])}" for key in self.values if key in params]

    def corners(self, telling: Collection[str]) -> Iterator[DictConfig]:
        """A config with each choice of a group, and with the values of the knobs in `telling`.

        They grow with the sum of the lists, not with their product: one key at a time has another than its first value.
        Raises UserError for a knob that no choice has.
        """
        self._refuse_unknown()
        for choices in self._stars:
            first = dict(choices)
            first |= {key: tried(self.values[key])[0] for key in self.knobs(first)}
            varied = [{key: value} for key in first if key.lstrip("+") in telling for value in tried(self.values[key])]
            for other in varied or [{}]:
                yield self._compose([*self.fixed(first), *self.proposed(first | other)])

    def _refuse_unknown(self) -> None:
        for o in self._settable:
            if knob(o) not in self._known and not (o.is_add() or o.is_force_add()):
                group, dot, name = knob(o).rpartition(".")
                there = [other.rpartition(".")[2] for other in self._known if other.rpartition(".")[0] == group]
                close = difflib.get_close_matches(name, sorted(there), n=1)
                hint = f"did you mean {group}{dot}{close[0]}?" if close else "no choice that is searched has it"
                raise UserError(f"unknown knob {knob(o)}: {hint}")

    @functools.cached_property
    def _stars(self) -> list[Choices]:
        """Each choice of a group once at least, beside the first ones of the other groups."""
        first = {group: tried(self.values[group])[0] for group in self.groups}
        varied = ({**first, group: choice} for group in self.groups for choice in tried(self.values[group]))
        return [*dict.fromkeys(tuple(choices.items()) for choices in varied)] or [()]

    @functools.cached_property
    def _known(self) -> set[str]:
        """The knobs that some choice has."""
        return set().union(*(self._config(choices)[0] for choices in self._stars))

    @functools.cached_property
    def _models(self) -> set[str]:
        return {self._config(choices)[1] for choices in self._stars}

    def _composed(self, choices: Choices) -> tuple[set[str], str]:
        """The knobs that there are with these choices, and the model, as JSON."""
        config = self._compose([*self._files, *(f"{group}={choice}" for group, choice in choices)])
        plain: Any = OmegaConf.to_container(config, resolve=False)
        plain.pop("hydra", None)
        names = {name for leaf in flat(plain) for name in itertools.accumulate(leaf.split("."), "{}.{}".format)}
        return names, json.dumps(plain["model"], sort_keys=True)

    def _there(self, params: Mapping[str, Any]) -> set[str]:
        """The knobs that are set or proposed beside these choices of groups. One that no choice takes is among them:
        its runs say why they fail."""
        names, model = self._config(tuple((group, params[group]) for group in self.groups))
        return {knob(o) for o in self._settable
                if knob(o) not in self._known or (knob(o) in names and self._suits(o, model))}  # fmt: skip

    def _suits(self, override: Override, model: str) -> bool:
        """Whether a model takes a knob: one without hidden layers takes no dropout. What none takes suits all."""
        if len(self._models) == 1 or _takes(model, override):
            return True
        return not any(_takes(other, override) for other in self._models)


@functools.cache
def _accepts(model: str, assignment: str) -> bool:
    """Whether the default config is accepted with this model and override."""
    config = OmegaConf.create(asdict(Config()) | {"model": json.loads(model)})
    override = parser().parse_override(assignment)
    OmegaConf.update(config, override.key_or_group, override.value(), force_add=True)
    try:
        parse(config)
    except UserError:
        return False
    return True


def _takes(model: str, override: Override) -> bool:
    """Whether a model takes all values of a knob."""
    if override.is_delete():
        return True
    values = tried(distribution(override)) if override.is_sweep_override() else [override.get_value_element_as_str()]
    return all(_accepts(model, f"{knob(override)}={_text(value)}") for value in values)


def distribution(override: Override) -> Values:
    """What Hydra's choice(...), range(...), interval(...), glob(...), tag(log, ...) and a,b,c are for Optuna."""
    sweep: Any = override.value()
    tags: set[str] = getattr(sweep, "tags", set())
    if tags - {"log"}:
        raise UserError(f"{override.input_line}: the only tag that is known is log, got {', '.join(sorted(tags))}")
    try:
        if isinstance(sweep, IntervalSweep | RangeSweep):
            return _range(sweep, log="log" in tags)
        if tags:
            raise ValueError("tag(log, ...) is for interval(...) and range(...)")
        return CategoricalDistribution(_listed(override))
    except (ValueError, HydraException) as error:
        raise UserError(f"{override.input_line}: {error}") from None


def _range(sweep: Any, log: bool) -> Values:
    """Raises ValueError for what is no range of numbers."""
    step: Any = None
    if isinstance(sweep, RangeSweep):
        among = sweep.range()
        values = among if isinstance(among, range) else list(among)
        if not values:
            raise ValueError("there is no number in it")
        low, high = sorted((values[0], values[-1]))
        step = abs(sweep.step)
    else:
        low, high = sweep.start, sweep.end
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ValueError("its ends must be finite numbers")
    if isinstance(low, int):
        return IntDistribution(low, high, log=log, step=step or 1)
    return FloatDistribution(low, high, log=log, step=step)


def _listed(override: Override) -> list[str]:
    """All values of a list, as one types them. Raises ValueError if there are none."""
    sweep: Any = override.value()
    if getattr(sweep, "shuffle", False):  # their order means nothing here, and must be the same again
        override = replace(override, _value=replace(sweep, shuffle=False))
    values = [*override.sweep_string_iterator()]
    if not values:
        raise ValueError("there is no value in it")
    return values


def _seeds(override: Override) -> list[str]:
    """The overrides of the runs of a proposal."""
    try:
        return [f"{override.get_key_element()}={value}" for value in dict.fromkeys(_listed(override))]
    except (ValueError, HydraException):
        raise UserError(f"{knob(override)} must be a list of values, such as 0,1,2 or range(0,3): each proposal is "
                        f"trained with all of them, got {override.input_line}") from None  # fmt: skip


def tried(values: Values) -> list[Any]:
    """All choices, or both ends of a range."""
    if isinstance(values, CategoricalDistribution):
        return [*values.choices]
    return [*dict.fromkeys((values.low, values.high))]


def _text(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
