"""A real sweep on a terminal: its table while it trains, then what has ended, the leaderboard, and what has failed."""

import re
import sys

from terminal import drive

from fmnist import ROOT

RUNS = ["seed-0+lr-0.001", "seed-0+lr-1e30", "seed-1+lr-0.001", "seed-1+lr-1e30"]


def test_a_sweep_shows_a_table_in_place_and_ends_with_its_errors(tmp_path):
    shown = drive(
        sys.executable, str(ROOT / "train.py"), "-m", "seed=0,1", "lr=1e-3,1e30", "data.limit=2000", "epochs=80",
        "model.hidden=[40,8]", "device=cpu", "hydra.launcher.stack=2", "hydra.launcher.workers=2",
        f"hydra.sweep.dir={tmp_path / 'sweep'}", columns=220,
    )  # fmt: skip
    assert shown.status == 1, shown.text
    training = [lines for lines in shown.screens if any(re.search(r" \d+/80 ", line) for line in lines)]
    assert training
    assert all(any(line.startswith("worker") for line in lines) for lines in training)
    row = r" +[12] +2 +\d+/80 +(\d+ s)? +validation accuracy 0\.\d{4} \(seed-"  # read now and then
    assert any(re.match(row, line) for lines in training for line in lines)
    assert any(re.search(r"\d failed, \d training", line) for lines in shown.screens for line in lines)
    assert any(re.match(r"\d+% ━+.* about \d+ s left", line) for lines in shown.screens for line in lines)
    lines = [re.sub(r"^\[[^]]*\]\[HYDRA\] ", "", line) for line in shown.lines]
    ended = [line for line in lines if re.match(r"[1-4]/4 ", line)]
    assert sorted(line.split()[1] for line in ended) == RUNS
    assert "worker  runs" not in shown.text  # the table is gone
    board = next(place for place, line in enumerate(lines) if "test accuracy" in line)
    assert all(lines.index(line) < board for line in ended)
    failed = next(place for place, line in enumerate(lines) if line.endswith("2 of 4 jobs failed:"))
    assert failed > board
    assert [line.strip().partition(": ")[0] for line in sorted(lines[failed + 1 :])] == RUNS[1::2]
    assert all("train/loss is" in line and "try a smaller lr" in line for line in lines[failed + 1 :])
