"""What tests of a search share: a space, an objective with a known best, and what the search's file says."""

import math

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra_plugins._search import Search
from hydra_plugins._space import Space
from hydra_plugins.search import OptunaSweeper
from omegaconf import OmegaConf
from sweep.conftest import Notebook

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


FILES = {  # what choices of config groups there are, and what is in them
    "optim": {"adam": {"betas": [0.9, 0.999]}, "adamw": {"betas": [0.9, 0.99]}, "sgd": {"momentum": 0.9}},
    "model": {"mlp1": {"name": "mlp", "hidden": [200]}, "linear": {"name": "linear"}, "vae": {"name": "vae"}},
}


def composed(overrides):
    """A config, made of FILES as Hydra makes one of conf/."""
    config = OmegaConf.create({"lr": 0.1, "dropout": None, "select": "last", "data": {"split": 0.8}})
    config.optim, config.model = FILES["optim"]["adam"], FILES["model"]["mlp1"]
    for override in OverridesParser.create().parse_overrides(list(overrides)):
        files = FILES.get(override.key_or_group)
        value = files[override.value()] if files else override.value()
        OmegaConf.update(config, override.key_or_group, value, merge=False, force_add=True)
    return config


def space_of(*overrides):
    """What these overrides ask to be searched."""
    return Space(OverridesParser.create().parse_overrides(list(overrides)), FILES.__contains__, composed)


def search_in(directory, overrides=(SPACE,)):
    """The search that a directory holds."""
    search = Search(space_of(*overrides), "tpe", 0)
    search.open(directory, "validation accuracy", "maximize", ())
    return search


def trials_in(directory, overrides=(SPACE,)):
    """(state, value, params, what was reported) of each trial, from the file."""
    with search_in(directory, overrides) as search:
        return [(t.state, t.value, t.params, t.intermediate_values) for t in search.optuna.trials]


def drive(directory, overrides, objective, **settings):
    """Search as the sweeper does it, but for Hydra."""
    sweeper = OptunaSweeper(**settings)
    sweeper.config = OmegaConf.create({"hydra": {"sweep": {"dir": str(directory)}, "verbose": True}})
    sweeper.launcher = Notebook(objective)
    sweeper.launcher.config = sweeper.config
    with search_in(directory, overrides) as search:
        while trials := search.batch(settings["n_trials"], settings["n_jobs"]):
            sweeper._train(search, trials)
    return sweeper.launcher
