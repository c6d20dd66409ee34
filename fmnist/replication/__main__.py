"""The coursework report, run again: trains what is missing, keeps its records, has the pages written. No torch."""

import argparse
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from textwrap import fill

from fmnist import ROOT, UserError
from fmnist.launch.names import sweep_name
from fmnist.program.output import run_command
from fmnist.replication.archive import pack
from fmnist.replication.claims import CLAIMS
from fmnist.replication.evidence import studied
from fmnist.replication.pages import PAGES, RECIPE_STUDY, RECORDS, Kept, head, kept, write_pages
from fmnist.replication.systems import DIFFERENCES_STUDY, SYSTEMS, SYSTEMS_STUDY
from fmnist.report.comparison import Result, read
from fmnist.report.words import counted

SWEEPS = Path("outputs") / "replication"
STUDIES = {
    "systems": (SYSTEMS_STUDY,), "recipe": (RECIPE_STUDY,), "differences": (DIFFERENCES_STUDY,),
    "confirm": ("confirm",), **{name: claim.studies + claim.confirmed_by for name, claim in CLAIMS.items()},
}  # fmt: skip
EPILOG = f"""parts:
  systems      the networks of the report, at its own schedules
  recipe       what each choice of the report's recipe costs
  differences  why a network differs from what the report says of it
  confirm      the claims once more, at the report's own size
  claims       all of these claims; each is a part of its own as well:
               {fill(", ".join(CLAIMS), 70, subsequent_indent=" " * 15)}
"""


def train(study: str, seeds: range | None = None, overrides: Sequence[str] = ()) -> Path:
    """Train what is missing of a study; where its runs are. Raises UserError if it could not be run; SystemExit after a
    signal. Single runs may fail: the records say so, and the claims' statements count them."""
    own = [override for override in overrides if not override.startswith("dry_run")]
    own += [f"seeds={seeds.start}-{seeds.stop - 1}"] if seeds else []  # apart from the runs that docs/report/ is of
    directory = SWEEPS / sweep_name([f"study={study}", *own])
    line = [sys.executable, str(ROOT / "train.py"), f"study={study}", f"hydra.sweep.dir={directory}", *overrides]
    line += [f"seed=range({seeds.start},{seeds.stop})"] if seeds else []
    print(f"{study}: {head(study)}", flush=True)
    if (status := _status(line)) > 128:
        raise SystemExit(status)
    if status and not (directory / "leaderboard.csv").exists():
        raise UserError(f"study {study} could not be run")
    return directory


def _status(line: Sequence[str]) -> int:
    """Run a command; its exit status, 128 + signal where a signal ended it. Ctrl-C reaches the command too: it has all
    the time that it needs to save."""
    process, caught = subprocess.Popen(line), 0
    while True:
        try:
            status = process.wait()
            break
        except KeyboardInterrupt:
            caught = signal.SIGINT
    caught = max(caught, -status)
    return 128 + caught if caught else status


def ended(study: str, directory: Path) -> list[Result]:
    """The runs of a study. Raises UserError if some have not ended."""
    results = read([directory])
    if unfinished := [r for r in results if r.status not in ("done", "failed", "duplicate")]:
        raise UserError(
            f"{counted(len(unfinished), 'run')} of study {study} did not end: the same command goes on from there"
        )
    return results


def keep(study: str, directory: Path) -> None:
    """Pack a study's runs into its file of records; the pictures of an autoencoder beside the pages."""
    pack(ended(study, directory), RECORDS / f"{study}.jsonl.gz")
    for system in SYSTEMS:
        picture = directory / f"experiment-{system.experiment}+seed-0" / "figures" / "reconstructions.png"
        if picture.exists():
            shutil.copyfile(picture, PAGES / f"{system.experiment}_reconstructions.png")


def retest(name: str, directories: dict[str, Path], seeds: range) -> bool:
    """Judge a claim by the runs in these directories alone. Whether each statement comes out as it does by the
    committed records; statements that these do not know are not compared."""
    claim, before = CLAIMS[name], Kept()
    finding = claim.judge(Kept({study: studied(ended(study, runs)) for study, runs in directories.items()}))
    known = all(before[study].counted for study in claim.studies)
    old = {one.statement: one for one in claim.judge(before).tried} if known else {}
    print(f"\n{claim.says}\nseeds {seeds.start} to {seeds.stop - 1}: {finding.verdict}")
    same = True
    for one in finding.tried:
        other = old.get(one.statement, one)
        same &= one.holds == other.holds
        differs = "" if one.holds == other.holds else f"; DIFFERS from docs/report/claim_{name}.md: {other.measured}"
        print(f"  {'yes' if one.holds else 'no':3}  {one.statement}: {one.measured}{differs}")
    return same


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m fmnist.replication", formatter_class=argparse.RawDescriptionHelpFormatter,
        usage="%(prog)s [PART ...] [--dry-run]\n"
              "       %(prog)s CLAIM ... --seeds A..B [KNOB=VALUE ...] [--dry-run]\n"
              "       %(prog)s --pages",
        description="Run the coursework report again: train the runs that are missing, and write docs/report/\n"
                    "from all of them. The same command goes on where it was stopped.", epilog=EPILOG,
    )  # fmt: skip
    parser.add_argument("parts", nargs="*", metavar="PART", help="what to run (default: systems recipe)")
    alone = "judge claims by these seeds alone and leave docs/report/ as it is; KNOB=VALUE changes their studies"
    parser.add_argument("--seeds", metavar="A..B", help=alone)
    parser.add_argument("--dry-run", action="store_true", help="say what is left to train and how long it takes")
    parser.add_argument("--pages", action="store_true", help="train nothing; write the pages again from their records")
    given = parser.parse_intermixed_args(arguments)
    others = [*given.parts, *(["--seeds"] if given.seeds else []), *(["--dry-run"] if given.dry_run else [])]
    if given.pages and others:
        parser.error(f"--pages is for all pages and stands alone, got {' '.join(others)} as well")
    given.overrides = [part for part in given.parts if "=" in part]
    parts = [part for part in given.parts if "=" not in part] or ["systems", "recipe"]
    if unknown := [part for part in parts if part not in (*STUDIES, "claims")]:
        allowed = ", ".join(["claims", *STUDIES])
        parser.error(f"PART must be one of {allowed}, got {', '.join(unknown)}")
    given.parts = list(dict.fromkeys(one for part in parts for one in (CLAIMS if part == "claims" else [part])))
    if given.seeds:
        match = re.fullmatch(r"(\d+)\.\.(\d+)", given.seeds)
        if not match or int(match[2]) <= int(match[1]):
            parser.error(f"--seeds must be A..B with A < B, such as 100..109, got {given.seeds}")
        given.seeds = range(int(match[1]), int(match[2]) + 1)
        if beyond := set(given.parts) - set(CLAIMS):
            parser.error(f"--seeds is for claims alone, got {', '.join(sorted(beyond))}")
    elif given.overrides:
        parser.error(f"KNOB=VALUE needs --seeds: docs/report/ is of the studies as they are, got {given.overrides[0]}")
    return given


def main(arguments: Sequence[str] | None = None) -> int:
    """Train, judge and write what is asked for; 1 where new seeds lead to another verdict."""
    asked = parse(arguments)
    same = True
    overrides = [*asked.overrides, *(["dry_run=true"] if asked.dry_run else [])]
    for part in [] if asked.pages else asked.parts:
        directories = {}
        for study in CLAIMS[part].studies if asked.seeds else STUDIES[part]:
            directories[study] = train(study, asked.seeds, overrides)
            if not (asked.dry_run or asked.seeds):
                keep(study, directories[study])
        if asked.seeds and not asked.dry_run:
            same &= retest(part, directories, asked.seeds)
    if not (asked.dry_run or asked.seeds):
        kept.cache_clear()
        print("\n".join(write_pages()))
        print("pages: docs/report/index.md")
    return int(not same)


if __name__ == "__main__":
    run_command(main)
