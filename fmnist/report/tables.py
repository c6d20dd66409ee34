"""Tables of comparisons: as rows of text for a terminal, a page and LaTeX, and as numbers for CSV."""

import csv
import io
import re
import shlex
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import floor, isfinite, isnan, log10
from statistics import median_low
from typing import Any

from fmnist.program.output import encodable, printable
from fmnist.report.against import paired_with
from fmnist.report.comparison import Comparison, Configuration
from fmnist.report.intervals import Interval
from fmnist.report.words import in_words, short, value_in_words

LATEX = str.maketrans({
    "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}", "\\": r"\textbackslash{}", "±": r"$\pm$", "<": "$<$", ">": "$>$",
})  # fmt: skip
MARKDOWN = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"} | {sign: f"\\{sign}" for sign in "\\`*_|"})
FORMULA, NUMBER = re.compile(r"[=+\-@\t\r]"), re.compile(r"[-+]?[0-9.]+(e[-+]?[0-9]+)?")
LARGE = 1e6  # numbers from here on are written as 1.2e+07


@dataclass(frozen=True)
class Table:
    """Rows of plain text under a header; `strong` are the numbers of the rows to be set in bold.

    A cell may hold any text: each format escapes what it has to, and shows a cell on one line.
    """

    header: list[str]
    rows: list[list[str]]
    strong: tuple[int, ...] = ()

    def text(self) -> str:
        """For a terminal: columns of equal width, those of numbers to the right, two spaces between them."""
        columns = [*zip(*([printable(cell) for cell in row] for row in [self.header, *self.rows]), strict=True)]
        aligned = [_aligned(column) for column in columns]
        return "\n".join("  ".join(cells).rstrip() for cells in zip(*aligned, strict=True))

    def markdown(self) -> str:
        """For a page: a table of Markdown."""
        rows = [[escape(cell) for cell in row] for row in self.rows]
        for number in self.strong:
            rows[number] = [f"**{cell}**" if cell else "" for cell in rows[number]]
        lines = [[escape(cell) for cell in self.header], ["---"] * len(self.header), *rows]
        return "".join(f"| {' | '.join(line)} |\n" for line in lines)

    def latex(self) -> str:
        """For LaTeX: a tabular with the rules of the package booktabs."""
        rows = [[" ".join(cell.split()).translate(LATEX) for cell in row] for row in [self.header, *self.rows]]
        for number in self.strong:
            rows[number + 1] = [rf"\textbf{{{cell}}}" if cell else "" for cell in rows[number + 1]]
        header, *body = [" & ".join(row) + r" \\" for row in rows]
        lines = [rf"\begin{{tabular}}{{{'l' * len(self.header)}}}", r"\toprule", header, r"\midrule", *body]
        return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def _width(text: str) -> int:
    """How many places a terminal needs: none for a combining accent, two for a wide character."""
    wide = sum(unicodedata.east_asian_width(sign) in "WF" for sign in text)
    return len(text) + wide - sum(unicodedata.combining(sign) > 0 for sign in text)


def _aligned(column: Sequence[str]) -> list[str]:
    room = max(map(_width, column))
    numeric = all(re.fullmatch(r"[-+]?[\d,]*\.?\d+(e[-+]?\d+)?%?|", cell) for cell in column[1:])
    padding = [" " * (room - _width(cell)) for cell in column]
    return [space + cell if numeric else cell + space for space, cell in zip(padding, column, strict=True)]


def csv_text(rows: Sequence[Mapping[str, object]]) -> str:
    """Rows as CSV. The columns are all keys, in the order in which they first occur.

    Numbers have all their digits; what a row lacks is empty, and so is nan. A text that a spreadsheet would compute
    begins with an apostrophe (OWASP, "CSV injection").
    """
    file = io.StringIO()
    columns = dict.fromkeys(key for row in rows for key in row)
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(map(_cell, columns))
    writer.writerows([_cell(row.get(column, "")) for column in columns] for row in rows)
    return encodable(file.getvalue())


def _cell(value: object) -> object:
    """A value as a cell of CSV."""
    if isinstance(value, float) and isnan(value):
        return ""
    is_formula = isinstance(value, str) and FORMULA.match(value) and not NUMBER.fullmatch(value)
    return f"'{value}" if is_formula else value


def csv_knobs(knobs: Mapping[str, Any]) -> dict[str, object]:
    """Knobs for a row of CSV: numbers as they are, everything else in words."""
    return {name: value if isinstance(value, float) else value_in_words(value, name) for name, value in knobs.items()}


class Raw(str):
    """Text that is Markdown already."""


def escape(text: str) -> str:
    """Plain text for Markdown: shown as it is, on one line. What cannot be printed means something to Markdown."""
    if isinstance(text, Raw):
        return text
    return re.sub(r"\](?=[\[(:])", r"\\]", printable(text).translate(MARKDOWN))  # [text](address) is no link


def code(text: str) -> str:
    """Plain text for Markdown, as code: between more backticks than there are in it."""
    text = printable(text)
    fence = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    space = " " * (text[:1] == "`" or text[-1:] == "`")
    return f"{fence}{space}{text}{space}{fence}"


def number(value: float) -> str:
    """Four digits that count."""
    return "" if isnan(value) else f"{value:#.4g}".removesuffix(".")


def spread(interval: Interval, decimals: int | None = None) -> str:
    """Mean ± standard deviation: two digits of this, and of the mean as many as these bear out, or so many decimals."""
    mean, sd = interval.mean, interval.sd
    if isnan(mean):
        return ""
    if isnan(sd):
        return number(mean) if decimals is None else fixed(mean, decimals)
    if decimals is not None:
        return f"{fixed(mean, decimals)} ± {fixed(sd, decimals)}"
    if not 1e-6 < sd < LARGE:
        return f"{mean:.4g} ± {sd:.2g}"
    return f"{mean:.{_decimals(sd, 2)}f} ± {sd:.{_decimals(sd, 2)}f}"


def fixed(value: float, decimals: int) -> str:
    """A number with so many decimals, a large one as 1.234e+07."""
    return f"{value:.{decimals}f}" if abs(value) < LARGE else f"{value:.4g}"


def _decimals(value: float, digits: int) -> int:
    """How many decimals show so many digits that count."""
    return max(0, digits - 1 - floor(log10(abs(value))))


def comparable(intervals: Sequence[Interval]) -> int:
    """The number of decimals for a column of means: what its typical deviation bears out to two digits.

    Where there is no deviation, four digits of the typical mean. So all rows end at the same decimal, and a reader can
    compare them; table.csv has all digits.
    """
    deviations = [_decimals(i.sd, 2) for i in intervals if i.sd > 0 and isfinite(i.sd)]
    means = [_decimals(i.mean, 4) for i in intervals if i.mean and isfinite(i.mean)]
    return median_low(deviations or means or [4])


def bounds(interval: Interval, decimals: int) -> str:
    """The interval, or nothing for a single value."""
    return "" if isnan(interval.low) else f"{fixed(interval.low, decimals)} to {fixed(interval.high, decimals)}"


def knob_cells(comparison: Comparison, configuration: Configuration) -> list[str]:
    """A configuration's values of the knobs that vary, in words; nothing for a knob that it lacks."""
    knobs = configuration.knobs
    return [value_in_words(knobs[name], name) if name in knobs else "" for name in comparison.varying]


def summary(comparison: Comparison) -> Table:
    """One row a configuration, best first: its knobs, how many of its runs count, the objective, the test metrics."""
    rows: list[list[str]] = []
    for rank, c in enumerate(comparison.configurations, start=1):
        n = f"{len(c.done)} of {len(c.done) + len(c.others)}" if c.others else str(len(c.done))
        rows.append([str(rank) if c.done else "", *knob_cells(comparison, c), n])
    header = ["rank", *map(short, comparison.varying), "n"]
    others = [tag for tag in comparison.tags if tag.startswith("test/") and tag != comparison.test]
    for tag in ["objective", comparison.test, *others]:
        intervals = [c.interval(tag) for c in comparison.configurations]
        decimals = comparable(intervals)
        name = in_words(comparison.judged_by if tag == "objective" else tag)
        columns = {name: [spread(i, decimals) for i in intervals]}
        if tag not in others:
            columns["95 % interval"] = [bounds(i, decimals) for i in intervals]
        for title, cells in columns.items():
            if any(cells):
                header.append(title)
                rows = [[*row, cell] for row, cell in zip(rows, cells, strict=True)]
    return Table(header, rows, strong=(0,) if comparison.finished else ())


def differences(comparison: Comparison, baseline: Configuration, limit: int = 20) -> tuple[Table, int]:
    """The configurations against one of them, paired by seed; how many comparisons were made. The best `limit` are
    shown; those that share no two seeds with the baseline are left out."""
    compared = [(c, [*tests.values()]) for c, tests in paired_with(comparison, baseline)]
    decimals = [
        comparable([difference for difference, _ in one]) for one in zip(*(r for _, r in compared), strict=True)
    ]
    rows: list[list[str]] = []
    for c, results in compared[:limit]:
        row = [c.label, str(results[0][0].n)]
        for (difference, p), own in zip(results, decimals, strict=True):
            row += [signed(difference, decimals=own), p_value(p), p_value(min(p * len(compared), 1.0))]
        rows.append(row)
    header = ["configuration", "pairs"]
    for tag in (comparison.judged_by, comparison.test):
        header += [f"{in_words(tag)}: difference [95 % interval]", "p", "p, Bonferroni"]
    return Table(header, rows), len(compared)


def signed(difference: Interval, scale: float = 1.0, decimals: int | None = None) -> str:
    """A mean difference with its interval, both times scale, with three digits or so many decimals."""
    values = [scale * value for value in (difference.mean, difference.low, difference.high)]
    if isnan(values[0]):
        return ""
    form = "+.3g" if decimals is None or max(map(abs, values)) >= LARGE else f"+.{decimals}f"
    mean, low, high = (format(value, form) for value in values)
    return mean if isnan(difference.low) else f"{mean} [{low}, {high}]"


def p_value(p: float) -> str:
    """A p value with two significant digits; below 0.0001 as '<0.0001'."""
    return "" if isnan(p) else "<0.0001" if p < 1e-4 else f"{p:.2g}"


def numbers(comparisons: Sequence[Comparison]) -> str:
    """All comparisons as CSV: knobs, n, then mean, sd and interval of every final metric, and the runs they are of."""
    knobs = dict.fromkeys(name for comparison in comparisons for name in comparison.varying)
    rows = []
    for comparison in comparisons:
        for c in comparison.configurations:
            row: dict[str, object] = {"comparison": comparison.title} | dict.fromkeys(knobs, "") | csv_knobs(c.knobs)
            runs = shlex.join(str(run.directory) for run in c.done)
            row |= {"n": len(c.done), "left_out": len(c.others), "runs": runs}
            for tag in ["objective", *comparison.tags]:
                interval = c.interval(tag)
                parts = {"mean": interval.mean, "sd": interval.sd, "low": interval.low, "high": interval.high}
                row |= {f"{tag} {part}": value for part, value in parts.items()}
            rows.append(row)
    return csv_text(rows)
