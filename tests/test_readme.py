"""What README and conf/experiment/ name trains well: each command for some steps on few rows, in this process."""

import fnmatch
import itertools
import math
from functools import cache

import pytest
from documented import README, alternatives, arguments_of, jobs
from helpers import rows_of
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from training import data_kept, quick_disk  # noqa: F401 - fixtures that serve each test

from fmnist import ROOT
from fmnist.config.parse import config_hash, parse
from fmnist.config.schema import kind
from fmnist.launch.names import job_name, sweep_name
from fmnist.train import engine

ROWS = 800
STEPS = 60
MORE = {"deep": 3}  # so many times the steps, until the many layers of these have begun to learn


@pytest.fixture(scope="module", autouse=True)
def hydra():
    """Hydra's compose, as train.py has it."""
    Plugins.instance()
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        yield


@cache
def small(*overrides):
    """The config of a run, but for some steps on few rows."""
    given = compose("config", list(overrides))
    given.data.limit = ROWS if given.anomaly.normal is None else 5 * ROWS  # of which a tenth are of the class
    given.figures = False
    if "iwae_samples" in given.model and given.model.iwae_samples:
        given.model.iwae_samples = 2
    batch = min(given.batch_size or ROWS, ROWS)
    steps = STEPS * MORE.get(given.model.name, 1)
    cycles = given.cycles or 1
    given.epochs = math.ceil(steps / math.ceil(ROWS * given.data.split / batch) / cycles) * cycles
    given.eval_every = given.epochs
    return parse(given)


LEARNT = set()  # the configs that have: many commands differ only in who trains them, or in what is small here


def assert_learns(config, directory, caplog):
    if config_hash(config) in LEARNT:
        return
    caplog.set_level("INFO")
    (outcome,) = engine.fit([config], [directory])
    assert outcome.error is None
    said = " ".join(record.getMessage() for record in caplog.records)
    assert "near chance" not in said
    assert "the training loss is" not in said
    last = rows_of(directory)[-1]
    if kind(config.model.name).classifies:
        assert last["train/accuracy"] > 0.4  # chance is 0.1
    else:
        before = engine.assemble([config])
        at_first = before.measure("train", before.dataset.train)["train/loss"][0]
        assert last["train/loss"] < 0.8 * at_first
    LEARNT.add(config_hash(config))


SWEEPS = ROOT / "docs" / "sweeps.md"  # a part of README until it was too long
BOTH = {*arguments_of(README, "train.py"), *arguments_of(SWEEPS, "train.py")}
TRAINED = sorted(arguments for arguments in BOTH if "--help" not in arguments)


def test_the_commands_of_readme_are_found():
    found = {" ".join(arguments) for arguments in TRAINED}
    assert len(found) > 20
    assert {"model=mlp2 +dropout=0.5", "-m seed=0,1,2 lr=1e-3,3e-3", "study=lr epochs=2 seed=0,1"} <= found


@pytest.mark.long
@pytest.mark.parametrize("arguments", TRAINED, ids=" ".join)
def test_a_command_of_readme_learns(arguments, tmp_path, caplog, monkeypatch):
    monkeypatch.chdir(ROOT)
    arguments = [word.replace("experiment=NAME", "experiment=q1_1_1") for word in arguments]
    for number, job in enumerate(jobs(arguments)):
        assert_learns(small(*job), tmp_path / str(number), caplog)


@pytest.mark.few(5)
@pytest.mark.parametrize("name", sorted(path.stem for path in (ROOT / "conf" / "experiment").glob("*.yaml")))
def test_an_experiment_learns(name, tmp_path, caplog):
    assert_learns(small(f"experiment={name}"), tmp_path, caplog)


@pytest.mark.few(1)
@pytest.mark.parametrize(("scale", "learns"), [("depth", True), ("none", False)])
def test_skip_connections_alone_train_a_deep_network_if_they_are_scaled_by_depth(scale, learns, tmp_path, caplog):
    overrides = ["model=deep", "model.depth=100", "skip=true", f"skip_scale={scale}"]
    if learns:
        assert_learns(small(*overrides), tmp_path, caplog)
        return
    caplog.set_level("INFO")
    (outcome,) = engine.fit([small(*overrides)], [tmp_path])
    said = " ".join(record.getMessage() for record in caplog.records)
    assert "the training loss is" in said
    assert "near chance" in said
    assert outcome.metrics["train/loss"] > 1e6


def directories(arguments):
    """The directories that a command leaves, as README's other commands name them."""
    places = dict(word.split("=", 1) for word in arguments if word.startswith("hydra."))
    if "-m" not in arguments:
        return {places.get("hydra.run.dir", "")}
    typed = [word for word in arguments if not word.startswith(("-", "hydra"))]
    sweep = places.get("hydra.sweep.dir", f"outputs/{sweep_name(typed)}")
    parsed = OverridesParser.create().parse_overrides(typed)
    product = itertools.product(*[alternatives(override) for override in parsed])
    return {sweep} | {f"{sweep}/{job_name(typed, list(job))}" for job in product}


def test_the_directories_that_readme_reads_are_those_that_its_commands_leave():
    made = set().union(*map(directories, TRAINED))
    programs = ("evaluate", "compare", "ensemble", "report", "figures")
    readers = [arguments_of(README, f"-m fmnist.{program}") for program in programs]
    asked = [word for arguments in itertools.chain(*readers) for word in arguments if word.startswith("outputs/")]
    assert len(asked) >= 5
    for pattern in asked:
        assert fnmatch.filter(made, pattern.rstrip("/")), pattern
