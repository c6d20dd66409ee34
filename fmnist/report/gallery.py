"""The pictures of a report: which there are, and for which comparisons each is meant.

To add one, write a function that draws it in landscapes.py, below the decorator `suits`: a report calls every function
whose decorator fits the comparison. This one is for comparisons in which a single knob varies:

    @suits(varying=1)
    def ranking(comparison: Comparison) -> Picture:
        with matplotlib.rc_context(STYLE):
            figure = Figure(figsize=(WIDTH, 3.0), layout="constrained")
            axes = figure.subplots()
            for c in comparison.finished:
                axes.bar(c.label, c.interval("objective").mean)
            axes.set_ylabel(tag_in_words(comparison.judged_by, comparison.shared))
        return Picture("ranking", figure, "The configurations, the best first.")

A picture's name is that of its file. Pictures stand in a report in the order in which their functions are defined. A
function may give a sentence in place of a picture: what there is too little of to draw it.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from fmnist.report.comparison import Comparison

if TYPE_CHECKING:
    from fmnist.report.plots import Picture

    Drawn = Picture | str

FORMATS = (".png", ".svg", ".pdf")  # of a picture's file, where one may choose
Draw = TypeVar("Draw", bound="Callable[[Comparison], Drawn | Sequence[Drawn]]")


@dataclass(frozen=True)
class Entry:
    """A function that draws, and what it is meant for: see `suits`."""

    draw: "Callable[[Comparison], Drawn | Sequence[Drawn]]"
    varying: int | None
    finished: int
    when: Callable[[Comparison], bool]

    def fits(self, comparison: Comparison) -> bool:
        """Whether it is meant for a comparison."""
        varying = self.varying in (None, len(comparison.varying))
        return varying and len(comparison.finished) >= self.finished and self.when(comparison)


ENTRIES: dict[str, Entry] = {}  # by the function's full name, so that a module that is loaded again replaces its own


def suits(
    varying: int | None = None, finished: int = 2, when: Callable[[Comparison], bool] = lambda _: True
) -> Callable[[Draw], Draw]:
    """Let reports call the decorated function, which gives a picture, a sentence or a list of these, for some
    comparisons.

    varying: the number of knobs that vary in them; None is any. finished: how many configurations have a finished run
    at least. when: what else must be true of them.
    """

    def enter(draw: Draw) -> Draw:
        ENTRIES[f"{draw.__module__}.{draw.__qualname__}"] = Entry(draw, varying, finished, when)
        return draw

    return enter


def pictures(comparison: Comparison) -> "list[Drawn]":
    """Those that suit a comparison, and the sentences that stand for one. Raises ValueError where two pictures have one
    name."""
    drawn: list[Drawn] = []
    for entry in ENTRIES.values():
        if entry.fits(comparison):
            made = entry.draw(comparison)
            drawn += [made] if isinstance(made, str) or not isinstance(made, Sequence) else made
    names = Counter(picture.name for picture in drawn if not isinstance(picture, str))
    twice = [name for name, count in names.items() if count > 1]
    if twice:
        raise ValueError(f"two pictures of a report have the name {', '.join(twice)}")
    return drawn
