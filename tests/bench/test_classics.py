"""python -m fmnist.bench classics: learners that are no networks, on the official split."""

import argparse
import json
import sys
from importlib import import_module

import numpy as np
import pytest
import torch
from sklearn.metrics import log_loss

from fmnist.bench import classics
from fmnist.bench.__main__ import main, parse
from fmnist.bench.classics import LEARNERS, Learner
from fmnist.bench.entrants import SCRIPTS, Peer

# A booster whose probabilities are better the more rounds there are, up to the seventh.
BOOSTER = """
import sys; sys.path.insert(0, {scripts!r})
import classic, entrant
import numpy as np

def main():
    work = entrant.arguments()
    def fit(rows, held_out, most, seen):
        print("a library prints what it likes")
        sizes.append((len(rows[1]), held_out and len(held_out[1]), most))
        rounds = most if held_out is None else 7
        for number in range(rounds):
            seen(number, *([1.0 / (number + 1)] if held_out else []))
        p = np.bincount(rows[1], minlength=10) / len(rows[1])
        return lambda x: np.tile(p, (len(x), 1)), rounds
    sizes = []
    classic.boost(work, {{"sizes": sizes, "seed": work.seed}}, fit, "numpy")
main()
"""


@pytest.fixture
def known(monkeypatch, tmp_path):
    """Learners whose programs are written here, by name: added to those that there are."""

    def add(name, program, **more):
        (tmp_path / f"{name}.py").write_text(program, encoding="utf-8")
        monkeypatch.setitem(LEARNERS, name, Learner(Peer(str(tmp_path / name), **more)))

    return add


@pytest.fixture
def peers(monkeypatch):
    """What imports a module of the peers' folder."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    before = set(sys.modules)
    yield import_module
    for name in {"classic", "entrant", "with_kernel_ridge"} - before:
        sys.modules.pop(name, None)


def asked(*names, rows=500):
    return ["classics", "--learners", *names, "--rows", str(rows), "--threads", "1"]


def test_rounds_are_chosen_on_the_tail_then_all_rows_are_trained_on(known, tmp_path, capsys):
    known("booster", BOOSTER.format(scripts=str(SCRIPTS)))
    known("broken", "print('{\"doing\": \"begun\"}', flush=True)\nraise ValueError('out of luck')")
    known("killed", "import os; os.kill(os.getpid(), 9)")
    known("elsewhere", "", environment="no-such-environment")
    names = ("broken", "killed", "elsewhere", "booster")
    assert main([*asked(*names), "--seed", "3", "--output", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out
    assert "skipped elsewhere: the environment trees is not there, `make classics` sets it up" in said
    assert "broken failed: ValueError: out of luck\n" in said
    assert "killed failed: it was killed by signal 9\n" in said
    assert "booster: test accuracy 0.1000, log loss 2.3" in said
    (file,) = (tmp_path / "out").glob("*.json")
    record = json.loads(file.read_text(encoding="utf-8"))
    (found,) = record["classics"].values()
    assert found["settings"] == {"sizes": [[400, 100, 4000], [500, None, 7]], "seed": 3}
    assert (found["rows"], found["tested"], found["accuracy"]) == (500, 10_000, 0.1)
    assert found["chosen"]["rounds"] == 7
    assert found["chosen"]["validation"]["log_loss"] == pytest.approx(2.3, abs=0.1)
    assert found["processor"].keys() == found["seconds"].keys() == {"choosing", "training", "testing"}
    assert (
        record["versions"]["booster"]
        == found["versions"]
        == {"python": sys.version.split()[0], "numpy": np.__version__}
    )
    assert main(["--show", str(file)]) == 0
    shown = capsys.readouterr().out
    assert shown in said
    assert "trained once on raw pixels, tested once on 10,000 images" in shown
    assert "booster (): sizes" in shown


def test_a_bench_whose_only_learner_fails_has_status_1(known, tmp_path, capsys):
    known("broken", "raise ValueError('out of luck')")
    assert main([*asked("broken"), "--output", str(tmp_path / "out")]) == 1
    assert "broken failed: ValueError: out of luck\n" in capsys.readouterr().out


def test_the_kernels_matrix_is_not_begun_where_there_is_too_little_memory(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(classics, "available", lambda: 5e9)
    assert main(["classics", "--learners", "kernel-ridge", "--output", str(tmp_path)]) == 1
    assert "kernel-ridge failed: 60,000 rows need 9.6 GB of memory, 5.0 GB are free: take fewer by --rows\n" in (
        capsys.readouterr().out
    )


def test_the_classics_take_all_rows_and_the_others_four_fifths_unless_told():
    assert (parse(["classics"]).classic_rows, parse(["classics"]).rows) == (60_000, 48_000)
    assert (parse(["classics", "--rows", "7"]).classic_rows, parse(["classics", "--rows", "7"]).rows) == (7, 7)


def test_figures_are_those_of_scikit_learn(peers):
    draw = np.random.default_rng(0)
    p, labels = draw.random((50, 10)), draw.integers(10, size=50)
    found = peers("classic").figures(p, labels)
    p /= p.sum(1, keepdims=True)
    assert found["log_loss"] == pytest.approx(log_loss(labels, p, labels=range(10)))
    assert found["accuracy"] == np.mean(p.argmax(1) == labels)


@pytest.mark.parametrize("rows", [30, 31, 7, 1])
def test_kernel_ridge_is_exact_block_by_block(rows, peers, monkeypatch):
    ridge = peers("with_kernel_ridge")
    monkeypatch.setattr(ridge, "BLOCK", 10)
    draw = torch.Generator().manual_seed(0)
    x, targets = torch.rand(rows, 784, generator=draw).double(), torch.rand(rows, 3, generator=draw).double()
    gamma, added = ridge.SETTINGS["gamma"], ridge.SETTINGS["ridge"]
    whole = torch.exp(-gamma * torch.cdist(x, x).square()) + added * torch.eye(rows)
    expected = torch.linalg.solve(whole, targets)
    found = ridge.solve(ridge.factor(x, argparse.Namespace(doing=lambda words: None)), targets.clone())
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-10)


@pytest.mark.long
@pytest.mark.parametrize("name", LEARNERS)
def test_a_learner_that_is_installed_learns_from_a_few_images(name, checkout, tmp_path, capsys):
    if not LEARNERS[name].peer.python.exists():
        pytest.skip("the environment trees is not there")
    assert main([*asked(name), "--output", str(tmp_path)]) == 0
    (file,) = tmp_path.glob("*.json")
    found = json.loads(file.read_text(encoding="utf-8"))["classics"][name]
    assert 0.65 < found["accuracy"] < 0.85
    if LEARNERS[name].peer.environment:
        assert 0.4 < found["log_loss"] < 1.2
        assert 1 <= found["chosen"]["rounds"] < 4000
    assert f"{name}: test accuracy {found['accuracy']:.4f}" in capsys.readouterr().out
