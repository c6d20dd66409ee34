"""What is measured once, after training: each metric of the whole test set, each run by itself.

A measure is a function of a stack and a split that gives metrics by name, each a list with one number per run; one that
does not apply gives none. What fails for a run fails for that run alone, and is null in its record.
"""

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from fmnist.config.schema import Config
from fmnist.data.dataset import Dataset, Split, as_input
from fmnist.nn.losses import Criterion
from fmnist.nn.models import VAE, Autoencoder
from fmnist.nn.step import MEASURED, evaluating, outputs
from fmnist.program.progress import lines
from fmnist.view.bounds import Bars, negative_iwae
from fmnist.view.metrics import RARE, auroc, holes, remoteness

log = logging.getLogger("train")


class Seen(Protocol):
    """What this package needs of a stack of K runs; see fmnist.train.stack.Stack."""

    configs: Sequence[Config]
    common: Config
    dataset: Dataset
    model: nn.Module
    criterion: Criterion
    dtype: torch.dtype

    def measure(self, part: str, split: Split) -> dict[str, list[float]]: ...
    def start_noise(self, part: str | int) -> None: ...
    def input(self, split: Split) -> Tensor: ...


def codes(stack: Seen, split: Split) -> Tensor:
    """The codes of a split's images by the runs of an autoencoder, (K, n, code)."""
    assert isinstance(stack.model, Autoencoder | VAE)
    stack.start_noise("codes")
    with evaluating(stack.model):
        chunks = torch.split(split.images, 6 * MEASURED)
        return torch.cat([stack.model.encode(as_input(chunk, stack.dtype)) for chunk in chunks], -2)


KNOWN = 20_000  # so many codes of training rows are compared with those of others at most
IN_LOG = partial(lines, unit="sample", say=log.info)


def bound(stack: Seen, split: Split, samples: int | None = None, bar: Bars = IN_LOG) -> dict[str, list[float]]:
    """The importance-weighted bound of a variational autoencoder. samples: None for those of its config. bar: see
    `negative_iwae`."""
    samples = samples or getattr(stack.common.model, "iwae_samples", None)
    if not samples or not isinstance(stack.model, VAE):
        return {}
    return {"negative_iwae": negative_iwae(stack, stack.input(split), samples, bar)}


def empty_space(stack: Seen, split: Split) -> dict[str, list[float]]:
    """The holes in a latent space of two numbers."""
    if not isinstance(stack.model, Autoencoder | VAE) or (found := codes(stack, split)).shape[-1] != 2:
        return {}
    return {"holes": [_or_nan(holes, run) for run in found]}


def anomaly(stack: Seen, split: Split) -> dict[str, list[float]]:
    """How well the classes that were trained on are told from the others: by the criterion's scores; by the errors in
    lightness, those of each pixel divided by what they are for the training rows (a Mahalanobis distance whose
    covariance is diagonal); and by these and how far the code is from those of training rows, each in units of what it
    varies by among training rows."""
    if not (normal := stack.common.anomaly.classes):
        return {}
    known = stack.dataset.train
    sums = [_in_lightness(output, x).sum(-2, keepdim=True) for output, x, _ in _outputs(stack, known)]
    usual = torch.stack(sums).sum(0)
    usual = (usual + RARE * usual.mean(-1, keepdim=True)) / len(known.labels)

    def scaled(output: Any, x: Tensor) -> Tensor:
        return (_in_lightness(output, x) / usual).sum(-1)

    own = torch.cat([scaled(output, x) for output, x, _ in _outputs(stack, known)], -1)
    pieces = [stack.criterion.scores(output, x, labels) | {"auroc_scaled": scaled(output, x)}
              for output, x, labels in _outputs(stack, split)]  # fmt: skip
    scores = {name: torch.cat([piece[name] for piece in pieces], -1) for name in pieces[0]}
    seen = codes(stack, Split(known.images[:KNOWN], known.labels[:KNOWN]))
    remote = torch.stack([remoteness(*pair) for pair in zip(seen, codes(stack, split), strict=True)])
    scores["auroc_with_code"] = scores["auroc_scaled"] / own.std(-1, correction=0, keepdim=True) + remote
    strange = ~torch.isin(split.labels, torch.tensor(normal, device=split.labels.device))
    return {name: [_or_nan(auroc, run, strange) for run in of_runs] for name, of_runs in scores.items()}


def _in_lightness(output: Any, x: Tensor) -> Tensor:
    """The squared error of each pixel in lightness, the cube root as in CIE 1976 L*: that of dark greys counts, too."""
    image: Tensor = getattr(output, "logits", output).sigmoid()
    return (image.pow(1 / 3) - x.pow(1 / 3)).square()


def _outputs(stack: Seen, split: Split) -> Iterator[tuple[Any, Tensor, Tensor]]:
    """What `outputs` gives of a split, by the same noise each time."""
    stack.start_noise("test")
    return outputs(stack.model, stack.criterion, stack.input(split), split.labels, stack.common.precision)


def _or_nan(metric: Callable[..., float], *given: Tensor) -> float:
    """A metric of one run; nan, and a line in the log, where it is not defined."""
    try:
        return metric(*given)
    except Exception as error:  # whatever a library makes of diverged or degenerate numbers
        log.warning(f"{metric.__name__} of a run is not defined: {error}")
        return math.nan


@contextmanager
def as_warning(log: logging.Logger, name: str) -> Iterator[None]:
    """Make a warning of what keeps something from being drawn. name: of what it is. A fault of the disk is raised: the
    run fails by it as by any other, and makes what is missing when it goes on."""
    try:
        yield
    except Exception as error:
        if isinstance(error, OSError) and error.errno:  # Pillow's own have no number
            raise
        log.warning(f"{name} could not be made: {type(error).__name__}: {error}")


ONCE: list[Callable[[Seen, Split], dict[str, list[float]]]] = [empty_space, anomaly]


def once(stack: Seen, split: Split, samples: int | None = None, bar: Bars = IN_LOG) -> dict[str, list[float]]:
    """What is measured only once, by name, one per run. samples, bar: see `bound`."""
    found = bound(stack, split, samples, bar)
    for measure in ONCE:
        found |= measure(stack, split)
    return found


def final(stack: Seen, samples: int | None = None, bar: Bars = IN_LOG, both: bool = True) -> dict[str, list[float]]:
    """The metrics that runs end with, by tag, one per run: of the validation rows, if there are any, and of the test
    rows. samples, bar: see `bound`. both: whether it is measured of the validation rows, too: it may take long."""
    held_out, mixed, test = stack.dataset.validation, stack.dataset.mixed, stack.dataset.test
    found = {}
    if held_out:
        found = stack.measure("validation", held_out)
        found |= _tagged("validation", bound(stack, held_out, samples, bar) if both else {})
    found |= _tagged("validation", anomaly(stack, mixed) if mixed else {})
    return found | stack.measure("test", test) | _tagged("test", once(stack, test, samples, bar))


def _tagged(part: str, metrics: dict[str, list[float]]) -> dict[str, list[float]]:
    return {f"{part}/{name}": values for name, values in metrics.items()}
