"""The parts of the documentation site that are made from the sources: they cannot go stale.

A page in docs/ asks for a part by a line of its own:

    {{ code fmnist/nn/layers.py Linear }}                            the source of a class, a function or a table
    {{ test tests/nn/test_layers.py test_linear_is_torch_linear }}   the same of a test, folded
    {{ knobs }}, {{ groups }}, {{ sweeps }}                          every knob, by the schema and the comments in conf/
    {{ experiments }}, {{ studies }}                                 files of conf/experiment and sweep/study
    {{ commands }}, {{ targets }}                                    the --help of every command; `make help`

and writes a formula in LaTeX between two lines of $$. MkDocs calls `on_page_markdown`, a hook that mkdocs.yml names.
"""

import ast
import html
import re
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import Field, fields
from pathlib import Path
from typing import Any

from command_pages import commands

from fmnist import ROOT, UserError
from fmnist.config import schema
from fmnist.config.parse import parse

CONF = ROOT / "conf"
MADE = re.compile(r"^\{\{ *(\w+)((?: +\S+)*) *\}\}$", re.MULTILINE)
LINE = re.compile(r"( *)([a-z_]+): *([^#]*?)(?: +# (.*))?$")  # of a config file: a knob, its value, what it means


def rendered(text: str) -> str:
    """The Markdown of a page with all parts in it that it asks for. Raises KeyError for what there is not."""
    return MADE.sub(lambda found: PARTS[found[1]](*found[2].split()), text)


def on_page_markdown(markdown: str, **of_mkdocs: Any) -> str:
    """MkDocs's hook: the parts, then the formulas as MathML, which browsers draw by themselves."""
    from latex2mathml.converter import convert

    def formula(found: re.Match[str]) -> str:
        parts = (convert(part.strip(), display="block") for part in found[1].split(r"\qquad"))
        return f'\n<div class="formula">{"".join(f"<span>{part}</span>" for part in parts)}</div>\n'

    return re.sub(r"^\$\$\n(.*?)^\$\$$", formula, rendered(markdown), flags=re.MULTILINE | re.DOTALL)


def source(file: str, name: str) -> tuple[str, int]:
    """The lines of a definition at the top of a file, or in a class as Class.method, and the number of the first."""
    text = (ROOT / file).read_text(encoding="utf-8")
    body: list[ast.stmt] = ast.parse(text).body
    for part in name.split("."):
        found = [node for node in body if part in _names(node)]
        if not found:
            raise KeyError(f"there is no {name} in {file}")
        node = found[-1]
        body = getattr(node, "body", [])
    first = min([node.lineno, *(decorator.lineno for decorator in getattr(node, "decorator_list", []))])
    return textwrap.dedent("\n".join(text.splitlines()[first - 1 : node.end_lineno])), first


def _names(node: ast.stmt) -> list[str]:
    """What a statement defines."""
    if isinstance(node, ast.ClassDef | ast.FunctionDef):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    return [target.id for target in targets if isinstance(target, ast.Name)]


def code(file: str, name: str) -> str:
    """A definition as a block of code that names its file."""
    lines, first = source(file, name)
    return f'```python title="{file}, line {first}"\n{lines}\n```'


def test(file: str, name: str) -> str:
    """A test as a block of code that opens by a click."""
    lines, _ = source(file, name)
    block = textwrap.indent(f"```python\n{lines}\n```", "    ")
    return f'??? success "`{file}::{name}`"\n\n{block}\n'


def table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def commented(text: str) -> Iterator[tuple[str, str, str]]:
    """(knob, its value as it is written, what its comment says) for each line of a config file."""
    groups: list[tuple[int, str]] = []
    found: list[list[str]] = []
    for line in text.splitlines():
        if match := LINE.match(line):
            indent, name, value, comment = len(match[1]), match[2], match[3], match[4] or ""
            groups = [(depth, outer) for depth, outer in groups if depth < indent]
            found.append([".".join([outer for _, outer in groups] + [name]), value, comment])
            groups.append((indent, name))
        elif (more := re.match(r" +# (.*)", line)) and found:
            found[-1][2] += f" {more[1]}"
    yield from ((name, value, comment) for name, value, comment in found)


def _values(field: Field[Any]) -> list[Any]:
    """Some values of a knob, one of which it can have in any config that it makes sense in."""
    allowed = field.metadata.get("allowed")
    if isinstance(allowed, str):
        low, high, *step = (float(end) for end in allowed[1:-1].split(","))
        number = low + 1 if high == float("inf") else (low + high) / 2
        return [int(number) if step or "int" in str(field.type) else number]
    return [*allowed] if allowed else [True]


def models_with(knob: str, values: list[Any]) -> str:
    """For which models a knob can have a value that is not its default: those whose config is not refused with it."""
    group, _, inner = knob.rpartition(".")
    takes = []
    for model in schema.MODELS:
        for value in values:
            given: dict[str, Any] = {"model": {"name": model}, "data": {"name": "fashion"}, "optim": {"name": "adam"}}
            given |= {group: {inner: value}} if group else {knob: value}
            given |= {"select": {"ema": 0.9}, "drop_path": {"skip": True}}.get(knob.removeprefix("anneal."), {})
            try:
                parse(given)
            except UserError:
                continue
            takes.append(model)
            break
    if len(takes) == len(schema.MODELS):
        return "all"
    return ", ".join(takes)


TYPES = {"typing.Any": "number or list", "int": "whole number", "float": "number", "bool": "`true`, `false`",
         "str": "text", "list[int]": "list of whole numbers", "list[float]": "list of numbers"}  # fmt: skip


def in_words(annotation: Any, allowed: Any) -> str:
    """What a knob allows: "number in [0, 1)", or the names."""
    if allowed and not isinstance(allowed, str):
        return ", ".join(f"`{name}`" for name in allowed)
    name = annotation.__name__ if type(annotation) is type else str(annotation)
    kind = TYPES[name.removesuffix(" | None")]
    if not allowed:
        return kind
    low, high, *step = allowed[1:-1].replace("inf", "∞").split(", ")
    return f"{'whole ' if step else ''}{kind} in {allowed[0]}{low}, {high}{allowed[-1]}"


def plain(text: str) -> str:
    """Text as Markdown shows it: not as HTML, nor as a cell's end."""
    return re.sub(r"([|*])", r"\\\1", html.escape(text, quote=False))


def _row(name: str, field: Any, default: str, meaning: str, *more: str) -> list[str]:
    """A knob as a row of a table."""
    allowed = field.metadata.get("allowed")
    star = r" \*" if field.metadata.get("per_run") else ""
    return [f"`{name}`{star}", f"`{default}`", in_words(field.type, allowed), plain(meaning), *more]


def _annealed(name: str, default: str, meaning: str) -> list[str]:
    """What `anneal` moves as a row: it takes a list of what the knob itself takes."""
    short = name.removeprefix("anneal.")
    configs = [schema.Knobs, *(model.config for model in schema.MODELS.values())]
    allowed = {f.name: f.metadata.get("allowed") for config in configs for f in fields(config)} | schema.AUGMENTATIONS
    one = in_words("float", allowed[short])
    return [f"`{name}`", f"`{default}`", f"list: {one}", plain(meaning), models_with(name, [[0.0, 1.0], [0.0, 0.5]])]


def knobs() -> str:
    """The table of the knobs at the top level, from the schema and conf/config.yaml."""
    schema.load_ideas()
    known: dict[str, Any] = {f.name: f for f in fields(schema.Knobs)}
    known |= {f"anomaly.{f.name}": f for f in fields(schema.AnomalyConfig)}
    values: dict[str, list[Any]] = {
        "device": ["cpu"],
        "loss": [*schema.CLASS_LOSSES, *schema.IMAGE_LOSSES],
        "anomaly.normal": [3],
    }
    text = (CONF / "config.yaml").read_text(encoding="utf-8").split("# ---")[1]
    rows = []
    for name, default, meaning in commented(text):
        if not default:  # the name of a group
            continue
        if name in schema.ASIDE:
            rows.append([f"`{name}`", f"`{default}`", "`true`", plain(meaning), "all"])
        elif name.startswith("augment."):
            allowed = in_words("float", schema.AUGMENTATIONS[name.removeprefix("augment.")])
            rows.append([f"`{name}`", f"`{default}`", allowed, plain(meaning), models_with(name, [1.0])])
        elif name.startswith("anneal."):
            rows.append(_annealed(name, default, meaning))
        else:
            models = models_with(name, values.get(name) or _values(known[name]))
            rows.append(_row(name, known[name], default, meaning, models))
    return table(["knob", "default", "allowed", "what it does", "models"], rows)


def groups() -> str:
    """A table for each choice of model, data and optimizer, from the schema and the files in conf/."""
    schema.load_ideas()
    parts = []
    for group, entries in schema.GROUPS.items():
        parts.append(f"## {group}=")
        for file in sorted((CONF / group).glob("*.yaml")):
            text = file.read_text(encoding="utf-8")
            found = list(commented(text))
            entry = entries[found[0][1]]
            config = getattr(entry, "config", entry)
            of_schema = {f.name: f for f in fields(config)}
            rows = [_row(f"{group}.{name}", of_schema[name], default, meaning)
                    for name, default, meaning in found[1:]]  # fmt: skip
            parts.append(f"### `{group}={file.stem}`\n\n{_first_sentence(config)}")
            parts += [table(["knob", "default", "allowed", "what it does"], rows)] if rows else []
    return "\n\n".join(parts)


def _first_sentence(thing: Any) -> str:
    return plain(" ".join((thing.__doc__ or "").split("\n\n")[0].split()))


def sweeps() -> str:
    """What hydra.launcher and hydra.sweeper may hold: the docstrings and comments of their settings."""
    parts = []
    for title, file, name in (
        ("`hydra.launcher`, as it is by default", "stacked.py", "StackedLauncherConf"),
        ("`hydra.sweeper`, as it is by default", "points.py", "PointsSweeperConf"),
        ("`hydra.sweeper` with `hydra/sweeper=optuna`", "search.py", "OptunaSweeperConf"),
    ):
        parts += [f"### {title}", code(f"sweep/hydra_plugins/{file}", name)]
    return "\n\n".join(parts)


def _headers(folder: Path, word: str) -> str:
    """A table of the files in a folder: the command, and what the comments at their beginning say."""
    rows = []
    for file in sorted(folder.glob("*.yaml")):
        text = file.read_text(encoding="utf-8")
        lines = re.findall(r"\A(?:#.*\n)*", text)[0].splitlines()[1:]
        said = [line.removeprefix("#").strip() for line in lines if not line.startswith("# python ")]
        rows.append([f"`{word}={file.stem}`", plain(" ".join(said))])
    return table([word, "what it trains and gives"], rows)


def experiments() -> str:
    """The table of conf/experiment."""
    return _headers(CONF / "experiment", "experiment")


def studies() -> str:
    """The table of sweep/study."""
    return _headers(ROOT / "sweep" / "study", "study")


def targets() -> str:
    """The table of what `make` can do: the targets of the Makefile with what stands beside them."""
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    rows = [[f"`make {name}`", plain(said)] for name, said in re.findall(r"^([a-z0-9-]+):.*## (.*)$", text, re.M)]
    return table(["target", "what it does"], rows)


PARTS: dict[str, Callable[..., str]] = {
    "code": code, "test": test, "knobs": knobs, "groups": groups, "sweeps": sweeps, "experiments": experiments,
    "studies": studies, "commands": commands, "targets": targets,
}  # fmt: skip
