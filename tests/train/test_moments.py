"""Signals at each moment of `python train.py`: the record says so, and the same command goes on to the same bits."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from forking import zygote
from helpers import assert_same_run, train_py

from fmnist import ROOT

# A process that has this module sends itself signals when it reaches a moment: the module AT is imported, or its
# function is called for the n-th time.
SITE = """
import importlib.util, os, signal, sys

module, function, count = (os.environ["AT"] + "::").split(":")[:3]
numbers, calls = map(int, os.environ["SIGNALS"].split()), []

def send():
    for number in numbers:  # the next one, when the process has seen the one before
        print("now", flush=True)
        os.kill(os.getpid(), number)

def wrapped(original):
    def call(*given, **named):
        calls.append(given)
        if len(calls) == int(count or 1):
            send()
        return original(*given, **named)
    return call

class Moment:
    def find_spec(self, name, path=None, target=None):
        if name != module:
            return None
        sys.meta_path.remove(self)
        if not function:
            return send()
        spec = importlib.util.find_spec(name)
        execute = spec.loader.exec_module
        def executed(loaded):
            execute(loaded)
            watch(loaded)
        spec.loader.exec_module = executed
        return spec

def watch(loaded):
    *owners, last = function.split(".")
    for owner in owners:
        loaded = getattr(loaded, owner)
    setattr(loaded, last, wrapped(getattr(loaded, last)))

if module in sys.modules:
    watch(sys.modules[module])
else:
    sys.meta_path.insert(0, Moment())
"""
# The same in a fork of a process that has imported what a run needs, which takes most of the time of such a small one.
FORKED = (
    SITE
    + f"""
import runpy
sys.argv[0] = {str(ROOT / "train.py")!r}
runpy.run_path(sys.argv[0], run_name="__main__")
"""
)
RUN = ("model=autoencoder", "model.hidden=[5]", "data.limit=60", "batch_size=16", "epochs=3", "save_every=0",
       "hydra.run.dir=run")  # fmt: skip
MOMENTS = {
    "the imports of Hydra": "hydra.core.hydra_config",
    "the config's composition": "fmnist.config.parse:parse",
    "the imports of torch": "torch.nn.modules",
    "the run's first record": "fmnist.record.record:Record.save",
    "the first step": "fmnist.speed.step:TapedStep.__call__",
    "a row": "fmnist.record.record:Record.add:2",
    "a checkpoint": "fmnist.record.checkpoint:save:3",
    "the last checkpoint": "fmnist.record.checkpoint:save:6",
    "the test": "fmnist.train.engine:final",
    "the pictures": "fmnist.view.pictures:illustrate",
    "a picture": "matplotlib.figure:Figure.savefig",
    "the end of the record": "fmnist.record.record:Record.finish",
}
EARLY = list(MOMENTS)[:4]  # when nothing may have been begun
SIGNALS = {
    "SIGINT": [signal.SIGINT], "SIGTERM": [signal.SIGTERM], "SIGHUP": [signal.SIGHUP],
    "SIGINT twice": [signal.SIGINT] * 2, "SIGTERM twice": [signal.SIGTERM] * 2,
}  # fmt: skip
SHORT = {  # what `make test` tries; -m long tries all
    ("the imports of Hydra", "SIGINT"), ("the imports of torch", "SIGINT"), ("the run's first record", "SIGTERM twice"),
    ("the first step", "SIGHUP"), ("a checkpoint", "SIGINT twice"), ("the test", "SIGTERM"), ("a picture", "SIGINT"),
}  # fmt: skip
TABLE = [
    pytest.param(moment, name, marks=[] if (moment, name) in SHORT else pytest.mark.long)
    for moment in MOMENTS for name in SIGNALS
]  # fmt: skip


def start(folder, moment, numbers, *knobs):
    """The command, which sends itself these signals at that moment."""
    (folder / "site").mkdir()
    (folder / "site" / "sitecustomize.py").write_text(SITE, encoding="utf-8")
    sent = " ".join(str(int(number)) for number in numbers)
    env = os.environ | {"PYTHONPATH": str(folder / "site"), "AT": moment, "SIGNALS": sent}
    words = [sys.executable, str(ROOT / "train.py"), *RUN, *knobs]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "encoding": "utf-8"}
    return subprocess.Popen(words, cwd=folder, env=env, **pipes)


def again(folder, *knobs):
    """The same command in this process, which has torch; its status."""
    return train_py(folder, *RUN, *knobs)


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """The run of a command that no signal meets."""
    folder = tmp_path_factory.mktemp("straight")
    assert again(folder, "figures=false") == 0
    return folder / "run"


@pytest.mark.few(2)
@pytest.mark.parametrize(("moment", "name"), TABLE)
def test_a_signal_at_any_moment_is_recorded_and_the_same_command_goes_on(moment, name, straight, tmp_path, monkeypatch):
    knobs = [f"figures={str('picture' in moment).lower()}"]
    if moment in EARLY:  # it is among the imports
        with start(tmp_path, MOMENTS[moment], SIGNALS[name], *knobs) as process:
            out, err = process.communicate()
        status = process.returncode
    else:
        monkeypatch.setenv("AT", MOMENTS[moment])
        monkeypatch.setenv("SIGNALS", " ".join(str(int(number)) for number in SIGNALS[name]))
        done = zygote().run(FORKED, *RUN, *knobs, cwd=tmp_path)
        status, out, err = done.returncode, done.stdout, done.stderr
    assert "now" in out
    status = status if status >= 0 else 128 - status  # as a shell has it
    assert status == 128 + SIGNALS[name][0], out + err
    assert "Traceback" not in out + err
    record = tmp_path / "run" / "result.json"
    if record.exists():
        assert json.loads(record.read_text(encoding="utf-8"))["status"] == "interrupted"
        assert "Traceback" not in (tmp_path / "run" / "train.log").read_text(encoding="utf-8")
    else:
        assert moment in EARLY
    assert not list(Path(tmp_path).glob("run/*.part"))
    assert again(tmp_path, *knobs) == 0
    assert_same_run(straight, tmp_path / "run")
    assert (tmp_path / "run" / "figures").exists() == ("picture" in moment)


@pytest.mark.parametrize("moment", ["the first step", pytest.param("a checkpoint", marks=pytest.mark.long)])
def test_a_run_that_is_stopped_and_continued_ends_as_the_straight_one(moment, straight, tmp_path):
    with start(tmp_path, MOMENTS[moment], [signal.SIGSTOP], "figures=false") as process:
        os.waitid(os.P_PID, process.pid, os.WSTOPPED)
        process.send_signal(signal.SIGCONT)
        _, err = process.communicate()
    assert (process.returncode, err) == (0, "")
    assert_same_run(straight, tmp_path / "run")
