"""What README and conf/experiment/ name trains well: each command for some steps on few rows, in this process."""

import fnmatch
import itertools
import json
import math
import re
import shlex
from functools import cache

import pytest
from helpers import rows_of
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from omegaconf import OmegaConf
from training import data_kept, quick_disk  # noqa: F401 - fixtures that serve each test

from fmnist import ROOT
from fmnist.config.names import job_name, sweep_name
from fmnist.config.parse import config_hash, flat, parse
from fmnist.config.schema import SEEDS, kind
from fmnist.train import engine

ROWS = 800
STEPS = 60
MORE = {"deep": 3}  # so many times the steps, until the many layers of these have begun to learn
MOST = 3  # values of a knob that are tried


@cache
def commands(program):
    """The arguments of all commands of README that start with `program`, in its tables and its blocks of code."""
    text = (ROOT / "README.md").read_text(encoding="utf-8").replace("\\\n", " ")
    inline = re.findall(rf"`(?:[A-Z_]+=\w+ )?{program} ([^`]*)`", text)
    blocks = re.findall(rf"^    {program} (.*?)(?:  +#.*)?$", text, re.MULTILINE)
    return sorted({tuple(shlex.split(arguments)) for arguments in inline + blocks})


@pytest.fixture(scope="module", autouse=True)
def hydra():
    """Hydra's compose, as train.py has it."""
    Plugins.instance()
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        yield


def is_about_the_command(key):
    """Whether an override says where and by whom a run is trained, and not which; a debugged one learns nothing."""
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
    given.epochs = math.ceil(steps / math.ceil(ROWS * given.data.split / batch))
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


TRAINED = [arguments for arguments in commands(r"python train\.py") if "--help" not in arguments]


def test_the_commands_of_readme_are_found():
    found = {" ".join(arguments) for arguments in TRAINED}
    assert len(found) > 20
    assert {"model=mlp2 +dropout=0.5", "-m seed=0,1,2 lr=1e-3,3e-3", "study=lr epochs=2 seed=0,1"} <= found


@pytest.mark.parametrize("arguments", TRAINED, ids=" ".join)
def test_a_command_of_readme_learns(arguments, tmp_path, caplog, monkeypatch):
    monkeypatch.chdir(ROOT)
    arguments = [word.replace("experiment=NAME", "experiment=q1_1_1") for word in arguments]
    for number, job in enumerate(jobs(arguments)):
        assert_learns(small(*job), tmp_path / str(number), caplog)


@pytest.mark.parametrize("name", sorted(path.stem for path in (ROOT / "conf" / "experiment").glob("*.yaml")))
def test_an_experiment_learns(name, tmp_path, caplog):
    assert_learns(small(f"experiment={name}"), tmp_path, caplog)


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
    readers = [commands(rf"python -m fmnist\.{program}") for program in ("evaluate", "report", "figures")]
    asked = [word for arguments in itertools.chain(*readers) for word in arguments if word.startswith("outputs/")]
    assert len(asked) >= 5
    for pattern in asked:
        assert fnmatch.filter(made, pattern.rstrip("/")), pattern
