"""The packages of fmnist/ as the code has them: who imports whom, and how long each is.

python docs/house.py          prints the lines of each package, and those of the core with their ceiling
python docs/house.py --draw   draws docs/house.svg
"""

import ast
import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "fmnist"
# What each package may import. The root holds commands, which may import all but the clients.
MAY_IMPORT: dict[str, set[str]] = {
    "program": set(),
    "config": set(),
    "mirror": {"config", "program"},
    "record": {"config", "mirror", "program"},
    "sources": {"program"},
    "data": {"sources", "program"},
    "nn": {"config", "data"},
    "speed": {"data", "nn"},
    "formats": {"config", "nn", "program", "record"},
    "view": {"config", "record", "data", "nn", "program"},
    "train": {"config", "mirror", "record", "data", "nn", "speed", "view", "program"},
    "report": {"config", "record", "program"},
    "launch": {"config", "mirror", "record", "sources", "data", "train", "report", "program"},
    "finished": {"config", "record", "sources", "data", "nn", "view", "train", "launch", "report", "program"},
    "library": {"config", "record", "sources", "data", "nn", "view", "train", "launch", "program"},
    "replication": {"config", "record", "report", "launch", "program"},
    "bench": {"sources", "data", "record", "report", "launch", "program"},
    "ideas": {"config", "data", "nn", "speed", "view"},
}
CORE = ("config", "record", "data", "nn", "train")
CEILING = 3200  # lines of the core
CLIENTS = ("replication", "bench")  # nothing imports them
PICTURE = ROOT / "docs" / "house.svg"
# The picture, from top to bottom: each package with its column, left to right. What is imported lies below.
PLACES = {
    "": 3, "formats": 11, "finished": 4, "library": 0, "bench": 11, "replication": 11, "launch": 0, "ideas": 0,
    "train": 1, "report": 10, "view": 2, "speed": 3, "nn": 4, "data": 5, "sources": 6, "record": 7, "mirror": 8,
    "config": 9, "program": 10,
}  # fmt: skip
COLOURS = {  # of the arrows to a package (Paul Tol's muted scheme, which the colour-blind can tell apart)
    "config": "#332288", "record": "#CC6677", "sources": "#DDAA33", "data": "#117733", "nn": "#44AA99",
    "speed": "#AA4499", "program": "#555555", "view": "#999933", "train": "#88CCEE", "report": "#882255",
    "launch": "#661100", "formats": "#6699CC", "finished": "#6699CC", "library": "#6699CC", "mirror": "#6699CC",
}  # fmt: skip
COLUMN, ROW, WIDE, HIGH = 81, 45, 148, 36  # distances between boxes, and their size


def modules() -> dict[str, Path]:
    """Every source file of the package by its full name, `fmnist.nn.layers`; the bench's peers are programs apart."""
    files = [path for path in sorted(PACKAGE.rglob("*.py")) if "peers" not in path.parts]
    return {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in files}


def package(name: str) -> str:
    """The package of a module; "" for the root."""
    parts = name.split(".")
    return parts[1] if len(parts) > 1 and (PACKAGE / parts[1]).is_dir() else ""


@cache
def imports(path: Path) -> tuple[str, ...]:
    """Full names of all that a source file imports, anywhere in it."""
    return tuple(_imports(path))


def _imports(path: Path) -> Iterator[str]:
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


@cache
def arrows() -> set[tuple[str, str]]:
    """(importing package, imported package) for all imports between packages; "" is the root. For ideas, to which
    anybody may add, these are all that are allowed."""
    known = modules()
    pairs = {(package(name), package(other)) for name, path in known.items() for other in own_imports(path, known)}
    return {(a, b) for a, b in pairs if a not in (b, "ideas") and b} | {("ideas", b) for b in MAY_IMPORT["ideas"]}


def lines() -> dict[str, int]:
    """Lines of Python by package; "" is the root."""
    count: dict[str, int] = dict.fromkeys([*MAY_IMPORT, ""], 0)
    for name, path in modules().items():
        count[package(name)] += len(path.read_text(encoding="utf-8").splitlines())
    return count


def what(name: str) -> str:
    """What a package is, in a few words: the beginning of its docstring."""
    text = (PACKAGE / name / "__init__.py").read_text(encoding="utf-8")
    return re.split("[.:,]", ast.get_docstring(ast.parse(text)) or "")[0] if name else "Commands"


def corner(name: str) -> tuple[int, int]:
    """The left upper corner of a package's box."""
    return 20 + PLACES[name] * COLUMN, 84 + list(PLACES).index(name) * ROW


def box(name: str, count: int) -> str:
    """A package: its name, its lines and what it is."""
    x, y = corner(name)
    fill = "#fdf3d7" if name in CORE else "#ffffff"
    return (
        f'<rect x="{x}" y="{y}" width="{WIDE}" height="{HIGH}" rx="5" fill="{fill}" stroke="#57606a"/>\n'
        f'<text x="{x + 7}" y="{y + 15}" class="name">{name or "fmnist"}</text>\n'
        f'<text x="{x + WIDE - 7}" y="{y + 15}" class="lines">{count:,} lines</text>\n'
        f'<text x="{x + 7}" y="{y + 29}" class="what">{what(name)}</text>\n'
    )


def arrow(importing: str, imported: str, level: float) -> str:
    """A line from one box, so far from its middle, and down into another. All that lead to one box end as one."""
    (x, y), (to_x, to_y) = corner(importing), corner(imported)
    right = to_x > x
    start, end, middle, bend = x + WIDE * right, to_x + WIDE // 2, y + HIGH / 2 + level, 7 if right else -7
    turn = f"M{start} {middle:g} H{end - bend} Q{end} {middle:g} {end} {middle + 7:g} V{to_y - 7}"
    tip = f"M{end - 4} {to_y - 8} L{end} {to_y} L{end + 4} {to_y - 8} Z"
    colour = COLOURS[imported]
    return (
        f'<g><title>{importing or "fmnist"} imports {imported}</title><path d="{turn}" fill="none" stroke="{colour}"/>'
        f'<path d="{tip}" fill="{colour}"/></g>\n'
    )


def drawn(count: dict[str, int]) -> str:
    """The packages with so many lines, and the imports between them, as an SVG picture.

    On the left is what makes runs, on the right what compares. Below is what both sides use. The lines that leave a box
    lie in the order of their ends, so that they do not cross one another.
    """
    width, height = 40 + max(PLACES.values()) * COLUMN + WIDE, 84 + len(PLACES) * ROW + 10
    picture = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        'font-family="Helvetica, Arial, sans-serif" font-size="11" fill="#24292f">\n'
        "<style>.name{font-weight:bold;font-size:12px} .what{font-size:10px} .end{text-anchor:end} "
        ".lines{font-size:10px;text-anchor:end;fill:#57606a} .wing{font-size:17px;font-weight:bold}</style>\n"
        f'<rect width="{width}" height="{height}" rx="8" fill="#ffffff"/>\n'
        '<text x="20" y="34" class="wing">What makes runs</text>\n'
        f'<text x="{width - 20}" y="34" class="wing end">What compares</text>\n'
        '<text x="20" y="54">One run: sources, data, nn, speed, view, train. Many: launch. '
        "From Python: library.</text>\n"
        f'<text x="{width - 20}" y="54" class="end">Runs: report, replication. Times: bench.</text>\n'
        f'<text x="20" y="{height - 40}">Arrows lead to what is imported.</text>\n'
        f'<text x="20" y="{height - 22}">Yellow: the core. One run is understood from it.</text>\n'
    )
    for name in PLACES:
        ends = sorted((PLACES[b] - PLACES[name], b) for a, b in arrows() if a == name)
        for side in (sorted(ends, reverse=True), ends):
            outwards = [b for distance, b in side if (distance > 0) == (side is ends)]
            for place, imported in enumerate(outwards):
                picture += arrow(name, imported, ((len(outwards) - 1) / 2 - place) * min(5, 28 / len(outwards)))
    return picture + "".join(box(name, count[name]) for name in PLACES) + "</svg>\n"


def main() -> None:
    """Print the lines of each package, or draw the picture."""
    found = lines()
    if sys.argv[1:] == ["--draw"]:
        PICTURE.write_text(drawn(found), encoding="utf-8", newline="\n")
        return
    for name, count in found.items():
        print(f"{name or '(root)':12} {count:6,}")
    print(f"{'core':12} {sum(found[name] for name in CORE):6,} of at most {CEILING:,}: {', '.join(CORE)}")


if __name__ == "__main__":
    main()
