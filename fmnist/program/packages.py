"""The packages that are installed, against those that are asked for and those of the tests."""

import importlib.metadata
import platform
import sys
import tomllib

from fmnist import ROOT
from fmnist.program.version import commit


def packages(broken: list[str], notes: list[str]) -> dict[str, str]:
    """The packages, against those that are asked for and those that this project is tested with."""
    from packaging.requirements import Requirement  # which takes its time, and is for this alone

    def installed(name: str) -> str | None:
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            return None

    def asked(lines: list[str]) -> list[Requirement]:
        every = [Requirement(line) for line in lines]
        return [each for each in every if each.marker is None or each.marker.evaluate()]

    def unmet(each: Requirement) -> bool:
        there = installed(each.name)
        return there is None or not each.specifier.contains(there, prereleases=True)

    facts: dict[str, str] = {
        "python": platform.python_version(),
        "environment": sys.prefix,
        "commit": commit() or "no checkout",
    }
    project, tested = ROOT / "pyproject.toml", ROOT / "constraints.txt"
    if project.exists():
        described = tomllib.loads(project.read_text(encoding="utf-8"))["project"]
        needed = asked(described["dependencies"])
        facts |= {each.name: installed(each.name) or "missing" for each in needed}
        for each in filter(unmet, needed):
            broken.append(f"versions: {each.name} is {facts[each.name]}, must be {each.specifier or 'there'}: "
                                f"{sys.executable} -m pip install '{each}'")  # fmt: skip
        extras = {name: asked([line for line in lines if not line.startswith("fmnist[")])
                  for name, lines in described["optional-dependencies"].items()}  # fmt: skip
        facts["extras that are here"] = " ".join(name for name, own in extras.items() if not any(map(unmet, own)))
        facts["extras that are not"] = " ".join(name for name, own in extras.items() if any(map(unmet, own)))
    if tested.exists():
        lines = [line.split("#")[0].strip() for line in tested.read_text(encoding="utf-8").splitlines()]
        others = [f"{each.name} {installed(each.name)} ({each.specifier})" for each in asked([*filter(None, lines)])
                  if installed(each.name) and unmet(each)]  # fmt: skip
        facts["against constraints.txt"] = "other versions than tested: " + ", ".join(others) if others else "the same"
        if others:
            notes.append(f"versions: {len(others)} are not those of the tests: {sys.executable} -m pip install "
                               f"--constraint '{tested}' --editable '{ROOT}[dev]'")  # fmt: skip
    return facts
