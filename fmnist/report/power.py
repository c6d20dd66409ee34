"""How many seeds it takes to see a difference between two configurations, from the spread over the seeds at hand."""

from math import isnan

from fmnist.report.comparison import Comparison, Configuration
from fmnist.report.intervals import needed, pooled
from fmnist.report.tables import Table
from fmnist.report.words import PARTS, counted, in_words

DIFFERENCES = (0.1, 0.2, 0.5, 1.0)  # in points of a share, or in percent of the best mean
MOST = 10_000  # seeds


def compared(comparison: Comparison) -> list[Configuration]:
    """The better half of the configurations with two seeds or more: what one would want to tell apart."""
    several = [c for c in comparison.finished if len(c.values("objective")) > 1]
    return several[: -(-len(several) // 2)]


def power(comparison: Comparison) -> tuple[Table, str] | str:
    """The number of seeds that show a difference with a power of 80 % at a level of 5 %, as a table and what it is of;
    or why there is none."""
    chosen = compared(comparison)
    if not chosen:
        return ("How many seeds it takes to see a difference cannot be told: that needs a configuration with two "
                "finished seeds or more, and their spread.")  # fmt: skip
    points = comparison.metric == "accuracy"
    unit = 0.01 if points else 0.01 * abs(chosen[0].interval("objective").mean)
    header, columns, spreads = ["difference"], [], []
    for tag, part in (("objective", comparison.judged_by), (comparison.test, comparison.test)):
        words = PARTS[part.partition("/")[0]]
        for name, (sd, degrees), pairs in (
            ("other seeds", _spread(chosen, tag), False), ("the same seeds", _paired_spread(chosen, tag), True)
        ):  # fmt: skip
            if isnan(sd):
                continue
            header.append(f"{words}, {name}")
            columns.append([_seeds(unit * difference, sd, pairs) for difference in DIFFERENCES])
            spreads.append(f"{words}, {name}: {sd:.2g} ({counted(degrees, 'degree')} of freedom)")
    names = [
        f"{difference:g} point{'s' * (difference != 1)}" if points else f"{difference:g} %"
        for difference in DIFFERENCES
    ]
    rows = [[name, *(column[place] for column in columns)] for place, name in enumerate(names)]
    return Table(header, rows), (
        f"Seeds for each of two configurations, so that a t test at 5 % (two-sided) finds a true difference in "
        f"{in_words(comparison.metric)} of that size in 80 % of cases. With other seeds for each the test is unpaired, "
        "with the same seeds for both it is paired. "
        + ("" if points else "A difference is in percent of the best mean. ")
        + "Assumed: results are normal over seeds, with the standard deviation of the better half of configurations "
        f"that have two seeds or more, {len(chosen)} here ({'; '.join(spreads)})."
    )


def _spread(chosen: list[Configuration], tag: str) -> tuple[float, int]:
    """The standard deviation over the seeds of a configuration, and its degrees of freedom."""
    return pooled([[*c.values(tag).values()] for c in chosen])


def _paired_spread(chosen: list[Configuration], tag: str) -> tuple[float, int]:
    """The standard deviation, over the seeds that both have, of the difference between a configuration and the best."""
    best, *others = chosen
    known = best.values(tag)
    return pooled([[value - known[seed] for seed, value in c.values(tag).items() if seed in known] for c in others])


def _seeds(difference: float, sd: float, pairs: bool) -> str:
    if not sd or not difference:
        return "2" if difference else ""
    found = needed(difference, sd, pairs, most=MOST)
    return f"{found:,}" if found else f"> {MOST:,}"
