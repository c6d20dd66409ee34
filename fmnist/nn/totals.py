"""The metrics of an epoch, summed over its rows, of many batches at once."""

from collections.abc import Callable

import torch
from torch import Tensor

# From outputs (K, rows, classes) and targets, such as labels (K, rows) or (rows,), to metrics by tag, (K, rows).
Metrics = Callable[..., dict[str, Tensor]]
ROWS_KEPT = 2048  # with so many, their metrics cost arithmetic more than calls


class Totals:
    """By tag, a metric's sum over rows for each run, (K,) float64."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.sums: dict[str, Tensor] = {}
        self.later: dict[tuple[torch.Size, ...], Later] = {}

    def of(self, tag: str, runs: int) -> Tensor:
        """The total of one tag, (runs,); zero when it is first asked for."""
        return self.sums.setdefault(tag, torch.zeros(runs, dtype=torch.float64, device=self.device))

    def add(self, metrics: dict[str, Tensor]) -> None:
        """Add metrics per row, (K, rows)."""
        for tag, metric in metrics.items():
            self.of(tag, len(metric)).add_(metric.detach().sum(-1, dtype=torch.float64))

    def up_to_date(self) -> dict[str, Tensor]:
        """All totals by tag, those of the kept outputs included."""
        for later in self.later.values():
            later.settle()
        return self.sums

    def reset(self) -> None:
        """Set all totals to zero."""
        for total in self.up_to_date().values():
            total.zero_()


class Later:
    """The outputs of the last batches and their targets, kept until there are enough to take their metrics together.

    At small batches a dozen operations on a hundred numbers each would cost more than the products of the step.
    """

    def __init__(self, totals: Totals, metrics: Metrics, output: Tensor, *targets: Tensor) -> None:
        self.totals, self.metrics = totals, metrics
        self.rows = output.shape[-2]
        size = max(1, ROWS_KEPT // self.rows) * self.rows
        self.outputs = output.new_empty(*output.shape[:-2], output.shape[-1], size)
        self.targets = [target.new_empty(*target.shape[:-1], size) for target in targets]
        chunks = [slice(start, start + self.rows) for start in range(0, size, self.rows)]
        self.slots = [(self.outputs[..., rows].mT, [target[..., rows] for target in self.targets]) for rows in chunks]
        self.filled = 0

    def keep(self, output: Tensor, *targets: Tensor) -> None:
        """Keep a copy of an output and its targets."""
        if self.filled == len(self.slots):
            self.settle()
        outputs_kept, targets_kept = self.slots[self.filled]
        outputs_kept.copy_(output)
        for kept, target in zip(targets_kept, targets, strict=True):
            kept.copy_(target)
        self.filled += 1

    @torch.no_grad()
    def settle(self) -> None:
        """Add the metrics of all that is kept to the totals."""
        rows = self.filled * self.rows
        if rows:
            kept = [target[..., :rows] for target in self.targets]
            self.totals.add(self.metrics(self.outputs[..., :rows].mT, *kept))
        self.filled = 0
