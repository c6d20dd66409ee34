"""The report as a folder: its pages and files."""

import csv
import html
import io
import json
import os
import re
from pathlib import Path

import pytest
from report.made_up import change, change_config, write_run

from fmnist import UserError
from fmnist.report import landscapes
from fmnist.report.page import report


@pytest.fixture(scope="module")
def page(lr, tmp_path_factory):
    output = tmp_path_factory.mktemp("page")
    report([lr], output)
    return output


def test_all_files_are_there_and_the_html_needs_none_of_them(page):
    names = {path.name for path in page.iterdir()}
    assert names == {"index.md", "index.html", "table.csv", "table.tex", "response.svg", "curves_loss.svg",
                     "curves_accuracy.svg"}  # fmt: skip
    text = (page / "index.html").read_text(encoding="utf-8")
    sources = re.findall(r'(?:src|href)="([^"]{0,30})', text)
    assert len(sources) == 3
    assert all(source.startswith("data:image/svg+xml;base64,") for source in sources)
    assert "http" not in re.sub(r'src="[^"]*"', "", text)
    assert text.count("<table>") == 3
    for link in re.findall(r"\]\(([^)]+)\)", (page / "index.md").read_text(encoding="utf-8")):
        assert (page / link).exists()


def test_the_best_is_marked_and_every_configuration_has_its_row(page):
    text = (page / "index.md").read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert rows[2].startswith("| **1** | **0.01** | **3** | **0.845 ± 0.038** |")
    assert rows[3].startswith("| 2 | 0.001 | 3 | 0.830 ± 0.036 | 0.740 to 0.920 |")
    assert "Comparisons made: 2" in text
    (row,) = [line.split(" | ") for line in rows if line.startswith("| lr 0.001 | 3 | -0.015 [")]
    p, bonferroni = float(row[3]), float(row[4])  # differences 0.01, 0.02, 0.015: t = 5.196, 2 degrees of freedom
    assert p == pytest.approx(0.0351, abs=5e-4)
    assert bonferroni == pytest.approx(2 * p, abs=2e-3)


def test_csv_has_the_numbers_and_the_runs_they_are_of(page):
    rows = {row["lr"]: row for row in csv.DictReader(io.StringIO((page / "table.csv").read_text(encoding="utf-8")))}
    row = rows["0.001"]
    assert float(row["objective mean"]) == pytest.approx(0.83)
    assert float(row["test/accuracy low"]) == pytest.approx(0.730433, abs=1e-6)
    results = [json.loads(Path(run, "result.json").read_text(encoding="utf-8")) for run in row["runs"].split()]
    assert sorted(result["objective"] for result in results) == [0.80, 0.82, 0.87]


def test_a_report_is_the_same_twice_and_an_interrupted_one_changes_nothing(page, lr, grid, monkeypatch):
    before = {path: path.read_bytes() for path in page.iterdir()}
    report([lr], page)
    assert {path: path.read_bytes() for path in page.iterdir()} == before

    def stopped(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(landscapes, "curves", stopped)
    with pytest.raises(KeyboardInterrupt):
        report([grid], page)
    assert {path: path.read_bytes() for path in page.iterdir()} == before


def test_a_baseline_is_named_by_its_knobs(grid, tmp_path):
    report([grid], tmp_path, ["lr=1e-1", "dropout=none"])
    assert "### Compared with" not in (tmp_path / "index.md").read_text(
        encoding="utf-8"
    )  # one seed: nothing to compare
    with pytest.raises(UserError, match=r"must name one configuration, dropout=null fits 3: lr 0\.001, dropout none"):
        report([grid], tmp_path, ["dropout=null"])
    with pytest.raises(UserError, match=r"must name a finished configuration, got lr=7; there are lr 0\.001"):
        report([grid], tmp_path, ["lr=7"])


@pytest.mark.parametrize("value", ["", "none", "null", "adam"])
def test_a_configuration_that_lacks_a_knob_is_no_baseline_by_it(value, tmp_path):
    for name, knobs in {"a": {}, "b": {"optim.momentum": 0.5}, "c": {"optim.momentum": 0.9}}.items():
        write_run(tmp_path / name, 0.5, optim="sgd" if knobs else "adam", **knobs)
    with pytest.raises(UserError, match=f"must name a finished configuration, got optim.momentum={value};"):
        report([tmp_path], tmp_path / "report", [f"optim.momentum={value}"])


@pytest.mark.few(2)
@pytest.mark.parametrize("name", ["lr_dropout", "a <b> & *c*", "My Drive (lab) é", "[x](y)", "`q`"])
def test_the_title_is_the_plain_name(name, tmp_path):
    write_run(tmp_path / name / "0", 0.5)
    report([tmp_path / name], tmp_path / "report")
    page = (tmp_path / "report" / "index.html").read_text(encoding="utf-8")
    assert f"<title>Report on {html.escape(name)}</title>" in page
    assert f"<h1>Report on {html.escape(name, quote=False)}</h1>" in page


def test_what_a_run_says_is_shown_and_never_obeyed(tmp_path):
    """Markdown, HTML, a terminal's codes and names of files in an error, a knob's value and a directory's name."""
    hostile = 'src="none.svg" <img src="x.svg"> [a](b.svg) `c` | **d** \x1b[31m'
    write_run(tmp_path / "runs" / "`e` _f_", 0.5)
    write_run(tmp_path / "runs" / "1", 0.4, "failed", error=hostile, seed=1)
    (tmp_path / "runs" / hostile.replace("/", "")).mkdir()
    change_config(write_run(tmp_path / "runs" / "2", 0.6), schedule=hostile)
    said = report([tmp_path / "runs"], tmp_path / "report", command=hostile)
    assert "\x1b" not in "".join(said)
    page = (tmp_path / "report" / "index.html").read_text(encoding="utf-8")
    assert set(re.findall(r'<img [^>]*src="([^"]{10})', page)) == {"data:image"}
    body = page[page.index("<body>") : page.index("<script>")]
    assert "<a " not in body
    assert "<em>" not in body
    assert "<strong>d</strong>" not in body
    assert body.count("[a](b.svg)") >= 4  # the error, the label, the cell of the table, the command


def test_a_table_that_is_wider_than_the_page_says_so(page):
    text = (page / "index.html").read_text(encoding="utf-8")
    script = text[text.index("<script>") :]
    assert "scrollWidth" in script
    assert "scroll to the right" in script
    assert "scroll to the right" not in text[: text.index("<script>")]
    assert "scroll" not in (page / "index.md").read_text(encoding="utf-8")


def test_a_command_is_quoted(tmp_path):
    write_run(tmp_path / "0", 0.5)
    report([tmp_path], tmp_path / "report", command="python -m fmnist.report 'a b' `c`")
    assert "`` python -m fmnist.report 'a b' `c` ``" in (tmp_path / "report" / "index.md").read_text(encoding="utf-8")


def test_all_commits_that_trained_the_finished_runs_are_told(tmp_path):
    for number, commits in enumerate([["b" * 40, "a" * 40], ["c" * 40 + "+", "a" * 40], ["d" * 40]]):
        change(write_run(tmp_path / str(number), 0.5, seed=number), commit=commits[-1], commits=commits)
    change(tmp_path / "2", status="failed")
    report([tmp_path], tmp_path / "report")
    page = (tmp_path / "report" / "index.md").read_text(encoding="utf-8")
    assert "commit aaaaaaaaaa, bbbbbbbbbb, cccccccccc+\n" in page


def test_seconds_are_those_of_the_finished_runs(tmp_path):
    for number, seconds in enumerate([100.0, 61.5, None, 7.0]):
        change(write_run(tmp_path / str(number), 0.5, seed=number), seconds=seconds)
    change(tmp_path / "3", status="failed")
    report([tmp_path], tmp_path / "report")
    page = (tmp_path / "report" / "index.md").read_text(encoding="utf-8")
    assert "3 finished runs of 4, 3 minutes of training; commit aaaaaaaaaa" in page


@pytest.mark.parametrize(("commits", "words"), [
    ([None], "unknown"), ([None, None], "unknown"), (["b" * 40, None], "bbbbbbbbbb, unknown"),
    (["b" * 40, "a" * 40 + "+", "b" * 40], "aaaaaaaaaa+, bbbbbbbbbb"),
])  # fmt: skip
def test_a_commit_that_no_record_has_is_unknown(commits, words, tmp_path):
    for number, commit in enumerate(commits):
        change(write_run(tmp_path / str(number), 0.5, seed=number), commit=commit)
    report([tmp_path], tmp_path / "report")
    page = (tmp_path / "report" / "index.md").read_text(encoding="utf-8")
    assert f"of training; commit {words}\n" in page


def test_one_run_and_one_second_are_said_as_one(tmp_path):
    change(write_run(tmp_path / "0", 0.5), seconds=1.0)
    write_run(tmp_path / "1", 0.5, "failed", seed=1)
    assert report([tmp_path], tmp_path / "report")[0] == "1 finished run of 2"
    page = (tmp_path / "report" / "index.md").read_text(encoding="utf-8")
    assert "\n1 finished run of 2, 1 second of training; commit " in page


def test_a_heading_keeps_the_capitals_of_a_name(tmp_path):
    write_run(tmp_path / "0", 0.5)
    change_config(write_run(tmp_path / "1", 0.5, model="autoencoder"), loss="my_SSIM")
    report([tmp_path], tmp_path / "report")
    page = (tmp_path / "report" / "index.md").read_text(encoding="utf-8")
    assert re.findall("^## .*loss.*$", page, re.MULTILINE) == [r"## Autoencoder, loss my\_SSIM"]


def test_all_files_are_utf_8_whatever_bytes_are_in_a_path(tmp_path):
    """A name of other bytes reaches Python with a surrogate for each, which no file can hold."""
    runs = tmp_path / os.fsdecode(b"runs \xff")
    change_config(write_run(runs / "0", 0.5), schedule=os.fsdecode(b"\xfe"))
    write_run(runs / "1", 0.4)
    report([runs], tmp_path / "report", command=f"python -m fmnist.report {runs}")
    texts = {file.name: file.read_text(encoding="utf-8") for file in (tmp_path / "report").iterdir()}
    for name in ("index.md", "index.html", "table.csv", "table.tex"):
        assert "?" in texts[name]
