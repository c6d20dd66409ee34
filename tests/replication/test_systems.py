"""The networks of the report: whether our runs agree with what it said, and what explains where they do not."""

import pytest
from replication.made import made

from fmnist import ROOT
from fmnist.replication import pages
from fmnist.replication.evidence import studied
from fmnist.replication.systems import BY_NAME, DIFFERENCES_STUDY, SYSTEMS, SYSTEMS_STUDY, TWO
from fmnist.report.intervals import interval
from fmnist.report.tables import spread


def judged(name, runs):
    """What was measured and the verdict on a system."""
    return BY_NAME[name].judge(BY_NAME[name], {SYSTEMS_STUDY: studied(runs)})


def of_system(name, rows, seed, accuracy, status="done", split=0.8):
    """A run of a system with this test accuracy."""
    return made(rows, seed, status, {"test/accuracy": accuracy}, data__split=split, **BY_NAME[name].knobs)


LOSSES = {epoch: {"train/loss": loss} for epoch, loss in ((5, 2.0), (10, 0.1), (15, 0.4), (20, 0.3))}


@pytest.mark.parametrize(("accuracies", "verdict"), [
    ([0.900, 0.901, 0.902], "agrees"),
    ([0.880, 0.881, 0.882], "lower by 1.4 points or more"),
    ([0.930, 0.931, 0.932], "higher by 2.1 points or more"),
    ([0.930], "higher by 2.0 points or more"),
    ([0.900], "agrees"),
    ([0.750, 0.880, 0.886], "the seeds lie apart, 0.750 to 0.886; the training loss jumps 3 times in 3 runs"),
])  # fmt: skip
def test_a_system_agrees_with_what_its_seeds_can_tell_from_it(accuracies, verdict):
    measured, found = judged("q1_3_1_plain", [of_system("q1_3_1_plain", LOSSES, seed, accuracy, split=1.0)
                                              for seed, accuracy in enumerate(accuracies)])  # fmt: skip
    assert found == verdict
    assert measured == f"test accuracy {spread(interval(accuracies))}"


def test_a_seed_that_failed_is_not_left_out():
    runs = [of_system("q1_3_1_plain", LOSSES, seed, 0.9, "failed" if seed == 2 else "done", 1.0) for seed in range(3)]
    _, found = judged("q1_3_1_plain", runs)
    assert found == "the seeds lie apart, 0.100 to 0.900; the training loss jumps 2 times in 2 runs"


@pytest.mark.parametrize(
    ("start", "verdict"), [(300, "agrees"), (150, "the gap opens sooner"), (700, "the gap opens later")]
)
@pytest.mark.parametrize("seeds", [1, 3])
def test_a_gap_opens_about_when_the_report_says_or_does_not(start, verdict, seeds):
    runs = []
    for seed in range(seeds):
        wider = {epoch: 0.02 if epoch >= start + 10 * seed else 0.0 for epoch in range(10, 1001, 10)}
        rows = {epoch: {"train/accuracy": 0.87 + gap, "validation/accuracy": 0.87} for epoch, gap in wider.items()}
        runs.append(of_system("q1_1_1", rows, seed, 0.87))
    measured, found = judged("q1_1_1", runs)
    assert found == verdict
    opens = f"{start + 10} ± 10" if seeds == 3 else f"{start}"
    assert f"from iteration {opens}, 2.0 points in the end" in measured.replace(".0,", ",")


CALM, ONCE, TWICE = [2.0, 0.1, 0.1, 0.1], [2.0, 0.1, 0.4, 0.3], [2.0, 0.1, 0.4, 1.3]  # a training loss that jumps


@pytest.mark.parametrize(("losses", "holds"), [([CALM] * 3, True), ([TWICE, ONCE, CALM], False), ([TWICE] * 3, False)])
def test_what_explains_a_difference_can_fail_to(losses, holds):
    def runs(losses, accuracy, **knobs):
        for seed, own in enumerate(losses):
            rows = {5 * (i + 1): {"train/loss": loss} for i, loss in enumerate(own)}
            yield made(rows, seed, batch_size=6000, **knobs, metrics={"test/accuracy": accuracy + 0.001 * seed})

    of = {
        SYSTEMS_STUDY: studied(
            [*runs([TWICE] * 3, 0.85, optim__name="adam"), *runs([CALM] * 3, 0.9, optim__name="adamw")]
        ),
        DIFFERENCES_STUDY: studied(runs(losses, 0.88, schedule="cosine", optim__eps=1e-8)),
    }
    found = [one for statement in BY_NAME["q1_3_1_plain"].because(of) if (one := statement.judge()).n]
    assert [one.holds for one in found] == [holds, True]
    assert found[0].statement == "with a learning rate that falls to 0 the training loss jumps less often"


@pytest.mark.parametrize(("ours", "theirs", "verdict"), [
    (0.05, 0.08, "agrees"), (0.08, 0.05, "does not narrow it"), (None, 0.05, "no gaps to compare"),
    (0.05, None, "no gaps to compare"),
])  # fmt: skip
def test_dropout_narrows_a_gap_only_where_there_are_two(ours, theirs, verdict):
    runs = []
    for name, gap in (("q1_2_1", ours), ("q1_1_2", theirs)):
        row = {"validation/accuracy": 0.8} | ({} if gap is None else {"train/accuracy": 0.8 + gap})
        knobs = {"model__hidden": TWO, "batch_size": None, "dropout": None} | BY_NAME[name].knobs
        runs += [made({1000: row}, seed, **knobs) for seed in range(3)]
    measured, found = judged("q1_2_1", runs)
    assert found == verdict
    assert "nan" not in measured


def test_every_system_is_one_experiment():
    for system in SYSTEMS:
        assert (ROOT / "conf" / "experiment" / f"{system.experiment}.yaml").exists()


def test_the_page_says_how_many_runs_of_a_system_failed(tmp_path, monkeypatch):
    runs = [of_system("q1_3_1_plain", LOSSES, seed, 0.9, "failed" if seed == 2 else "done", 1.0) for seed in range(3)]
    runs += [of_system("q1_4_1", {}, seed, 0.5, "failed") for seed in range(3)]
    monkeypatch.setattr(pages, "kept", lambda study: tuple(runs) if study == SYSTEMS_STUDY else ())
    page, rows = pages.systems_page()
    measured = {row[0]: (row[3], row[4]) for row in rows}
    assert measured["`q1_3_1_plain`"] == ("test accuracy 0.63 ± 0.46 (1 failed run counts as a guess)", "3")
    assert measured["`q1_4_1`"] == ("all runs failed", "")
    assert measured["`q1_1_1`"] == ("not run yet", "")
    assert "[6 runs](records/report.jsonl.gz), 4 failed" in page.paragraphs[-1]
