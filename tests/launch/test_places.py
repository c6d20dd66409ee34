"""Paths that no system takes, and names that few people choose: one line that names the knob, or it just works."""

import os

import pytest
from helpers import train_py

from fmnist.launch.commands import quoted

SMALL = ("model=mlp1", "model.hidden=[5]", "data.limit=60", "batch_size=20", "epochs=1", "hydra.launcher.workers=1")
NAME = "a" * 4000
FOLDERS = "/".join(["b" * 200] * 20)  # 4,019 letters: the system takes it, but not behind the current folder's path
WRITES = "must be a folder to write to, got"
MISTAKES = {
    "a run": (("hydra.run.dir={}",), f"hydra.run.dir {WRITES}"),
    "a dry run": (("hydra.run.dir={}", "dry_run=true"), f"hydra.run.dir {WRITES}"),
    "a sweep": (("-m", "hydra.sweep.dir={}", "seed=0,1"), f"hydra.sweep.dir {WRITES}"),
    "a search": (
        ("-m", "hydra.sweep.dir={}", "lr=interval(0.1,1)", "hydra/sweeper=optuna"),
        f"hydra.sweep.dir {WRITES}",
    ),
    "data": (("data=idx", "data.dir={}"), "data.dir must be an existing folder, got"),
    "a choice": (("optim={}",), "optim"),
}


@pytest.mark.few(3)
@pytest.mark.parametrize("path", [NAME, FOLDERS], ids=["one name", "many folders"])
@pytest.mark.parametrize("what", MISTAKES)
def test_a_path_of_4000_letters_is_refused_in_one_line_and_leaves_nothing(what, path, tmp_path, capsys):
    words, told = MISTAKES[what]
    folder = tmp_path / ("c" * 80)
    folder.mkdir()
    assert train_py(folder, *(word.format(path) for word in words), *SMALL) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {told}")
    assert line.endswith("File name too long") or "to write" not in told
    assert not list(folder.iterdir())


def test_jobs_whose_paths_are_too_long_fail_by_name_and_the_others_train(tmp_path, capsys):
    assert train_py(tmp_path, "-m", *SMALL, "hydra.sweep.dir=here", f"hydra.sweep.subdir={NAME}", "seed=0") == 1
    assert "File name too long" in capsys.readouterr().out
    assert os.listdir(tmp_path) == ["here"]


@pytest.mark.few(2)
@pytest.mark.parametrize("name", ["two\nlines", "tab\tand\x1b[31mcolour", "-m", "a b", "%s{}$HOME", "#'\"\\`"])
def test_a_run_may_have_any_name_and_a_refusal_is_one_line_of_text(name, tmp_path, capsys):
    where = quoted("hydra.run.dir", name)
    assert train_py(tmp_path, *SMALL, where) == 0
    assert os.listdir(tmp_path) == [name]
    assert " --logdir -" not in capsys.readouterr().out
    assert train_py(tmp_path, *SMALL, where, "seed=1") == 2
    err = capsys.readouterr().err
    assert err.endswith("choose another hydra.run.dir\n")
    assert err[:-1].isprintable()
