"""docs/report/, a function of the records of runs that are kept in it. No torch."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cache

from fmnist import ROOT
from fmnist.config.schema import MODELS
from fmnist.record.files import replacing
from fmnist.replication.archive import unpack
from fmnist.replication.claims import CLAIMS, Claim
from fmnist.replication.evidence import Finding, Part, Runs
from fmnist.replication.systems import RECIPE, SYSTEMS, SYSTEMS_STUDY, system
from fmnist.report.comparison import Result, comparisons
from fmnist.report.plots import Picture, curves, dots
from fmnist.report.tables import Table, escape, signed, spread

PAGES = ROOT / "docs" / "report"
RECORDS = PAGES / "records"
RECIPE_STUDY, CONFIRM_STUDY = "letter", "confirm"


@dataclass
class Page:
    """Paragraphs of Markdown and the pictures that they show."""

    paragraphs: list[str] = field(default_factory=list)
    pictures: list[Picture] = field(default_factory=list)

    def show(self, *pictures: Picture) -> None:
        """Add pictures, and below them their captions; what these have in common after their titles is said once."""
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
        return self.setdefault(study, Runs(kept(study)))


def head(study: str) -> str:
    """What a study's file says of itself, but for its command."""
    lines = (ROOT / "sweep" / "study" / f"{study}.yaml").read_text().splitlines()
    comments = [line.removeprefix("# ") for line in lines if line.startswith("# ") and "python train.py" not in line]
    return escape(" ".join(comment for comment in comments if not comment.startswith("@")))


def how(study_names: Sequence[str]) -> list[str]:
    """The commands behind a page, what they do, and where the records are."""
    rows = [[f"`python train.py study={name}`", head(name), _link(name)] for name in study_names]
    return ["## Made by", _table(["command", "what", "records"], rows)]


def _link(study: str) -> str:
    """To a study's records, with the number of runs."""
    return f"[{len(kept(study))} runs](records/{study}.jsonl.gz)" if kept(study) else "not run yet"


def systems_page() -> tuple[Page, list[list[str]]]:
    """The page of the systems, with curves; and its table."""
    of = Kept()
    runs = of[SYSTEMS_STUDY]
    page, rows, sections = Page(), [], []
    for one in SYSTEMS:
        own = one.among(runs)
        if not own.done:
            rows.append([f"`{one.experiment}`", one.what, one.said, "not run yet", "", ""])
            continue
        measured, verdict = one.judge(one, runs)
        rows.append([f"`{one.experiment}`", one.what, one.said, measured, str(len(own.done)), verdict])
        sections.append((one, own))
    page.paragraphs = ["# The systems of the report", _table(SYSTEMS_HEADER, rows), SYSTEMS_NOTE]
    for one, own in sections:
        page.paragraphs += [f"## {one.experiment}", f"{one.what[0].upper()}{one.what[1:]}: "
                            f"`python train.py experiment={one.experiment}`."]  # fmt: skip
        if one.because and (because := [part for part in one.because(of) if part.n]):
            page.paragraphs += ["Why it differs from the report:", _parts(because)]
        (study,) = comparisons(own.done)
        measures = dict.fromkeys([*MODELS[own.done[0].knobs["model.name"]].charts, "accuracy"])
        drawn = {measure: curves(study, measure) for measure in measures}
        page.show(*(replace(picture, name=f"{one.experiment}_{m}") for m, picture in drawn.items() if picture))
        row = PAGES / f"{one.experiment}_reconstructions.png"
        if row.exists():
            page.paragraphs += [
                f"![Reconstructions]({row.name})",
                "One test image of each class below, its reconstruction above.",
            ]
    page.paragraphs += how(list(of))
    return page, rows


SYSTEMS_HEADER = ["experiment", "system", "the report said", "measured", "n", "verdict"]
SYSTEMS_NOTE = (
    "Measured: mean ± standard deviation over n seeds; the test set was opened once a run, after training. A figure "
    "agrees if it lies within two standard deviations over the seeds of what the report's can mean, rounded or cut "
    "off: 87 % is 86.5 to 88; seeds with a deviation above two points agree with nothing. About 300 iterations are 250 "
    "to 350, and a gap in accuracy over two points in the end is overfitting. A training loss jumps where it is over "
    "three times that recorded before. What explains a difference, by experiment, stands beside the curves."
)


def recipe_page() -> Page:
    """Which of the report's choices cost accuracy."""
    of = Kept()
    runs = of[RECIPE_STUDY]
    page = Page(["# The recipe to the letter"])
    if not runs.results:
        page.paragraphs += ["Not run yet."]
        return page
    arms = {group: {label: runs.where(**(base | change)) for label, change in changes.items()}
            for group, (base, changes) in RECIPE.items()}  # fmt: skip
    rows, telling = [], []
    for group, own in arms.items():
        whole, *_ = own.values()
        for label, arm in own.items():
            difference, _ = arm.minus(whole, "test/accuracy")
            cost = "" if arm is whole else signed(difference, 100.0)
            telling += [f"{label} ({group})"] if difference.low > 0 or difference.high < 0 else []
            rows.append([group, label, spread(arm.interval("test/accuracy")), cost])
    sound, letter = (next(iter(own.values())) for own in arms.values())
    between, _ = letter.minus(sound, "test/accuracy")
    intervals = {group: {label: arm.interval("test/accuracy") for label, arm in own.items()}
                 for group, own in arms.items()}  # fmt: skip
    page.show(dots("recipe", intervals, "test accuracy (share of images)",
                   "Test accuracy with one choice changed at a time, from the sound recipe to the report's and back: "
                   "means with 95 % intervals over the seeds."))  # fmt: skip
    header = ["recipe", "with", "test accuracy", "difference in points, paired by seed [95 % interval]"]
    page.paragraphs += [
        Table(header, rows).markdown(),
        f"Between the two recipes as they are lie {signed(between, 100.0)} points. Single changes whose interval does "
        f"not hold 0: {'; '.join(telling) or 'none'}.",
    ]
    at_size, _ = system("q1_1_1_letter", of).minus(system("q1_1_1", of), "test/accuracy")
    if at_size.n:
        page.paragraphs += [
            f"At the report's own size, 48,000 rows, it is {signed(at_size, 100.0)} points (n = {at_size.n})."
        ]
    page.paragraphs += how(list(of))
    return page


def claim_page(name: str, finding: Finding, used: Sequence[str]) -> Page:
    """A claim, what was found, and the studies that were used for it."""
    claim = CLAIMS[name]
    page = Page(
        [f"# {claim.title}", f"> {claim.says}", f"**Verdict: {escape(finding.in_short)}.** {said(claim, finding)}",
         _parts(finding.parts)]
    )  # fmt: skip
    for picture in finding.pictures:
        page.show(picture)
    page.paragraphs += [table.markdown() for table in finding.tables]
    at_size = [part for part in finding.at_size if part.n]
    if at_size:
        page.paragraphs += ["## At the report's own size", _parts(at_size)]
    last = 99 + max(part.n for part in finding.parts)
    seeds = f"`make claim CLAIM={name} SEEDS=100..{last}`"
    page.paragraphs += [f"A part holds if the 95 % interval of its mean, or mean difference between runs of the same "
                        f"seed, lies wholly on its side. {seeds} tries it with seeds that had no "
                        f"part in this."]  # fmt: skip
    page.paragraphs += how(used)
    return page


def said(claim: Claim, finding: Finding) -> str:
    """What was found, in words; or the parts, where the words were written for other findings."""
    if finding.pattern == claim.pattern:
        return claim.reading
    return finding.which and escape(f"{finding.which[0].upper()}{finding.which[1:]}.")


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
    claims, verdicts = [], []
    for name, claim in CLAIMS.items():
        of = Kept()
        if all(of[study].results for study in claim.studies):
            finding = claim.judge(of)
            claim_page(name, finding, list(of)).write(f"claim_{name}")
            verdict, title = f"{finding.in_short}. {said(claim, finding)}", f"[{claim.title}](claim_{name}.md)"
            at_size = finding.at_size_in_short
        else:
            verdict, title, at_size = "not run yet", claim.title, ""
        claims.append([title, claim.says, verdict, at_size])
        verdicts.append(f"{name}: {verdict}")
    page = Page([
        "# The report, run again",
        "A coursework report of 2022 trained classifiers and an autoencoder on Fashion-MNIST and explained more than "
        "it measured. Here its systems are trained again, and its claims put to the test, over many seeds.",
        "## Systems", _table(SYSTEMS_HEADER, rows), SYSTEMS_NOTE,
        "Curves of all of them: [systems](systems.md). What its choices cost: [recipe](recipe.md).",
        "## Claims", _table(["claim", "the report", "verdict", "at the report's own size"], claims),
        "## Made by",
        "`make report` trains the systems and the recipe, `make claims` the studies of the claims and of what explains "
        "differences; both go on where they were stopped, and "
        "`ARGS=--dry-run` says what is left and how long it takes. Every number comes from the "
        "runs in `records/`, gzip'd JSON lines, a run each, with its config, seed, commit, curves and final figures; "
        "`python -m fmnist.replication --pages` writes these pages again from them.",
    ])  # fmt: skip
    page.write("index")
    return verdicts
