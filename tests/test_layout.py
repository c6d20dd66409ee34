"""The shape of the project: who may import whom, and that nothing heavy is imported before it is needed."""

import ast
import subprocess
import sys

import pytest
from conftest import ROOT

# In this order: a module may import only those above it.
MODULES = [
    *("files", "signals", "schema", "names", "config", "groups", "fetch", "data", "integers", "layers", "losses"),
    *("metrics", "optim", "models", "checkpoint", "record", "kernels", "graphs", "totals", "tape"),
    *("recorded", "recorded_losses", "step", "watch", "stack", "run"),
    *("evaluate", "figures", "engine", "worker", "pool", "plan"),
    *("intervals", "results", "leaderboard", "archive", "axes", "tables", "plots", "landscapes"),
    *("evidence", "systems", "norm_claims", "training_claims", "claims"),
    *("report", "pages", "replication"),
    *("bench_workers", "bench_race", "bench_sweep", "bench_show", "bench"),
]
ONLY_IN = {
    "hydra": {"train", "names"},
    "omegaconf": {"config"},
    "tensorboard": {"record"},
    "torchvision": {"fetch"},
    "matplotlib": {"figures", "plots", "landscapes", "bench_show"},
    "scipy": {"intervals"},
    "markdown": {"report"},
    "sklearn": {"metrics"},
}
SOURCES = {path.stem: path for path in [*(ROOT / "fmnist").glob("*.py"), ROOT / "train.py"]}


def imports(name):
    """Full names of everything a source file imports, anywhere in it."""
    for node in ast.walk(ast.parse(SOURCES[name].read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_every_module_has_its_place():
    assert set(SOURCES) - {"__init__", "train"} == set(MODULES)


@pytest.mark.parametrize("name", MODULES)
def test_imports_point_one_way(name):
    own = {full.split(".")[1] for full in imports(name) if full.startswith("fmnist.")} & set(MODULES)
    assert own <= set(MODULES[: MODULES.index(name)])


def test_each_library_is_imported_in_its_place_only():
    for name in SOURCES:
        for full in imports(name):
            library = "tensorboard" if "tensorboard" in full else full.split(".")[0]
            assert name in ONLY_IN.get(library, {name}), f"{name} imports {full}"


@pytest.mark.parametrize(("modules", "kept_out"), [
    ("train, fmnist.config", ["torch", "torchvision", "tensorboard", "matplotlib"]),
    ("fmnist.worker, fmnist.pool, fmnist.plan, fmnist.leaderboard, hydra_plugins.stacked", ["torch", "tensorboard"]),
    ("fmnist.engine", ["torch._dynamo", "torchvision", "tensorboard", "matplotlib", "hydra"]),
    ("fmnist.results, fmnist.leaderboard", ["torch", "numpy", "scipy", "tensorboard", "matplotlib"]),
    ("fmnist.report", ["torch", "scipy", "tensorboard", "matplotlib", "markdown"]),
    ("fmnist.landscapes", ["torch", "scipy", "tensorboard", "matplotlib.pyplot"]),
])  # fmt: skip
def test_nothing_heavy_is_imported_early(modules, kept_out):
    code = f"import sys; sys.path.append('sweep'); import {modules}; print({set(kept_out)} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
