"""The report, run again: trains what is missing, keeps its records, has the pages written. No torch."""

import argparse
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from fmnist import ROOT, UserError
from fmnist.config.names import sweep_name
from fmnist.replication.archive import pack
from fmnist.replication.claims import CLAIMS
from fmnist.replication.evidence import Runs
from fmnist.replication.pages import CONFIRM_STUDY, PAGES, RECIPE_STUDY, RECORDS, Kept, head, kept, write_pages
from fmnist.replication.systems import DIFFERENCES_STUDY, SYSTEMS, SYSTEMS_STUDY
from fmnist.report.comparison import read

SWEEPS = Path("outputs") / "replication"


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
    """Judge a claim by the runs in these directories alone; whether each part comes out as by the committed records."""
    claim, before = CLAIMS[name], Kept()
    finding = claim.judge(Kept({study: Runs(read([directory])) for study, directory in directories.items()}))
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
    parts = ["systems", "recipe", "differences", "claims", "confirm", *CLAIMS]
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
    named = {"systems": (SYSTEMS_STUDY,), "recipe": (RECIPE_STUDY,), "differences": (DIFFERENCES_STUDY,),
             "confirm": (CONFIRM_STUDY,)}  # fmt: skip
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
