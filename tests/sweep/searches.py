"""What tests of a search share: a space, an objective with a known best, and what the search's file says."""

import math

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra_plugins._search import Search

SPACE = "lr=tag(log,interval(1e-4,1e1))"
OPTUNA = ("-m", "hydra/sweeper=optuna", "hydra.sweep.dir=here")


def settings(**values):
    """Settings of the sweeper as one types them."""
    return [f"hydra.sweeper.{name}={value}" for name, value in values.items()]


def parabola(job):
    """Best at lr 0.01; half of it after half of the run."""
    value = 1 - (math.log10(float(job["lr"])) + 2) ** 2 / 10
    return value * float(job.get("until", 1))


def as_dict(job):
    """A job's overrides by knob."""
    return dict(override.split("=", 1) for override in job)


def search_in(directory, overrides=(SPACE,)):
    """The search that a directory holds."""
    search = Search(OverridesParser.create().parse_overrides(list(overrides)), "tpe", 0)
    search.open(directory, "validation accuracy", "maximize", ())
    return search


def trials_in(directory, overrides=(SPACE,)):
    """(state, value, params, what was reported) of each trial, from the file."""
    with search_in(directory, overrides) as search:
        return [(t.state, t.value, t.params, t.intermediate_values) for t in search.optuna.trials]
