"""Products and points, what the command line changes of a study, and what is refused before anything starts."""

import errno
import json
import logging

import pytest
from helpers import run_cli
from hydra._internal.callbacks import Callbacks
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.types import HydraContext
from hydra_plugins._compose import Composer
from hydra_plugins.points import as_overrides
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from fmnist import ROOT
from fmnist.config.parse import parse
from fmnist.launch.callbacks import own
from fmnist.launch.manual import manual

STUDIES = sorted(path.stem for path in (ROOT / "sweep" / "study").glob("*.yaml"))
POINTS = "hydra.sweeper.points=[{lr:1e-3,batch_size:32},{lr:2e-3,model.hidden:[50,20]}]"


@pytest.fixture
def composed(monkeypatch):
    """The jobs that Hydra is asked to compose."""
    jobs, original = [], ConfigLoaderImpl.load_sweep_config

    def noted(self, master_config, sweep_overrides):
        jobs.append(sweep_overrides)
        return original(self, master_config, sweep_overrides)

    monkeypatch.setattr(ConfigLoaderImpl, "load_sweep_config", noted)
    return jobs


@pytest.mark.parametrize("arguments", [
    ["seed=0,1", "lr=1e-3,3e-3"],
    ["seed=range(3)", "+dropout=0.1,0.5", "epochs=2"],
    ["model=glob(mlp*)", "model.activation=choice(relu,gelu)", "model.hidden=[5],[6,7]"],
])  # fmt: skip
def test_a_product_is_what_hydra_makes_of_it(arguments, sweep):
    assert sweep("-m", *arguments) == 0
    parser = OverridesParser.create(config_loader=sweep.launcher.loader)
    assert [sweep.launcher.jobs] == BasicSweeper.split_arguments(parser.parse_overrides(arguments), None)
    assert sweep.launcher.first == [0]


def test_points_go_together_and_each_is_combined_with_the_product(sweep):
    assert sweep("-m", POINTS, "seed=0,1", "epochs=2") == 0
    assert sweep.launcher.jobs == [
        ["lr=0.001", "batch_size=32", "seed=0", "epochs=2"],
        ["lr=0.001", "batch_size=32", "seed=1", "epochs=2"],
        ["lr=0.002", "model.hidden=[50,20]", "seed=0", "epochs=2"],
        ["lr=0.002", "model.hidden=[50,20]", "seed=1", "epochs=2"],
    ]


def test_points_in_a_study_file_as_one_writes_yaml(sweep, tmp_path):
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "mine.yaml").write_text("""# @package _global_
epochs: 3
hydra:
  mode: MULTIRUN
  sweeper:
    params: {seed: range(2), +dropout: 0.5}
    points:
      - {model: mlp1, lr: 1e-3, order_seed: '${seed}'}
      - model: {hidden: [5], activation: gelu}
        skip: true
        loss: null
""")
    assert sweep("--config-dir", str(tmp_path), "study=mine") == 0
    rest = [["seed=0", "+dropout=0.5", "study=mine"], ["seed=1", "+dropout=0.5", "study=mine"]]
    first = ["model=mlp1", "lr=0.001", "order_seed=${seed}"]
    second = ["model.hidden=[5]", "model.activation=gelu", "skip=true", "loss=null"]
    assert sweep.launcher.jobs == [point + end for point in (first, second) for end in rest]
    configs = [parse_job(sweep.launcher, job) for job in sweep.launcher.jobs]
    assert [(c.order_seed, c.epochs, c.dropout) for c in configs] == [(0, 3, 0.5), (1, 3, 0.5)] * 2
    assert [c.skip for c in configs] == [None, None, True, True]


def parse_job(launcher, overrides):
    return parse(own(launcher.loader.load_sweep_config(launcher.config, overrides)))


def jobs_of(launcher, *arguments):
    """The jobs of the sweeper of a command that was given, with other arguments: without starting Hydra again."""
    context = HydraContext(config_loader=launcher.loader, callbacks=Callbacks())
    sweeper = Plugins.instance().instantiate_sweeper(hydra_context=context, task_function=None, config=launcher.config)
    return sweeper.jobs(list(arguments))


def test_a_knob_of_another_choice_is_one_line_in_a_sweep_too(sweep, capsys):
    assert sweep("-m", "optim.momentum=0.1,0.2") == 2
    why = "the optim that is chosen has no such knob; optim=muon and optim=sgd can have it"
    assert capsys.readouterr().err == f"error: optim.momentum: {why}\n"
    assert sweep.launcher.jobs == []


# No subnormal floats: torch may have been told to flush them
NUMBERS = st.integers() | st.floats(allow_nan=False, allow_infinity=False, allow_subnormal=False)


@given(st.dictionaries(st.sampled_from(["a", "b.c"]), st.none() | st.booleans() | NUMBERS | st.lists(NUMBERS)))
def test_values_of_a_file_arrive_as_they_are(values):
    parsed = OverridesParser.create().parse_overrides(as_overrides(values))
    assert {override.key_or_group: override.value() for override in parsed} == values


def test_the_command_line_replaces_what_a_study_sweeps(sweep):
    assert sweep("-m", "study=dropout", "seed=7", "+dropout=0.1,0.2", "epochs=2", "lr=1,2") == 0
    assert sweep.launcher.jobs == [
        ["study=dropout", "seed=7", f"+dropout={dropout}", "epochs=2", f"lr={lr}"]
        for dropout in (0.1, 0.2) for lr in (1, 2)
    ]  # fmt: skip
    assert parse_job(sweep.launcher, sweep.launcher.jobs[0]).epochs == 2


@pytest.mark.parametrize("size", ["-1", "null"])
def test_without_a_size_there_is_one_batch(size, sweep):
    assert sweep("-m", "seed=range(3)", f"hydra.sweeper.max_batch_size={size}") == 0
    assert sweep.launcher.batches == [[["seed=0"], ["seed=1"], ["seed=2"]]]


def test_a_folder_of_a_sweep_that_cannot_be_written_is_one_line(sweep, capsys, tmp_path):
    (tmp_path / "file").write_text("", encoding="utf-8")
    for folder, reason in (("/proc/x", "No such file or directory"), (tmp_path / "file" / "x", "Not a directory")):
        assert sweep("-m", "seed=0,1", f"hydra.sweep.dir={folder}") == 2
        expected = f"error: hydra.sweep.dir must be a folder to write to, got {folder}: {reason}\n"
        assert capsys.readouterr().err == expected
        assert not sweep.launcher.batches


def test_a_sweep_that_finds_no_room_names_the_file_and_ends_with_status_1(sweep, capsys, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(OmegaConf, "save", full)
    assert sweep("-m", "seed=0,1", "hydra.sweep.dir=here") == 1
    assert capsys.readouterr().err == "error: here/multirun.yaml: No space left on device\n"
    assert not sweep.launcher.batches


def test_batches_go_on_after_a_failure(sweep):
    def objective(job):
        return ValueError("it failed") if job["seed"] == "0" else 0.5

    assert sweep("-m", "seed=range(3)", "hydra.sweeper.max_batch_size=2", objective=objective) == 1
    assert sweep.launcher.batches == [[["seed=0"], ["seed=1"]], [["seed=2"]]]
    assert sweep.launcher.first == [0, 2]


@pytest.mark.few(4)
@pytest.mark.parametrize(("arguments", "message"), [
    ([POINTS, "lr=0.1"], "lr must not be given on the command line: it is among hydra.sweeper.points"),
    ([POINTS, "+batch_size=8,16"], "batch_size must not be given on the command line"),
    (["study=batch_size", "lr=1"], "lr must not be given on the command line"),
    ([POINTS, "+hydra.sweeper.params.lr='1,2'"], "lr must not be given in hydra.sweeper.params"),
    (["hydra.sweeper.points=[{lr:'1,2'}]"], "hydra.sweeper.points must have one value a knob, got lr=1,2"),
    (["lr=interval(0,1)"], "lr=interval(0,1) needs hydra/sweeper=optuna"),
    (["study=lr,dropout"], "study must be one name, got study=lr,dropout"),
    (["seed=range(0)"], "a list of values is empty in seed=range(0)"),
    *((["seed=0,1", f"hydra.sweeper.max_batch_size={size}"],
       f"hydra.sweeper.max_batch_size must be a whole number of at least 1 or -1 or null, got {size}")
      for size in (0, -2)),
])  # fmt: skip
def test_what_cannot_be_combined_is_one_line_and_leaves_nothing(arguments, message, sweep, capsys, tmp_path):
    assert sweep("-m", *arguments) == 2
    text = capsys.readouterr().err
    assert text.startswith(f"error: {message}")
    assert len(text.splitlines()) == 1
    assert not sweep.launcher.batches
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("arguments", "named"), [
    (["modle=mlp1,mlp2"], "modle"),
    (["seed=0,1", "model=mlp1,mlp9"], "mlp9"),
    (["model=mlp1,deep", "model.depth=3"], "model.depth"),
    (["hydra.sweeper.points=[{lr:1},{droput:0.1}]"], "droput"),
    (["study=nothing"], "study must be one of "),
])  # fmt: skip
def test_what_cannot_be_composed_is_found_before_anything_starts(arguments, named, sweep, capsys, tmp_path):
    assert sweep("-m", *arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert named in line
    assert not sweep.launcher.batches
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("arguments", "jobs", "kinds"), [
    (["seed=range(500)", "lr=1,2"], 1000, 1),
    (["seed=range(5)", "model=mlp1,mlp2", "optim=adam,sgd"], 20, 4),
    ([POINTS, "seed=range(5)"], 10, 2),
])  # fmt: skip
def test_only_jobs_that_compose_differently_are_composed_to_check_them(arguments, jobs, kinds, sweep, composed):
    assert sweep("-m", *arguments) == 0
    assert len(sweep.launcher.jobs) == jobs
    assert len(composed) == kinds


@pytest.mark.few(9)
@pytest.mark.parametrize("name", STUDIES)
def test_every_study_is_a_sweep_of_right_configs(name, sweep):
    assert sweep(f"study={name}") == 0  # without -m
    jobs = sweep.launcher.jobs
    assert len(jobs) >= (9 if name == "differences" else 12)
    assert len({tuple(job) for job in jobs}) == len(jobs)
    first, last = (parse_job(sweep.launcher, job) for job in (jobs[0], jobs[-1]))
    assert first != last


@pytest.mark.long
@pytest.mark.parametrize("name", STUDIES)
def test_what_is_typed_behind_a_study_replaces_what_it_sweeps(name, sweep):
    assert sweep(f"study={name}") == 0
    replaced = jobs_of(sweep.launcher, f"study={name}", "save_every=9", "seed=3")
    last = parse_job(sweep.launcher, replaced[-1])
    assert (last.seed, last.save_every) == (3, 9)
    assert len(replaced) == len(
        {tuple(knob for knob in job if not knob.startswith("seed=")) for job in sweep.launcher.jobs}
    )


def test_every_study_says_what_it_asks_how_it_is_run_and_how_long_it_takes():
    for name in STUDIES:
        head = (ROOT / "sweep" / "study" / f"{name}.yaml").read_text(encoding="utf-8").splitlines()[1:]
        assert head[0].endswith("?"), name
        assert head[1] == f"# python train.py study={name}"
        assert "on two cores" in " ".join(line for line in head if line.startswith("#")), name
        assert f", {name}" in manual() or f": {name}" in manual()


@pytest.mark.long
def test_a_study_runs_from_anywhere(tmp_path):
    done = run_cli("study=seeds", "seed=0,1", "data.limit=200", "epochs=1", "hydra.sweep.dir=sweep", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    results = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(tmp_path.glob("sweep/*/result.json"))]
    assert [(r["status"], r["config"]["seed"], r["config"]["epochs"]) for r in results] == [
        ("done", 0, 1),
        ("done", 1, 1),
    ]


def test_a_job_with_a_directory_of_its_own_is_composed_as_hydra_composes_it(sweep):
    assert sweep("-m", "study=depth", "epochs=2") == 0
    loader, master = sweep.launcher.loader, sweep.launcher.config
    compose = Composer(loader, master)
    for job in (["skip=true", "hydra.sweep.subdir=here"], ["skip=null", "model=mlp1", "hydra.sweep.subdir=there"]):
        assert OmegaConf.to_yaml(compose._quickly(job)) == OmegaConf.to_yaml(loader.load_sweep_config(master, job))


def test_matplotlib_says_nothing_of_its_caches(sweep):
    logging.getLogger("matplotlib").setLevel(logging.NOTSET)
    sweep("--help")
    assert logging.getLogger("matplotlib").level == logging.WARNING
