"""The report again: records kept and read back, rules that can be lost, pages that are what their records say."""

import gzip
import json
import re
import subprocess
import sys
from dataclasses import replace

import pytest
from helpers import make_config
from hypothesis import given
from hypothesis import strategies as st

from fmnist import ROOT, UserError
from fmnist.replication import pages
from fmnist.replication.__main__ import main, parse
from fmnist.replication.archive import pack, unpack
from fmnist.replication.claims import CLAIMS
from fmnist.replication.evidence import Finding, Part, Runs, exceeds, first, gap, lies
from fmnist.replication.systems import BY_NAME, DIFFERENCES_STUDY, SYSTEMS, SYSTEMS_STUDY
from fmnist.report.comparison import Result, read
from fmnist.report.intervals import interval
from fmnist.report.tables import spread
from fmnist.train import engine

SEEDS = [(seed, seed) for seed in range(10)]


def near(mean, wobble=0.01):
    """A sample of ten seeds around a mean."""
    return {seed: mean + wobble * (-1) ** number for number, seed in enumerate(SEEDS)}


def test_records_come_back_as_they_went(tmp_path):
    knobs = {"data.limit": 300, "epochs": 2, "model.hidden": [10]}
    engine.fit([make_config(**knobs, seed=seed, watch="fit") for seed in (0, 1)], [tmp_path / "a", tmp_path / "b"])
    runs = read([tmp_path])
    pack(runs, tmp_path / "kept" / "study.jsonl.gz")
    back = unpack(tmp_path / "kept" / "study.jsonl.gz")
    assert [r.knobs for r in back] == [r.knobs for r in runs]
    assert [(r.commit, r.config_hash, r.seed) for r in back] == [(r.commit, r.config_hash, r.seed) for r in runs]
    for one, other in zip(back, runs, strict=True):
        assert one.metrics == pytest.approx(other.metrics, rel=1e-5)
        for row, original in zip(one.rows, other.rows, strict=True):
            assert row == pytest.approx(original, rel=1e-5)
    before = (tmp_path / "kept" / "study.jsonl.gz").read_bytes()
    pack(back, tmp_path / "kept" / "study.jsonl.gz")
    assert (tmp_path / "kept" / "study.jsonl.gz").read_bytes() == before
    (tmp_path / "kept" / "study.jsonl.gz").write_bytes(before[:-20])
    with pytest.raises(UserError, match="damaged"):
        unpack(tmp_path / "kept" / "study.jsonl.gz")
    with pytest.raises(UserError, match="no records"):
        unpack(tmp_path / "none.jsonl.gz")


def test_a_difference_counts_only_if_its_interval_is_above_zero():
    assert exceeds("", near(0.9), near(0.8)).holds
    assert not exceeds("", near(0.8), near(0.9)).holds
    noisy = {seed: 0.8 + 0.05 * (number % 3 - 1) for number, seed in enumerate(SEEDS)}
    assert not exceeds("", noisy, near(0.8, 0.0)).holds
    assert not exceeds("", {}, near(0.8)).holds
    assert exceeds("", {0: 0.9}, {0: 0.8}).holds  # once, at the report's size: by its sign
    assert "n = 1" in exceeds("", {0: 0.9}, {0: 0.8}).measured


@given(st.lists(st.floats(0, 1), min_size=2, max_size=20), st.floats(0, 1), st.floats(0, 1))
def test_an_interval_lies_between_bounds_only_if_its_mean_does(values, low, high):
    part = lies("", dict(enumerate(values)), low, high, "")
    mean = sum(values) / len(values)
    assert not part.holds or low - 1e-9 <= mean <= high + 1e-9


def test_a_verdict_follows_from_its_parts():
    yes, no = Part("this", True, "", 10), Part("that", False, "", 10)
    assert Finding([yes, yes], []).verdict == "supported"
    assert Finding([no, no], []).verdict == "not supported"
    assert Finding([no, yes, no], []).verdict == "depends: 1 of 3 parts hold, only: this"
    assert Finding([yes, no], []).verdict == "depends: 1 of 2 parts hold, not: that"
    claim = replace(CLAIMS["layers"], pattern="yn/y", reading="So it is.")
    sized = Finding([yes, no], [], at_size=[yes])
    assert pages.said(claim, sized) == "So it is."
    assert pages.said(claim, replace(sized, at_size=[no])) == "Not: that."  # nor where it is otherwise at full size
    assert pages.said(claim, Finding([no, yes], [])) == "Not: that."
    assert sized.at_size_in_short == "1 of 1 parts hold"
    assert replace(sized, at_size=[replace(no, n=0)]).at_size_in_short == ""
    assert pages.said(claim, Finding([yes, yes], [])) == ""  # the words were written for something else


def made(rows, seed=0, **knobs):
    """A finished run that was never trained: rows of figures by epoch."""
    rows = [{"epoch": epoch, **row} for epoch, row in rows.items()]
    named = {name.replace("__", "."): value for name, value in knobs.items()}
    named |= {"seed": seed, "order_seed": seed, "model.name": named.get("model.name", "mlp")}
    metrics = {"objective": 0.5, "test/accuracy": 0.5, **knobs.get("metrics", {})}
    return Result(ROOT, "done", None, named, metrics, 1.0, str((named, rows)), None, rows)


def test_first_and_gap_by_rows_that_are_known():
    rows = {10: 0.0, 20: 0.02, 30: 0.005, 40: 0.02, 50: 0.03}
    run = made({epoch: {"train/accuracy": 0.8 + g, "validation/accuracy": 0.8} for epoch, g in rows.items()})
    runs = Runs([run]).where()
    wide = lambda row: row["train/accuracy"] - row["validation/accuracy"] > 0.01  # noqa: E731
    assert first(runs, wide) == {run.seed: 20}
    assert first(runs, wide, for_good=True) == {run.seed: 40}
    assert first(runs, lambda row: row["train/accuracy"] > 0.9) == {run.seed: 60}  # not before that
    assert first(runs, lambda row: not wide(row), for_good=True) == {run.seed: 60}
    assert gap(runs, 50)[run.seed] == pytest.approx(0.03)
    fit = made({1: {"train/accuracy": 0.5, "fit/accuracy": 0.9, "validation/accuracy": 0.8}})
    assert gap(Runs([fit]).where(), 1)[fit.seed] == pytest.approx(0.1)  # not by figures under dropout


def two_by_two(both):
    """Runs of the study of batch norm and dropout with a validation accuracy for each of its arms."""
    reached = {(None, 0.0): 0.80, (True, 0.0): 0.82, (None, 0.5): 0.81, (True, 0.5): both}
    for (norm, p), accuracy in reached.items():
        for seed in range(10):
            value = accuracy + 0.002 * (-1) ** seed * (1 + (p > 0))
            row = {"fit/accuracy": 0.9, "fit/loss": 1, "validation/accuracy": value, "validation/loss": 1}
            yield made({10: row, 50: row}, seed, batch_norm=norm, dropout=p)


def test_a_rule_can_be_won_and_lost():
    of = {"claim_norm_dropout": Runs(two_by_two(0.87)), "confirm": Runs([]), "report": Runs([])}
    assert CLAIMS["norm_dropout"].judge(of).verdict == "supported"
    of["claim_norm_dropout"] = Runs(two_by_two(0.79))
    lost = [part.statement for part in CLAIMS["norm_dropout"].judge(of).parts if not part.holds]
    assert "with dropout, batch norm raises it further" in lost


@pytest.mark.parametrize(("accuracies", "verdict"), [
    ([0.900, 0.901, 0.902], "agrees"),
    ([0.880, 0.881, 0.882], "lower by 1.4 points or more"),
    ([0.930, 0.931, 0.932], "higher by 2.1 points or more"),
    ([0.750, 0.880, 0.886], "the seeds lie apart, 0.750 to 0.886; the training loss jumps 3 times in 3 runs"),
])  # fmt: skip
def test_a_system_agrees_with_what_its_seeds_can_tell_from_it(accuracies, verdict):
    system = BY_NAME["q1_3_1_plain"]
    rows = {epoch: {"train/loss": loss} for epoch, loss in ((5, 2.0), (10, 0.1), (15, 0.4), (20, 0.3))}
    knobs = {name.replace("__", "."): value for name, value in system.knobs.items()} | {"data.split": 1.0}
    runs = [made(rows, seed, **knobs, metrics={"test/accuracy": a}) for seed, a in enumerate(accuracies)]
    measured, told = system.judge(system, Runs(runs))
    assert told == verdict
    assert measured == f"test accuracy {spread(interval(accuracies))}"


CALM, ONCE, TWICE = [2.0, 0.1, 0.1, 0.1], [2.0, 0.1, 0.4, 0.3], [2.0, 0.1, 0.4, 1.3]  # a training loss that jumps


@pytest.mark.parametrize(("losses", "holds"), [([CALM] * 3, True), ([TWICE, ONCE, CALM], False), ([TWICE] * 3, False)])
def test_what_explains_a_difference_can_fail_to(losses, holds):
    def runs(losses, accuracy, **knobs):
        for seed, own in enumerate(losses):
            rows = {5 * (i + 1): {"train/loss": loss} for i, loss in enumerate(own)}
            yield made(rows, seed, batch_size=6000, **knobs, metrics={"test/accuracy": accuracy + 0.001 * seed})

    of = {
        SYSTEMS_STUDY: Runs(
            [*runs([TWICE] * 3, 0.85, optim__name="adam"), *runs([CALM] * 3, 0.9, optim__name="adamw")]
        ),
        DIFFERENCES_STUDY: Runs(runs(losses, 0.88, schedule="cosine", optim__eps=1e-8)),
    }
    parts = [part for part in BY_NAME["q1_3_1_plain"].because(of) if part.n]
    assert [part.holds for part in parts] == [holds, True]
    assert parts[0].statement == "with a learning rate that falls to 0 the training loss jumps less often"


@pytest.mark.parametrize(
    ("start", "verdict"), [(300, "agrees"), (150, "the gap opens sooner"), (700, "the gap opens later")]
)
def test_a_gap_opens_about_when_the_report_says_or_does_not(start, verdict):
    system = BY_NAME["q1_1_1"]
    knobs = {name.replace("__", "."): value for name, value in system.knobs.items()} | {"data.split": 0.8}
    runs = []
    for seed in range(3):
        gaps = {epoch: 0.02 if epoch >= start + 10 * seed else 0.0 for epoch in range(10, 1001, 10)}
        rows = {epoch: {"train/accuracy": 0.87 + gap, "validation/accuracy": 0.87} for epoch, gap in gaps.items()}
        runs.append(made(rows, seed, **knobs, metrics={"test/accuracy": 0.87}))
    measured, told = system.judge(system, Runs(runs))
    assert told == verdict
    assert f"from iteration {start + 10} ± 10, 2.0 points in the end" in measured


def test_every_study_of_the_pages_exists_and_every_system_is_one_experiment():
    names = {study for claim in CLAIMS.values() for study in (*claim.studies, *claim.confirmed_by)}
    for name in names | {SYSTEMS_STUDY, DIFFERENCES_STUDY, pages.RECIPE_STUDY, pages.CONFIRM_STUDY}:
        assert (ROOT / "sweep" / "study" / f"{name}.yaml").exists()
        assert "on two cores" in pages.head(name)
    for system in SYSTEMS:
        assert (ROOT / "conf" / "experiment" / f"{system.experiment}.yaml").exists()


def test_the_committed_pages_are_what_their_records_say(tmp_path, monkeypatch):
    for picture in pages.PAGES.glob("*.png"):
        (tmp_path / picture.name).write_bytes(picture.read_bytes())
    committed = {page.name: page.read_text() for page in pages.PAGES.glob("*.md")}
    assert committed
    monkeypatch.setattr(pages, "PAGES", tmp_path)
    pages.write_pages()
    assert {page.name: page.read_text() for page in tmp_path.glob("*.md")} == committed
    pictures = {picture.name for picture in tmp_path.glob("*.svg")}
    assert pictures == {picture.name for picture in (ROOT / "docs" / "report").glob("*.svg")}


def test_the_records_behind_every_page_are_named_on_it():
    linked = {name: set(re.findall(r"records/(\w+)\.jsonl\.gz", (pages.PAGES / f"{name}.md").read_text()))
              for name in ["systems", "recipe", *(f"claim_{claim}" for claim in CLAIMS)]}  # fmt: skip
    assert set.union(*linked.values()) == {file.name.partition(".")[0] for file in pages.RECORDS.glob("*.jsonl.gz")}
    for name, claim in CLAIMS.items():
        assert set(claim.studies) <= linked[f"claim_{name}"]


def test_findings_are_read_as_they_are():
    of = pages.Kept()
    for name, claim in CLAIMS.items():
        if all(of[study].results for study in claim.studies):
            assert claim.judge(of).pattern == claim.pattern, f"{name}: other words are needed for what was found"


def test_records_are_small_and_name_the_commit_of_each_run():
    for file in pages.RECORDS.glob("*.jsonl.gz"):
        assert file.stat().st_size < 1_000_000
        for line in gzip.decompress(file.read_bytes()).decode().splitlines():
            run = json.loads(line)
            assert len(run["commit"]) == 40, f"{run['run']} in {file.name} is of changed files"


@pytest.mark.parametrize(("typed", "told"), [
    (["speed"], "PART must be one of systems, recipe, differences, claims"),
    (["dropout", "--seeds", "9..5"], "--seeds must be A..B"),
    (["systems", "--seeds", "1..5"], "--seeds is for claims alone, got systems"),
    (["dropout", "epochs=3"], "KNOB=VALUE needs --seeds"),
])  # fmt: skip
def test_mistakes_are_one_line(typed, told, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(typed)
    assert told in capsys.readouterr().err.splitlines()[-1]


def test_parts_that_are_meant():
    assert parse([]).parts == ["systems", "recipe"]
    assert parse(["claims", "confirm"]).parts == [*CLAIMS, "confirm"]
    assert parse(["dropout", "--seeds", "100..109"]).seeds == range(100, 110)


def test_a_claim_is_tried_again_with_new_seeds(tmp_path):
    command = [sys.executable, "-m", "fmnist.replication", "surface", "--seeds", "5..6", "data.limit=2000", "epochs=4"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode in (0, 1), done.stderr
    assert "seeds 5 to 6: " in done.stdout
    assert done.stdout.count("n = 2") >= 12
    assert len([*tmp_path.glob("outputs/replication/claim_surface+*seeds-5-6/*/result.json")]) == 16
    again = subprocess.run([*command, "--dry-run"], cwd=tmp_path, capture_output=True, text=True)
    assert again.returncode == 0
    assert "16 done already" in again.stdout + again.stderr
