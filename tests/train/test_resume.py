"""A run stopped anywhere and started again is, bit for bit, the run that was never stopped."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from dataclasses import asdict

import pytest
from helpers import MODELS, SMALL, Crash, assert_same_run, crash_in, make_config, rows_of

from fmnist import ROOT, UserError
from fmnist.record import checkpoint
from fmnist.record.result import read_result
from fmnist.speed.kernels import Kernels
from fmnist.train import engine
from fmnist.train.restore import restore

SIZES = {**SMALL, "epochs": 6, "precision": "float32"}
KNOBS = {**SIZES, **MODELS["mlp"], "dropout": 0.5}


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """The directory of a run of a config that was never stopped; each is trained once."""

    made = {}

    def run(config):
        key = repr(config)
        if key not in made:
            made[key] = tmp_path_factory.mktemp("straight")
            engine.fit([config], [made[key]])
        return made[key]

    return run


@pytest.mark.few(15)
@pytest.mark.parametrize(
    "knobs",
    [
        {},
        {"batch_norm": True, "skip": True, "select": "best", "lr": 0.02},
        {"batch_size": None, "optim": "sgd", "schedule": "one_cycle"},
        {"optim": "adamw", "schedule": "cosine", "patience": 3, "eval_every": 2, "precision": "bfloat16"},
        {"save_every": 3600.0},
        {
            "dropout": None,
            "anneal": {"dropout": [0, 0.5], "label_smoothing": [0.2, 0.1], "shift": [3, 0], "mixup": [1, 0]},
        },
        {"ema": 0.9, "select": "average", "batch_norm": True},
        {"augment.shift": 2, "augment.flip": 0.5, "augment.cutout": 6, "augment.mixup": 0.4},
        {"optim": "lion", "norm": "layer", "loss": "brier", "model.activation": "silu", "lr": 1e-3},
        {"optim": "muon", "skip": True, "drop_path": 0.5, "grad_clip": 1.0, "model.activation": "leaky_relu"},
        {"model": "linear", "dropout": None, "optim": "lion", "augment.flip": 0.5, "batch_size": None},
    ],
    ids=str,
)
@pytest.mark.parametrize("epoch", [1, 2, 4, 6])
def test_resume_is_bit_identical(knobs, epoch, straight, tmp_path, monkeypatch):
    sizes = {} if "model" in knobs else MODELS["mlp"]
    config = make_config(**{**SIZES, **sizes, "dropout": 0.5, **knobs})
    with monkeypatch.context() as patch:
        crash_in(patch, epoch)
        with pytest.raises(Crash):
            engine.fit([config], [tmp_path / "stopped"])
    assert json.loads((tmp_path / "stopped" / "result.json").read_text())["status"] == "running"
    engine.fit([config], [tmp_path / "stopped"])
    assert_same_run(straight(config), tmp_path / "stopped")


def test_resume_forgets_rows_after_the_checkpoint_and_a_torn_line(tmp_path, monkeypatch):
    config = make_config(**KNOBS)
    engine.fit([config], [tmp_path / "straight"])
    with monkeypatch.context() as patch:
        crash_in(patch, 4)
        with pytest.raises(Crash):
            engine.fit([config], [tmp_path / "stopped"])
    with open(tmp_path / "stopped" / "metrics.jsonl", "a", encoding="utf-8") as file:
        file.write('{"epoch": 4, "train/loss": 99.0}\n{"epoch": 5, "tra')
    engine.fit([config], [tmp_path / "stopped"])
    assert_same_run(tmp_path / "straight", tmp_path / "stopped")


def test_a_stack_goes_on_as_solos_and_solos_as_a_stack(tmp_path, monkeypatch):
    configs = [make_config(**{**KNOBS, "precision": "float64", "seed": seed}) for seed in (0, 1)]
    for run, config in enumerate(configs):
        engine.fit([config], [tmp_path / f"straight{run}"])
    with monkeypatch.context() as patch:
        crash_in(patch, 4)
        with pytest.raises(Crash):
            engine.fit(configs, [tmp_path / "a0", tmp_path / "a1"])
        for run, config in enumerate(configs):
            with pytest.raises(Crash):
                engine.fit([config], [tmp_path / f"b{run}"])
    for run, config in enumerate(configs):
        engine.fit([config], [tmp_path / f"a{run}"])
    engine.fit(configs, [tmp_path / "b0", tmp_path / "b1"])
    for run in (0, 1):
        assert_same_run(tmp_path / f"straight{run}", tmp_path / f"a{run}", rel=1e-9, abs=1e-9)
        assert_same_run(tmp_path / f"straight{run}", tmp_path / f"b{run}", rel=1e-9, abs=1e-9)


def test_a_finished_run_is_not_trained_again(tmp_path, monkeypatch):
    config = make_config(**KNOBS)
    (first,) = engine.fit([config], [tmp_path])
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    crash_in(monkeypatch, 1)
    (again,) = engine.fit([config], [tmp_path])
    assert again == first
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_a_damaged_checkpoint_is_one_line(tmp_path, monkeypatch):
    config = make_config(**KNOBS)
    with monkeypatch.context() as patch:
        crash_in(patch, 3)
        with pytest.raises(Crash):
            engine.fit([config], [tmp_path])
    content = (tmp_path / "last.safetensors").read_bytes()
    (tmp_path / "last.safetensors").write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match=r"last\.safetensors is damaged"):
        engine.fit([config], [tmp_path])


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.long)])
def test_interrupt_ends_the_epoch_saves_and_says_how_to_go_on(number, tmp_path):
    command = [sys.executable, str(ROOT / "train.py"), "data.limit=6000", "model.hidden=[20]", "epochs=2000",
               "log_every=1", f"hydra.run.dir={tmp_path}/run"]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path)
    rows, deadline = tmp_path / "run" / "metrics.jsonl", time.monotonic() + 60
    while not (rows.exists() and rows.read_text().count("\n") >= 2):
        assert time.monotonic() < deadline, process.communicate(timeout=1)
        time.sleep(0.05)
    os.kill(process.pid, number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert "Traceback" not in err
    epochs = len(rows_of(tmp_path / "run"))
    assert "this epoch is finished first, and saved; a second signal ends the run at once" in out
    assert f"interrupted: all up to epoch {epochs} of 2000 is saved" in out
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert (result["status"], result["epoch"]) == ("interrupted", epochs)
    line = out.splitlines()[out.splitlines().index("this continues it:") + 1]
    pasted = f"{line} until={(epochs + 2) / 2000}"  # it pauses after two epochs more
    done = subprocess.run(["bash", "-c", pasted], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert (result["status"], result["epoch"]) == ("paused", epochs + 2)


def test_a_signal_between_saving_and_leaving_waits_for_the_next_epoch(tmp_path, monkeypatch):
    class Late(list):
        looks = 0

        def __bool__(self):
            self.looks += 1
            return self.looks > 1

    monkeypatch.setattr(engine, "catching", lambda on_signal: nullcontext(Late([signal.SIGINT])))
    with pytest.raises(SystemExit, match="130"):
        engine.fit([make_config(**{**KNOBS, "save_every": 100.0})], [tmp_path])
    result = json.loads((tmp_path / "result.json").read_text())
    assert (result["status"], result["epoch"]) == ("interrupted", 2)
    assert len(rows_of(tmp_path)) == 2
    assert (tmp_path / "last.safetensors").exists()


@pytest.mark.parametrize("eval_every", [1, 2])
def test_a_paused_run_goes_on_to_what_it_would_have_been(eval_every, tmp_path):
    knobs = {**KNOBS, "eval_every": eval_every, "schedule": "one_cycle"}
    engine.fit([make_config(**knobs)], [tmp_path / "straight"])
    (paused,) = engine.fit([make_config(**knobs, until=0.5)], [tmp_path / "paused"])
    result = json.loads((tmp_path / "paused" / "result.json").read_text())
    assert result["status"] == "paused"
    assert result["epoch"] == {1: 3, 2: 4}[eval_every]  # it pauses where there is something to judge it by
    assert paused.objective == result["objective"] == rows_of(tmp_path / "paused")[-1]["validation/accuracy"]
    assert not [tag for tag in result["metrics"] if tag.startswith("test/")]
    assert engine.fit([make_config(**knobs, until=0.5)], [tmp_path / "paused"]) == [paused]
    engine.fit([make_config(**knobs)], [tmp_path / "paused"])
    assert_same_run(tmp_path / "straight", tmp_path / "paused")


def test_a_run_goes_on_by_the_kernels_that_it_began_with_and_names_them(tmp_path, monkeypatch):
    began, others = Kernels(), Kernels(thin="medium")
    found = [began, others]  # the best first; another machine, or a later version, may see it the other way round
    monkeypatch.setattr("fmnist.speed.kernels.serving", lambda *_: found)
    for until in (0.5, 1.0):
        engine.fit([make_config(**KNOBS, until=until)], [tmp_path])
        state = checkpoint.load(tmp_path / "last.safetensors")
        assert read_result(tmp_path)["kernels"] == state["kernels"] == asdict(began)
        found[:] = [others, began]
    assert restore(tmp_path).step.kernels == began
