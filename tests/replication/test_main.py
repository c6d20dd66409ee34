"""python -m fmnist.replication: its parts, its mistakes, claims judged by other seeds."""

import os
import signal
import subprocess
import sys

import pytest
from replication.made import made

from fmnist import ROOT, UserError
from fmnist.replication import __main__ as command
from fmnist.replication.__main__ import STUDIES, main, parse
from fmnist.replication.claims import CLAIMS


@pytest.mark.parametrize(("typed", "said"), [
    (["speed"], "PART must be one of claims, systems, recipe, differences, confirm, layers,"),
    (["dropout", "--seeds", "9..5"], "--seeds must be A..B"),
    (["systems", "--seeds", "1..5"], "--seeds is for claims alone, got systems"),
    (["dropout", "epochs=3"], "KNOB=VALUE needs --seeds"),
    (["--pages", "gap"], "--pages is for all pages and stands alone, got gap as well"),
    (["--pages", "--dry-run"], "--pages is for all pages and stands alone, got --dry-run as well"),
    (["--pages", "gap", "epochs=3", "--seeds", "1..2"],
     "--pages is for all pages and stands alone, got gap epochs=3 --seeds as well"),
])  # fmt: skip
def test_mistakes_are_one_line(typed, said, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(typed)
    assert said in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(("typed", "parts"), [
    ([], ["systems", "recipe"]),
    (["claims", "confirm"], [*CLAIMS, "confirm"]),
    (["systems", "recipe", "claims"], ["systems", "recipe", *CLAIMS]),
    (["confirm", "gap", "claims", "gap", "systems"],
     ["confirm", "gap", *(name for name in CLAIMS if name != "gap"), "systems"]),
    (["recipe", "recipe"], ["recipe"]),
])  # fmt: skip
def test_parts_are_done_in_order_and_each_once(typed, parts):
    assert parse(typed).parts == parts


def test_all_parts_that_are_asked_for_are_trained_kept_and_written(monkeypatch, tmp_path, capsys):
    trained, kept = [], []
    monkeypatch.setattr(command, "train", lambda study, *rest: trained.append(study) or tmp_path / study)
    monkeypatch.setattr(command, "keep", lambda study, directory: kept.append((study, directory)))
    monkeypatch.setattr(command, "write_pages", lambda: ["written"])
    assert main(["systems", "dropout", "claims"]) == 0
    in_order = ["systems", "dropout", *(name for name in CLAIMS if name != "dropout")]
    assert trained == [study for part in in_order for study in STUDIES[part]]
    assert kept == [(study, tmp_path / study) for study in trained]
    assert capsys.readouterr().out.startswith("written\n")
    assert main(["systems", "--dry-run"]) == 0
    assert len(kept) == len(trained) - 1  # a dry run keeps nothing


def test_help_names_every_part(capsys):
    with pytest.raises(SystemExit, match="0"):
        parse(["--help"])
    text = capsys.readouterr().out
    for part in (*STUDIES, "claims"):
        assert part in text
    assert max(map(len, text.splitlines())) <= 100


def test_a_study_whose_runs_have_not_ended_is_neither_kept_nor_judged(monkeypatch, tmp_path):
    monkeypatch.setattr(command, "read", lambda directories: [made({}, 0), made({}, 1, "running")])
    monkeypatch.setattr(command, "train", lambda study, *rest: tmp_path)
    with pytest.raises(UserError, match="1 run of study claim_gap did not end"):
        command.keep("claim_gap", tmp_path)
    with pytest.raises(UserError, match="did not end"):
        main(["gap", "--seeds", "5..6"])


@pytest.mark.long
def test_a_claim_is_judged_by_new_seeds(tmp_path):
    command = [sys.executable, "-m", "fmnist.replication", "surface", "--seeds", "5..6", "data.limit=2000", "epochs=4"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode in (0, 1), done.stderr
    assert "seeds 5 to 6: " in done.stdout
    assert done.stdout.count("n = 2") >= 12
    assert len([*tmp_path.glob("outputs/replication/claim_surface+*seeds-5-6/*/result.json")]) == 16
    again = subprocess.run([*command, "--dry-run"], cwd=tmp_path, capture_output=True, text=True)
    assert again.returncode == 0
    assert "16 done already" in again.stdout + again.stderr


SAVES_SLOWLY = """
import pathlib, signal, sys, time
def save(*_):
    time.sleep(1)
    pathlib.Path("saved").touch()
    sys.exit(130)
signal.signal(signal.SIGINT, save)
print("it trains", flush=True)
while True:
    signal.pause()
"""


def test_ctrl_c_waits_until_all_is_saved(tmp_path):
    """A stand-in for train.py needs a second to save, more than Python's own patience with a child after Ctrl-C."""
    (tmp_path / "train.py").write_text(SAVES_SLOWLY, encoding="utf-8")
    code = "import pathlib, sys; from fmnist.replication import __main__ as program; program.ROOT = pathlib.Path()\n"
    code += "program.run_command(lambda: program.main(['gap']))"
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True, env=os.environ | {"PYTHONPATH": str(ROOT)},
    ) as process:  # fmt: skip
        assert process.stdout is not None
        while "it trains" not in process.stdout.readline():
            pass
        os.killpg(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (130, "")
    assert (tmp_path / "saved").exists()


@pytest.mark.parametrize(("ending", "status"), [
    ("os.kill(os.getpid(), signal.SIGTERM)", 143), ("sys.exit(143)", 143),
    ("os.kill(os.getpid(), signal.SIGKILL)", 137),
])  # fmt: skip
def test_a_signal_that_ended_training_ends_the_command(ending, status, tmp_path, monkeypatch):
    (tmp_path / "train.py").write_text(f"import os, signal, sys\n{ending}\n", encoding="utf-8")
    monkeypatch.setattr(command, "ROOT", tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as leaving:
        main(["gap"])
    assert leaving.value.code == status
