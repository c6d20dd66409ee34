"""The commands that README and docs/ show, as they stand there."""

import json
import math
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from hydra import compose
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from fmnist import ROOT
from fmnist.config.parse import flat
from fmnist.config.schema import SEEDS

README = ROOT / "README.md"
MOST = 3  # values of a knob that are tried
PAGES = [README, *sorted((ROOT / "docs").rglob("*.md"))]
PROGRAMS = r"python3?|make|pip|ssh|\.|tensorboard|git|column|\.venv/bin/\w+|taskset"
COMMAND = re.compile(rf"(?:[A-Z_]+=\S+ )*(?:{PROGRAMS}) \S.*")


def commands(text: str) -> Iterator[str]:
    """All commands of a page, in their order: of indented blocks, and in backquotes in text and tables."""
    text = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL).replace("\\\n", " ")
    for line in text.splitlines():
        inline = re.findall(r"`([^`]+)`", line) if not line.startswith("    ") else [line.strip()]
        for word in inline:
            typed = re.split(r" {2,}#", word)[0].strip()
            if COMMAND.fullmatch(typed):
                yield re.sub(r"\s+", " ", typed)


def of_page(path: Path) -> list[str]:
    """The commands of a file, each once."""
    return list(dict.fromkeys(commands(path.read_text(encoding="utf-8"))))


ALL = list(dict.fromkeys(command for path in PAGES for command in of_page(path)))


def copied(copy: Path) -> Path:
    """A copy of the project: what git keeps or would keep, the native library, and a link to the data."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8", check=True)
    for name in [*listed.stdout.splitlines(), *(str(p.relative_to(ROOT)) for p in ROOT.glob("fmnist/speed/*.so"))]:
        if (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, copy / name)
    (copy / "data").symlink_to(ROOT / "data")
    return copy


def arguments_of(path: Path, program: str) -> list[tuple[str, ...]]:
    """The arguments of all commands of a page that start a program by `python PROGRAM`."""
    start = rf"(?:[A-Z_]+=\S+ )*python {re.escape(program)}(?: |$)"
    found = {tuple(shlex.split(re.sub(start, "", line))) for line in of_page(path) if re.match(start, line)}
    return sorted(found)


def is_about_the_command(key):
    """Whether an override says where and by whom a run is trained, and not which."""
    return key.startswith("hydra") or key in ("dry_run", "study", "debug")


def alternatives(override):
    """The values that a command gives a knob, as overrides; the middle of an interval."""
    key = override.input_line.partition("=")[0]
    if override.is_interval_sweep():
        low, high = override.value().start, override.value().end
        return [f"{key}={math.sqrt(low * high) if 'log' in override.value().tags else (low + high) / 2}"]
    if override.is_sweep_override():
        return [f"{key}={value}" for value in override.sweep_string_iterator()][:MOST]
    return [override.input_line]


def of_sweeper(arguments):
    """Products and points that `study=...` or `hydra.sweeper...` ask for, each as a list of lists of overrides."""
    asked = [word for word in arguments if word.startswith(("study=", "hydra.sweeper.points="))]
    if not asked:
        return {}, []
    sweeper = compose("config", asked, return_hydra_config=True).hydra.sweeper
    points = OmegaConf.to_container(sweeper, resolve=False).get("points") or []
    return dict(sweeper.get("params") or {}), [[f"{k}={json.dumps(v)}" for k, v in flat(p).items()] for p in points]


def jobs(arguments):
    """Runs of a command, as overrides: each value of each swept knob once, but of the seeds only the first."""
    params, points = of_sweeper(arguments)
    typed = OverridesParser.create().parse_overrides([word for word in arguments if not word.startswith("-")])
    given = {override.get_key_element().lstrip("+"): override for override in typed}
    swept = [f"{key}={value}" for key, value in params.items() if key not in given]
    every = [*OverridesParser.create().parse_overrides(swept), *typed]
    choices = [alternatives(o) for o in every if not is_about_the_command(o.get_key_element().lstrip("+"))]
    choices = [values[:1] if values[0].partition("=")[0] in SEEDS else values for values in choices]
    first = [values[0] for values in choices]
    found = [first] + [[*first[:at], value, *first[at + 1 :]]
                       for at, values in enumerate(choices) for value in values[1:]]  # fmt: skip
    return [point + job for job in found for point in points] or found
