"""The report's claims: statements that can be won and lost, whatever runs failed; what was found stands in words."""

from dataclasses import replace
from itertools import product

import pytest
from replication.made import made

from fmnist import ROOT
from fmnist.replication import claims_pictures, pages
from fmnist.replication.claims import CLAIMS
from fmnist.replication.claims_training import passes_in_time
from fmnist.replication.evidence import studied
from fmnist.replication.statements import Finding, Judged
from fmnist.replication.systems import DIFFERENCES_STUDY, SYSTEMS_STUDY, TWO


class Given(dict):
    """The runs of some studies; others have none."""

    def __missing__(self, study):
        return studied([])


def two_by_two(both):
    """Runs of the study of batch norm and dropout, with a validation accuracy for each of its configurations."""
    reached = {(None, 0.0): 0.80, (True, 0.0): 0.82, (None, 0.5): 0.81, (True, 0.5): both}
    for (norm, p), accuracy in reached.items():
        for seed in range(10):
            value = accuracy + 0.002 * (-1) ** seed * (1 + (p > 0))
            row = {"fit/accuracy": 0.9, "fit/loss": 1, "validation/accuracy": value, "validation/loss": 1}
            yield made({10: row, 50: row}, seed, batch_norm=norm, dropout=p)


def test_a_claim_can_be_won_and_lost():
    claim = CLAIMS["norm_dropout"]
    assert claim.judge(Given(claim_norm_dropout=studied(two_by_two(0.87)))).verdict == "supported"
    finding = claim.judge(Given(claim_norm_dropout=studied(two_by_two(0.79))))
    assert "with dropout, batch norm raises validation accuracy" not in finding.holding


def trained(accuracies, last, recorded=True, **knobs):
    """Ten runs with this accuracy at the last epoch; seeds without one failed, or left no record."""
    for seed in range(10):
        if seed in accuracies:
            row = {"train/accuracy": accuracies[seed], "validation/accuracy": accuracies[seed]}
            yield made({last - 1: {"train/accuracy": 0.1, "validation/accuracy": 0.1}, last: row}, seed, **knobs,
                       metrics={"objective": accuracies[seed]})  # fmt: skip
        elif recorded:
            yield made({}, seed, "failed", **knobs, epochs=last)


def all_seeds(accuracy):
    return dict.fromkeys(range(10), accuracy)


def speed_study(plain_at_the_largest_rate, recorded=True):
    """Runs of the study of speed at two learning rates; only the plain networks at the larger one fail."""
    for hidden in (TWO, [100, 100, 100]):
        for norm in (None, True):
            yield from trained(all_seeds(0.8), 15, model__hidden=hidden, batch_norm=norm, lr=0.01)
            at_largest = all_seeds(0.7) if norm else plain_at_the_largest_rate
            yield from trained(at_largest, 15, recorded, model__hidden=hidden, batch_norm=norm, lr=0.1)


def init_study(plain_at_the_largest_scale):
    """Runs of the study of initial weights at two scales; only plain networks at the larger one fail."""
    for norm, scale, lr in product((None, True), (1.0, 100.0), (0.001, 0.01)):
        lost = scale > 1 and norm is None
        accuracies = plain_at_the_largest_scale if lost else all_seeds(0.8 if scale == 1 else 0.7)
        yield from trained(accuracies, 8, batch_norm=norm, init_scale=scale, lr=lr)


def test_runs_that_failed_count_alike_in_all_statements():
    speed = CLAIMS["norm_speed"].judge(Given(claim_norm_speed=studied(speed_study({}))))
    (cost, *_) = [one for one in speed.tried if "largest learning rate" in one.statement]
    assert cost.holds
    assert cost.measured.startswith("at 0.1: 70 against 10 %: +60 points")  # 80 % less that of a guess
    assert cost.measured.endswith("(10 failed runs count as guesses)")
    spread, _ = CLAIMS["norm_init"].judge(Given(claim_norm_init=studied(init_study({})))).tried
    assert spread.measured.startswith("70 against 10 %: +60 points")
    assert spread.measured.endswith("(10 failed runs count as guesses)")


@pytest.mark.parametrize("recorded", [True, False])  # archives once kept finished runs alone
def test_a_learning_rate_that_one_run_in_ten_survives_is_neither_the_best_nor_borne(recorded):
    inputs = {epoch: {f"input/0_{percent}": 0.01 * percent for percent in (15, 50, 85)} for epoch in (1, 2)}
    moved = studied(made(inputs, seed, batch_norm=norm) for seed in range(2) for norm in (None, True))
    of = Given(claim_norm_speed=studied(speed_study({0: 0.95}, recorded)), claim_norm_inputs=moved)
    sooner, *_ = CLAIMS["norm_speed"].judge(of).tried
    assert sooner.measured.startswith("to 0.795: ")  # not 0.945, which that one run reaches
    _, (table,) = claims_pictures.norm_speed(of)
    columns = dict(zip(table.header, zip(*table.rows, strict=True), strict=True))
    assert columns["best validation accuracy (%)"] == ("80.00",) * 4
    assert columns["largest lr within a point of it"] == ("0.01",) * 4


def test_pictures_count_failed_runs_too():
    of = Given(claim_norm_init=studied(init_study({0: 0.8})))
    (by_scale, plain, _), _ = claims_pictures.norm_init(of)
    assert {text.get_text() for text in plain.figure.axes[0].texts} == {"0.800", "0.170"}
    line, _ = by_scale.figure.axes[0].lines
    assert [*line.get_ydata()] == pytest.approx([0.8, 0.17])
    runs = of["claim_norm_init"].where(init_scale=100.0, batch_norm=None, lr=0.01)
    assert claims_pictures.line("plain", runs, lambda row: row["validation/accuracy"]).label == "plain (9 failed)"


def test_time_is_taken_from_runs_that_finished():
    timed = [made({}, seed, "failed" if seed == 1 else "done", batch_size=size, epochs=2)
             for size in (32, None) for seed in range(2)]  # fmt: skip
    sizes = studied(made({}, seed, batch_size=size, epochs=9) for size in (32, None) for seed in range(2))
    cost, passes = passes_in_time(Given(claim_batch_size=sizes, claim_batch_size_time=studied(timed)))
    assert (cost, passes) == ({32: 0.5, None: 0.5}, {32: 6, None: 6})
    failed = [replace(run, status="failed") for run in timed]
    _, passes = passes_in_time(Given(claim_batch_size=sizes, claim_batch_size_time=studied(failed)))
    assert passes == {32: 0, None: 0}


def test_the_words_are_shown_as_long_as_exactly_their_statements_hold():
    claim = replace(CLAIMS["layers"], holds={"this", "at size"}, reading="So it is.")
    this, that = Judged("this", True, "", 10), Judged("that", False, "", 10)
    sized = Finding([this, that], at_size=[Judged("at size", True, "", 1)])
    assert pages.found(claim, sized) == "So it is."
    assert pages.found(claim, Finding([this, that])) == "Not: that."
    assert pages.found(claim, replace(sized, tried=[this, replace(that, holds=True)])) == ""
    assert pages.found(claim, replace(sized, tried=[replace(this, holds=False), that, that])) == ""


def test_findings_are_read_as_they_are():
    of = pages.Kept()
    for name, claim in CLAIMS.items():
        finding = claim.judge(of)
        assert finding.holding == claim.holds, f"{name}: other words are needed for what was found"
        statements = [one.statement for one in [*finding.tried, *finding.at_size]]
        assert len(statements) == len(set(statements)), f"{name}: two statements have one name"


def test_every_study_of_the_pages_exists():
    names = {study for claim in CLAIMS.values() for study in (*claim.studies, *claim.confirmed_by)}
    for name in names | {SYSTEMS_STUDY, DIFFERENCES_STUDY, pages.RECIPE_STUDY, "confirm"}:
        assert (ROOT / "sweep" / "study" / f"{name}.yaml").exists()
        assert "on two cores" in pages.head(name)
