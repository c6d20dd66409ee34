"""The shape of the project: who may import whom, and that nothing heavy is imported before it is needed."""

import ast
import subprocess
import sys
from graphlib import TopologicalSorter

import house
import pytest

from fmnist import ROOT

MODULES = house.modules()
ONLY_IN = {  # library: the modules that may import it
    "hydra": {"train", "fmnist.launch.names", "fmnist.launch.commands", "fmnist.launch.manual",
              "fmnist.library.fitting"},
    "omegaconf": {"fmnist.config.parse", "fmnist.launch.names", "fmnist.launch.manual", "fmnist.launch.callbacks",
                  "fmnist.library.fitting"},
    "tensorboard": {"fmnist.mirror.mirror", "fmnist.mirror.summaries", "fmnist.board"},
    "torchvision": {"fmnist.view.pictures"},
    "matplotlib": {"fmnist.view.pictures", "fmnist.view.predictions", "fmnist.figures", "fmnist.report.plots",
                   "fmnist.report.landscapes", "fmnist.report.tradeoffs", "fmnist.report.importance",
                   "fmnist.report.mistakes", "fmnist.bench.show", "fmnist.bench.steps"},
    "scipy": {"fmnist.report.intervals", "fmnist.view.calibration"},
    "PIL": {"fmnist.sources.convert", "fmnist.library.pictures", "fmnist.predict", "fmnist.mirror.projector",
            "fmnist.view.classifiers"},
    "markdown": {"fmnist.report.page"},
    "sklearn": {"fmnist.view.metrics", "fmnist.report.importance", "fmnist.library.estimator"},
    "rich": {"fmnist.program.progress", "fmnist.launch.progress"},
    "safetensors": {"fmnist.program.packing", "fmnist.formats.weights"},
    "onnx": {"fmnist.formats.graph"},
    "onnxruntime": {"fmnist.formats.graph"},
    "onnxscript": {"fmnist.formats.graph"},
    "pickle": {"fmnist.config.parse"},  # copies in memory
    "zipfile": {"fmnist.convert"},
}  # fmt: skip
LONGEST = 300  # lines of a file


@pytest.mark.parametrize("name", MODULES)
def test_a_package_imports_only_what_it_may(name):
    own, others = house.package(name), house.own_imports(MODULES[name], MODULES)
    allowed = house.MAY_IMPORT[own] if own else house.MAY_IMPORT.keys() - house.CLIENTS
    assert {house.package(other) for other in others} - {own} <= set(allowed)
    if own == "sources":
        assert {other for other in others if house.package(other) == "record"} <= {"fmnist.program.files"}


def test_only_train_ideas_and_a_command_import_speed_and_nothing_imports_the_clients():
    arrows = house.arrows()
    assert {a for a, b in arrows if b == "speed"} == {"train", "ideas", ""}
    assert [
        name
        for name, path in MODULES.items()
        if not house.package(name) and "fmnist.speed" in " ".join(house.own_imports(path, MODULES))
    ] == ["fmnist.check"]  # which says what it would do
    assert not {a for a, b in arrows if b in house.CLIENTS}


@pytest.mark.parametrize("name", [name for name in MODULES if not house.package(name)])
def test_a_command_that_imports_torch_at_once_first_says_how_its_threads_wait(name):
    """A library of threads reads that when it is loaded: later it is too late."""
    body = ast.parse(MODULES[name].read_text(encoding="utf-8")).body
    found = [each.module if isinstance(each, ast.ImportFrom) else each.names[0].name
             for each in body if isinstance(each, ast.Import | ast.ImportFrom)]  # fmt: skip
    torch = [place for place, other in enumerate(found) if str(other).partition(".")[0] == "torch"
             or house.package(str(other)) in ("data", "nn", "speed", "train", "finished", "formats")]  # fmt: skip
    assert not torch or "fmnist.launch.threads" in found[: torch[0]]


def test_nothing_imports_a_command():
    """What a command and other modules need is a module of a package."""
    commands = {name for name in MODULES if name.endswith(".__main__")} | {
        name for name in MODULES if not house.package(name) and name != "fmnist"
    }
    for name, path in MODULES.items():
        assert not house.own_imports(path, MODULES) & commands - {name}, name


def test_no_imports_go_in_a_circle():
    graph = {name: house.own_imports(path, MODULES) for name, path in MODULES.items()}
    tuple(TopologicalSorter(graph).static_order())  # raises CycleError


@pytest.mark.parametrize(
    "package", [name for name in house.MAY_IMPORT if name != "ideas"]
)  # anybody may put a file there
def test_a_package_begins_with_a_table_of_its_modules_and_imports_nothing(package):
    name = f"fmnist.{package}"
    body = ast.parse(MODULES[name].read_text(encoding="utf-8")).body
    assert len(body) == 1
    table = ast.get_docstring(ast.Module(body, []))
    for module in (m.rpartition(".")[2] for m in MODULES if m.startswith(f"{name}.")):
        assert module == "__main__" or any(line.split()[:1] == [module] for line in table.splitlines()), module


def test_the_root_holds_commands_alone():
    commands = {name: path for name, path in MODULES.items() if not house.package(name) and name != "fmnist"}
    for path in commands.values():
        assert "def main(" in path.read_text(encoding="utf-8")
        assert 'if __name__ == "__main__":' in path.read_text(encoding="utf-8")


def test_each_library_is_imported_in_its_place_only():
    for name, path in [*MODULES.items(), ("train", ROOT / "train.py")]:
        for full in house.imports(path):
            library = "tensorboard" if "tensorboard" in full else full.split(".")[0]
            assert name in ONLY_IN.get(library, {name}), f"{name} imports {full}"


def test_all_text_is_read_and_written_in_an_encoding_that_is_named():
    """Else it is the locale's. Ruff asks for it too, but only where it can tell that an object is a path."""
    found = []
    for path in [*MODULES.values(), ROOT / "train.py", *(ROOT / "sweep").rglob("*.py")]:
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(call, ast.Call) or any(keyword.arg == "encoding" for keyword in call.keywords):
                continue
            binary = any(isinstance(mode, ast.Constant) and "b" in str(mode.value) for mode in call.args[1:2])
            opens = isinstance(call.func, ast.Name) and call.func.id == "open" and not binary
            texts = isinstance(call.func, ast.Attribute) and call.func.attr in ("read_text", "write_text")
            if opens or texts:
                found.append(f"{path}:{call.lineno}: {ast.unparse(call)}")
    assert not found


def test_the_core_is_small_and_no_file_is_long():
    assert sum(house.lines()[package] for package in house.CORE) <= house.CEILING
    files = [path for folder in ("fmnist", "sweep", "tests", "docs") for path in (ROOT / folder).rglob("*.py")]
    assert not [path.name for path in files if len(path.read_text(encoding="utf-8").splitlines()) > LONGEST]


@pytest.mark.parametrize(("modules", "kept_out"), [
    ("train, fmnist.config.parse", ["torch", "torchvision", "tensorboard", "matplotlib"]),
    ("fmnist.launch.names, fmnist.record.record, fmnist.mirror.mirror, fmnist.sources.fetch", ["torch", "tensorboard"]),
    ("fmnist.launch.worker, fmnist.launch.pool, fmnist.launch.plan, fmnist.launch.callbacks, hydra_plugins.stacked",
     ["torch", "tensorboard"]),
    ("fmnist, fmnist.library.fitting", ["torch", "numpy", "hydra", "sklearn", "PIL", "tqdm"]),
    ("fmnist.train.engine", ["torch._dynamo", "torchvision", "tensorboard", "matplotlib", "hydra"]),
    ("fmnist.report.comparison, fmnist.report.leaderboard",
     ["torch", "numpy", "scipy", "tensorboard", "matplotlib"]),
    ("fmnist.check", ["torch", "tensorboard", "packaging"]),
    ("fmnist.report.page", ["torch", "scipy", "tensorboard", "matplotlib", "markdown"]),
    ("fmnist.report.landscapes", ["torch", "scipy", "tensorboard", "matplotlib.pyplot"]),
])  # fmt: skip
def test_nothing_heavy_is_imported_early(modules, kept_out):
    code = f"import sys; sys.path.append('sweep'); import {modules}; print({set(kept_out)} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
