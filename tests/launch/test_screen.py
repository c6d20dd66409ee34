"""The table of a sweep on a real terminal: drawn in place, no line garbled, readable where there is little room."""

import re
import sys

from terminal import drive

SWEEP = """
import logging, os, sys
from fmnist.launch import progress as module
from fmnist.record.result import Outcome
from fmnist.config.schema import Config
module.POLL = 0.0
clock = iter(range(10_000))
logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
def ended(run, outcome):
    logging.info(f"{run} ended: {outcome.error or outcome.objective}")
progress = module.Progress(
    [20] * 6, [0, 0, 5, 5, 0, 0], 40, ended, lambda: next(clock), [f"seed-{run}+lr-0.001" for run in range(6)],
    [Config(epochs=20) for _ in range(6)], done=2)
progress.planned([[0, 1], [2, 3], [4, 5]], 2)
progress.bests.note(Config(), "seed-9+lr-0.003", 0.875)
with progress:
    progress.handed("a", [0, 1])
    progress.handed("b", [2, 3])
    for epoch in range(1, 21):
        for runs in ([0, 1], [2, 3]):
            progress.reached(runs, epoch)
            progress.look()
        if epoch == 4:
            progress.ended(1, Outcome(None, {}, "train/loss is nan"))
            print("a line of somebody else", "x" * 60, file=sys.stderr)
            os.write(2, b"^C^C")  # as the terminal itself shows a key
    for run in (0, 2, 3):
        progress.ended(run, Outcome(0.8, {}))
    progress.look()
print("the end")
"""


def sweep(**also):
    return drive(sys.executable, "-c", SWEEP, **also)


def longest(shown):
    """The screen with most lines of the table."""
    return max(shown.screens, key=lambda lines: sum("/20" in line for line in lines))


def test_the_table_is_drawn_in_place_and_lines_go_above_it():
    shown = sweep()
    assert shown.status == 0
    table = longest(shown)
    at = next(place for place, line in enumerate(table) if line.startswith("worker"))
    assert table[at].split() == ["worker", "runs", "epoch", "left", "best", "so", "far"]
    assert all(re.match(rf" +{number}  +2  +[1-6]/20", table[at + number]) for number in (1, 2))
    assert re.fullmatch(r"2 done, 4 training, 2 waiting", table[at + 3])
    assert table[at + 4] == "best so far: validation accuracy 0.8750 (seed-9+lr-0.003)"
    assert re.fullmatch(r"\d+% ━*[╸╺]?━*( about \d+ (s|min) left)?", table[at + 5])
    failing = next(lines for lines in shown.screens if any("1 failed" in line for line in lines))
    assert "1 ended: train/loss is nan" in failing
    assert shown.lines == [
        "1 ended: train/loss is nan", f"a line of somebody else {'x' * 60}",
        "0 ended: 0.8", "2 ended: 0.8", "3 ended: 0.8", "the end",
    ]  # fmt: skip
    assert b"\x1b[31m" in shown.raw  # what has failed is red
    assert b"\x1b[?25l" not in shown.raw  # the cursor is never hidden


def test_forty_columns_and_plain_ascii_are_enough():
    shown = sweep(columns=40, LC_ALL="C", NO_COLOR="1")
    assert shown.raw.isascii()
    assert not re.search(rb"\x1b\[[0-9;]*3[0-9]m", shown.raw)
    table = longest(shown)
    at = next(place for place, line in enumerate(table) if "epoch" in line)
    assert table[at].split() == ["runs", "epoch", "best", "so", "far"]
    assert all(len(line) <= 40 for line in table)
    assert table[at + 4] == "best so far: validation accuracy 0.8750"
    assert re.fullmatch(r"\d+% -* *(about \d+ (s|min) left)?", table[at + 5].rstrip())
    assert f"a line of somebody else {'x' * 16}" in shown.lines  # the terminal itself breaks it
    assert shown.lines[-1] == "the end"


def test_a_terminal_that_cannot_move_its_cursor_gets_lines():
    shown = sweep(TERM="dumb", columns=200)
    assert b"\x1b" not in shown.raw
    line = next(line for line in shown.lines if "epochs" in line)
    assert re.search(r"\d+ of 160 epochs \(\d+%\); 2 done, 1 failed, 3 training, 2 waiting; best .*; about", line)
    assert shown.lines[-1] == "the end"


def test_a_bar_shows_how_far_one_run_has_come():
    code = ("import sys; from fmnist.program import progress as p; p.AGAIN = 0.0\n"
            "with p.progress(40, 10) as bar:\n"
            "    for _ in range(30): bar.update()\n"
            "    bar.write('said above')\n"
            "sys.stdout.write('no end of line')")  # fmt: skip
    shown = drive(sys.executable, "-c", code)
    assert any(re.match(r"epoch 2[0-9]/40 ━*.*/s *about 0 s left", line) for lines in shown.screens for line in lines)
    assert shown.lines == ["said above", "no end of line"]
