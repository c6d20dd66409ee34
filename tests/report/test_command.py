"""`python -m fmnist.report` as a user types it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import run_cli, said
from report.made_up import sweep, write_run
from scipy import stats

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


@pytest.mark.long
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


@pytest.mark.few(2)
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


def test_json_has_the_groups_and_the_paired_tests_of_the_report(tmp_path, monkeypatch, capsys):
    values = {0.1: (0.8, 0.82, 0.81), 0.01: (0.84, 0.85, 0.89)}
    sweep(tmp_path / "lr", [({"lr": lr}, found) for lr, found in values.items()])
    write_run(tmp_path / "lr" / "broken", 0.0, status="failed", error="it broke", lr=0.1, seed=3)
    found, out, err = said(monkeypatch, capsys, program.main, tmp_path / "lr", "--json")
    assert (found, err) == (0, "")
    assert not (tmp_path / "lr" / "report").exists()
    told = json.loads(out)
    (compared,) = told["comparisons"]
    counts = [(own["configuration"], own["knobs"], own["n"], own["left_out"]) for own in compared["groups"]]
    assert counts == [("lr 0.01", {"lr": 0.01}, 3, 0), ("lr 0.1", {"lr": 0.1}, 3, 1)]
    for own in compared["groups"]:
        want = interval(values[own["knobs"]["lr"]])
        expected = {"n": 3, "mean": want.mean, "std": want.sd, "low": want.low, "high": want.high}
        assert own["metrics"]["objective"] == pytest.approx(expected)
        assert {Path(run).parent for run in own["runs"]} == {tmp_path / "lr"}
    assert (compared["baseline"], compared["judged_by"]) == ("lr 0.01", "validation/accuracy")
    (test,) = compared["paired"]
    assert test["configuration"] == "lr 0.1"
    assert test["metrics"]["objective"]["mean"] == pytest.approx(0.81 - 0.86)
    assert test["metrics"]["objective"]["p"] == pytest.approx(stats.ttest_rel(*values.values()).pvalue)
    assert test["metrics"]["objective"]["p"] == test["metrics"]["objective"]["p_bonferroni"]
    assert [(own["status"], own["error"]) for own in told["not_counted"]] == [("failed", "it broke")]
    _, out, _ = said(monkeypatch, capsys, program.main, tmp_path / "lr", "--json", "--baseline", "lr=0.1")
    assert json.loads(out)["comparisons"][0]["baseline"] == "lr 0.1"
    for more in (("--output", tmp_path / "x"), ("--watch", "1")):
        found, out, err = said(monkeypatch, capsys, program.main, tmp_path / "lr", "--json", *more)
        assert (found, out, err.startswith("error: --json prints")) == (2, "", True)


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
