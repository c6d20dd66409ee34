"""fmnist.bench.entrants: the protocol, processors, and entrants that fail or hang while the others go on."""

import os
import runpy
import signal
import sys
import threading

import pytest

from fmnist.bench import entrants as processes
from fmnist.bench import sweeps
from fmnist.bench.__main__ import MODELS, parse
from fmnist.bench.entrants import PEERS, Entrant, EntrantError, Peer, command_line, reason
from fmnist.bench.race import Cell, time_cell

SHARED = str(processes.SCRIPTS)  # where entrant.py is
SMALL = ["--rows", "500", "--threads", "1", "--repeats", "2"]


@pytest.mark.long
def test_mini_batches_train_to_the_same_loss_and_answers_are_one_epoch_each(checkout):
    line = command_line(MODELS["mlp1"], 64, parse(SMALL))
    losses = {}
    for name in ("ours", "plain"):
        with Entrant(PEERS[name], line) as entrant:
            assert "torch" in entrant.ready()
            assert entrant.epochs(2) > 0
            entrant.epochs(1)
        assert entrant.process.returncode == 0
        losses[name] = entrant.losses
    assert len(losses["ours"]) == 3
    assert losses["ours"] == sorted(losses["ours"], reverse=True)
    # Each shuffles by itself. Over seeds, that makes a standard deviation of 0.5 % after one epoch, of 4 % after three.
    assert losses["ours"][0] == pytest.approx(losses["plain"][0], rel=0.02)
    assert losses["ours"] == pytest.approx(losses["plain"], rel=0.12)
    assert losses["ours"] != losses["plain"]


def test_an_entrant_that_fails_says_why():
    with Entrant(Peer("nothing"), []) as entrant, pytest.raises(EntrantError, match="No such file"):
        entrant.ready()


def test_the_reason_of_a_failure_is_the_line_that_names_an_error():
    hydra = "Error executing job with overrides: ['a=1']\nTraceback ...\n  raise\nValueError: bad\n\nSet the ... trace."
    assert reason(hydra) == "ValueError: bad"
    assert reason("error: a must be 1\nSet the ... trace.\n") == "error: a must be 1"
    assert reason("LexerNoViableAltException: a=é\n ^\nSee https://hydra.cc") == "LexerNoViableAltException: a=é"
    assert reason("\n") == "it printed nothing"


STAND_IN = """
import os, pathlib, signal, sys, threading
sys.path.insert(0, {peers!r})
import entrant
def hang():
    pathlib.Path(__file__).with_name("hangs").touch()
    threading.Event().wait()
turns = entrant.Turns()
for epoch in range({epochs}):
    turns.wait()
    turns.answer(0.5, 0.9)
turns.wait()
{then}
"""


@pytest.fixture
def peers(tmp_path, monkeypatch):
    """A folder for stand-ins. A deadline is over when one of them says that it hangs, however slow the machine is."""
    folder = tmp_path / "peers"
    folder.mkdir()

    class WhenOneHangs(threading.Timer):
        def run(self):
            while not self.finished.wait(0.01):
                if (folder / "hangs").exists():
                    (folder / "hangs").unlink()
                    self.function()
                    self.finished.set()

    monkeypatch.setattr(processes, "Timer", WhenOneHangs)
    monkeypatch.setattr(processes, "SCRIPTS", folder)
    return folder


@pytest.mark.few(2)
@pytest.mark.parametrize(("epochs", "then", "reason"), [
    (0, "hang()", "no answer within 300 s"),  # before the first round
    (3, "hang()", "no answer within 300 s"),  # in the second
    (3, "signal.signal(signal.SIGTERM, signal.SIG_IGN); hang()", "no answer within 300 s"),
    (3, "turns.channel.write('{\\n'); turns.channel.flush(); threading.Event().wait()", "it answered '{'"),
    (3, "sys.exit('out of luck')", "out of luck"),
    (3, "os.kill(os.getpid(), signal.SIGKILL)", f"it ended with status {-signal.SIGKILL}"),
])  # fmt: skip
def test_an_entrant_that_hangs_or_fails_is_left_out_and_the_others_go_on(
    epochs, then, reason, peers, monkeypatch, capsys
):
    (peers / "sound.py").write_text(STAND_IN.format(peers=SHARED, epochs=1000, then=""), encoding="utf-8")
    (peers / "broken.py").write_text(STAND_IN.format(peers=SHARED, epochs=epochs, then=then), encoding="utf-8")
    monkeypatch.setattr("fmnist.bench.race.TURN", 1e-9)
    monkeypatch.setattr("fmnist.bench.race.PAUSE", 0.0)
    asked = parse(SMALL)
    cell = time_cell(Cell("models", "mlp1", [200], None, {name: Peer(name) for name in ("sound", "broken")}), asked, {})
    assert capsys.readouterr().out == f"broken failed: {reason}\n"
    assert set(cell["peers"]) == {"sound"}
    assert len(cell["peers"]["sound"]["seconds"]) == asked.repeats


def test_a_limit_in_seconds_ends_what_never_answers(tmp_path, monkeypatch):
    (tmp_path / "silent.py").write_text("import threading; threading.Event().wait()", encoding="utf-8")
    monkeypatch.setattr(processes, "SCRIPTS", tmp_path)
    with Entrant(Peer("silent"), [], limit=0.1) as entrant:
        with pytest.raises(EntrantError, match=r"no answer within 0\.1 s"):
            entrant.ready()
        assert entrant.process.wait() == -signal.SIGKILL


def joblib_processes():
    """How many processes joblib gets, as the module of sweeps says where it is loaded now."""
    return runpy.run_path(sweeps.__file__)["COMMANDS"]["plain, joblib"][-1]


def test_each_program_has_the_processors_that_the_bench_may_use(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 5, 7}, raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    assert parse([]).threads == 3
    assert joblib_processes() == "hydra.launcher.n_jobs=3"


def test_the_bench_starts_where_processes_are_not_bound_to_processors(monkeypatch):
    """As on macOS; its peers start too."""
    for name in ("sched_getaffinity", "sched_setaffinity"):
        monkeypatch.delattr(os, name, raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    assert parse([]).threads == 64
    assert joblib_processes() == "hydra.launcher.n_jobs=64"
    monkeypatch.setattr(sys, "argv", ["entrant.py", *command_line([20], None, parse(SMALL))])
    assert runpy.run_path(f"{SHARED}/entrant.py")["arguments"]().threads == 1
