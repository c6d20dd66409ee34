"""The packages of fmnist/ as the code has them: who imports whom, and how long each is.

python docs/house.py          prints the lines of each package, and those of the core with their ceiling
"""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "fmnist"
# What each package may import. The root holds commands, which may import all but the clients.
MAY_IMPORT: dict[str, set[str]] = {
    "config": set(),
    "record": {"config"},
    "data": {"record"},
    "nn": {"config", "data"},
    "speed": {"data", "nn"},
    "view": {"config", "data", "nn"},
    "train": {"config", "record", "data", "nn", "speed", "view"},
    "report": {"config", "record"},
    "launch": {"config", "record", "data", "train", "report"},
    "replication": {"config", "record", "report"},
    "bench": {"data", "record", "report"},
    "ideas": {"config", "data", "nn", "speed"},
}
CORE = ("config", "record", "data", "nn", "train")
CEILING = 3200  # lines of the core
CLIENTS = ("replication", "bench")  # nothing imports them


def modules() -> dict[str, Path]:
    """Every source file of the package by its full name, `fmnist.nn.layers`; the bench's peers are programs apart."""
    files = [path for path in sorted(PACKAGE.rglob("*.py")) if "peers" not in path.parts]
    return {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in files}


def package(name: str) -> str:
    """The package of a module; "" for the root."""
    parts = name.split(".")
    return parts[1] if len(parts) > 1 and (PACKAGE / parts[1]).is_dir() else ""


def imports(path: Path) -> Iterator[str]:
    """Full names of all that a source file imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def own_imports(path: Path, known: dict[str, Path]) -> set[str]:
    """The modules of the package that a source file imports."""
    found = set()
    for full in imports(path):
        name = full if full in known else full.rpartition(".")[0]
        if name in known and name != "fmnist":
            found.add(name)
    return found


def arrows() -> set[tuple[str, str]]:
    """(importing package, imported package) for all imports between packages; "" is the root."""
    known = modules()
    pairs = {(package(name), package(other)) for name, path in known.items() for other in own_imports(path, known)}
    return {(a, b) for a, b in pairs if a != b and b}


def lines() -> dict[str, int]:
    """Lines of Python by package; "" is the root."""
    count: dict[str, int] = dict.fromkeys([*MAY_IMPORT, ""], 0)
    for name, path in modules().items():
        count[package(name)] += len(path.read_text(encoding="utf-8").splitlines())
    return count


def main() -> None:
    """Print the lines of each package."""
    found = lines()
    for name, count in found.items():
        print(f"{name or '(root)':12} {count:6,}")
    print(f"{'core':12} {sum(found[name] for name in CORE):6,} of at most {CEILING:,}: {', '.join(CORE)}")


if __name__ == "__main__":
    main()
