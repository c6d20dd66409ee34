"""Checkpoints of older versions: refused in a line that names the command, and converted by it, whatever happens."""

import ast
import os
import shutil

import pytest
import torch
from grouped import crashed
from helpers import MODELS, SMALL, Crash, as_before, assert_same_run, crash_in, make_config, refuses, said
from training import data_kept, quick_disk  # noqa: F401 - fixtures that serve each test

from fmnist import ROOT, convert, evaluate, figures
from fmnist.launch.worker import train_group
from fmnist.program.packing import packed
from fmnist.record import checkpoint
from fmnist.train import engine

KNOBS = {**SMALL, **MODELS["mlp"], "data.limit": 200, "epochs": 5, "precision": "float32", "dropout": 0.3, "ema": 0.9,
         "select": "best", "batch_norm": True}  # fmt: skip
CONFIG = make_config(**KNOBS)


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """A run that was never stopped."""
    directory = tmp_path_factory.mktemp("straight")
    engine.fit([CONFIG], [directory])
    return directory


@pytest.fixture(scope="module")
def older(tmp_path_factory):
    """A run that an older version began and did not end."""
    directory = tmp_path_factory.mktemp("older run's")
    with pytest.MonkeyPatch.context() as patch:
        crash_in(patch, 4)
        with pytest.raises(Crash):
            engine.fit([CONFIG], [directory])
    as_before(directory)
    return directory


@pytest.fixture
def run(older, tmp_path):
    """A copy of it, the only run of a sweep."""
    return shutil.copytree(older, tmp_path / "a sweep" / "run")


def files(directory):
    return {path.name for pattern in ("*.pt", "*.safetensors", "*.part") for path in directory.glob(pattern)}


NEW, OLD = {"last.safetensors", "best.safetensors"}, {"last.pt", "best.pt"}


def test_a_run_goes_on_bit_for_bit_after_it_was_converted(run, straight, monkeypatch, capsys):
    before = {name: torch.load(run / f"{name}.pt", weights_only=True) for name in ("last", "best")}
    status, out, err = said(monkeypatch, capsys, convert.main, run.parent)
    assert (status, err) == (0, "")
    first, *lines = out.splitlines()
    assert first == convert.TRUST
    assert lines == [f"{run}/{name}.pt: now {name}.safetensors" for name in ("best", "last")]
    assert files(run) == NEW
    assert all(convert.same(before[name], checkpoint.load(run / f"{name}.safetensors")) for name in before)
    engine.fit([CONFIG], [run])
    assert_same_run(straight, run)
    assert (run / "best.safetensors").read_bytes() == (straight / "best.safetensors").read_bytes()


def test_what_needs_the_weights_of_an_older_run_names_the_command(run, monkeypatch, capsys):
    line = f"{run}/last.pt is of an older version: `python -m fmnist.convert '{run}'` converts it"
    refuses(lambda: engine.fit([CONFIG], [run]), line)
    (outcome,) = train_group([CONFIG], [run])
    assert outcome.error == line
    for command, *arguments in ((evaluate, "--weights=last"), (figures,)):
        status, _, err = said(monkeypatch, capsys, command.main, run, *arguments)
        assert status == 2
        assert err.replace("best.pt", "last.pt") == f"error: {line}\n"
    assert files(run) == OLD


def test_an_older_run_of_a_stack_is_refused_alone(tmp_path, monkeypatch):
    configs, directories = crashed(tmp_path, monkeypatch, a=3, b=3)
    as_before(directories[0])
    outcomes = train_group(configs, directories)
    assert "python -m fmnist.convert" in outcomes[0].error
    assert outcomes[1].error is None


def test_an_older_run_that_is_done_needs_no_weights(straight, tmp_path):
    run = shutil.copytree(straight, tmp_path / "run")
    as_before(run)
    (outcome,) = engine.fit([CONFIG], [run])
    assert outcome.error is None
    assert files(run) == OLD


def failing(monkeypatch, number):
    """Let the call of that number to the disk be the last; a list of all calls."""
    calls = []

    def of(original):
        def call(*arguments, **more):
            calls.append(original)
            if number == len(calls) - 1:
                raise Crash
            return original(*arguments, **more)

        return call

    for name in ("fsync", "replace", "unlink"):
        monkeypatch.setattr(os, name, of(getattr(os, name)))
    return calls


def test_a_conversion_that_is_killed_at_any_moment_loses_nothing_and_can_be_done_again(older, tmp_path):
    number = 0
    while number < 99:
        run = shutil.copytree(older, tmp_path / str(number))
        with pytest.MonkeyPatch.context() as patch:
            calls = failing(patch, number)
            try:
                for file in convert.older([run]):
                    convert.convert(file)
            except Crash:
                assert all(files(run) & {f"{name}.pt", f"{name}.safetensors"} for name in ("best", "last"))
        if number >= len(calls):
            break
        for file in convert.older([run]):
            convert.convert(file)
        assert files(run) == NEW
        number += 1
    assert number >= 6


def test_a_file_that_went_on_since_is_not_written_over(run):
    went_on = convert.load_older(run / "last.pt") | {"epoch": 4}
    checkpoint.save(run / "last.safetensors", went_on)
    refuses(lambda: convert.convert(run / "last.pt"), f"{run}/last.safetensors does not hold what {run}/last.pt holds")
    assert checkpoint.load(run / "last.safetensors")["epoch"] == 4
    assert (run / "last.pt").exists()


OTHERS = {
    "of another project": {"model": torch.ones(2), "epoch": 3}, "no dict": [1, 2],
    "with a key that no run has": {"weights": {3: torch.ones(2)}}, "with a value that none has": {"weights": {1, 2}},
}  # fmt: skip


@pytest.mark.parametrize("what", [*OTHERS, "damaged", "new", "code"])
def test_a_file_that_is_none_is_named_and_left_and_the_others_are_converted(what, run, monkeypatch, capsys):
    other = run.parent / "other" / "last.pt"
    other.parent.mkdir()
    if what in OTHERS:
        torch.save(OTHERS[what], other)
    elif what == "code":
        torch.save({"weights": os.system}, other)
    else:
        content = (run / "last.pt").read_bytes()
        first = next(iter(convert.load_older(run / "last.pt")["weights"].values()))
        place = content.index(first.numpy().tobytes()[:64])
        damaged = content[:place] + bytes(255 - byte for byte in content[place : place + 9]) + content[place + 9 :]
        other.write_bytes(damaged if what == "damaged" else packed({"weights": 1}))
    before = other.read_bytes()
    status, out, err = said(monkeypatch, capsys, convert.main, run.parent)
    assert status == 2
    assert err.startswith(f"error: {other} is ")
    assert "no checkpoint" in err
    assert err.count("\n") == 1
    assert out.count("\n") == 3
    assert files(run) == NEW
    assert files(other.parent) == {"last.pt"}
    assert other.read_bytes() == before


@pytest.mark.parametrize("place", ["nowhere", "empty", "a\nname"])
def test_a_place_without_older_checkpoints_is_one_line(place, tmp_path, monkeypatch, capsys):
    if place != "nowhere":
        (tmp_path / place).mkdir()
    status, out, err = said(monkeypatch, capsys, convert.main, tmp_path / place)
    assert (status, out) == (2, "")
    assert err.startswith("error: no last.pt or best.pt in ")
    assert err.count("\n") == 1


def test_only_this_command_reads_pickles_from_files():
    """Elsewhere pickles are copies in memory, and what processes send one another."""
    found = set()
    for path in [ROOT / "train.py", *(ROOT / "fmnist").rglob("*.py"), *(ROOT / "sweep").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and ast.unparse(node) in ("torch.load", "torch.save", "pickle.load"):
                found.add(path.relative_to(ROOT).as_posix())
    assert found == {"fmnist/convert.py"}
