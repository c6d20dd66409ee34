"""Which runs train together: decided by their configs alone. No torch."""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import fields, is_dataclass
from itertools import pairwise
from typing import Any, TypeVar

from fmnist.config.schema import Config
from fmnist.launch.costs import memory, work

TaskT = TypeVar("TaskT", bound=Callable[..., Any])


def stackable(task: TaskT) -> TaskT:
    """Mark a task function that trains the run of its config and does nothing else.

    A launcher may train several such runs together, by `fmnist.launch.worker.train_group`.
    """
    task.stackable = True  # type: ignore[attr-defined]
    return task


def kind_of(config: Config) -> str:
    """What two runs must share to be trained in one stack, as text.

    They share all knobs but the per-run ones. Of a per-run knob they share whether it is null.
    """

    def shared(part: Any) -> Any:
        if not is_dataclass(part):
            return part
        knobs = {f.name: (getattr(part, f.name), f.metadata.get("per_run")) for f in fields(part)}
        return {name: value is None if per_run else shared(value) for name, (value, per_run) in knobs.items()}

    return json.dumps(shared(config), sort_keys=True)


def groups(configs: Sequence[Config]) -> list[list[int]]:
    """The places of the configs that may be trained together, the group with the most work first.

    Within a group, runs with the same batch order are neighbours: a stack of them shares its first product.
    """
    found: dict[str, list[int]] = {}
    for index, config in enumerate(configs):
        found.setdefault(kind_of(config), []).append(index)
    together = [sorted(group, key=lambda index: (configs[index].order_seed, index)) for group in found.values()]
    return sorted(together, key=lambda group: -work(configs[group[0]]) * len(group))


def cut(group: Sequence[int], most: int, workers: int) -> list[list[int]]:
    """Cut a group into stacks of nearly equal size, none above `most`: so many that all workers are busy to the end."""
    count = math.ceil(len(group) / most)
    count = min(len(group), math.ceil(count / workers) * workers)
    bounds = [round(len(group) * number / count) for number in range(count + 1)]
    return [list(group[start:end]) for start, end in pairwise(bounds)]


def stacks(
    configs: Sequence[Config], found: Sequence[Sequence[int]], sizes: Sequence[int], workers: int, room: float
) -> list[list[int]]:
    """All configs as stacks, the one with the most work first.

    found: `groups(configs)`. sizes: the most runs in a stack of each group. room: bytes that a stack may take.
    """
    busy = workers if len(found) == 1 else 1  # several groups keep the workers busy by themselves
    all_stacks = [
        stack for group, size in zip(found, sizes, strict=True)
        for stack in cut(group, max(1, int(min(size, room / memory(configs[group[0]])))), busy)
    ]  # fmt: skip
    while len(all_stacks) < workers and max(map(len, all_stacks)) > 1:
        longest = max(all_stacks, key=lambda stack: (len(stack) > 1) * work(configs[stack[0]]) * len(stack))
        all_stacks.remove(longest)
        all_stacks += cut(longest, math.ceil(len(longest) / 2), 1)
    return sorted(all_stacks, key=lambda stack: -work(configs[stack[0]]) * len(stack))
