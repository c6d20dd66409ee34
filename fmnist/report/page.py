"""Tables and pictures of finished runs, as a folder to read, print and pass on: from their records alone, no torch."""

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape as escape_html
from importlib import import_module
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING

from fmnist import UserError
from fmnist.program.files import replacing
from fmnist.program.output import encodable, printable
from fmnist.report import gallery
from fmnist.report.against import baselines
from fmnist.report.comparison import Comparison, Configuration, Result, comparisons, read
from fmnist.report.power import power
from fmnist.report.tables import Table, code, differences, escape, numbers, spread, summary
from fmnist.report.words import counted, in_words, sentence, short, value_in_words

if TYPE_CHECKING:
    from fmnist.report.plots import Picture

DRAWING = ("landscapes", "tradeoffs", "importance", "mistakes")  # the modules that draw, as they stand in a report
ROUND = str.maketrans("[]", "()")  # brackets within those of Markdown would end them
STYLE = """
:root { color-scheme: light dark; --line: #8886; --soft: #8881; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 64rem; margin: 2rem auto; padding: 0 1rem; }
table { display: block; overflow-x: auto; border-collapse: collapse; font-size: .88rem; margin: 1rem 0; }
.wide { margin: 1rem 0 -.8rem; font-size: .8rem; text-align: right; opacity: .7; }
th, td { padding: .3rem .7rem; border-bottom: 1px solid var(--line); text-align: left; white-space: nowrap; }
td { font-variant-numeric: tabular-nums; }
th { cursor: pointer; user-select: none; border-bottom-width: 2px; }
th[data-order]::after { content: " ↑"; } th[data-order="-1"]::after { content: " ↓"; }
tr:hover td { background: var(--soft); }
img { width: min(100%, 46rem); background: white; border-radius: 6px; padding: .5rem; box-sizing: border-box; }
code { background: var(--soft); padding: .1em .3em; border-radius: 3px; overflow-wrap: anywhere; }
p:has(> img) + p { font-size: .88rem; margin-bottom: 2rem; }
@media print { body { max-width: none; } th { cursor: auto; } .wide { display: none; } }
"""
# A click on a header sorts by that column: by the numbers cells begin with, empty cells last; again: the other way.
# Above a table that is wider than the page stands that it can be scrolled: not every browser shows a bar.
SCRIPT = """
const hint = table => {
  const above = table.previousElementSibling, has = above?.className === "wide";
  if (table.scrollWidth <= table.clientWidth) { if (has) above.remove(); }
  else if (!has) table.insertAdjacentHTML("beforebegin", '<p class="wide">more columns: scroll to the right →</p>');
};
const hints = () => document.querySelectorAll("table").forEach(hint);
addEventListener("resize", hints); hints();
document.querySelectorAll("th").forEach(th => th.addEventListener("click", () => {
  const body = th.closest("table").tBodies[0], order = th.dataset.order === "1" ? -1 : 1;
  const key = row => row.cells[th.cellIndex].textContent.trim().replace("<", "");
  const compare = (a, b) => !a || !b ? !a - !b
    : order * (isNaN(parseFloat(a)) || isNaN(parseFloat(b)) ? a.localeCompare(b) : parseFloat(a) - parseFloat(b));
  for (const other of th.parentNode.cells) delete other.dataset.order;
  th.dataset.order = order;
  [...body.rows].sort((a, b) => compare(key(a), key(b))).forEach(row => body.append(row));
}));
"""


@dataclass(frozen=True)
class Page:
    """A report that is drawn. title: plain text. text: Markdown. files: its others by name. said: its main points."""

    title: str
    text: str
    files: dict[str, str]
    said: list[str]

    def write(self, output: Path, again: float | None = None) -> None:
        """Write all files into a directory, each whole or not at all. again: seconds after which the page loads itself
        anew; None: never. Raises UserError where it cannot be written."""
        pages = {"index.md": self.text, "index.html": html(self.title, self.text, self.files, again)}
        try:
            output.mkdir(parents=True, exist_ok=True)
            for name, content in (self.files | pages).items():  # the pages last
                with replacing(output / name) as file:
                    file.write(encodable(content))
        except OSError as error:
            problem = f"got {output} ({error.strerror})"
            raise UserError(f"--output must be a directory that can be written, {problem}") from None


def report(directories: Sequence[Path], output: Path, baseline: Sequence[str] = (), command: str = "") -> list[str]:
    """Write the report on all runs in or below some directories into `output`; gives its main points, as lines.

    Errors and baseline: see `compose`. Files are written only when everything is drawn.
    """
    page = compose(directories, baseline, command)
    page.write(output)
    return page.said


def compose(directories: Sequence[Path], baseline: Sequence[str] = (), command: str = "") -> Page:
    """The report on all runs in or below some directories.

    baseline: KNOB=VALUE, the configuration that others are compared with, instead of the best. Raises UserError where
    there is nothing to report or no such configuration.
    """
    results = read(directories)
    all_comparisons = comparisons(results)
    compared = baselines(all_comparisons, baseline)
    done = sum(result.status == "done" for result in results)
    title = f"Report on {', '.join(directory.resolve().name for directory in directories)}"
    page = [f"# {escape(title)}"]
    said = [f"{counted(done, 'finished run')} of {len(results):,}"]
    page += [escape(f"{said[0]}, {_provenance(results)}")]
    files: dict[str, str] = {}
    for number, comparison in enumerate(all_comparisons):
        prefix = f"{number + 1}_" if len(all_comparisons) > 1 else ""
        drawn = pictures(comparison)
        own = [picture for picture in drawn if not isinstance(picture, str)]
        files |= {f"{prefix}{picture.name}.svg": picture.svg() for picture in own}
        page += [f"## {escape(sentence(comparison.title))}"] if prefix else []
        page += section(comparison, drawn, prefix, compared[number])
        said += [printable(verdict(comparison))]
    page += left_out(results)
    page += ["## Files", f"`table.csv` has every mean, deviation and interval with the runs it is of, `table.tex` the "
             f"tables for LaTeX. Made by {code(command or 'fmnist.report.page.report')}."]  # fmt: skip
    files["table.csv"] = numbers(all_comparisons)
    files["table.tex"] = "% needs \\usepackage{booktabs}\n" + "\n".join(summary(s).latex() for s in all_comparisons)
    return Page(title, "\n\n".join(part.strip() for part in page) + "\n", files, said)


def section(
    comparison: Comparison, drawn: "Sequence[Picture | str]", prefix: str, baseline: Configuration | None
) -> list[str]:
    """A comparison's part of the page, as paragraphs of Markdown."""
    shared = {short(name): value_in_words(v, name) for name, v in comparison.shared.items() if v is not None}
    same = " ".join(f"{name}={value}" for name, value in shared.items())
    parts = [f"**{escape(verdict(comparison))}**", f"The same in all its runs: {code(same)}"]
    for picture in drawn:
        if isinstance(picture, str):
            parts += [escape(picture)]
            continue
        instead = picture.caption.split(". ")[0].translate(ROUND)
        parts += [f"![{escape(instead)}]({prefix}{picture.name}.svg)", escape(picture.caption)]
    parts += [summary(comparison).markdown()]
    parts += [
        "Mean ± standard deviation over the n runs of a configuration, which differ in their seeds alone, and the 95 % "
        "interval of the mean by Student's t: how well the mean over seeds is known, on these very images. "
        f"Configurations are ranked by {in_words(comparison.judged_by)}; the test metrics were not used to choose."
    ]
    if comparison.judged_by.startswith("train/"):
        parts += ["These runs held no rows out, so their training rows rank them: that favours what overfits."]
    if not comparison.finished:
        return parts
    reference = baseline or comparison.finished[0]
    table, made = differences(comparison, reference)
    if made:
        parts += [f"### Compared with {escape(reference.label)}", table.markdown()]
        parts += [
            "Mean differences over the seeds that both have, with 95 % interval and p by the paired t test (two-sided, "
            f"`scipy.stats.ttest_rel`). Comparisons made: {made}; Bonferroni's p is for all of them together."
            + (f" The best {len(table.rows)} are shown." if made > len(table.rows) else "")
            + ("" if baseline else " The best was chosen by these very values, which flatters it.")
        ]
    found = power(comparison)
    if isinstance(found, str):
        return [*parts, escape(found)]
    return [*parts, "### Seeds that it takes to see a difference", found[0].markdown(), escape(found[1])]


def pictures(comparison: Comparison) -> "list[Picture | str]":
    """The pictures that suit a comparison, and the sentences that stand for some."""
    for module in DRAWING:  # its functions enter the gallery; matplotlib comes with them
        import_module(f"fmnist.report.{module}")
    return gallery.pictures(comparison)


def verdict(comparison: Comparison) -> str:
    """The best configuration in one line."""
    if not comparison.finished:
        return f"{comparison.title}: no finished run"
    best = comparison.finished[0]
    which = f"Best of {len(comparison.finished)}: {best.label}" if len(comparison.configurations) > 1 else "All runs"
    words = [f"{in_words(comparison.judged_by)} {spread(best.interval('objective'))}"]
    if best.values(comparison.test):
        words += [f"{in_words(comparison.test)} {spread(best.interval(comparison.test))}"]
    return f"{which} (n = {len(best.done)}): {', '.join(words)}"


def left_out(results: Sequence[Result]) -> list[str]:
    """The runs that do not count, by name."""
    rows = [[str(r.directory), r.status, r.error or ""] for r in results if r.status != "done"]
    if not rows:
        return []
    return ["## Runs that are left out", Table(["run", "status", "why"], rows).markdown()]


def _provenance(results: Sequence[Result]) -> str:
    done = [result for result in results if result.status == "done"]
    whole = {commit or "unknown" for result in done for commit in (*result.earlier, result.commit)} or {"unknown"}
    commits = sorted(commit[:10] + "+" * commit.endswith("+") for commit in whole)
    seconds = round(sum(result.seconds for result in done))
    time = counted(seconds, "second") if seconds < 120 else counted(round(seconds / 60), "minute")
    return f"{time} of training; commit {', '.join(commits)}"


def html(title: str, text: str, files: dict[str, str], again: float | None = None) -> str:
    """The page of Markdown as one HTML file, its pictures inside it. title: plain text. again: seconds after which it
    loads itself anew."""
    from markdown import markdown

    def embed(match: re.Match[str]) -> str:
        data = base64.b64encode(files[match[2]].encode()).decode()
        return f'{match[1]}src="data:image/svg+xml;base64,{data}"'

    reloading = f'<meta http-equiv="refresh" content="{ceil(again)}">\n' if again else ""
    body = re.sub(r'(<img [^>]*)src="([^"]+\.svg)"', embed, markdown(text, extensions=["tables"]))
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{escape_html(title)}</title>\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n{reloading}'
        f"<style>{STYLE}</style>\n</head>\n"
        f"<body>\n{body}\n<script>{SCRIPT}</script>\n</body>\n</html>\n"
    )
