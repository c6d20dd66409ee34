"""What is shown of runs beside their curves once they are trained: pictures, the model's graph, the projector."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from fmnist.data.dataset import Split, as_input
from fmnist.nn.layers import Linear
from fmnist.nn.losses import Classification
from fmnist.nn.step import evaluating
from fmnist.view.board import Board
from fmnist.view.graph import graph
from fmnist.view.measure import Seen, as_warning, codes
from fmnist.view.tally import Tally, tally

POINTS = 1000  # test images in the projector


class Shown(Protocol):
    """What this needs of a run of a stack; see fmnist.train.run.Run."""

    index: int
    directory: Path
    epoch: int
    error: str | None

    @property
    def board(self) -> Board: ...
    @property
    def log(self) -> logging.Logger: ...


def show(stack: Seen, runs: Sequence[Shown], points: bool | None = None, seen: Tally | None = None) -> None:
    """Show all that there is of runs whose tested weights the stack has. What cannot be drawn is a warning.

    points: whether they stand in the projector, at about a megabyte a run; by default classifiers do that are no runs
    of a sweep, and all autoencoders. seen: of classifiers, the tally of the test images, if it is known.
    """
    classifies = isinstance(stack.criterion, Classification)
    for run in runs:
        with as_warning(run.log, "the graph"):
            run.board.graph(graph(stack.model, stack.dataset.height * stack.dataset.width))
    if classifies:
        _classifiers(stack, runs, seen or tally(stack, stack.dataset.test))
    else:
        _autoencoders(stack, runs)
    chosen = [run for run in runs if (not (classifies and of_sweep(run.directory)) if points is None else points)]
    if chosen:
        _project(stack, chosen)


def of_sweep(directory: Path) -> bool:
    """Whether a run is one of a sweep, in whose directory Hydra has written down what was asked for."""
    return (directory.parent / "multirun.yaml").is_file()


def _autoencoders(stack: Seen, runs: Sequence[Shown]) -> None:
    from fmnist.view.pictures import illustrate  # matplotlib comes with it

    for run in runs:
        illustrate(stack, run.index, run.directory / "figures", run.board, run.epoch, run.log)


def _classifiers(stack: Seen, runs: Sequence[Shown], seen: Tally) -> None:
    from fmnist.view import classifiers  # Pillow comes with it

    for run in runs:
        for name, draw in {"mistakes": classifiers.mistakes, "confusion": classifiers.confusion,
                           "calibration": classifiers.calibration}.items():  # fmt: skip
            with as_warning(run.log, f"the picture of {name}"):
                run.board.picture(f"test/{name}", draw(stack, run.index, seen), run.epoch)
        with as_warning(run.log, "the picture of weights"):
            if png := classifiers.weights(stack, run.index):
                run.board.picture("weights/first_layer", png, run.epoch)
        with as_warning(run.log, "curves of precision by recall"):
            for c, name in enumerate(stack.dataset.names):
                run.board.curves(
                    f"precision by recall/{c:02d} {name.replace('/', ' or ')}",
                    seen.precision_recall(run.index, c),
                    run.epoch,
                )


def _project(stack: Seen, runs: Sequence[Shown]) -> None:
    """Show the codes of some test images or, of classifiers, what goes into the last layer."""
    dataset = stack.dataset
    some = Split(dataset.test.images[:POINTS], dataset.test.labels[:POINTS])
    labels = [dataset.names[label] for label in some.labels.tolist()]
    thumbnails = some.images.view(-1, dataset.height, dataset.width).cpu().numpy()
    for run in runs:
        with as_warning(run.log, "TensorBoard's projector"):
            points = last_layer(stack, some) if isinstance(stack.criterion, Classification) else codes(stack, some)
            own = points[run.index] if points.dim() == 3 else points
            run.board.embedding(own.float().cpu().numpy(), labels, thumbnails)


@torch.no_grad()
def last_layer(stack: Seen, split: Split) -> Tensor:
    """What goes into the last linear layer for a split's images, (K, n, units); the images themselves (n, pixels) where
    it is the only one."""
    layer = [module for module in stack.model.modules() if isinstance(module, Linear)][-1]
    seen: list[Tensor] = []
    hook = layer.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    try:
        stack.start_noise("test")
        with evaluating(stack.model):
            stack.model(as_input(split.images, stack.dtype))
    finally:
        hook.remove()
    return seen[0]
