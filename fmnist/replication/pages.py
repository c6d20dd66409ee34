"""docs/report/, a function of the records of runs that are kept in it. No torch."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cache

from fmnist import ROOT
from fmnist.config.schema import MODELS
from fmnist.program.files import replacing
from fmnist.replication.archive import unpack
from fmnist.replication.claims import CLAIMS, Claim
from fmnist.replication.evidence import CLASSES, Runs, minus, over, studied
from fmnist.replication.metrics import TEST
from fmnist.replication.statements import Finding, Judged, failures
from fmnist.replication.systems import RECIPE, SYSTEMS, system
from fmnist.report.comparison import Result, comparisons
from fmnist.report.plots import Picture, curves, dots
from fmnist.report.tables import Raw, Table, escape, signed, spread
from fmnist.report.words import counted, sentence

PAGES = ROOT / "docs" / "report"
RECORDS = PAGES / "records"
RECIPE_STUDY = "letter"


@dataclass
class Page:
    """Paragraphs of Markdown and the pictures that they show."""

    paragraphs: list[str] = field(default_factory=list)
    pictures: list[Picture] = field(default_factory=list)

    def show(self, *pictures: Picture) -> None:
        """Add pictures, and below them their captions. What the captions have in common is said once."""
        self.pictures += pictures
        captions = [picture.caption.partition(". ") for picture in pictures]
        for picture, (title, _, _) in zip(pictures, captions, strict=True):
            self.paragraphs.append(f"![{escape(title)}]({picture.name}.svg)")
        common = dict.fromkeys(rest for _, _, rest in captions if rest)
        self.paragraphs.append(escape(". ".join(["; ".join(title for title, _, _ in captions), *common])))

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
    """The runs by study, from the committed records where they are not given; its keys are those that were used."""

    def __missing__(self, study: str) -> Runs:
        return self.setdefault(study, studied(kept(study)))


def head(study: str) -> str:
    """What a study's file says of itself, without its command."""
    text = (ROOT / "sweep" / "study" / f"{study}.yaml").read_text(encoding="utf-8")
    comments = [line.removeprefix("# ") for line in text.splitlines() if line.startswith("# ")]
    return " ".join(line for line in comments if not line.startswith("@") and "python train.py" not in line)


def made_by(studies: Sequence[str]) -> list[str]:
    """The commands behind a page, what they do, and where the records are."""
    rows = [[Raw(f"`python train.py study={name}`"), head(name), Raw(_link(name))] for name in studies]
    return ["## Made by", Table(["command", "what", "records"], rows).markdown()]


def _link(study: str) -> str:
    """A link to a study's records, with the number of its runs."""
    if not kept(study):
        return "not run yet"
    failed = sum(run.status == "failed" for run in kept(study))
    return f"[{counted(len(kept(study)), 'run')}](records/{study}.jsonl.gz)" + (f", {failed} failed" if failed else "")


def systems_page() -> tuple[Page, list[list[str]]]:
    """The page of the systems, with curves; and its table."""
    of = Kept()
    page, rows = Page(), []
    for one in SYSTEMS:
        runs = one.runs(of)
        done = [run for run in runs.counted if run.status == "done"]
        row = [Raw(f"`{one.experiment}`"), one.what, one.said]
        if not done:
            rows.append([*row, "all runs failed" if runs.failed else "not run yet", "", ""])
            continue
        measured, verdict = one.judge(one, of)
        rows.append([*row, measured + failures([(runs, TEST(runs))]), str(len(TEST(runs))), verdict])
        page.paragraphs += [f"## {one.experiment}", f"{sentence(one.what)}: "
                            f"`python train.py experiment={one.experiment}`."]  # fmt: skip
        because = [statement.judge() for statement in (one.because(of) if one.because else [])]
        if any(judged.n for judged in because):
            page.paragraphs += ["Why it differs from the report:", _statements(because)]
        (comparison,) = comparisons(done)
        measures = dict.fromkeys([*MODELS[done[0].knobs["model.name"]].charts, "accuracy"])
        drawn = {measure: curves(comparison, measure) for measure in measures}
        page.show(*(replace(picture, name=f"{one.experiment}_{m}") for m, picture in drawn.items() if picture))
        images = PAGES / f"{one.experiment}_reconstructions.png"
        if images.exists():
            page.paragraphs += [f"![Reconstructions]({images.name})",
                                "One test image of each class below, its reconstruction above."]  # fmt: skip
    systems = Table(SYSTEMS_HEADER, rows).markdown()
    page.paragraphs = ["# The systems of the report", systems, SYSTEMS_NOTE, *page.paragraphs]
    page.paragraphs += made_by(list(of))
    return page, rows


SYSTEMS_HEADER = ["experiment", "system", "the report said", "measured", "n", "verdict"]
SYSTEMS_NOTE = (
    "Measured: mean ± standard deviation over n seeds. Each run opened the test set once, after training. A number of "
    "the report agrees if what was measured lies within two standard deviations over the seeds of what the number can "
    "mean, rounded or cut off: 87 % is 86.5 to 88. Seeds with a deviation above two points agree with nothing. The gap "
    "is the one between training and validation. About 300 iterations are 250 to 350. A gap in accuracy over two "
    "points in the end is overfitting. A training loss jumps where it is over three times the loss recorded before. "
    "Where an experiment differs from the report, the reason stands beside its curves. Overfitting is reduced if the "
    "mean gap with dropout is smaller than that of a network without: the sign of the difference of two means over so "
    "few seeds decides, and no interval says whether it is chance. `q1_2_1_5000` has two hidden layers and dropout. It "
    "is compared with `q1_1_1_5000`, which has one hidden layer and no dropout: that verdict cannot tell what dropout "
    "does from what the second layer does."
)


def recipe_page() -> Page:
    """Which of the report's choices cost accuracy."""
    of = Kept()
    runs = of[RECIPE_STUDY]
    page = Page(["# The report's recipe to the letter"])
    if not runs.counted:
        page.paragraphs += ["Not run yet."]
        return page
    recipes = {recipe: {label: TEST(runs.where(**(base | change))) for label, change in changes.items()}
               for recipe, (base, changes) in RECIPE.items()}  # fmt: skip
    rows, clear = [], []
    for recipe, samples in recipes.items():
        whole, *_ = samples.values()
        for label, sample in samples.items():
            difference = over(minus(sample, whole))
            cost = "" if sample is whole else signed(difference, 100.0)
            clear += [f"{label} ({recipe})"] if difference.low > 0 or difference.high < 0 else []
            rows.append([recipe, label, spread(over(sample)), cost])
    sound, literal = (next(iter(samples.values())) for samples in recipes.values())
    intervals = {recipe: {label: over(sample) for label, sample in own.items()} for recipe, own in recipes.items()}
    page.show(dots("recipe", intervals, "test accuracy (share of images)",
                   "Test accuracy with one choice changed at a time, from the sound recipe to the report's and back: "
                   "means with 95 % intervals over the seeds."))  # fmt: skip
    header = ["recipe", "with", "test accuracy", "difference in points, paired by seed [95 % interval]"]
    page.paragraphs += [
        Table(header, rows).markdown(),
        f"The whole recipe of the report changes test accuracy by {signed(over(minus(literal, sound)), 100.0)} points. "
        f"Single changes whose interval does not hold 0: {'; '.join(clear) or 'none'}.",
    ]
    at_size = over(minus(TEST(system("q1_1_1_letter", of)), TEST(system("q1_1_1", of))))
    if at_size.n:
        page.paragraphs += [f"At the report's own size, 48,000 rows, it changes test accuracy by "
                            f"{signed(at_size, 100.0)} points (n = {at_size.n})."]  # fmt: skip
    page.paragraphs += _of_failed(of) + made_by(list(of))
    return page


def claim_page(name: str, finding: Finding, of: Kept) -> Page:
    """A claim, what was found, and the studies that were used for it."""
    claim = CLAIMS[name]
    pictures, tables = claim.shown(of)
    page = Page([f"# {claim.title}", f"> {claim.says}", f"**Verdict: {escape(finding.in_short)}.** "
                 f"{escape(found(claim, finding))}", _statements(finding.tried)])  # fmt: skip
    for picture in pictures:
        page.show(picture)
    page.paragraphs += [one.markdown() for one in tables]
    if any(one.n for one in finding.at_size):
        page.paragraphs += ["## At the report's own size", _statements(finding.at_size)]
    last = 99 + max(one.n for one in finding.tried)
    page.paragraphs += [
        "A statement holds if the 95 % interval of its mean, or of its mean difference between runs of the same seed, "
        f"lies wholly on its side. `make claim CLAIM={name} SEEDS=100..{last}` judges the claim by seeds that had no "
        "part in this.",
    ]
    page.paragraphs += _of_failed(of) + made_by(list(of))
    return page


def found(claim: Claim, finding: Finding) -> str:
    """What was found, in words; where these were written for another finding, the statements that hold or do not."""
    if finding.holding == claim.holds:
        return claim.reading
    return finding.which and f"{sentence(finding.which)}."


def _of_failed(of: Kept) -> list[str]:
    """How many of the runs behind a page failed, and how they count; nothing where none did."""
    failed = {study: len(runs.failed) for study, runs in of.items() if runs.failed}
    if not failed:
        return []
    return [f"Runs that failed: {', '.join(f'{n} of {escape(study)}' for study, n in failed.items())}. A classifier "
            f"that failed counts as guessing, with an accuracy of 1 / {CLASSES}; it has no gap and no other metric. A "
            "failed run of another model is left out."]  # fmt: skip


def _statements(judged: Sequence[Judged]) -> str:
    rows = [[one.statement, one.measured, "yes" if one.holds else "no"] for one in judged if one.n]
    return Table(["", "measured", "holds"], rows).markdown()


def write_pages() -> list[str]:
    """Write all of docs/report/ from its records; the verdicts as lines."""
    PAGES.mkdir(parents=True, exist_ok=True)
    systems, rows = systems_page()
    systems.write("systems")
    recipe_page().write("recipe")
    claims, verdicts = [], []
    for name, claim in CLAIMS.items():
        of, title, verdict, at_size = Kept(), claim.title, "not run yet", ""
        if all(of[study].counted for study in claim.studies):
            finding = claim.judge(of)
            claim_page(name, finding, of).write(f"claim_{name}")
            verdict, title = f"{finding.in_short}. {found(claim, finding)}", Raw(f"[{claim.title}](claim_{name}.md)")
            at_size = finding.at_size_in_short
        claims.append([title, claim.says, verdict, at_size])
        verdicts.append(f"{name}: {verdict}")
    Page([
        "# The report, run again",
        "A coursework report of 2022 trained classifiers and an autoencoder on Fashion-MNIST and explained more than "
        "it measured. Here its systems are trained again, and many seeds put its claims to the test.",
        "## Systems", Table(SYSTEMS_HEADER, rows).markdown(), SYSTEMS_NOTE,
        "Curves of all of them: [systems](systems.md). What the report's choices cost: [recipe](recipe.md).",
        "## Claims", Table(["claim", "the report", "verdict", "at the report's own size"], claims).markdown(),
        "## Made by",
        "`make report` trains the systems and the recipe. `make claims` trains the studies of the claims, and those of "
        "what explains differences. Both go on where they were stopped; `ARGS=--dry-run` says what is left and how "
        "long it takes. Every number comes from the runs in `records/`: gzip'd JSON lines, one run each, with its "
        "config, seed, commit, curves and final metrics. `python -m fmnist.replication --pages` writes these pages "
        "again from them.",
    ]).write("index")  # fmt: skip
    return verdicts
