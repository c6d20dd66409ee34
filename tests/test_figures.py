"""`python -m fmnist.figures`: the pictures of finished runs, into the runs or elsewhere."""

import numpy as np
import pytest
from helpers import full_disk, make_config, said
from training import data_kept, quick_disk  # noqa: F401 - fixtures that serve each test

from fmnist import UserError, figures
from fmnist.train import engine
from fmnist.view.pictures import apart

KNOBS = {"data.limit": 300, "epochs": 1, "batch_size": 60, "figures": False}


RUNS = {
    "a": {"model": "autoencoder", "model.hidden": [8, 2]},
    "b": {"model": "vae", "model.hidden": [8], "model.latent": 2},
    "wide": {"model": "autoencoder", "model.hidden": [8]},
    "mlp": {"model.hidden": [5]},
}


@pytest.fixture
def runs(tmp_path):
    for name, knobs in RUNS.items():
        engine.fit([make_config(**KNOBS, **knobs)], [tmp_path / name])
    return tmp_path


def test_pictures_go_where_they_are_told_to(runs, monkeypatch, capsys):
    there = runs / "elsewhere"
    places = ("--folder", there, "--out", there / "both.png")
    status, out, _ = said(monkeypatch, capsys, figures.main, runs / "a", runs / "b", *places)
    assert status == 0
    drawn = {"reconstructions.png", "interpolation.png", "map.png", "plane.png"}
    assert {file.name for file in (there / "a").iterdir()} == drawn
    assert {file.name for file in (there / "b").iterdir()} == drawn | {"samples.png"}
    assert not (runs / "a" / "figures").exists()
    assert set(out.splitlines()) == {str(file) for file in there.rglob("*.png")}
    assert (there / "both.png").read_bytes().startswith(b"\x89PNG")


def test_of_a_classifier_it_writes_what_the_end_of_training_would_have_left(runs, monkeypatch, capsys):
    engine.fit([make_config(**{**KNOBS, "figures": True}, **RUNS["mlp"])], [runs / "left"])
    assert not (runs / "mlp" / "mistakes.json").exists()
    assert said(monkeypatch, capsys, figures.main, runs / "mlp") == (0, f"{runs / 'mlp' / 'mistakes.json'}\n", "")
    assert (runs / "mlp" / "mistakes.json").read_bytes() == (runs / "left" / "mistakes.json").read_bytes()
    status, out, _ = said(monkeypatch, capsys, figures.main, runs / "mlp", "--folder", runs / "elsewhere")
    assert (status, out) == (0, f"{runs / 'elsewhere' / 'mlp' / 'mistakes.json'}\n")


def test_what_cannot_be_drawn_or_written_is_one_line(runs, monkeypatch, capsys):
    (runs / "b" / "figures").touch()  # a file: nothing can be put into it, whoever asks
    (runs / "file").touch()
    for arguments, status, message in (
        ([runs / "b"], 1, f"error: {runs / 'b' / 'figures'}: File exists (--folder and --out name other places)"),
        ([runs / "a", "--folder", "/proc/none"], 1, "error: /proc/none"),
        ([runs / "nothing"], 2, "error: no run found in"),
    ):
        found, _, err = said(monkeypatch, capsys, figures.main, *arguments)
        assert (found, len(err.splitlines())) == (status, 1)
        assert err.startswith(message)
    monkeypatch.setattr(figures, "draw", lambda *_: {})
    for arguments, status, message in (
        ([runs / "a", runs / "a", "--out", runs / "file" / "x.png"], 1, f"error: {runs / 'file'}"),
        ([runs / "a", runs / "wide"], 2, "error: only codes of two numbers can be compared"),
    ):
        found, _, err = said(monkeypatch, capsys, figures.main, *arguments)
        assert (found, len(err.splitlines())) == (status, 1)
        assert err.startswith(message)


@pytest.mark.long
def test_on_a_full_disk_the_line_names_the_file_and_what_was_drawn_before_stays(runs, monkeypatch, capsys):
    both = ("--out", runs / "both.png")
    assert said(monkeypatch, capsys, figures.main, runs / "a", runs / "b", *both)[0] == 0
    before = {file: file.read_bytes() for file in runs.rglob("*.png")}
    with full_disk(2000):
        status, _, err = said(monkeypatch, capsys, figures.main, runs / "a")
    first = runs / "a" / "figures" / "reconstructions.png"
    assert (status, err) == (1, f"error: {first}: File too large (--folder and --out name other places)\n")
    monkeypatch.setattr(figures, "draw", lambda *_: {})
    with full_disk(2000):
        status, _, err = said(monkeypatch, capsys, figures.main, runs / "a", runs / "b", *both)
    assert (status, err) == (1, f"error: {both[1]}: File too large (--folder and --out name other places)\n")
    assert {file: file.read_bytes() for file in runs.rglob("*.png")} == before


def test_what_would_fail_or_overwrite_in_the_end_is_refused_before_anything_is_drawn(tmp_path, monkeypatch, capsys):
    def reached(directory, data):
        raise UserError("it would draw")

    monkeypatch.setattr(figures, "restore", reached)
    one, other = tmp_path / "one" / "run", tmp_path / "other" / "run"
    folder = ("--folder", tmp_path / "pictures")
    for arguments, message in (
        ((one, other, "--out", "x.doc"), "--out must end in one of .png, .svg, .pdf, got x.doc"),
        ((one, other, "--out", "pictures/both"), "--out must end in one of .png, .svg, .pdf, got pictures/both"),
        ((one, other, *folder), "--folder is for runs whose directories have different names, got several named run"),
        ((one, tmp_path / "one" / "." / "run", *folder), "it would draw"),  # one run, twice
        ((one, other), "it would draw"),
        ((one, other, "--out", "x.pdf"), "it would draw"),
    ):
        found, out, err = said(monkeypatch, capsys, figures.main, *arguments)
        assert (found, out, err) == (2, "", f"error: {message}\n")


def test_labels_that_lie_over_one_another_are_moved_apart_and_others_stay():
    places, size = np.array([[0.0, 0.0], [0.1, 0.01], [0.2, 0.0], [0.0, 0.5], [3.0, 0.0]]), np.array([0.5, 0.1])
    moved = apart(places, size)
    for a in range(len(places)):
        for b in range(a):
            assert (abs(moved[a] - moved[b]) >= size).any(), (a, b)
    assert (moved[:, 0] == places[:, 0]).all()
    assert (moved[3:] == places[3:]).all()
    assert (places[1] == [0.1, 0.01]).all()  # the places that are given stay as they are
    assert apart(np.zeros((40, 2)), size).shape == (40, 2)
