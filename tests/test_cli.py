"""`python train.py` as users type it: one run, sweeps, mistakes, help; on the real data."""

import json
import os
import shlex
import subprocess
import sys

import pytest
import torch
from forking import Zygote, zygote
from helpers import rows_of, run_cli
from sweeping import until

from fmnist import ROOT
from fmnist.launch.locks import LOCK, alone

QUICK = ("data.limit=500", "epochs=2", "model.hidden=[20]")


def result(directory):
    return json.loads((directory / "result.json").read_text())


MODELS = sorted(path.stem for path in (ROOT / "conf" / "model").glob("*.yaml"))
REFUSED = {
    "+droput=0.5": "did you mean dropout?",
    "dropout=1.5": "dropout must be in [0, 1), got 1.5",
    "+dropout=1.5": "dropout must be in [0, 1), got 1.5",
    "dropout=abc": "dropout must be a number or null, got 'abc'",
    "batch_size=0": "batch_size must be at least 1, got 0",
    "lr=-1": "lr must be greater than 0",
    "data.split=1.2": "data.split must be in (0, 1], got 1.2",
    "epochs=ten": "epochs must be a whole number, got 'ten'",
    "data.dir=/nowhere": "data.dir must be an existing folder, got '/nowhere'",
    "+model.hiden=[1]": "did you mean model.hidden?",
    # What Hydra cannot compose.
    "modle=mlp2": "unknown knob modle: did you mean model?",
    "model=mlp9": "model must be one of autoencoder, deep, hog, linear, mlp, mlp1, mlp2, two_levels, vae, vamp, got "
    "mlp9",
    "optim.momentum=0.1": "optim.momentum: the optim that is chosen has no such knob; optim=muon and optim=sgd can",
    "optim.betsa=[0,0]": "unknown knob optim.betsa: did you mean optim.betas?",
    "hydra.run.dri=x": "unknown knob hydra.run.dri: did you mean hydra.run.dir?",
    "+lr=1": "Could not append to config. An item is already at 'lr'.",
}
HEAVY = {"torch", "numpy", "tensorboard", "torchvision", "matplotlib", "sklearn", "scipy", "optuna", "submitit"}


TELLING = """
import atexit, runpy, sys
from pathlib import Path

def tell():
    Path(IMPORTED).write_text(" ".join({name.split(".")[0] for name in sys.modules}), encoding="utf-8")

atexit.register(tell)
sys.argv[0] = TRAIN
runpy.run_path(TRAIN, run_name="__main__")
"""


@pytest.fixture(scope="module")
def with_imports(tmp_path_factory):
    """Runs a command; the packages that are imported at its end. It is forked from a process that has imported what
    train.py imports before it knows what is typed, and nothing else."""
    imported = tmp_path_factory.mktemp("telling") / "imported"
    lines = TELLING.replace("TRAIN", repr(str(ROOT / "train.py"))).replace("IMPORTED", repr(str(imported)))
    zygote = Zygote(os.environ, modules=["train"])

    def run(*arguments, cwd):
        imported.unlink(missing_ok=True)
        done = zygote.run(lines, *arguments, cwd=cwd)
        return done, {*imported.read_text(encoding="utf-8").split()}

    yield run
    zygote.close()


@pytest.mark.few(6)
@pytest.mark.parametrize("mistake", REFUSED)
def test_a_mistake_is_a_line_or_two_imports_nothing_heavy_and_leaves_nothing_behind(mistake, with_imports, tmp_path):
    done, imported = with_imports("model=mlp2", mistake, cwd=tmp_path)
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert not list(tmp_path.iterdir())
    assert "hydra" in imported
    assert not imported & HEAVY
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert REFUSED[mistake] in line


COUNTING = """
import runpy, sys
from hydra._internal.config_loader_impl import ConfigLoaderImpl as Loader

composed, compose = [], Loader.load_configuration

def counted(self, *args, **kwargs):
    composed.append(args)
    return compose(self, *args, **kwargs)

Loader.load_configuration = counted
sys.argv[0] = "train.py"
try:
    runpy.run_path(TRAIN, run_name="__main__")
finally:
    print("composed", len(composed))
"""


@pytest.mark.parametrize(("arguments", "times"), [(("--help",), 0), (("dropout=1.5",), 2), ((*QUICK, "epochs=1"), 2)])
def test_hydra_composes_no_more_often_than_by_itself(arguments, times, tmp_path):
    # Hydra composes a run twice: to find out that it is no sweep, and to run it
    done = zygote().run(COUNTING.replace("TRAIN", repr(str(ROOT / "train.py"))), *arguments, cwd=tmp_path)
    assert done.stdout.splitlines()[-1] == f"composed {times}", done.stderr


@pytest.mark.long
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a cuda device")
def test_a_device_that_is_not_here_is_refused(tmp_path):
    done = run_cli("device=cuda", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("error: device must be one that is here")
    assert len(done.stderr.splitlines()) == 1


def test_help_is_a_manual_and_imports_nothing_heavy(with_imports, tmp_path):
    done, imported = with_imports("--help", cwd=tmp_path)
    assert done.returncode == 0
    assert not imported & HEAVY
    assert run_cli("--help", "--resolve", cwd=tmp_path).stdout == done.stdout  # by Hydra, which takes all its flags
    for word in ("dropout: null", "probability of dropping", "model=deep", "experiment=NAME", "q1_2_1", "--multirun"):
        assert word in done.stdout


@pytest.mark.long
def test_three_spellings_of_one_run_are_one_run(tmp_path):
    assert run_cli(*QUICK, "model=mlp2", "+dropout=0.5", "hydra.run.dir=plus", cwd=tmp_path).returncode == 0
    assert run_cli(*QUICK, "model=mlp2", "dropout=0.5", "hydra.run.dir=plain", cwd=tmp_path).returncode == 0
    sweep = ("model=mlp2", "+dropout=0.25,0.5", "hydra.sweep.dir=sweep", "hydra.sweep.subdir=${dropout}")
    sweep += ("hydra/launcher=basic",)  # bit for bit: a stack adds in another order
    assert run_cli("-m", *QUICK, *sweep, cwd=tmp_path).returncode == 0
    runs = [tmp_path / "plus", tmp_path / "plain", tmp_path / "sweep" / "0.5"]
    assert len({result(run)["config_hash"] for run in runs}) == 1
    assert all(rows_of(run) == rows_of(runs[0]) for run in runs)
    assert rows_of(tmp_path / "sweep" / "0.25") != rows_of(runs[0])


def test_one_run_leaves_its_record_and_says_where(tmp_path):
    done = run_cli(*QUICK, "hydra.run.dir=run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    run = tmp_path / "run"
    names = {path.name.split(".out.")[0] for path in run.iterdir()}
    record = {"metrics.jsonl", "result.json", "mistakes.json", "last.safetensors", "best.safetensors"}
    assert names == {".hydra", LOCK, "train.log", "train", "validation"} | record
    recorded = result(run)
    assert recorded["status"] == "done"
    assert f"test loss {recorded['metrics']['test/loss']:.4f} accuracy {recorded['metrics']['test/accuracy']:.4f}" in (
        done.stdout
    )
    assert f"run directory: {run}" in done.stdout
    (curves,) = [shlex.split(line) for line in done.stdout.splitlines() if line.startswith("curves: ")]
    assert os.path.join(tmp_path, curves[1]) == sys.executable  # it can be pasted where the run was started
    assert curves[2:] == ["-m", "fmnist.board", "run"]
    assert "epoch 2/2" in (run / "train.log").read_text()
    again = run_cli(*QUICK, "hydra.run.dir=run", cwd=tmp_path)
    assert again.returncode == 0
    assert "done already" in again.stdout


@pytest.mark.long
def test_another_config_cannot_overwrite_a_run(tmp_path):
    assert run_cli(*QUICK, "hydra.run.dir=run", cwd=tmp_path).returncode == 0
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    done = run_cli(*QUICK, "seed=1", "hydra.run.dir=run", cwd=tmp_path)
    assert done.returncode == 2
    assert "seed=0 there, 1 here" in done.stderr
    assert {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()} == before


def test_two_commands_do_not_train_the_same_run(tmp_path):
    words = [sys.executable, str(ROOT / "train.py"), *QUICK, "epochs=100000", "save_every=0", "hydra.run.dir=run"]
    words.remove("epochs=2")
    run = tmp_path / "run"
    with subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.DEVNULL) as first:
        until(lambda: list(run.glob("last.*")), "the first command trains")
        before = {path: path.stat().st_mtime_ns for path in (run / ".hydra", *(run / ".hydra").iterdir())}
        second = run_cli(*words[2:], "log_every=7", cwd=tmp_path)
        assert {path: path.stat().st_mtime_ns for path in before} == before
        first.kill()
    assert second.returncode == 2
    who = f"process {first.pid} on {os.uname().nodename}, since "
    assert second.stderr.startswith(f"error: another command is training in run: {who}")
    assert len(second.stderr.splitlines()) == 1
    with alone(run):  # a killed command keeps nobody out
        pass


def test_in_a_sweep_a_bad_job_fails_alone(tmp_path):
    sweep = ("dropout=0.5,1.5", "hydra.sweep.dir=sweep", "hydra.sweep.subdir=${dropout}")
    done = run_cli("-m", *QUICK, *sweep, cwd=tmp_path)
    assert done.returncode == 1
    assert "dropout must be in [0, 1), got 1.5" in done.stderr + done.stdout
    assert "Traceback" not in done.stderr
    assert result(tmp_path / "sweep" / "0.5")["status"] == "done"
    assert "dropout must be in" in (tmp_path / "sweep" / "1.5" / "train.log").read_text()


def test_a_run_that_diverges_is_one_line_and_status_1(tmp_path):
    done = run_cli(*QUICK, "lr=1e30", "hydra.run.dir=run", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("error: train/loss is")
    assert len(done.stderr.splitlines()) == 1
    assert "try a smaller lr" not in done.stdout  # the reason is told once, and is in the log
    assert "failed: train/loss is" in (tmp_path / "run" / "train.log").read_text(encoding="utf-8")
    assert result(tmp_path / "run")["status"] == "failed"


@pytest.mark.long
@pytest.mark.parametrize(("limit", "knob", "why"), [
    ("ulimit -f 1000", "model.hidden=[300]", "run/last.safetensors: File too large"),
    pytest.param("ulimit -v 8000000", "model.hidden=[40000,40000]", "error: too little memory (RuntimeError: ",
                 marks=pytest.mark.skipif(torch.cuda.is_available(), reason="cuda maps more than that")),
])  # fmt: skip
def test_a_machine_that_is_too_small_is_one_line_and_status_1(limit, knob, why, tmp_path):
    words = shlex.join([sys.executable, str(ROOT / "train.py"), *QUICK, knob, "hydra.run.dir=run"])
    done = subprocess.run(["bash", "-c", f"{limit}; {words}"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert why in line
    assert "Traceback" not in done.stdout + (tmp_path / "run" / "train.log").read_text(encoding="utf-8")
    if (tmp_path / "run" / "result.json").exists():
        assert result(tmp_path / "run")["status"] == "failed"


@pytest.mark.long
def test_train_py_runs_from_anywhere_and_is_short(tmp_path):
    assert len((ROOT / "train.py").read_text(encoding="utf-8").splitlines()) <= 80
    here = tmp_path / "My Drivé (lab)"
    here.mkdir()
    link = here / "bench"
    link.symlink_to(ROOT)
    (here / "mine.py").symlink_to(ROOT / "train.py")
    for number, script in enumerate((os.path.relpath(ROOT / "train.py", here), "bench/train.py", "mine.py")):
        run = subprocess.run([sys.executable, script, *QUICK, f"seed={number}", "epochs=1"], cwd=here, text=True,
                             capture_output=True, env={"PATH": "/usr/bin:/bin"})  # fmt: skip
        assert run.returncode == 0, run.stderr
        runs = [file.parent for file in here.glob("outputs/*/*/result.json")]
        assert len(runs) == number + 1  # in the folder where the command was typed
        assert {result(run)["status"] for run in runs} == {"done"}
        assert {result(run)["config"]["seed"] for run in runs} == set(range(number + 1))


EXPERIMENTS = sorted(path.stem for path in (ROOT / "conf" / "experiment").glob("*.yaml"))


def test_every_experiment_says_how_it_is_run_and_how_long_it_takes():
    for name in EXPERIMENTS:
        text = (ROOT / "conf" / "experiment" / f"{name}.yaml").read_text()
        header = " ".join(line for line in text.splitlines() if line.startswith("#"))
        assert f"# python train.py experiment={name}" in header
        assert "on two cores" in header, name
