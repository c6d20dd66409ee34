"""The report, run again: trains what is missing, keeps its records as small files, writes docs/report/. No torch."""

import argparse
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from fmnist import UserError
from fmnist.archive import pack, unpack
from fmnist.claims import CLAIMS
from fmnist.evidence import Finding, Part, Runs, first, gap, gap_of, over
from fmnist.files import replacing
from fmnist.names import sweep_name
from fmnist.plots import Picture, curves, dots
from fmnist.record import CHARTS
from fmnist.results import Configuration, Result, read, studies
from fmnist.tables import Table, escape, spread

ROOT = Path(__file__).parents[1]
PAGES = ROOT / "docs" / "report"
RECORDS = PAGES / "records"
SWEEPS = Path("outputs") / "replication"
SYSTEMS_STUDY, RECIPE_STUDY, CONFIRM_STUDY = "report", "letter", "confirm"


def test_accuracy(own: Configuration) -> str:
    """Mean and deviation over the seeds, in words."""
    return f"test accuracy {spread(own.interval('test/accuracy'))}"


def said_accuracy(low: float, high: float) -> Callable[[Runs, Configuration], tuple[str, str]]:
    """Measured test accuracy, and whether it agrees with one that the report gives as from low to high."""

    def judge(runs: Runs, own: Configuration) -> tuple[str, str]:
        seen = own.interval("test/accuracy")
        about = 2 * seen.sd
        verdict = "agrees"
        if not low - about <= seen.mean <= high + about:
            nearest = low if seen.mean < low else high
            verdict = (
                f"{'lower' if seen.mean < low else 'higher'} by {100 * abs(seen.mean - nearest):.1f} points or more"
            )
        return test_accuracy(own), verdict

    return judge


def no_figure(runs: Runs, own: Configuration) -> tuple[str, str]:
    """What was measured where the report gives nothing to compare with."""
    return test_accuracy(own), "no figure in the report"


def builds_gap(runs: Runs, own: Configuration) -> tuple[str, str]:
    """From which iteration the gap is open, and how wide it is in the end."""
    opened = over(first(own, lambda row: gap_of(row) > 0.01, for_good=True))
    wide = over(gap(own, own.done[0].knobs["epochs"]))
    told = f"gap over a point from iteration {spread(opened)}, {100 * wide.mean:.1f} points in the end"
    return f"{test_accuracy(own)}; {told}", (
        "overfits" if wide.mean > 0.02 else "agrees")  # fmt: skip


def narrows_gap(runs: Runs, own: Configuration) -> tuple[str, str]:
    """The gap against that of the same schedule without dropout."""
    epochs = own.done[0].knobs["epochs"]
    plain = runs.where(epochs=1000, model__hidden=[300, 100], dropout=None, batch_size=None)
    ours, theirs = over(gap(own, epochs)).mean, over(gap(plain, min(epochs, 1000))).mean
    told = f"gap {100 * ours:.1f} points, without dropout {100 * theirs:.1f} (1,000 iterations)"
    return f"{test_accuracy(own)}; {told}", "agrees" if ours < theirs else "does not"


def said_pixels(runs: Runs, own: Configuration) -> tuple[str, str]:
    """The report's accuracy of an autoencoder, beside its ceiling and a measure that can see more."""
    seen = own.interval("test/accuracy")
    told = f'"accuracy" {spread(seen)} of at most {own.interval("test/accuracy_ceiling").mean:.3f}'
    return f"{told}; MAE {spread(own.interval('test/mae'))}", "agrees" if abs(seen.mean - 0.5) < 0.01 else "differs"


@dataclass(frozen=True)
class System:
    """One system of the report at one of its schedules; judge gives what was measured, and the verdict."""

    experiment: str
    what: str
    said: str
    judge: Callable[[Runs, Configuration], tuple[str, str]]
    knobs: dict[str, Any] = field(default_factory=dict)


MLP1, MLP2 = {"model__hidden": [200], "precision": "float32"}, {"model__hidden": [300, 100]}
SYSTEMS = [
    System("q1_1_1", "784-200-10, full batch, 80:20, 1,000 iterations", "87 %", said_accuracy(0.865, 0.875),
           {**MLP1, "epochs": 1000}),
    System("q1_1_1_letter", "the same with the report's recipe to the letter", "87 %", said_accuracy(0.865, 0.875),
           {"precision": "float64"}),
    System("q1_1_1_2000", "784-200-10, full batch, 70:30, 2,000 iterations", "", no_figure, {**MLP1, "epochs": 2000}),
    System("q1_1_1_5000", "784-200-10, full batch, 70:30, 5,000 iterations", "", no_figure, {**MLP1, "epochs": 5000}),
    System("q1_1_2", "784-300-100-10, full batch, 80:20, 1,000 iterations",
           "not overfitting; the gap builds from iteration 30", builds_gap,
           {**MLP2, "epochs": 1000, "dropout": None, "batch_size": None}),
    System("q1_2_1_100", "the same with dropout 0.5, 100 iterations", "overfitting reduced", narrows_gap,
           {"dropout": 0.5, "epochs": 100}),
    System("q1_2_1", "with dropout 0.5, 1,000 iterations", "overfitting reduced", narrows_gap,
           {"dropout": 0.5, "epochs": 1000}),
    System("q1_2_1_5000", "with dropout 0.5, 70:30, 5,000 iterations", "overfitting reduced", narrows_gap,
           {"dropout": 0.5, "epochs": 5000}),
    System("q1_3_1_plain", "784-300-100-10, 10 mini-batches of 6,000, all 60,000 images, 500 passes", "90 %",
           said_accuracy(0.895, 0.905), {"batch_size": 6000, "optim__name": "adam"}),
    System("q1_3_1", "the same, its free choices made on validation rows", "90 %", said_accuracy(0.895, 0.905),
           {"batch_size": 6000, "optim__name": "adamw"}),
    System("q1_4_1", "autoencoder 784-128-64-32-64-128-784, absolute error, full batch, 400 iterations",
           "about 50 % accuracy, flat after 200", said_pixels, {"model__name": "autoencoder"}),
]  # fmt: skip
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


@dataclass
class Page:
    """Paragraphs of Markdown and the pictures that they show."""

    paragraphs: list[str] = field(default_factory=list)
    pictures: list[Picture] = field(default_factory=list)

    def show(self, picture: Picture) -> None:
        """Add a picture with its caption."""
        self.pictures.append(picture)
        self.paragraphs += [f"![{escape(picture.caption.split('. ')[0])}]({picture.name}.svg)", escape(picture.caption)]

    def write(self, name: str) -> None:
        """Put it into docs/report/."""
        for picture in self.pictures:
            with replacing(PAGES / f"{picture.name}.svg") as file:
                file.write(picture.svg())
        with replacing(PAGES / f"{name}.md") as file:
            file.write("\n\n".join(part.strip() for part in self.paragraphs) + "\n")


@cache
def kept(study: str) -> tuple[Result, ...]:
    """The runs of a study's committed records; none where there are no records yet."""
    file = RECORDS / f"{study}.jsonl.gz"
    return tuple(unpack(file)) if file.exists() else ()


class Kept(dict[str, Runs]):
    """The runs by study, from the committed records where they are not given."""

    def __missing__(self, study: str) -> Runs:
        return Runs(kept(study))


def head(study: str) -> str:
    """What a study's file says of itself, but for its command."""
    lines = (ROOT / "sweep" / "study" / f"{study}.yaml").read_text().splitlines()
    comments = [line.removeprefix("# ") for line in lines if line.startswith("# ") and "python train.py" not in line]
    return escape(" ".join(comment for comment in comments if not comment.startswith("@")))


def how(study_names: Sequence[str]) -> list[str]:
    """The commands behind a page, what they do, and where the records are."""
    rows = [[f"`python train.py study={name}`", head(name), _link(name)] for name in study_names]
    return ["## Made by", "| command | what | records |\n| --- | --- | --- |\n"
            + "".join(f"| {' | '.join(row)} |\n" for row in rows)]  # fmt: skip


def _link(study: str) -> str:
    """To a study's records, with the number of runs."""
    return f"[{len(kept(study))} runs](records/{study}.jsonl.gz)" if kept(study) else "not run yet"


def systems_page() -> tuple[Page, list[list[str]]]:
    """The page of the systems, with curves; and its table."""
    runs = Runs(kept(SYSTEMS_STUDY))
    page, rows, sections = Page(), [], []
    for system in SYSTEMS:
        own = runs.where(**system.knobs)
        if not own.done:
            rows.append([f"`{system.experiment}`", system.what, system.said, "not run yet", "", ""])
            continue
        measured, verdict = system.judge(runs, own)
        rows.append([f"`{system.experiment}`", system.what, system.said, measured, str(len(own.done)), verdict])
        sections.append((system, own))
    page.paragraphs = ["# The systems of the report", _table(SYSTEMS_HEADER, rows), SYSTEMS_NOTE]
    for system, own in sections:
        page.paragraphs += [f"## {system.experiment}", f"{system.what.capitalize()}: "
                            f"`python train.py experiment={system.experiment}`."]  # fmt: skip
        (study,) = studies(own.done)
        for measure in CHARTS[own.done[0].knobs["model.name"]]:
            drawn = curves(study, measure)
            if drawn:
                page.show(replace(drawn, name=f"{system.experiment}_{measure}"))
        row = PAGES / f"{system.experiment}_reconstructions.png"
        if row.exists():
            page.paragraphs += [
                f"![Reconstructions]({row.name})",
                "One test image of each class below, its reconstruction above.",
            ]
    page.paragraphs += how([SYSTEMS_STUDY])
    return page, rows


SYSTEMS_HEADER = ["experiment", "system", "the report said", "measured", "n", "verdict"]
SYSTEMS_NOTE = (
    "Measured: mean ± standard deviation over n seeds; the test set was opened once a run, after training. A figure "
    "agrees if it lies within two standard deviations over the seeds of what the report's rounded figure can mean. Why "
    "those that do not agree differ is on the page of [the recipe](recipe.md)."
)


def recipe_page() -> Page:
    """Which of the report's choices cost accuracy."""
    runs = Runs(kept(RECIPE_STUDY))
    page = Page(["# The recipe to the letter"])
    if not runs.results:
        page.paragraphs += ["Not run yet."]
        return page
    groups = {group: {label: runs.where(**(base | change)).interval("test/accuracy") for label, change in arms.items()}
              for group, (base, arms) in RECIPE.items()}  # fmt: skip
    rows = []
    for group, (base, arms) in RECIPE.items():
        whole = runs.where(**base)
        for label, change in arms.items():
            own = runs.where(**(base | change))
            difference, _ = own.minus(whole, "test/accuracy")
            cost = (
                f"{100 * difference.mean:+.2f} [{100 * difference.low:+.2f}, {100 * difference.high:+.2f}]"
                if change
                else ""
            )
            rows.append([group, label, spread(own.interval("test/accuracy")), cost])
    page.show(dots("recipe", groups, "test accuracy (share of images)",
                   "Test accuracy with one choice changed at a time, from the sound recipe to the report's and back: "
                   "means with 95 % intervals over the seeds."))  # fmt: skip
    page.paragraphs += [
        Table(["recipe", "with", "test accuracy", "difference (points, paired by seed)"], rows).markdown()
    ]
    page.paragraphs += how([RECIPE_STUDY])
    return page


def claim_page(name: str, finding: Finding) -> Page:
    """A claim, what was found, and what it was found by."""
    claim = CLAIMS[name]
    page = Page(
        [f"# {claim.title}", f"> {claim.says}", f"**Verdict: {escape(finding.verdict)}.**", _parts(finding.parts)]
    )
    for picture in finding.pictures:
        page.show(picture)
    page.paragraphs += [table.markdown() for table in finding.tables]
    at_size = [part for part in finding.at_size if part.measured != "no runs to compare" and "nan" not in part.measured]
    if at_size:
        page.paragraphs += ["## At the report's own size", _parts(at_size)]
    seeds = f"`make claim CLAIM={name} SEEDS=100..109`"
    page.paragraphs += [f"A part holds if the 95 % interval of its mean, or mean difference between runs of the same "
                        f"seed, lies wholly on its side. {seeds} tries it with seeds that had no "
                        f"part in this."]  # fmt: skip
    page.paragraphs += how([*claim.studies, *claim.confirmed_by, *([CONFIRM_STUDY] if at_size else [])])
    return page


def _parts(parts: Sequence[Part]) -> str:
    return Table(
        ["", "measured", "holds"], [[p.statement, p.measured, "yes" if p.holds else "no"] for p in parts]
    ).markdown()


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def write_pages() -> list[str]:
    """All of docs/report/ from its records; the verdicts as lines."""
    PAGES.mkdir(parents=True, exist_ok=True)
    systems, rows = systems_page()
    systems.write("systems")
    recipe_page().write("recipe")
    claims, said = [], []
    for name, claim in CLAIMS.items():
        of = Kept()
        if all(of[study].results for study in claim.studies):
            finding = claim.judge(of)
            claim_page(name, finding).write(f"claim_{name}")
            verdict, n = finding.verdict, f"[{claim.title}](claim_{name}.md)"
        else:
            verdict, n = "not run yet", claim.title
        claims.append([n, claim.says, escape(verdict)])
        said.append(f"{name}: {verdict}")
    page = Page([
        "# The report, run again",
        "A coursework report of 2022 trained classifiers and an autoencoder on Fashion-MNIST and explained more than "
        "it measured. Here its systems are trained again, and its claims put to the test, over many seeds.",
        "## Systems", _table(SYSTEMS_HEADER, rows), SYSTEMS_NOTE,
        "Curves of all of them: [systems](systems.md). What its choices cost: [recipe](recipe.md).",
        "## Claims", _table(["claim", "the report", "verdict"], claims),
        "## Made by",
        "`make report` trains the systems and the recipe, `make claims` the studies of the claims; both go on where "
        "they were stopped, and `ARGS=--dry-run` says what is left and how long it takes. Every number comes from the "
        "runs in `records/`, gzip'd JSON lines, a run each, with its config, seed, commit, curves and final figures; "
        "`python -m fmnist.replication --pages` writes these pages again from them.",
    ])  # fmt: skip
    page.write("index")
    return said


def train(study: str, seeds: range | None = None, overrides: Sequence[str] = ()) -> Path:
    """Train what is missing of a study; where its runs are. Raises UserError if it could not be run; SystemExit after a
    signal. Runs that fail do not count, as anywhere: what they leave is for the rules to judge."""
    own = [override for override in overrides if not override.startswith("dry_run")]
    own += [f"seeds={seeds.start}-{seeds.stop - 1}"] if seeds else []  # apart from the runs that docs/report/ is of
    directory = SWEEPS / sweep_name([f"study={study}", *own])
    line = [sys.executable, str(ROOT / "train.py"), f"study={study}", f"hydra.sweep.dir={directory}", *overrides]
    line += [f"seed=range({seeds.start},{seeds.stop})"] if seeds else []
    print(f"{study}: {head(study)}", flush=True)
    status = subprocess.run(line).returncode
    if status > 128 or status < 0:
        raise SystemExit(status)
    if status and not (directory / "leaderboard.csv").exists():
        raise UserError(f"study {study} could not be run")
    return directory


def keep(study: str, directory: Path) -> None:
    """Pack a study's runs into its file of records; the pictures of an autoencoder beside the pages."""
    results = read([directory])
    if unfinished := [r for r in results if r.status not in ("done", "failed", "duplicate")]:
        raise UserError(
            f"study {study} has {len(unfinished)} runs that have not ended: the same command goes on with them"
        )
    pack(results, RECORDS / f"{study}.jsonl.gz")
    for system in SYSTEMS:
        for picture in sorted(directory.glob(f"experiment-{system.experiment}+seed-0/figures/reconstructions.png")):
            shutil.copyfile(picture, PAGES / f"{system.experiment}_reconstructions.png")


def retest(name: str, directories: dict[str, Path], seeds: range) -> bool:
    """Judge a claim by these seeds alone; whether each part comes out as it does from the committed records."""
    claim, before = CLAIMS[name], Kept()
    chosen = {study: Runs(r for r in read([directory]) if r.knobs.get("seed") in seeds)
              for study, directory in directories.items()}  # fmt: skip
    finding = claim.judge(Kept(chosen))
    known = all(before[study].results for study in claim.studies)
    old = claim.judge(before).parts if known else finding.parts
    print(f"\n{claim.says}\nseeds {seeds.start} to {seeds.stop - 1}: {finding.verdict}")
    same = True
    for part, other in zip(finding.parts, old, strict=True):
        same &= part.holds == other.holds
        differs = "" if part.holds == other.holds else f"; DIFFERS from docs/report/claim_{name}.md: {other.measured}"
        print(f"  {'yes' if part.holds else 'no':3}  {part.statement}: {part.measured}{differs}")
    return same


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m fmnist.replication",
            description="The report, run again: trains what is missing, writes docs/report/.",
    )  # fmt: skip
    parts = ["systems", "recipe", "claims", "confirm", *CLAIMS]
    told = f"of {', '.join(parts)} (claims: all of them); default: systems recipe"
    parser.add_argument("parts", nargs="*", metavar="PART", help=told)
    alone = "try claims with these seeds alone, write nothing to docs/report/; then KNOB=VALUE among the PARTs changes "
    parser.add_argument("--seeds", metavar="A..B", help=alone + "their studies")
    parser.add_argument("--dry-run", action="store_true", help="say what is left to train and how long it takes")
    parser.add_argument("--pages", action="store_true", help="train nothing: write the pages again from their records")
    given = parser.parse_intermixed_args(arguments)
    given.overrides = [part for part in given.parts if "=" in part]
    given.parts = [part for part in given.parts if "=" not in part] or ["systems", "recipe"]
    if unknown := [part for part in given.parts if part not in parts]:
        parser.error(f"PART must be one of {', '.join(parts)}, got {', '.join(unknown)}")
    if "claims" in given.parts:
        given.parts = list(dict.fromkeys([*CLAIMS, *given.parts[given.parts.index("claims") + 1 :]]))
    if given.seeds:
        match = re.fullmatch(r"(\d+)\.\.(\d+)", given.seeds)
        if not match or int(match[2]) <= int(match[1]):
            parser.error(f"--seeds must be A..B with A < B, such as 100..109, got {given.seeds}")
        given.seeds = range(int(match[1]), int(match[2]) + 1)
        if others := set(given.parts) - set(CLAIMS):
            parser.error(f"--seeds is for claims alone, got {', '.join(sorted(others))}")
    elif given.overrides:
        parser.error(f"KNOB=VALUE needs --seeds: docs/report/ is of the studies as they are, got {given.overrides[0]}")
    return given


def main(arguments: Sequence[str] | None = None) -> int:
    """Train, judge and write what is asked for; 1 where new seeds lead to another verdict."""
    asked = parse(arguments)
    same = True
    named = {"systems": (SYSTEMS_STUDY,), "recipe": (RECIPE_STUDY,), "confirm": (CONFIRM_STUDY,)}
    overrides = [*asked.overrides, *(["dry_run=true"] if asked.dry_run else [])]
    try:
        for part in [] if asked.pages else asked.parts:
            wanted = CLAIMS[part].studies if part in CLAIMS else named[part]
            if part in CLAIMS and not asked.seeds:
                wanted += CLAIMS[part].confirmed_by
            directories = {}
            for study in wanted:
                directories[study] = train(study, asked.seeds, overrides)
                if not (asked.dry_run or asked.seeds):
                    keep(study, directories[study])
            if asked.seeds and not asked.dry_run:
                same &= retest(part, directories, asked.seeds)
        if not (asked.dry_run or asked.seeds):
            kept.cache_clear()
            print("\n".join(write_pages()))
            print("pages: docs/report/index.md")
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return int(not same)


if __name__ == "__main__":
    sys.exit(main())
