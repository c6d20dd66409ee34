"""Finished runs as stacks, and what they say of their images: runs that agree in shape are measured together."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fmnist import UserError
from fmnist.config.schema import Config
from fmnist.data.dataset import Dataset
from fmnist.launch.groups import kind_of
from fmnist.program.progress import progress
from fmnist.record import checkpoint
from fmnist.record.result import of_run, read_result
from fmnist.train.restore import restore, weights_of
from fmnist.train.stack import Stack, check_weights
from fmnist.view.answers import Answers, answers, over_views
from fmnist.view.views import Views

Weights = str | None | Sequence[str]
TOGETHER = 16  # runs of a stack: their outputs and activations stay small, and the data are read once for all of a kind


@dataclass(frozen=True)
class Asked:
    """A finished run, its data, and what its model says of them: by part, "test" and, if any, "validation". viewed: the
    same over views of the images, if asked for."""

    directory: Path
    config: Config
    dataset: Dataset
    parts: Mapping[str, Answers]
    viewed: Mapping[str, Answers]

    @property
    def test(self) -> Answers:
        """What it says of the test images."""
        return self.parts["test"]

    @property
    def validation(self) -> Answers | None:
        """What it says of the validation images; None without any."""
        return self.parts.get("validation")


def stacks(
    directories: Sequence[Path], weights: Weights = None, data: str | None = None
) -> Iterator[tuple[list[int], Stack | UserError]]:
    """Finished runs as stacks in evaluation mode, each with the places of its runs among the directories; or the error
    of one that cannot be loaded. Runs share a stack if they differ in per-run knobs alone, were trained on the same
    data and by the same kernels. weights, data: see `restore`; weights may be a list, one for each directory."""
    which = [weights] * len(directories) if weights is None or isinstance(weights, str) else weights
    kinds: dict[str, list[int]] = {}
    configs: dict[int, Config] = {}
    for place, directory in enumerate(directories):
        try:
            configs[place] = of_run(directory)
        except UserError as error:
            yield [place], error
            continue
        result = read_result(directory) or {}
        alike = [kind_of(configs[place]), result.get("kernels"), result.get("data")]
        kinds.setdefault(json.dumps(alike, sort_keys=True), []).append(place)
    for places in kinds.values():
        first: Stack | None = None  # the first that can be loaded: the others share its data
        for start in range(0, len(places), TOGETHER):
            kept: dict[int, Any] = {}
            for place in places[start : start + TOGETHER]:
                try:
                    if first is None:
                        first = restore(directories[place], which[place], data)
                        kept[place] = first.weights(0)
                    else:
                        kept[place] = _fitting(directories[place], which[place] or configs[place].select, first)
                except UserError as error:
                    named = str(directories[place]) in str(error)
                    yield [place], error if named else UserError(f"{directories[place]}: {error}")
            if first is not None and kept:
                yield [*kept], _together([configs[place] for place in kept], [*kept.values()], first)


def _fitting(directory: Path, which: str, first: Stack) -> Any:
    """The weights of a run for a stack like the first one. Raises UserError where they do not fit."""
    file, kept = weights_of(directory, which)
    with checkpoint.judging(file):
        check_weights(first.model, kept)
    return kept


def _together(configs: Sequence[Config], kept: Sequence[Any], first: Stack) -> Stack:
    """Runs with these weights as one stack, with the data and the kernels of the first one."""
    configs = [replace(config, data=first.common.data) for config in configs]  # where they lie now
    stack = Stack(configs, first.dataset, first.optimizer.flat.data.device)
    stack.step.go_on_with(first.step.settings())
    for run, weights in enumerate(kept):
        stack.load_weights(run, weights)
    stack.model.eval()
    return stack


def ask(
    directories: Sequence[Path], weights: Weights = None, data: str | None = None,
    of: Callable[[Dataset], Dataset] = lambda dataset: dataset, pictures: bool = False,
    each: Callable[[int, Stack, int], None] = lambda place, stack, run: None, views: Views | None = None,
) -> list[Asked | UserError]:  # fmt: skip
    """What finished runs say of their validation and test images, in the order of the directories, or why one cannot be
    asked; with a progress bar on a terminal. of: changes the data. pictures: see `answers`. each: is called for every
    run, with its place, its stack and its place in that, as long as it is loaded. views: what classifiers are asked
    over."""
    found: dict[int, Asked | UserError] = {}
    with progress(len(directories), 0, "run") as bar:
        for places, stack in stacks(directories, weights, data):
            if isinstance(stack, UserError):
                found[places[0]] = stack
            else:
                dataset = stack.dataset = of(stack.dataset)
                parts = {"validation": dataset.validation, "test": dataset.test}
                said = {part: answers(stack, part, split, pictures) for part, split in parts.items() if split}
                seen = {part: over_views(stack, split, views) for part, split in parts.items() if split and views}
                for run, place in enumerate(places):
                    own, over = ({part: of_all[run] for part, of_all in all_of.items()} for all_of in (said, seen))
                    found[place] = Asked(directories[place], stack.configs[run], dataset, own, over)
                    each(place, stack, run)
            bar.update(len(places))
    return [found[place] for place in range(len(directories))]
