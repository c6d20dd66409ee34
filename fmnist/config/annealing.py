"""What `anneal` says: knobs that change from epoch to epoch."""

import math
from collections.abc import Callable
from dataclasses import replace

from fmnist.config.schema import AUGMENTATIONS, WHOLE, Config


def annealed(config: Config, pick: Callable[[list[float]], float]) -> Config:
    """The same run where each knob that `anneal` moves has one value, as `pick` says; pixels are whole."""
    then = replace(config, model=replace(config.model), augment={**config.augment})
    for name, values in config.anneal.items():
        part = then.augment if name in AUGMENTATIONS else vars(then if hasattr(then, name) else then.model)
        part[name] = float(round(pick(values))) if AUGMENTATIONS.get(name) == WHOLE else pick(values)
    then.augment = {name: then.augment[name] for name in AUGMENTATIONS if then.augment.get(name)}
    return then


def at(config: Config, epoch: int) -> Config:
    """The same run in an epoch. `anneal` has points at equal distances, with straight lines between them."""

    def value(values: list[float]) -> float:
        place = (len(values) - 1) * ((epoch - 1) / (config.epochs - 1) if epoch < config.epochs else 1)
        before, after = values[math.floor(place)], values[math.ceil(place)]
        return before + (after - before) * (place % 1)

    return annealed(config, value)
