"""What runs leave to be looked at when they have trained to their end: pictures, and what classifiers get wrong.

What cannot be drawn or found is a warning that names it: the run is trained, and does not fail for want of it. Where
mistakes.json cannot be written, as on a full disk, the run fails as it does with any other file of its record: started
again, it goes on and writes it.
"""

from collections.abc import Sequence
from typing import Any

from fmnist.nn.losses import Classification
from fmnist.view.measure import Seen, as_warning
from fmnist.view.mistakes import FILE, mistakes, write
from fmnist.view.show import Shown, show
from fmnist.view.tally import tally


def leave(stack: Seen, runs: Sequence[Shown]) -> None:
    """Leave in the directory of each of these runs, which are runs of one stack, what suits their model. Raises OSError
    where mistakes.json cannot be written."""
    if not runs:
        return
    if not isinstance(stack.criterion, Classification):
        show(stack, runs)
        return
    found: list[dict[str, Any]] = []
    with as_warning(runs[0].log, FILE):
        seen = tally(stack, stack.dataset.test)
        found = [mistakes(stack, run.index, seen) for run in runs]
    for run, own in zip(runs, found, strict=False):
        write(own, run.directory, run.epoch)
    if found:
        show(stack, runs, seen=seen)
