"""docs/report/: what its records say."""

import re

import pytest
from replication.made import made

from fmnist import ROOT
from fmnist.replication import pages
from fmnist.replication.claims import CLAIMS
from fmnist.report.tables import Raw, Table


@pytest.mark.long  # all of docs/report/ is drawn
def test_the_committed_pages_are_what_their_records_say(tmp_path, monkeypatch):
    for picture in pages.PAGES.glob("*.png"):
        (tmp_path / picture.name).write_bytes(picture.read_bytes())
    committed = {page.name: page.read_text(encoding="utf-8") for page in pages.PAGES.glob("*.md")}
    assert committed
    monkeypatch.setattr(pages, "PAGES", tmp_path)
    pages.write_pages()
    assert {page.name: page.read_text(encoding="utf-8") for page in tmp_path.glob("*.md")} == committed
    pictures = {picture.name for picture in tmp_path.glob("*.svg")}
    assert pictures == {picture.name for picture in (ROOT / "docs" / "report").glob("*.svg")}


def test_the_records_behind_every_page_are_named_on_it():
    linked = {name: set(re.findall(r"records/(\w+)\.jsonl\.gz", (pages.PAGES / f"{name}.md").read_text("utf-8")))
              for name in ["systems", "recipe", *(f"claim_{claim}" for claim in CLAIMS)]}  # fmt: skip
    assert set.union(*linked.values()) == {file.name.partition(".")[0] for file in pages.RECORDS.glob("*.jsonl.gz")}
    for name, claim in CLAIMS.items():
        assert set(claim.studies) <= linked[f"claim_{name}"]


def test_pages_link_to_files_that_are_there():
    for page in pages.PAGES.glob("*.md"):
        for target in re.findall(r"\]\(([^)]+)\)", page.read_text(encoding="utf-8")):
            assert (pages.PAGES / target).exists(), f"{page.name}: {target}"


def test_a_cell_is_shown_as_it_is_unless_it_is_raw():
    table = Table(["a|b", Raw("*c*")], [["`x`", Raw("[d](e.md)")], ["<f>", "g\nh"]]).markdown()
    assert table.splitlines() == [r"| a\|b | *c* |", "| --- | --- |", r"| \`x\` | [d](e.md) |", "| &lt;f&gt; | g h |"]


@pytest.mark.parametrize("failed", [0, 3])
def test_a_page_says_how_many_runs_failed(failed, monkeypatch):
    row = {"fit/accuracy": 0.9, "validation/accuracy": 0.8, "train/loss": 1.0}
    runs = [made({10: row, 50: row}, seed, "failed" if seed < failed else "done", batch_norm=norm, dropout=p)
            for seed in range(4) for norm in (None, True) for p in (0.0, 0.5)]  # fmt: skip
    monkeypatch.setattr(pages, "kept", lambda study: tuple(runs) if study == "claim_norm_dropout" else ())
    of = pages.Kept()
    page = pages.claim_page("norm_dropout", CLAIMS["norm_dropout"].judge(of), of)
    text = "\n".join(page.paragraphs)
    for words in (
        "Runs that failed: 12 of claim\\_norm\\_dropout. A classifier that failed counts as guessing",
        "[16 runs](records/claim_norm_dropout.jsonl.gz), 12 failed",
        "6 failed runs count as guesses",
    ):
        assert (words in text) == (failed > 0)


def test_the_command_of_a_study_is_not_a_part_of_what_it_says_of_itself():
    assert pages.head("claim_gap").startswith("When does the gap between training and validation open? The one-layer")
