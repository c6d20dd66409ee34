"""Tables in each format."""

import csv
import io
from math import nan
from pathlib import Path

import pytest
from report.made_up import comparison_of, sweep, write_run

from fmnist.report.comparison import comparisons, read
from fmnist.report.intervals import interval
from fmnist.report.leaderboard import Leaderboard
from fmnist.report.page import html
from fmnist.report.tables import (
    Table,
    code,
    comparable,
    csv_text,
    differences,
    escape,
    numbers,
    signed,
    spread,
    summary,
)


@pytest.mark.parametrize(("values", "text"), [
    ([0.88, 0.89], "0.8850 ± 0.0071"), ([140, 110, 110], "120 ± 17"), ([30, 30, 30], "30 ± 0"), ([2.5], "2.500"),
    ([0.75, 0.88, 0.886], "0.839 ± 0.077"), ([1e30, 3e30], "2e+30 ± 1.4e+30"),
])  # fmt: skip
def test_a_mean_has_the_digits_that_its_deviation_bears_out(values, text):
    assert spread(interval(values)) == text


def test_text_is_escaped_for_each_format():
    table = Table(["batch_size"], [["a & b_c | 50% ~ <x>"]], strong=(0,))
    assert r"\textbf{a \& b\_c | 50\% \textasciitilde{} $<$x$>$} \\" in table.latex()
    assert r"batch\_size \\" in table.latex()
    shown = html("T", table.markdown(), {})
    assert "<td><strong>a &amp; b_c | 50% ~ &lt;x&gt;</strong></td>" in shown


def test_plain_text_is_aligned_and_numbers_are_to_the_right():
    table = Table(["name", "n", "mean", ""], [["a", "1", "0.8500 ± 0.0707", "x"], ["longer", "10", "", ""]])
    assert table.text().split("\n") == [
        "name     n  mean",
        "a        1  0.8500 ± 0.0707  x",
        "longer  10",
    ]  # fmt: skip
    assert Table(["n"], [["-1.5"], ["1e+30"], ["12,345"], ["7 %"]]).text() == "n\n-1.5\n1e+30\n12,345\n7 %"
    assert Table(["n"], [["-1.5"], ["1e+30"], [""]]).text() == "    n\n -1.5\n1e+30\n"
    assert Table(["n"], []).text() == "n"


def test_plain_text_keeps_its_columns_whatever_is_in_a_cell():
    """A line break, a terminal's codes, accents written as two characters, characters of double width."""
    cells = ["two\nlines", "\x1b[31mred\x07", "e\u0301te\u0301", "图像", "plain"]
    lines = Table(["cell", "end"], [[cell, "|"] for cell in cells]).text().split("\n")
    assert lines[1:] == ["two lines  |", "?[31mred?  |", "e\u0301te\u0301        |", "图像       |", "plain      |"]


@pytest.mark.parametrize(
    "text", ["a_b*c", "[link](javascript:x)", "<b>&amp;", "a|b", "two\nlines", "`x`", "``x``", "\\"]
)
def test_text_is_shown_as_it_is(text):
    for shown in (escape(text), code(text)):
        page = html("T", f"Before {shown} after", {})
        body = page[page.index("<body>") : page.index("<script>")]
        assert "<a" not in body
        assert "<b>" not in body
        plain = body.replace("<p>", "").replace("</p>", "").replace("<code>", "").replace("</code>", "")
        for entity, sign in {"&lt;": "<", "&gt;": ">", "&amp;": "&"}.items():
            plain = plain.replace(entity, sign)
        assert f"Before {' '.join(text.split())} after" in plain


@pytest.mark.parametrize(("columns", "decimals"), [
    ([[0.85445, 0.854521], [0.8693, 0.8731, 0.8769]], 4),  # as one finds them: deviations of 0.00005 and 0.0038
    ([[0.8, 0.82, 0.87], [0.81, 0.84, 0.885], [0.1, 0.1, 0.1]], 3), ([[0.5], [0.25], []], 4), ([[151.25], [9.5]], 1),
    ([[140, 110, 110]], 0), ([[3e9, 5e9]], 0), ([[], []], 4), ([[0.0, 0.0]], 4),
])  # fmt: skip
def test_means_in_a_column_end_at_one_decimal(columns, decimals):
    intervals = [interval(values) for values in columns]
    assert comparable(intervals) == decimals
    texts = [spread(own, decimals).split(" ± ") for own in intervals]
    assert {len(text.partition(".")[2]) for row in texts for text in row if text and "e" not in text} <= {decimals}


def test_the_columns_of_a_report_can_be_compared(tmp_path):
    rows = [({"lr": 1e-3}, [0.85445, 0.854521]), ({"lr": 1e-2}, [0.8693, 0.8731, 0.8769]), ({"lr": 1e-1}, [0.5])]
    table = summary(comparison_of(sweep(tmp_path, rows)))
    assert [row[3] for row in table.rows] == ["0.8731 ± 0.0038", "0.8545 ± 0.0001", "0.5000"]
    assert [row[4] for row in table.rows] == ["0.8637 to 0.8825", "0.8540 to 0.8549", ""]


def test_a_difference_has_three_digits_or_the_decimals_of_its_column():
    difference = interval([0.01, 0.02, 0.015])
    assert signed(difference) == "+0.015 [+0.00258, +0.0274]"
    assert signed(difference, decimals=4) == "+0.0150 [+0.0026, +0.0274]"
    assert signed(difference, 100.0) == "+1.5 [+0.258, +2.74]"
    assert signed(interval([])) == ""


def test_csv_has_all_keys_of_all_rows_and_all_digits():
    text = csv_text([{"a": 1 / 3, "b": nan}, {"c": 'x, "y"', "a": None}])
    assert list(csv.DictReader(io.StringIO(text))) == [
        {"a": str(1 / 3), "b": "", "c": ""}, {"a": "", "b": "", "c": 'x, "y"'},
    ]  # fmt: skip


def test_csv_has_no_text_that_a_spreadsheet_computes():
    computed = ["=1+1", "+A1", "-A1", "@SUM(A1)", "\t=1", '=HYPERLINK("x")']
    kept = ["-1", "+1e-3", "-0.5", -2, "[1,2]", "a=1", "relu"]
    (found,) = csv.DictReader(io.StringIO(csv_text([{"=key": 1, **dict(enumerate(computed + kept))}])))
    assert [*found.values()] == ["1", *(f"'{text}" for text in computed), *map(str, kept)]
    assert next(iter(found)) == "'=key"


def test_both_csv_files_write_knobs_alike(tmp_path):
    write_run(tmp_path / "a run", 0.8, lr=1 / 3, batch_size=None, dropout=None, **{"model.hidden": [20, 12]})
    write_run(tmp_path / "b", 0.7, lr=1e-3, batch_size=32, dropout=0.5, skip=True)
    Leaderboard(tmp_path).write()
    files = ((tmp_path / "leaderboard.csv").read_text(encoding="utf-8"), numbers(comparisons(read([tmp_path]))))
    for text in files:
        first, second = csv.DictReader(io.StringIO(text))
        knobs = ("lr", "batch_size", "dropout", "model.hidden", "skip")
        assert [first[knob] for knob in knobs] == [str(1 / 3), "full", "none", "[20,12]", "none"]
        assert [second[knob] for knob in knobs] == ["0.001", "32", "0.5", "[20]", "true"]
    (row, _) = csv.DictReader(io.StringIO(files[1]))
    assert row["runs"] == f"'{tmp_path}/a run'"
    assert Path(row["runs"].strip("'")).exists()


def test_a_p_that_is_not_defined_is_not_corrected(tmp_path):
    """Differences that are all equal have no p, and so none for all comparisons together."""
    rows = [({"lr": 1e-3}, [0.9, 0.8]), ({"lr": 1e-2}, [0.8, 0.7]), ({"lr": 1e-1}, [0.5, 0.3])]
    comparison = comparison_of(sweep(tmp_path, rows))
    table, _ = differences(comparison, comparison.finished[0])
    pairs = [(row[place], row[place + 1]) for row in table.rows for place in (3, 6)]
    assert [(p == "", corrected == "") for p, corrected in pairs] == [(True, True)] * 2 + [(False, False)] * 2
