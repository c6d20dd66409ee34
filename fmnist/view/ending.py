"""What runs leave to be looked at when they have trained to their end: pictures, and what classifiers get wrong.

What cannot be drawn or found is a warning that names it: the run is trained, and does not fail for want of it. Where
mistakes.json cannot be written, as on a full disk, the run fails as it does with any other file of its record: started
again, it goes on and writes it.
"""

from collections.abc import Sequence

from fmnist.nn.losses import Classification
from fmnist.view.measure import Seen, as_warning
from fmnist.view.mistakes import mistakes, write
from fmnist.view.show import Shown, show
from fmnist.view.tally import tally


def leave(stack: Seen, runs: Sequence[Shown]) -> None:
    """Leave in the directory of each of these runs, which are runs of one stack, what suits their model. Raises OSError
    where mistakes.json cannot be written."""
    if not runs:
        return
    seen = None
    if isinstance(stack.criterion, Classification):
        with as_warning(runs[0].log, "what the test images are taken for"):
            seen = tally(stack, stack.dataset.test)
        if seen is None:
            return
        for run in runs:
            write(mistakes(stack, run.index, seen), run.directory, run.epoch)
    show(stack, runs, seen=seen)
