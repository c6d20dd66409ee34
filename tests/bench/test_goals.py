"""`python -m fmnist.bench goals`: its seeds, what it counts, and a command that fails beside others."""

import json

import pytest

from fmnist import ROOT
from fmnist.bench import goals
from fmnist.bench.__main__ import main
from fmnist.bench.goals import GOALS, goals_table


@pytest.fixture
def commands(monkeypatch):
    """The commands that are run, in order. Each leaves an accuracy of 0.90 and its seed in ten thousandths."""
    lines = []

    def run(line, folder, limit):
        lines.append(line[2:])
        if "experiment=broken" in line:
            return 0.5, 1, "error: no such thing"
        (folder / "run").mkdir()
        seed = int(line[3].removeprefix("seed="))
        result = {"metrics": {"test/accuracy": 0.90 + seed / 10_000}}
        (folder / "run" / "result.json").write_text(json.dumps(result), encoding="utf-8")
        return 4.0 + seed, 0, ""

    monkeypatch.setattr(goals, "run_whole", run)
    return lines


def test_each_round_runs_all_goals_with_the_next_seed(commands, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(goals, "GOALS", {"easy": 0.88, "hard": 0.9002})
    assert main(["goals", "--repeats", "4", "--seed", "1", "--output", str(tmp_path)]) == 0
    assert commands == [
        [f"experiment={name}", f"seed={seed}", "hydra.run.dir=run"]
        for seed in (1, 2, 3, 4)
        for name in ("easy", "hard")
    ]
    said = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["easy", "0.88", "4", "of", "4", "0.9001", "0.9002", "6.50", "5.75", "7.25", "8.00"] in said
    assert ["hard", "0.90", "3", "of", "4", "0.9001", "0.9002", "6.50", "5.75", "7.25", "8.00"] in said
    (file,) = tmp_path.glob("*.json")
    assert json.loads(file.read_text(encoding="utf-8"))["goals"]["hard"]["seconds"] == [5.0, 6.0, 7.0, 8.0]
    assert main(["--show", str(file)]) == 0
    assert "easy" in capsys.readouterr().out


def test_a_goal_whose_command_fails_is_left_out(commands, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(goals, "GOALS", {"broken": 0.9, "easy": 0.88})
    assert main(["goals", "--repeats", "2", "--output", str(tmp_path)]) == 0
    assert "broken failed: error: no such thing" in capsys.readouterr().out
    assert [line[0] for line in commands] == ["experiment=broken", "experiment=easy", "experiment=easy"]
    monkeypatch.setattr(goals, "GOALS", {"broken": 0.9})
    assert main(["goals", "--repeats", "1", "--output", str(tmp_path / "other")]) == 1


def test_each_goal_has_an_experiment():
    assert all((ROOT / "conf" / "experiment" / f"{name}.yaml").is_file() for name in GOALS)


def test_a_run_exactly_at_its_goal_reaches_it():
    assert "1 of 1" in goals_table({"exact": {"goal": 0.9, "seconds": [1.0], "accuracy": [0.9]}})


@pytest.mark.long
def test_a_real_command_is_run_to_its_end(checkout, tmp_path, capfd, monkeypatch):
    monkeypatch.setattr(goals, "GOALS", {"record_time_88": 0.8})
    assert main(["goals", "--repeats", "1", "--output", str(tmp_path)]) == 0
    assert "1 of 1" in capfd.readouterr().out
