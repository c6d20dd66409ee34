"""What runs leave to be looked at when they have trained to their end: pictures of autoencoders, classifiers' mistakes.

What cannot be drawn or found is a warning that names it: the run is trained, and does not fail for want of it. Where
mistakes.json cannot be written, as on a full disk, the run fails as it does with any other file of its record: started
again, it goes on and writes it.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from fmnist.nn.losses import Classification
from fmnist.view.measure import Seen, as_warning
from fmnist.view.mistakes import FILE, mistakes, write


class Ended(Protocol):
    """What is needed of a run that has trained to its end; see fmnist.train.run.Run."""

    index: int
    directory: Path
    epoch: int
    record: Any


def leave(stack: Seen, runs: Sequence[Ended]) -> None:
    """Leave in the directory of each of these runs, which are runs of one stack, what suits their model. Raises OSError
    where mistakes.json cannot be written."""
    if not runs:
        return
    if isinstance(stack.criterion, Classification):
        found: list[dict[str, Any]] = []
        with as_warning(runs[0].record.log, FILE):
            found = mistakes(stack, [run.index for run in runs])
        for run, own in zip(runs, found, strict=False):
            write(own, run.directory, run.epoch)
        return
    from fmnist.view.pictures import illustrate  # matplotlib comes with it

    for run in runs:
        illustrate(stack, run.index, run.directory / "figures", run.record.mirror, run.epoch, run.record.log)
