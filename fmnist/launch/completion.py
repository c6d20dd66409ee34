"""What can complete a command line: knobs and values by the schema and conf/, options of commands by their source.

Nothing is imported for it that takes long, no command and no torch. Names that files of fmnist/ideas/ add to the tables
of the schema are not known here, but for those that have a file in conf/.
"""

import ast
import re
import shlex
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from fmnist import ROOT
from fmnist.config.schema import ANNEALED, ASIDE, AUGMENTATIONS, GROUPS, MODELS, AnomalyConfig, Kind, Knobs

CONF = ROOT / "conf"
FLAGS = ("--help", "--multirun", "--cfg", "--info", "--hydra-help")
HYDRA: dict[str, Sequence[str]] = {  # what of Hydra's own is set often, with its choices
    "hydra/launcher": ("stacked", "stacked_slurm", "basic", "joblib", "submitit_slurm", "submitit_local", "ray"),
    "hydra/sweeper": ("points", "optuna", "basic"), "hydra.verbose": ("true", "false"), "hydra.run.dir": (),
    "hydra.sweep.dir": (), "hydra.launcher.workers": (), "hydra.launcher.stack": (), "hydra.launcher.n_jobs": (),
    "hydra.launcher.partition": (), "hydra.sweeper.points": (), "hydra.sweeper.n_trials": (),
    "hydra.sweeper.n_jobs": (), "hydra.sweeper.prune_at": (), "hydra.sweeper.sampler": ("tpe", "random"),
    "hydra.sweeper.direction": ("maximize", "minimize"),
}  # fmt: skip


def candidates(line: str) -> list[str]:
    """Words that may stand in the place of the last one, of which a part is typed. [] for file names, and for commands
    that are not of this project."""
    words = _words(line)
    *before, word = words
    for place, typed in enumerate(before):
        if Path(typed).name == "train.py":
            return _beginning(word, overrides(before[place + 1 :], word))
        if typed == "-m" and place + 1 < len(before):
            module = before[place + 1]
            return _beginning(word, arguments(module, before[place + 2 :], word)) if module in commands() else []
    return _beginning(word, commands()) if before[-1:] == ["-m"] else []


def _words(line: str) -> list[str]:
    """The words of a command line; the last one is "" after a space."""
    for end in ("", "'", '"'):  # a quote may still be open
        try:
            return shlex.split(line + end) + ([""] if not end and (not line or line[-1].isspace()) else [])
        except ValueError:
            continue
    return line.split() or [""]


def _beginning(word: str, found: Collection[str]) -> list[str]:
    return [each for each in found if each.startswith(word) and each != word]


def overrides(before: Sequence[str], word: str) -> list[str]:
    """Overrides that a word may become, after others: NAME=, and NAME=VALUE where the values have names."""
    if word.startswith("-"):
        return [*FLAGS]
    given = dict(each.lstrip("+").partition("=")[::2] for each in before)
    plus, name = re.fullmatch(r"([+]*)(.*)", word, re.DOTALL).groups()  # type: ignore[union-attr]
    known = knobs(given)
    if "=" not in name:
        return [f"{plus}{each}=" for each in known if each not in given]
    name, _, value = name.partition("=")
    listed = value.rpartition(",")  # several values for a sweep
    return [f"{plus}{name}={listed[0]}{listed[1]}{each}" for each in known.get(name, ())]


def knobs(given: dict[str, str]) -> dict[str, Sequence[str]]:
    """All knobs that may be set beside those that are given, each with the names that it can be set to."""
    found: dict[str, Sequence[str]] = {group: _files(CONF / group) for group in GROUPS}
    found |= {"experiment": _files(CONF / "experiment"), "study": _files(ROOT / "sweep" / "study")}
    found |= _of_schema(Knobs, "")
    found |= dict.fromkeys(ASIDE, ("true", "false"))
    found |= {"device": ("auto", "cpu", "cuda")}
    for name in ("augment", "anneal"):
        found.pop(name)
    found |= {f"augment.{name}": () for name in AUGMENTATIONS} | _of_schema(AnomalyConfig, "anomaly.")
    models = [entry for name, entry in MODELS.items() if name in _named("model", given)]
    parts = (Knobs, *(model.config for model in models))
    annealed = [name for name in ANNEALED if any(name in vars(part()) for part in parts)]
    found |= {f"anneal.{name}": () for name in (*annealed, *AUGMENTATIONS)}
    found["loss"] = [*dict.fromkeys(loss for entry in models for loss in entry.losses)]
    for group, table in GROUPS.items():
        for name in _named(group, given):
            entry = table.get(name)
            if entry is not None:  # else it is in fmnist/ideas/
                found |= _of_schema(entry.config if isinstance(entry, Kind) else entry, f"{group}.")
    return found | HYDRA


def _of_schema(schema: type, prefix: str) -> dict[str, Sequence[str]]:
    """The knobs of a part of the schema, with the names that they can be set to."""
    found: dict[str, Sequence[str]] = {}
    for knob in fields(schema):
        kind = knob.type.__name__ if isinstance(knob.type, type) else str(knob.type)
        allowed = knob.metadata.get("allowed")
        names = [] if isinstance(allowed, str) else [*(allowed or (["true", "false"] if "bool" in kind else []))]
        found[prefix + knob.name] = [*names, *(["null"] if names and "None" in kind else [])]
    return {name: values for name, values in found.items() if name.rpartition(".")[2] != "name"}


def _named(group: str, given: dict[str, str]) -> list[str]:
    """The names of what is chosen in a group; all where nothing is."""
    files = [CONF / group / f"{choice}.yaml" for choice in given.get(group, "").split(",")]
    texts = [file.read_text(encoding="utf-8") for file in files if file.is_file()]
    found = [name for text in texts for name in re.findall(r"^name: *(\w+)", text, re.MULTILINE)]
    return found or [*GROUPS[group]]


def _files(folder: Path) -> list[str]:
    return sorted(file.stem for file in folder.glob("*.yaml"))


def commands() -> list[str]:
    """All that `python -m` takes of this project."""
    root = ROOT / "fmnist"
    files = [file for file in root.glob("*.py") if not file.stem.startswith("_")]
    return sorted(f"fmnist.{each.stem}" for each in [*files, *(main.parent for main in root.glob("*/__main__.py"))])


@dataclass(frozen=True)
class Argument:
    """What a command's source says of an argument. names: "--data", or a positional's; takes: whether a value."""

    names: Sequence[str]
    takes: bool
    choices: Sequence[str]
    metavar: str


def arguments(module: str, before: Sequence[str], word: str) -> list[str]:
    """What a word may become among the arguments of a command."""
    known = [*_arguments(module)]
    options = {name: each for each in known for name in each.names if name.startswith("-")}
    last = options.get(before[-1]) if before else None
    if last is not None and last.takes:
        return _values(last)
    if word.startswith("-"):
        return ["--help", *options]
    places = [each for each in known if not each.names[0].startswith("-")]
    if all(each.startswith("-") for each in before):
        places = places[:1]  # others follow the first
    return [value for each in places for value in _values(each)]


def _values(argument: Argument) -> list[str]:
    if argument.metavar == "KNOB=VALUE":
        return [f"{name}=" for name in knobs({})]
    fixed = re.match(r"\w+=", argument.metavar)  # epochs=N
    if "|" in argument.metavar:
        return [name.removesuffix("N") for name in argument.metavar.split("|")]  # snapshot-N
    return [fixed[0]] if fixed else [*argument.choices]


def _arguments(module: str) -> Iterator[Argument]:
    """The arguments of a command: the calls of `add_argument` in its file or, if that has none, where its main is."""
    path = ROOT.joinpath(*module.split("."))
    file = path.with_suffix(".py") if path.with_suffix(".py").exists() else path / "__main__.py"
    tree = ast.parse(file.read_text(encoding="utf-8"))
    calls = _calls(tree)
    for node in ast.walk(tree):
        if not calls and isinstance(node, ast.ImportFrom) and (node.module or "").startswith("fmnist."):
            other = ROOT.joinpath(*str(node.module).split(".")).with_suffix(".py")
            calls = _calls(ast.parse(other.read_text(encoding="utf-8"))) if other.exists() else []
    for call in calls:
        given = {keyword.arg: keyword.value for keyword in call.keywords}
        names = [each.value for each in call.args if isinstance(each, ast.Constant)]
        action, metavar = (_constant(given.get(name)) for name in ("action", "metavar"))
        listed = given.get("choices")
        choices = listed.elts if isinstance(listed, ast.Tuple | ast.List) else []
        values = [str(each.value) for each in choices if isinstance(each, ast.Constant)]
        yield Argument([str(name) for name in names], not action.startswith("store_"), values, metavar)


def _calls(tree: ast.AST) -> list[ast.Call]:
    found = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)]
    return [call for call in found if call.func.attr == "add_argument" and call.args]  # type: ignore[attr-defined]


def _constant(node: ast.expr | None) -> str:
    return str(node.value) if isinstance(node, ast.Constant) else ""
