"""The networks of the coursework report, what it claimed of each, and whether our runs agree. No torch."""

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from math import isnan, nan
from typing import Any

from fmnist.replication.evidence import Of, Runs, mean, minus, over
from fmnist.replication.metrics import OPEN, TEST, at, each, final, gap_over, generalisation_gap, opening
from fmnist.replication.statements import Exceeds
from fmnist.report.comparison import Result
from fmnist.report.intervals import Interval
from fmnist.report.tables import spread
from fmnist.report.words import counted

SYSTEMS_STUDY, DIFFERENCES_STUDY = "report", "differences"
ONE, TWO = [200], [300, 100]  # the report's hidden layers
FLAT = 0.5  # points: an autoencoder's accuracy that changes by less is flat
APART = 0.02  # accuracies whose deviation over the seeds is larger lie apart: they would agree with any number
ABOUT = 50.0  # iterations: "about 300" is 250 to 350
LATER = {-1: "sooner", 1: "later"}
JUMP = 3.0  # a training loss jumps where it is over this many times the loss that was recorded before


@dataclass(frozen=True)
class System:
    """One network of the report at one of its schedules.

    experiment: its file in conf/experiment/. said: the report's words. judge: what was measured, and the verdict.
    knobs: what tells its runs from those of the other systems. because: statements that explain where it differs.
    """

    experiment: str
    what: str
    said: str
    judge: Callable[["System", Of], tuple[str, str]]
    knobs: dict[str, Any] = field(default_factory=dict)
    because: Callable[[Of], list[Exceeds]] | None = None

    def runs(self, of: Of) -> Runs:
        """Its runs among those of all systems."""
        return of[SYSTEMS_STUDY].where(**self.knobs)


def test_accuracy(runs: Runs) -> str:
    """Mean and deviation over the seeds, in words."""
    return f"test accuracy {spread(over(TEST(runs)))}"


def last_gap(runs: Runs) -> float:
    """The generalisation gap in accuracy after the last epoch, on average."""
    return mean(at(max(run.knobs["epochs"] for run in runs.counted), generalisation_gap)(runs))


def with_gap(runs: Runs) -> str:
    """Test accuracy, from which iteration the generalisation gap is open, and how wide it is in the end, in words."""
    opened = spread(over(opening()(runs)))
    wide = f"{100 * last_gap(runs):.1f} points in the end"
    return f"{test_accuracy(runs)}; gap over a point from iteration {opened}, {wide}"


def _jumps(run: Result) -> float:
    losses = [row["train/loss"] for row in run.rows if "train/loss" in row]
    return sum(after > JUMP * before for before, after in pairwise(losses)) if losses else nan


JUMPS = each(_jumps)  # how often the training loss has jumped


def beside(seen: Interval, low: float, high: float) -> int:
    """-1 or 1: what was measured lies below or above what the report's number can mean. Two deviations over the seeds
    are allowed; a single seed has none."""
    allowed = 2 * seen.sd if seen.n > 1 else 0.0
    return (seen.mean - allowed > high) - (seen.mean + allowed < low)


def said_accuracy(percent: int, opens: float | None = None) -> Callable[[System, Of], tuple[str, str]]:
    """Measured test accuracy and, where the report says of it, from which iteration the gap is open; and whether they
    agree with the report's. Seeds that lie apart agree with nothing."""
    low, high = (percent - 0.5) / 100, (percent + 1) / 100

    def judge(system: System, of: Of) -> tuple[str, str]:
        runs = system.runs(of)
        seen = over(TEST(runs))
        measured = with_gap(runs) if runs.counted[0].knobs["data.split"] < 1 else test_accuracy(runs)
        if seen.sd > APART:
            values = sorted(TEST(runs).values())
            apart = f"the seeds lie apart, {values[0]:.3f} to {values[-1]:.3f}"
            jumps = JUMPS(runs)
            often = f"{counted(int(sum(jumps.values())), 'time')} in {counted(len(jumps), 'run')}"
            return measured, f"{apart}; the training loss jumps {often}"
        differs = []
        if side := beside(seen, low, high):
            word, nearest = ("higher", high) if side > 0 else ("lower", low)
            differs.append(f"{word} by {100 * abs(seen.mean - nearest):.1f} points or more")
        if opens and (side := beside(over(opening()(runs)), opens - ABOUT, opens + ABOUT)):
            differs.append(f"the gap opens {LATER[side]}")
        return measured, ", ".join(differs) or "agrees"

    return judge


def unsaid(system: System, of: Of) -> tuple[str, str]:
    """What was measured where the report gives nothing to compare with."""
    return with_gap(system.runs(of)), "no number in the report"


def builds_gap(from_iteration: float) -> Callable[[System, Of], tuple[str, str]]:
    """Whether the gap, however small, is there from an iteration on, and stays under two points."""

    def judge(system: System, of: Of) -> tuple[str, str]:
        runs = system.runs(of)
        built = over(gap_over(0.0)(runs))
        differs = ["overfits"] if last_gap(runs) > 2 * OPEN["accuracy"] else []
        if side := beside(built, from_iteration, from_iteration):
            differs.append(f"the gap builds {LATER[side]}")
        return f"{with_gap(runs)}; there from iteration {spread(built)}", ", ".join(differs) or "agrees"

    return judge


def narrows_gap(other: str) -> Callable[[System, Of], tuple[str, str]]:
    """The mean gap in the end against that of another system, without dropout, after as many iterations. The sign
    of their difference decides; SYSTEMS_NOTE in pages.py says so."""

    def judge(system: System, of: Of) -> tuple[str, str]:
        runs, plain = system.runs(of), BY_NAME[other].runs(of)
        gap = at(runs.counted[0].knobs["epochs"], generalisation_gap)
        ours, theirs = mean(gap(runs)), mean(gap(plain))
        if isnan(ours - theirs):
            return test_accuracy(runs), "no gaps to compare"
        measured = f"gap {100 * ours:.2f} points, that of {other} {100 * theirs:.2f} after as many iterations"
        return f"{test_accuracy(runs)}; {measured}", "agrees" if ours < theirs else "does not narrow it"

    return judge


def said_pixels(system: System, of: Of) -> tuple[str, str]:
    """The report's accuracy of an autoencoder, beside its ceiling and a measure that can see more."""
    runs = system.runs(of)
    seen, ceiling = over(TEST(runs)), mean(final("test/accuracy_ceiling")(runs))
    later = 100 * mean(minus(at(400)(runs), at(200)(runs)))
    measured = f'"accuracy" {spread(seen)} of at most {ceiling:.3f}, {later:+.2f} points after iteration 200'
    same = abs(seen.mean - 0.5) < 0.01 and abs(later) < FLAT
    return f"{measured}; MAE {spread(over(final('test/mae')(runs)))}", "agrees" if same else "differs"


def to_the_letter_opens_later(of: Of) -> list[Exceeds]:
    """Why the gap of q1_1_1 opens sooner than the report's."""
    return [Exceeds("the report's recipe to the letter has a narrower accuracy gap after 300 iterations",
                    system("q1_1_1", of), system("q1_1_1_letter", of), at(300, generalisation_gap))]  # fmt: skip


def to_the_letter_overfits_less(of: Of) -> list[Exceeds]:
    """Why q1_1_2 overfits more than the report's."""
    literal = of[DIFFERENCES_STUDY].where(model__hidden=TWO, init="report", loss="report_rows")
    return [Exceeds(f"the report's initial weights and its loss have a narrower accuracy gap after {n:,} iterations",
                    system("q1_1_2", of), literal, at(n, generalisation_gap)) for n in (300, 1000)]  # fmt: skip


def jumps_cost(of: Of) -> list[Exceeds]:
    """Why the seeds of q1_3_1_plain lie apart, and below the report's number."""
    plain, chosen = system("q1_3_1_plain", of), system("q1_3_1", of)
    falling = of[DIFFERENCES_STUDY].where(batch_size=6000, schedule="cosine")
    damped = of[DIFFERENCES_STUDY].where(batch_size=6000, optim__eps=1e-4)
    return [
        Exceeds("with a learning rate that falls to 0 the training loss jumps less often", plain, falling, JUMPS,
                unit="a run"),
        Exceeds("with Adam's eps at 1e-4 the training loss jumps less often", plain, damped, JUMPS, unit="a run"),
        Exceeds("beyond a learning rate that falls to 0, the choices of q1_3_1 raise test accuracy", chosen, falling,
                TEST),
    ]  # fmt: skip


MLP1, MLP2 = {"model__hidden": ONE, "precision": "float32"}, {"model__hidden": TWO}
SYSTEMS = [
    System("q1_1_1", "784-200-10, full batch, 80:20, 1,000 iterations",
           "87 %; the accuracy gap opens after about 300 iterations", said_accuracy(87, 300),
           {**MLP1, "epochs": 1000}, to_the_letter_opens_later),
    System("q1_1_1_letter", "the same with the report's recipe to the letter",
           "87 %; the accuracy gap opens after about 300 iterations", said_accuracy(87, 300),
           {"precision": "float64"}),
    System("q1_1_1_2000", "784-200-10, full batch, 70:30, 2,000 iterations", "", unsaid, {**MLP1, "epochs": 2000}),
    System("q1_1_1_5000", "784-200-10, full batch, 70:30, 5,000 iterations", "", unsaid, {**MLP1, "epochs": 5000}),
    System("q1_1_2", "784-300-100-10, full batch, 80:20, 1,000 iterations",
           "not overfitting; the gap builds from iteration 30", builds_gap(30),
           {**MLP2, "epochs": 1000, "dropout": None, "batch_size": None}, to_the_letter_overfits_less),
    System("q1_2_1_100", "784-300-100-10 with dropout 0.5, full batch, 80:20, 100 iterations", "overfitting reduced",
           narrows_gap("q1_1_2"), {"dropout": 0.5, "epochs": 100}),
    System("q1_2_1", "the same, 1,000 iterations", "overfitting reduced",
           narrows_gap("q1_1_2"), {"dropout": 0.5, "epochs": 1000}),
    System("q1_2_1_5000", "the same, 70:30, 5,000 iterations", "overfitting reduced",
           narrows_gap("q1_1_1_5000"), {"dropout": 0.5, "epochs": 5000}),
    System("q1_3_1_plain", "784-300-100-10, 10 mini-batches of 6,000, all 60,000 images, 500 passes", "90 %",
           said_accuracy(90), {"batch_size": 6000, "optim__name": "adam"}, jumps_cost),
    System("q1_3_1", "the same, its free choices made on validation rows", "90 %", said_accuracy(90),
           {"batch_size": 6000, "optim__name": "adamw"}),
    System("q1_4_1", "autoencoder 784-128-64-32-64-128-784, absolute error, full batch, 400 iterations",
           "about 50 % accuracy, flat after 200", said_pixels, {"model__name": "autoencoder"}),
]  # fmt: skip
BY_NAME = {system.experiment: system for system in SYSTEMS}


def system(experiment: str, of: Of) -> Runs:
    """The runs of a system by the name of its experiment."""
    return BY_NAME[experiment].runs(of)


SOUND = {"precision": "float32", "init": "he", "loss": "cross_entropy"}
LITERAL = {"precision": "float64", "init": "report", "loss": "report_rows"}
RECIPE = {
    "the sound recipe": (SOUND, {
        "as it is": {}, "in float64": {"precision": "float64"},
        "shifted weight means": {"init": "report_weights"}, "biases from N(0, 1)": {"init": "report_biases"},
        "the report's loss": {"loss": "report"}, "its loss, softmax over rows": {"loss": "report_rows"},
    }),
    "the report's recipe, to the letter": (LITERAL, {
        "as it is ": {}, "in float32": {"precision": "float32"},
        "weight means 0, He's scale": {"init": "report_biases"}, "biases 0": {"init": "report_weights"},
        "softmax over classes": {"loss": "report"}, "cross-entropy": {"loss": "cross_entropy"},
    }),
}  # fmt: skip
