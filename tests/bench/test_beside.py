"""fmnist.bench.beside: busy loops run during the block, and never after it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fmnist import ROOT
from fmnist.bench import entrants as processes
from fmnist.bench.__main__ import parse
from fmnist.bench.beside import busy
from fmnist.bench.entrants import Peer
from fmnist.bench.race import Cell, time_cell


def runs(pid: int) -> bool:
    """Whether there is such a process, and it has not ended."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{pid}/stat")
    return not state.exists() or state.read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"


@pytest.mark.parametrize("error", [None, ValueError, KeyboardInterrupt])
def test_loops_end_with_the_block_however_it_ends(error):
    pids = []

    def work():
        with busy(2) as loops:
            pids.extend(loops)
            assert all(map(runs, loops))
            if error:
                raise error

    if error:
        with pytest.raises(error):
            work()
    else:
        work()
    assert len(pids) == 2
    assert not any(map(runs, pids))


def test_loops_end_when_the_bench_is_killed():
    code = "from fmnist.bench.beside import busy\nwith busy(1) as loops:\n print(*loops, flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8"
    ) as bench:
        pid = int(bench.stdout.readline())
        assert runs(pid)
        bench.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 60
    while runs(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not runs(pid)


STAND_IN = """
import sys
sys.path.insert(0, {peers!r})
import entrant
turns = entrant.Turns()
while True:
    turns.wait()
    turns.answer(0.5, 0.9)
"""


def test_each_round_has_an_idle_turn_and_one_beside(tmp_path, monkeypatch):
    (tmp_path / "sound.py").write_text(STAND_IN.format(peers=str(processes.SCRIPTS)), encoding="utf-8")
    monkeypatch.setattr(processes, "SCRIPTS", tmp_path)
    monkeypatch.setattr("fmnist.bench.race.TURN", 1e-9)
    monkeypatch.setattr("fmnist.bench.race.PAUSE", 0.0)
    asked = parse(["--rows", "500", "--repeats", "2", "--beside", "1"])
    cell = time_cell(Cell("models", "mlp1", [200], None, {"sound": Peer("sound")}), asked, {})
    peer = cell["peers"]["sound"]
    assert len(peer["seconds"]) == len(peer["beside"]["seconds"]) == 2
    assert peer["gflops"] is None  # it has no product to time
