"""The command `python -m fmnist.board`: which runs it shows, and files that are written anew."""

import json
import shutil

import pytest
from helpers import SMALL, events_of, make_config, refuses, said
from normal import normal

from fmnist import board
from fmnist.mirror.mirror import erase
from fmnist.train import engine

KNOBS = {**SMALL, "figures": True, "data.limit": 200, "model.hidden": [8]}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Three runs as of a sweep, in one stack."""
    sweep = tmp_path_factory.mktemp("sweep")
    (sweep / "multirun.yaml").write_text("", encoding="utf-8")
    rates = (1e-5, 1e-2, 1e-3)
    engine.fit([make_config(**KNOBS, lr=lr) for lr in rates], [sweep / f"lr-{lr}" for lr in rates])
    return sweep


@pytest.fixture
def served(monkeypatch):
    """The folders that TensorBoard was to show, with the names of the runs in them, and its options."""
    shown = []
    monkeypatch.setattr(board, "serve", lambda folder, more: shown.append(
        (folder, sorted(str(path.parent.relative_to(folder)) for path in folder.glob("**/train")), more)))  # fmt: skip
    return shown


def test_a_sweep_is_shown_as_it_is_so_that_new_runs_appear(runs, served, monkeypatch, capsys):
    status, out, _ = said(monkeypatch, capsys, board.main, runs, "--port=6007")
    assert (status, out) == (0, f"{runs}\n")
    assert served == [(runs, ["lr-0.001", "lr-0.01", "lr-1e-05"], ["--port=6007"])]


def test_of_many_runs_the_best_are_shown_by_their_names(runs, served, monkeypatch, capsys):
    best = sorted(
        runs.glob("lr-*"), key=lambda run: -json.loads((run / "result.json").read_text(encoding="utf-8"))["objective"]
    )[:2]
    links = []
    monkeypatch.setattr(board, "link", lambda chosen, folder: links.append(chosen))
    status, out, _ = said(monkeypatch, capsys, board.main, runs, "--best", 2)
    assert (status, out) == (0, f"{runs}: the 2 best of 3 runs (--best 0: all)\n")
    assert sorted(links[0]) == sorted(best)


def test_a_single_run_has_its_own_name(runs, tmp_path):
    board.link([runs / "lr-0.01"], tmp_path)
    assert (tmp_path / "lr-0.01" / "train").is_dir()
    board.link([runs / "lr-0.001", runs / "lr-1e-05"], tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lr-0.001", "lr-0.01", "lr-1e-05"]


def test_files_written_anew_are_those_of_the_run_and_its_projector(runs, tmp_path, monkeypatch, capsys):
    shutil.copytree(runs / "lr-0.01", tmp_path / "lr-0.01")
    (tmp_path / "multirun.yaml").write_text("", encoding="utf-8")
    erase(tmp_path / "lr-0.01")
    refuses(lambda: board.chosen([tmp_path], None), "has files for TensorBoard", "--write")
    assert said(monkeypatch, capsys, board.main, "--write", tmp_path)[0] == 0
    one, other = (normal(folder / "lr-0.01") for folder in (runs, tmp_path))
    added = {name for name in other if "projector" in name}
    assert other.keys() - one.keys() == added != set()
    assert [name for name in one if one[name] != other[name] and "events" in name] == []


def test_a_run_that_is_not_finished_is_refused(runs, tmp_path, monkeypatch, capsys):
    shutil.copytree(runs / "lr-0.01", tmp_path / "run")
    result = json.loads((tmp_path / "run" / "result.json").read_text(encoding="utf-8"))
    (tmp_path / "run" / "result.json").write_text(json.dumps(result | {"status": "paused"}), encoding="utf-8")
    before = normal(tmp_path)
    status, _, error = said(monkeypatch, capsys, board.main, "--write", tmp_path)
    assert (status, error) == (1, f"error: {tmp_path / 'run'} is not finished: its files are written while it trains\n")
    assert normal(tmp_path) == before
    assert said(monkeypatch, capsys, board.main, tmp_path / "nothing")[0] == 2


def test_a_run_of_a_sweep_has_pictures_and_no_projector(runs):
    events = events_of(runs / "lr-0.01")
    assert events.Tags()["images"] == ["test/mistakes", "test/confusion", "test/calibration", "weights/first_layer"]
    assert events.Tags()["graph"]
    assert len([tag for tag in events.Tags()["tensors"] if tag.startswith("precision by recall/")]) == 10
    assert not (runs / "lr-0.01" / "validation" / "projector").exists()
    size = sum(file.stat().st_size for file in (runs / "lr-0.01").glob("*/events*"))
    assert size < 200_000  # a thousand runs are less than 0.2 GB


def test_without_runs_a_line_says_how_to_get_one(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    status, _, error = said(monkeypatch, capsys, board.main)
    assert (status, error) == (2, "error: there are no runs in outputs/ yet: `make train` trains the first\n")
