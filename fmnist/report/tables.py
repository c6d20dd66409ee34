"""Tables of comparisons: as rows of text for a page and for LaTeX, and as numbers for CSV."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from math import floor, isnan, log10

from fmnist.report.axes import in_words
from fmnist.report.comparison import Comparison, Configuration, short, value_in_words
from fmnist.report.intervals import Interval

LATEX = str.maketrans({
    "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}", "\\": r"\textbackslash{}", "±": r"$\pm$", "<": "$<$", ">": "$>$", 
})  # fmt: skip
MARKDOWN = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"} | {sign: f"\\{sign}" for sign in "\\`*_|"})


@dataclass(frozen=True)
class Table:
    """Rows of plain text under a header; `strong` are the numbers of the rows to be set in bold."""

    header: list[str]
    rows: list[list[str]]
    strong: tuple[int, ...] = ()

    def markdown(self) -> str:
        """As a table of Markdown's."""
        rows = [[escape(cell) for cell in row] for row in self.rows]
        for number in self.strong:
            rows[number] = [f"**{cell}**" if cell else "" for cell in rows[number]]
        lines = [[escape(cell) for cell in self.header], ["---"] * len(self.header), *rows]
        return "".join(f"| {' | '.join(line)} |\n" for line in lines)

    def latex(self) -> str:
        """As a tabular of LaTeX's, with the rules of its package booktabs."""
        rows = [[cell.translate(LATEX) for cell in row] for row in self.rows]
        for number in self.strong:
            rows[number] = [rf"\textbf{{{cell}}}" if cell else "" for cell in rows[number]]
        header, *body = [" & ".join(row) + r" \\" for row in [[cell.translate(LATEX) for cell in self.header], *rows]]
        lines = [rf"\begin{{tabular}}{{{'l' * len(self.header)}}}", r"\toprule", header, r"\midrule", *body]
        return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def escape(text: str) -> str:
    """Plain text for Markdown: shown as it is, on one line."""
    return " ".join(text.split()).translate(MARKDOWN)


def number(value: float) -> str:
    """Four digits that count."""
    return "" if isnan(value) else f"{value:#.4g}".removesuffix(".")


def spread(interval: Interval) -> str:
    """Mean ± standard deviation: two digits of this, and of the mean as many as these bear out."""
    mean, sd = interval.mean, interval.sd
    if isnan(sd):
        return number(mean)
    if not 1e-6 < sd < 1e6:
        return f"{mean:.4g} ± {sd:.2g}"
    decimals = max(0, 1 - floor(log10(sd)))
    return f"{mean:.{decimals}f} ± {sd:.{decimals}f}"


def bounds(interval: Interval) -> str:
    """The interval, or nothing for a single value."""
    return "" if isnan(interval.low) else f"{number(interval.low)} to {number(interval.high)}"


def summary(comparison: Comparison) -> Table:
    """One row a configuration, best first: its knobs, how many of its runs count, the objective, the test figures."""
    others = [tag for tag in comparison.tags if tag.startswith("test/") and tag != comparison.test]
    figures = [in_words(comparison.judged), "95 % interval", in_words(comparison.test), "95 % interval"]
    header = ["rank", *map(short, comparison.varying), "n", *figures, *map(in_words, others)]
    rows = []
    for rank, c in enumerate(comparison.configurations, start=1):
        knobs = [value_in_words(c.knobs[name], name) if name in c.knobs else "" for name in comparison.varying]
        n = f"{len(c.done)} of {len(c.done) + len(c.others)}" if c.others else str(len(c.done))
        cells = [text(c.interval(tag)) for tag in ("objective", comparison.test) for text in (spread, bounds)]
        rows.append([str(rank) if c.done else "", *knobs, n, *cells, *(spread(c.interval(tag)) for tag in others)])
    used = [any(row[column] for row in rows) for column in range(len(header))]
    header, *rows = [[cell for cell, use in zip(row, used, strict=True) if use] for row in [header, *rows]]
    return Table(header, rows, strong=(0,) if comparison.finished else ())


def differences(comparison: Comparison, baseline: Configuration, limit: int = 20) -> tuple[Table, int]:
    """The configurations against one of them, paired by seed; how many comparisons were made. The best `limit` are
    shown; those that share no two seeds with the baseline are left out."""
    tags = ("objective", comparison.test)
    compared = [[c.minus(baseline, tag) for tag in tags] for c in comparison.finished]
    made = sum(c is not baseline and ours[0].n > 1 for c, (ours, _) in zip(comparison.finished, compared, strict=True))
    rows: list[list[str]] = []
    for c, results in zip(comparison.finished, compared, strict=True):
        if c is baseline or results[0][0].n < 2 or len(rows) == limit:
            continue
        row = [c.label, str(results[0][0].n)]
        for difference, p in results:
            row += [signed(difference), p_value(p), p_value(min(1.0, p * made))]
        rows.append(row)
    header = ["configuration", "pairs"]
    for tag in (comparison.judged, tags[1]):
        header += [f"{in_words(tag)}: difference [95 % interval]", "p", "p, Bonferroni"]
    return Table(header, rows), made


def signed(difference: Interval, scale: float = 1.0) -> str:
    """A mean difference with its interval, both times scale."""
    mean, low, high = (f"{scale * value:+.3g}" for value in (difference.mean, difference.low, difference.high))
    return mean if isnan(difference.low) else f"{mean} [{low}, {high}]"


def p_value(p: float) -> str:
    """To two digits, very small ones as a bound."""
    return "" if isnan(p) else "<0.0001" if p < 1e-4 else f"{p:.2g}"


def numbers(comparisons: Sequence[Comparison]) -> str:
    """All comparisons as CSV: knobs, n, then n, mean, sd and interval of every final figure, and the runs they are of."""
    rows: list[dict[str, object]] = []
    for comparison in comparisons:
        for c in comparison.configurations:
            row: dict[str, object] = {"comparison": comparison.title}
            row |= {
                name: value if isinstance(value, float) else value_in_words(value, name)
                for name, value in c.knobs.items()
            }
            row |= {"n": len(c.done), "left_out": len(c.others)}
            for tag in ["objective", *comparison.tags]:
                interval = c.interval(tag)
                if interval.n:
                    parts = {"mean": interval.mean, "sd": interval.sd, "low": interval.low, "high": interval.high}
                    row |= {f"{tag} {part}": "" if isnan(value) else value for part, value in parts.items()}
            rows.append(row | {"runs": " ".join(str(run.directory) for run in c.done)})
    file = io.StringIO()
    columns = list(dict.fromkeys(column for row in rows for column in row))
    knobs = [name for comparison in comparisons for name in comparison.varying]
    columns.sort(key=lambda column: (column != "comparison", column not in knobs, column == "runs"))
    writer = csv.DictWriter(file, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue()
