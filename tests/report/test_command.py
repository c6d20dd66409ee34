"""`python -m fmnist.report` as a user types it."""

import json
import os
import subprocess
import sys

import pytest
from helpers import run_cli, said
from report.made_up import write_run

from fmnist import ROOT
from fmnist.report import __main__ as program
from fmnist.report.intervals import interval
from fmnist.report.tables import spread


def command(*arguments, cwd):
    code = "import sys; from fmnist.report.__main__ import main, run_command\n"
    code += "try: run_command(main)\nfinally: print('torch' in sys.modules)"
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *map(str, arguments)], cwd=cwd, capture_output=True, text=True,
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
    )  # fmt: skip


def test_the_newest_sweep_is_reported_without_torch(tmp_path):
    quick = ("data.limit=500", "epochs=2", "model=mlp1", "model.hidden=[20]")
    run_cli("-m", *quick, "seed=0,1", "lr=1e-3,1e-2,1e30", "hydra.sweep.dir=outputs/lr", cwd=tmp_path)
    done = command(cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert lines[:2] == ["the newest sweep: outputs/lr", "4 finished runs of 6"]
    assert lines[2].startswith("Best of 2: lr 0.01 (n = 2): validation accuracy 0.")
    assert lines[3:] == ["report: outputs/lr/report/index.html", "False"]
    text = (tmp_path / "outputs" / "lr" / "report" / "index.md").read_text(encoding="utf-8")
    assert text.count("| failed | train/loss is nan in epoch 1") == 2
    best = (tmp_path / "outputs" / "lr").glob("*lr-0.01*/result.json")
    runs = [json.loads(path.read_text(encoding="utf-8")) for path in best]
    assert len(runs) == 2
    assert spread(interval([run["metrics"]["test/accuracy"] for run in runs])) in text


@pytest.mark.parametrize(("arguments", "words"), [
    ((), "there is no sweep in outputs/"), (("nowhere",), "there is no directory nowhere"),
    (("empty",), "empty has none"), (("run", "--output", "run/result.json"), "--output must be a directory"),
])  # fmt: skip
def test_a_mistake_is_one_line_and_status_2(arguments, words, tmp_path):
    (tmp_path / "empty").mkdir()
    write_run(tmp_path / "run", 0.5)
    done = command(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stdout == "False\n"
    assert done.stderr.startswith("error: ")
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1


HOSTILE = os.fsdecode(b"\x1b[31mred\xff")  # a terminal's code, and a byte that is no UTF-8


def test_names_of_directories_do_not_reach_the_terminal_as_they_are(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_run(tmp_path / "outputs" / HOSTILE / "0", 0.5)
    (tmp_path / "outputs" / HOSTILE / "multirun.yaml").touch()
    found, out, _ = said(monkeypatch, capsys, program.main)
    first, *_, last = out.splitlines()
    assert (found, first) == (0, "the newest sweep: outputs/?[31mred?")
    assert last == "report: outputs/?[31mred?/report/index.html"
    found, _, err = said(monkeypatch, capsys, program.main, HOSTILE)
    assert found == 2
    assert err == "error: DIR must be a directory with runs in or below it: there is no directory \\x1b[31mred?\n"


def test_a_directory_behind_one_that_may_not_be_entered_is_one_line(tmp_path, monkeypatch, capsys):
    stat = os.stat

    def refusing(path, *rest, **options):
        if "closed" in os.path.dirname(os.fspath(path) if not isinstance(path, int) else ""):
            raise PermissionError(13, "Permission denied", path)
        return stat(path, *rest, **options)

    monkeypatch.setattr(os, "stat", refusing)
    found, _, err = said(monkeypatch, capsys, program.main, tmp_path / "closed" / "sweep")
    assert (found, len(err.splitlines())) == (2, 1)
    assert err.startswith("error: DIR must be a directory")
