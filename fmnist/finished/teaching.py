"""An ensemble as a teacher: the mean of its probabilities for all rows of the training file."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor

from fmnist import UserError
from fmnist.data.dataset import Dataset, Split, load
from fmnist.sources.teacher import Teacher
from fmnist.train.stack import Stack
from fmnist.view.answers import answers, over_views
from fmnist.view.views import Views


class Teaching:
    """Sums what runs say of the training file's rows while they are loaded: see `ask`. views: over which they say it.
    Raises UserError where they were trained on other data than the first."""

    def __init__(self, views: Views | None) -> None:
        self.views, self.count = views, 0
        self.rows: Split | None = None  # all that the training file has
        self.total = self.trained = torch.zeros(1)
        self.data = ""

    def __call__(self, place: int, stack: Stack, run: int) -> None:
        """Add what the runs of a stack say: all of them at once, with the first one."""
        if run:
            return
        if self.rows is None:
            self.rows, self.data = _whole(stack), stack.dataset.digest
            self.trained = torch.zeros(len(self.rows.labels), dtype=torch.bool)
        if stack.dataset.digest != self.data:
            raise UserError("the members of a teacher must be trained on the same data: their bytes differ "
                            f"({self.data}, {stack.dataset.digest})")  # fmt: skip
        said = over_views(stack, self.rows, self.views) if self.views else answers(stack, "train", self.rows)
        self.total = sum((own.probabilities for own in said), self.total)
        self.count += len(said)
        self.trained[stack.dataset.train.places] = True

    def teacher(self, path: Path, members: Sequence[Path]) -> Teacher:
        """What all of them say together, to be written."""
        about = {"members": [str(member.absolute()) for member in members], "views": self.views and self.views.text}
        mean: Tensor = self.total / self.count
        return Teacher(path, mean.float(), self.trained, self.data, about)


def _whole(stack: Stack) -> Split:
    """All rows of the training file of a stack's data."""
    whole: Dataset = load(**asdict(stack.common.data) | {"split": 1.0, "split_by": "tail", "limit": None})
    return whole.train.to(stack.optimizer.flat.data.device)
