"""What finished classifiers say together, and what each of them adds."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fmnist import UserError
from fmnist.finished.load import Asked, Weights, ask
from fmnist.record import checkpoint
from fmnist.record.result import of_run
from fmnist.train.stack import Stack
from fmnist.view.calibration import temperature
from fmnist.view.views import Views

Said = dict[str, tuple[Tensor, Tensor]]  # by part: logits (n, classes), whose softmax gives the probabilities; labels


def members(
    directories: Sequence[Path], data: str | None, each: Callable[[int, Stack, int], None] = lambda *_: None,
    weights: Weights = None, views: Views | None = None,
) -> list[Asked]:  # fmt: skip
    """The runs of an ensemble, asked; see `ask`. Raises UserError where one cannot be asked, is no classifier, or has
    other validation or test images than the first."""
    found: list[Asked] = []
    for asked in ask(directories, weights, data, each=each, views=views):
        if isinstance(asked, UserError):
            raise asked
        if asked.test.logits is None:
            raise UserError(f"an ensemble is of classifiers: {asked.directory} is an autoencoder")
        found.append(asked)
        for part in ("validation", "test"):
            if not _same(getattr(asked.dataset, part), getattr(found[0].dataset, part)):
                raise UserError(f"the runs of an ensemble must have the same {part} images: {asked.directory} has "
                                f"others than {found[0].directory}")  # fmt: skip
    return found


def snapshots(directories: Sequence[Path]) -> list[tuple[Path, str]]:
    """The snapshots of runs: directories, and what `weights_of` knows each by. Raises UserError where one has none."""
    found: list[tuple[Path, str]] = []
    for directory in directories:
        names = [f"snapshot-{number}" for number in range(1, (of_run(directory).cycles or 0) + 1)]
        own = [(directory, name) for name in names if checkpoint.find(directory, name)]
        if not own:
            raise UserError(f"{directory} has no snapshots: training with cycles=N keeps them")
        found += own
    return found


def _same(one: Any, other: Any) -> bool:
    """Whether two splits, or None, have the same rows."""
    if one is other or one is None or other is None:
        return one is other
    return torch.equal(one.images, other.images) and torch.equal(one.labels, other.labels)


def said_by(found: Sequence[Asked], part: str, over_views: bool = False) -> tuple[Tensor, Tensor]:
    """The logits of members, (m, n, classes) float64, and the labels (n,) of a part."""
    said = [(member.viewed if over_views else member.parts)[part] for member in found]
    return torch.stack([own.logits.double() for own in said if own.logits is not None]), said[0].labels


def averages(logits: Tensor) -> dict[str, Tensor]:
    """What members (m, n, classes) say together, as logits (n, classes): by the mean of their "probabilities", and by
    the mean of their "logits"."""
    summed = logits.log_softmax(-1).logsumexp(0)  # that the members are counted makes no difference to logits
    return {"probabilities": summed, "logits": logits.mean(0)}


def averages_of(found: Sequence[Asked], taken: Sequence[int], views: Views | None) -> dict[str, Said]:
    """What members say together, by name: the averages of all, those of the probabilities over views, and those of the
    members that greedy selection has taken, by their places."""
    together: dict[str, Said] = {}

    def note(name: str, part: str, logits: Tensor, labels: Tensor) -> None:
        together.setdefault(name, {})[part] = logits, labels

    for part in found[0].parts:
        logits, labels = said_by(found, part)
        means = averages(logits)
        note("probabilities", part, means["probabilities"], labels)
        if views:
            over = averages(said_by(found, part, over_views=True)[0])
            note(f"probabilities over {len(views)} views", part, over["probabilities"], labels)
        note("logits", part, means["logits"], labels)
        if taken:
            own = averages(logits[list(taken)])["probabilities"]
            note(f"probabilities, {len(taken)} by greedy selection", part, own, labels)
    return together


def tempered(together: dict[str, Said], given: float | None) -> tuple[dict[str, float], dict[str, Said]]:
    """The temperatures of averages of all probabilities, by name: the given one or that which the validation rows
    choose; and what is said together, with these averages at their temperatures behind them."""
    temperatures: dict[str, float] = {}
    found: dict[str, Said] = {}
    for name, own in together.items():
        found[name] = own
        if name == "logits" or "selection" in name or not (given or "validation" in own):
            continue
        best = temperatures[name] = given or temperature(*own["validation"])
        found[f"{name} at temperature {best:.4g}"] = {
            part: (logits / best, labels) for part, (logits, labels) in own.items()
        }
    return temperatures, found


def greedy(logits: Tensor, labels: Tensor) -> list[int]:
    """The places of the members in the order in which each adds most to the mean of the probabilities of those before
    it, by the log loss of these rows (Caruana et al. 2004, each once): logits (m, n, classes), labels (n,)."""
    own = _of_label(logits.softmax(-1), labels)  # (m, n): the log loss needs no other
    left, total, order = [*range(len(own))], torch.zeros_like(own[0]), list[int]()
    while left:
        together = (total + own[left]) / (len(order) + 1)
        order.append(left.pop(int(together.log().mean(-1).argmax())))
        total = total + own[order[-1]]
    return order


def contributions(logits: Tensor, labels: Tensor) -> list[dict[str, Any]]:
    """What each member adds on these rows, in greedy order: its "place", its own accuracy and log loss ("alone"), those
    of the mean of probabilities of all up to it ("together"), and of all members but it ("without")."""
    p = logits.softmax(-1)
    whole, total, found = p.sum(0), torch.zeros_like(p[0]), list[dict[str, Any]]()
    for number, place in enumerate(greedy(logits, labels), start=1):
        total = total + p[place]
        others = (whole - p[place]).clamp_min(0) / (len(p) - 1)
        found.append({"place": place, "alone": _in_short(p[place], labels),
                      "together": _in_short(total / number, labels), "without": _in_short(others, labels)})  # fmt: skip
    return found


def _in_short(p: Tensor, labels: Tensor) -> dict[str, float]:
    """Accuracy and log loss of probabilities (n, classes)."""
    right = (p.max(-1).indices == labels).double()
    return {"accuracy": float(right.mean()), "log_loss": float(-_of_label(p, labels).log().mean())}


def _of_label(p: Tensor, labels: Tensor) -> Tensor:
    """The probabilities of the labels: p (*, n, classes), labels (n,) -> (*, n)."""
    return p.gather(-1, labels.expand(p.shape[:-1])[..., None]).squeeze(-1)
