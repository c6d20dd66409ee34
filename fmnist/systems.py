"""The report's systems and the arms of its recipe, and what their runs say beside what the report said. No torch."""

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from fmnist.evidence import GAPS, Of, Part, Runs, at, exceeds, gap, mean, opening, over
from fmnist.results import Configuration
from fmnist.tables import spread

SYSTEMS_STUDY = "report"
FLAT = 0.5  # points: a smaller change of an autoencoder's accuracy is none
APART = 0.02  # deviation of accuracies over the seeds from which on any figure would agree with them
JUMP = 3.0  # times the training loss that was recorded before: so much has jumped


@dataclass(frozen=True)
class System:
    """One system of the report at one of its schedules; knobs: what tells its runs from those of the other systems;
    judge: what was measured, and the verdict; because: statements that explain it, each with two experiments of which
    the first is to have the higher test accuracy."""

    experiment: str
    what: str
    said: str
    judge: Callable[["System", Runs], tuple[str, str]]
    knobs: dict[str, Any] = field(default_factory=dict)
    because: tuple[tuple[str, str, str], ...] = ()

    def among(self, runs: Runs) -> Configuration:
        """Its runs."""
        return runs.where(**self.knobs)

    def explanation(self, runs: Runs) -> list[Part]:
        """Whether what should explain its result does."""
        figures = {name: system.among(runs).values("test/accuracy") for name, system in BY_NAME.items()}
        return [exceeds(statement, figures[more], figures[less]) for statement, more, less in self.because]


def test_accuracy(own: Configuration) -> str:
    """Mean and deviation over the seeds, in words."""
    return f"test accuracy {spread(own.interval('test/accuracy'))}"


def with_gap(own: Configuration) -> str:
    """The same, from which iteration the gap to the validation rows is open, and how wide it is in the end."""
    wide = 100 * mean(gap(own, own.done[0].knobs["epochs"]))
    opened = spread(over(opening(own)))
    return f"{test_accuracy(own)}; gap over a point from iteration {opened}, {wide:.1f} points in the end"


def jumps(own: Configuration) -> int:
    """How often the training loss of all runs together has jumped."""
    losses = ([row["train/loss"] for row in run.rows] for run in own.done)
    return sum(after > JUMP * before for run in losses for before, after in pairwise(run))


def said_accuracy(percent: int) -> Callable[[System, Runs], tuple[str, str]]:
    """Measured test accuracy, and whether it agrees with the report's, which may have been rounded or cut off. Seeds
    that lie apart agree with nothing."""
    low, high = (percent - 0.5) / 100, (percent + 1) / 100

    def judge(system: System, runs: Runs) -> tuple[str, str]:
        own = system.among(runs)
        seen = own.interval("test/accuracy")
        about = 2 * seen.sd
        verdict = "agrees"
        if seen.sd > APART:
            values = sorted(own.values("test/accuracy").values())
            verdict = f"the seeds lie apart, {values[0]:.3f} to {values[-1]:.3f}; "
            verdict += f"the training loss jumps {jumps(own)} times in {seen.n} runs"
        elif not low - about <= seen.mean <= high + about:
            nearest, word = (low, "lower") if seen.mean < low else (high, "higher")
            verdict = f"{word} by {100 * abs(seen.mean - nearest):.1f} points or more"
        return with_gap(own) if own.done[0].knobs["data.split"] < 1 else test_accuracy(own), verdict

    return judge


def no_figure(system: System, runs: Runs) -> tuple[str, str]:
    """What was measured where the report gives nothing to compare with."""
    return with_gap(system.among(runs)), "no figure in the report"


def builds_gap(system: System, runs: Runs) -> tuple[str, str]:
    """Whether the gap stays under two points, and is there by iteration 60 at the latest."""
    own = system.among(runs)
    wide = mean(gap(own, own.done[0].knobs["epochs"])) > 2 * GAPS["accuracy"]
    late = mean(opening(own)) > 60
    return with_gap(own), ", ".join(["overfits"] * wide + ["the gap opens later"] * late) or "agrees"


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


MLP1, MLP2 = {"model__hidden": [200], "precision": "float32"}, {"model__hidden": [300, 100]}
SYSTEMS = [
    System("q1_1_1", "784-200-10, full batch, 80:20, 1,000 iterations",
           "87 %; the accuracy gap opens after about 300 iterations", said_accuracy(87),
           {**MLP1, "epochs": 1000}),
    System("q1_1_1_letter", "the same with the report's recipe to the letter",
           "87 %; the accuracy gap opens after about 300 iterations", said_accuracy(87),
           {"precision": "float64"}),
    System("q1_1_1_2000", "784-200-10, full batch, 70:30, 2,000 iterations", "", no_figure, {**MLP1, "epochs": 2000}),
    System("q1_1_1_5000", "784-200-10, full batch, 70:30, 5,000 iterations", "", no_figure, {**MLP1, "epochs": 5000}),
    System("q1_1_2", "784-300-100-10, full batch, 80:20, 1,000 iterations",
           "not overfitting; the gap builds from iteration 30", builds_gap,
           {**MLP2, "epochs": 1000, "dropout": None, "batch_size": None}),
    System("q1_2_1_100", "784-300-100-10 with dropout 0.5, full batch, 80:20, 100 iterations", "overfitting reduced",
           narrows_gap("q1_1_2"), {"dropout": 0.5, "epochs": 100}),
    System("q1_2_1", "the same, 1,000 iterations", "overfitting reduced",
           narrows_gap("q1_1_2"), {"dropout": 0.5, "epochs": 1000}),
    System("q1_2_1_5000", "the same, 70:30, 5,000 iterations", "overfitting reduced",
           narrows_gap("q1_1_1_5000"), {"dropout": 0.5, "epochs": 5000}),
    System("q1_3_1_plain", "784-300-100-10, 10 mini-batches of 6,000, all 60,000 images, 500 passes", "90 %",
           said_accuracy(90), {"batch_size": 6000, "optim__name": "adam"},
           (("its free choices (optimizer, schedule, weight decay, label smoothing) made on validation rows raise it",
             "q1_3_1", "q1_3_1_plain"),)),
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
