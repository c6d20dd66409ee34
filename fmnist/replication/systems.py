"""The report's systems and the arms of its recipe, and what their runs say beside what the report said. No torch."""

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from fmnist.replication.evidence import (
    GAPS,
    Of,
    Part,
    Runs,
    Sample,
    at,
    exceeds,
    first,
    gap,
    gap_of,
    mean,
    opening,
    over,
)
from fmnist.report.comparison import Configuration
from fmnist.report.intervals import Interval
from fmnist.report.tables import spread

SYSTEMS_STUDY, DIFFERENCES_STUDY = "report", "differences"
FLAT = 0.5  # points: a smaller change of an autoencoder's accuracy is none
APART = 0.02  # deviation of accuracies over the seeds from which on any figure would agree with them
ABOUT = 50.0  # iterations: "about 300" is 250 to 350
LATER = {-1: "sooner", 1: "later"}
JUMP = 3.0  # times the training loss that was recorded before: so much has jumped


@dataclass(frozen=True)
class System:
    """One system of the report at one of its schedules; knobs: what tells its runs from those of the other systems;
    judge: what was measured, and the verdict; because: statements that explain where it differs."""

    experiment: str
    what: str
    said: str
    judge: Callable[["System", Runs], tuple[str, str]]
    knobs: dict[str, Any] = field(default_factory=dict)
    because: Callable[[Of], list[Part]] | None = None

    def among(self, runs: Runs) -> Configuration:
        """Its runs."""
        return runs.where(**self.knobs)


def test_accuracy(own: Configuration) -> str:
    """Mean and deviation over the seeds, in words."""
    return f"test accuracy {spread(own.interval('test/accuracy'))}"


def with_gap(own: Configuration) -> str:
    """The same, from which iteration the gap to the validation rows is open, and how wide it is in the end."""
    wide = 100 * mean(gap(own, own.done[0].knobs["epochs"]))
    opened = spread(over(opening(own)))
    return f"{test_accuracy(own)}; gap over a point from iteration {opened}, {wide:.1f} points in the end"


def jumps(own: Configuration) -> Sample:
    """How often the training loss of each run has jumped."""
    losses = {run.seed: [row["train/loss"] for row in run.rows] for run in own.done}
    return {seed: sum(after > JUMP * before for before, after in pairwise(run)) for seed, run in losses.items()}


def beside(seen: Interval, low: float, high: float) -> int:
    """-1 or 1: what was measured lies below or above what the report's figure can mean, two deviations allowed."""
    return (seen.mean - 2 * seen.sd > high) - (seen.mean + 2 * seen.sd < low)


def said_accuracy(percent: int, opens: float | None = None) -> Callable[[System, Runs], tuple[str, str]]:
    """Measured test accuracy and, where the report says of it, from which iteration the gap is open; and whether they
    agree with the report's. Seeds that lie apart agree with nothing."""
    low, high = (percent - 0.5) / 100, (percent + 1) / 100

    def judge(system: System, runs: Runs) -> tuple[str, str]:
        own = system.among(runs)
        seen = own.interval("test/accuracy")
        told = with_gap(own) if own.done[0].knobs["data.split"] < 1 else test_accuracy(own)
        if seen.sd > APART:
            values = sorted(own.values("test/accuracy").values())
            apart = f"the seeds lie apart, {values[0]:.3f} to {values[-1]:.3f}"
            return told, f"{apart}; the training loss jumps {sum(jumps(own).values())} times in {seen.n} runs"
        differs = []
        if side := beside(seen, low, high):
            word, nearest = ("higher", high) if side > 0 else ("lower", low)
            differs.append(f"{word} by {100 * abs(seen.mean - nearest):.1f} points or more")
        if opens and (side := beside(over(opening(own)), opens - ABOUT, opens + ABOUT)):
            differs.append(f"the gap opens {LATER[side]}")
        return told, ", ".join(differs) or "agrees"

    return judge


def no_figure(system: System, runs: Runs) -> tuple[str, str]:
    """What was measured where the report gives nothing to compare with."""
    return with_gap(system.among(runs)), "no figure in the report"


def builds_gap(from_iteration: float) -> Callable[[System, Runs], tuple[str, str]]:
    """Whether the gap, however small, is there from an iteration on, and stays under two points."""

    def judge(system: System, runs: Runs) -> tuple[str, str]:
        own = system.among(runs)
        built = over(first(own, lambda row: gap_of(row) > 0, for_good=True))
        wide = mean(gap(own, own.done[0].knobs["epochs"])) > 2 * GAPS["accuracy"]
        differs = ["overfits"] if wide else []
        if side := beside(built, from_iteration, from_iteration):
            differs.append(f"the gap builds {LATER[side]}")
        return f"{with_gap(own)}; there from iteration {spread(built)}", ", ".join(differs) or "agrees"

    return judge


def narrows_gap(other: str) -> Callable[[System, Runs], tuple[str, str]]:
    """The gap in the end against that of another system, without dropout, after as many iterations."""

    def judge(system: System, runs: Runs) -> tuple[str, str]:
        own, plain = system.among(runs), BY_NAME[other].among(runs)
        epochs = own.done[0].knobs["epochs"]
        ours, theirs = mean(gap(own, epochs)), mean(gap(plain, epochs))
        told = f"gap {100 * ours:.2f} points, that of {other} {100 * theirs:.2f} after as many iterations"
        return f"{test_accuracy(own)}; {told}", "agrees" if ours < theirs else "does not narrow it"

    return judge


def said_pixels(system: System, runs: Runs) -> tuple[str, str]:
    """The report's accuracy of an autoencoder, beside its ceiling and a measure that can see more."""
    own = system.among(runs)
    seen, ceiling = own.interval("test/accuracy"), own.interval("test/accuracy_ceiling").mean
    early, late = (at(own, "validation/accuracy", epoch) for epoch in (200, 400))
    later = 100 * mean({seed: value - early[seed] for seed, value in late.items()})
    told = f'"accuracy" {spread(seen)} of at most {ceiling:.3f}, {later:+.2f} points after iteration 200'
    same = abs(seen.mean - 0.5) < 0.01 and abs(later) < FLAT
    return f"{told}; MAE {spread(own.interval('test/mae'))}", "agrees" if same else "differs"


def letter_opens_later(of: Of) -> list[Part]:
    """Why the gap of q1_1_1 opens sooner than the report's."""
    sound, letter = system("q1_1_1", of), system("q1_1_1_letter", of)
    return [exceeds("the report's recipe to the letter has a narrower accuracy gap after 300 iterations",
                    gap(sound, 300), gap(letter, 300))]  # fmt: skip


def letter_overfits_less(of: Of) -> list[Part]:
    """Why q1_1_2 overfits more than the report's."""
    letter = of[DIFFERENCES_STUDY].where(model__hidden=MLP2["model__hidden"], init="report", loss="report_rows")
    sound = system("q1_1_2", of)
    return [exceeds("the report's initial weights and its loss have a narrower accuracy gap after "
                    f"{n:,} iterations", gap(sound, n), gap(letter, n)) for n in (300, 1000)]  # fmt: skip


def jumps_cost(of: Of) -> list[Part]:
    """Why the seeds of q1_3_1_plain lie apart, and below the report's figure."""
    plain, chosen = system("q1_3_1_plain", of), system("q1_3_1", of)
    falling = of[DIFFERENCES_STUDY].where(batch_size=6000, schedule="cosine")
    damped = of[DIFFERENCES_STUDY].where(batch_size=6000, optim__eps=1e-4)
    return [
        exceeds("with a learning rate that falls to 0 the training loss jumps less often", jumps(plain), jumps(falling),
                "a run", 1.0),
        exceeds("with Adam's eps at 1e-4 it does", jumps(plain), jumps(damped), "a run", 1.0),
        exceeds("beyond a learning rate that falls to 0, the choices of q1_3_1 raise test accuracy",
                chosen.values("test/accuracy"), falling.values("test/accuracy")),
    ]  # fmt: skip


MLP1, MLP2 = {"model__hidden": [200], "precision": "float32"}, {"model__hidden": [300, 100]}
SYSTEMS = [
    System("q1_1_1", "784-200-10, full batch, 80:20, 1,000 iterations",
           "87 %; the accuracy gap opens after about 300 iterations", said_accuracy(87, 300),
           {**MLP1, "epochs": 1000}, letter_opens_later),
    System("q1_1_1_letter", "the same with the report's recipe to the letter",
           "87 %; the accuracy gap opens after about 300 iterations", said_accuracy(87, 300),
           {"precision": "float64"}),
    System("q1_1_1_2000", "784-200-10, full batch, 70:30, 2,000 iterations", "", no_figure, {**MLP1, "epochs": 2000}),
    System("q1_1_1_5000", "784-200-10, full batch, 70:30, 5,000 iterations", "", no_figure, {**MLP1, "epochs": 5000}),
    System("q1_1_2", "784-300-100-10, full batch, 80:20, 1,000 iterations",
           "not overfitting; the gap builds from iteration 30", builds_gap(30),
           {**MLP2, "epochs": 1000, "dropout": None, "batch_size": None}, letter_overfits_less),
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


def system(experiment: str, of: Of) -> Configuration:
    """The runs of one of them."""
    return BY_NAME[experiment].among(of[SYSTEMS_STUDY])


SOUND = {"precision": "float32", "init": "he", "loss": "cross_entropy"}
LETTER = {"precision": "float64", "init": "report", "loss": "report_rows"}
RECIPE = {
    "the sound recipe": (SOUND, {
        "as it is": {}, "in float64": {"precision": "float64"},
        "shifted weight means": {"init": "report_weights"}, "biases from N(0, 1)": {"init": "report_biases"},
        "the report's loss": {"loss": "report"}, "its loss, softmax over rows": {"loss": "report_rows"},
    }),
    "the report's recipe, to the letter": (LETTER, {
        "as it is ": {}, "in float32": {"precision": "float32"},
        "weight means 0, He's scale": {"init": "report_biases"}, "biases 0": {"init": "report_weights"},
        "softmax over classes": {"loss": "report"}, "cross-entropy": {"loss": "cross_entropy"},
    }),
}  # fmt: skip
