"""The training step made fast: recorded once on a tape, replayed ever after."""

import torch
from torch import nn

from fmnist.data.batches import Batch
from fmnist.nn.losses import Classification, Criterion
from fmnist.nn.optim import Optimizer
from fmnist.nn.step import Step
from fmnist.speed.graphs import capture_on
from fmnist.speed.kernels import Kernels, choose
from fmnist.speed.tape import Arenas, Tape
from fmnist.speed.taped import in_chunks, multiplies_only, write
from fmnist.speed.taped_losses import write_loss


class TapedStep(Step):
    """The step as a tape, recorded once for each pair of input buffers and replayed ever after.

    The buffers' contents may change between calls, the parameters' too; neither may be rebound.
    """

    def __init__(self, model: nn.Module, criterion: Criterion, optimizer: Optimizer, precision: str, rows: int) -> None:
        super().__init__(model, criterion, optimizer, precision)
        self.rows, self.whole = rows, not in_chunks(model, criterion)
        self.tapes: dict[tuple[int, int, torch.Size], tuple[Tape, Batch]] = {}
        self.arenas, self.capture = Arenas(optimizer.flat.data.device), capture_on(optimizer.flat.data.device)
        self.go_on_with(None)

    def go_on_with(self, kernels: Kernels | None) -> None:
        """Use the kernels that the run began with, if they serve here. It must not have trained yet."""
        self.kernels = choose(self.optimizer.flat.data.device, self.precision, self.rows, kernels)
        only_products = isinstance(self.criterion, Classification) and multiplies_only(self.model)
        self.takes_pixels = self.kernels.integers and only_products

    def gradient(self, batch: Batch) -> None:
        """See Step."""
        key = (batch.x.data_ptr(), batch.labels.data_ptr(), batch.x.shape)
        if key not in self.tapes:
            self.tapes[key] = self._write(batch), batch  # holding the buffers keeps their addresses theirs
        self.tapes[key][0].replay()

    def _write(self, batch: Batch) -> Tape:
        chunks = list(self.chunks(batch))
        sizes = [x.shape[-2] for x, _, _ in chunks]
        tape = Tape(self.kernels, self.optimizer.flat.data.dtype, self.totals, self.arenas, sizes, self.capture)
        for number, (x, labels, pixels) in enumerate(chunks):
            tape.start(number, x, pixels if self.kernels.integers else None)
            output, back = write(self.model, tape, x)
            back(write_loss(self.criterion, tape, output, x, labels, tape.rows))
        return tape
