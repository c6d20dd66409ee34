"""The referee of fmnist.bench: its protocol, its record, what it does without a peer and with one that differs."""

import json
import subprocess
import sys

import pytest

from fmnist import ROOT
from fmnist.bench import entrants as processes
from fmnist.bench import sweeps as bench_sweep
from fmnist.bench.__main__ import DEEP, MODELS, cells, main, parse
from fmnist.bench.entrants import PEERS, Entrant, EntrantError, Peer, command_line
from fmnist.bench.race import LOOSE, Cell, race, summarise

SMALL = ["--rows", "500", "--threads", "1", "--repeats", "2"]


def test_one_cell_from_the_command_line_to_the_chart(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(processes, "ENVIRONMENTS", tmp_path / "nowhere")
    asked = ["peers", "--peers", "ours", "plain", "jax", "--models", "mlp1", "--batches", "full", *SMALL]
    chart = tmp_path / "chart.png"
    assert main([*asked, "--output", str(tmp_path), "--plot", str(chart)]) == 0
    said = capfd.readouterr().out
    assert "skipped jax: the environment jax is not there" in said
    assert "mlp1, full batch, 500 rows: ms per epoch, n = 2" in said
    assert "its matrix products alone" in said
    assert "LOSS DIFFERS" not in said
    assert chart.read_bytes().startswith(b"\x89PNG")

    (file,) = tmp_path.glob("*.json")
    record = json.loads(file.read_text())
    assert str(ROOT) not in file.read_text()
    (cell,) = record["cells"]
    assert set(cell["peers"]) == {"ours", "plain"}
    assert set(record["versions"]) == {"ours", "plain", "ceiling"}
    for peer in cell["peers"].values():
        assert len(peer["seconds"]) == 2
        assert peer["quartiles"][0] <= peer["median"] <= peer["quartiles"][1]
        assert peer["deviation"] < 1e-4  # the same weights, rows and arithmetic
        assert 1e8 < peer["bytes"] < 4e9
    ratios = [b / a for a, b in zip(*(cell["peers"][name]["seconds"] for name in ("ours", "plain")), strict=True)]
    assert cell["faster"]["ours"]["plain"]["median"] == pytest.approx(sum(ratios) / 2)
    again = tmp_path / "again.svg"  # from the record
    assert main(["--show", str(file), "--plot", str(again)]) == 0
    assert "its matrix products alone" in capfd.readouterr().out
    drawn = again.read_text()
    for words in ("this project", "PyTorch, plain", "mlp1, full batch", "milliseconds per epoch of 500 rows"):
        assert words in drawn  # a comment of the SVG names each text

    assert cell["ceiling"]["gflops"] * cell["ceiling"]["median"] == pytest.approx(500 * (4 * 784 + 6 * 10) * 200 / 1e9)


def test_mini_batches_train_to_the_same_loss_and_answers_are_one_epoch_each():
    line = command_line(MODELS["mlp1"], 64, parse(SMALL))
    losses = {}
    for name in ("ours", "plain"):
        with Entrant(PEERS[name], line) as entrant:
            assert "torch" in entrant.ready()
            assert entrant.epochs(2) > 0
            entrant.epochs(1)
        assert entrant.process.returncode == 0
        losses[name] = entrant.losses
    assert len(losses["ours"]) == 3
    assert losses["ours"] == sorted(losses["ours"], reverse=True)
    assert losses["ours"] == pytest.approx(losses["plain"], rel=0.1)
    assert losses["ours"] != losses["plain"]  # each shuffles by itself


def figures(**losses):
    """What the referee makes of entrants with these losses, in a cell at full batch."""
    entrants = {name: Peer("plain", own_loss=name == "report") for name in losses}
    entrants = {name: Entrant(peer, [], losses=[loss] * 3, last={"accuracy": 0.5}) for (name, peer), loss
               in zip(entrants.items(), losses.values(), strict=True)}  # fmt: skip
    seconds = {name: [0.1 * place, 0.3 * place, 0.1 * place] for place, name in enumerate(losses, start=1)}
    return summarise(
        Cell("peers", "mlp1", [200], None, entrants), parse([]), entrants, seconds, dict.fromkeys(losses, 1)
    )


def test_a_peer_that_trains_to_another_loss_is_told():
    told = figures(ours=0.5, plain=0.5, jax=0.5005, keras=0.51, broken=None, report=7.0)["peers"]
    assert {name for name, peer in told.items() if not peer["agrees"]} == {"keras", "broken"}


def test_ratios_are_medians_within_rounds():
    faster = figures(ours=0.5, plain=0.5)["faster"]
    assert faster["ours"]["plain"]["median"] == pytest.approx(2)
    assert faster["plain"]["ours"]["median"] == pytest.approx(0.5)


def test_a_worker_that_fails_says_why():
    with Entrant(Peer("nothing"), []) as entrant, pytest.raises(EntrantError, match="No such file"):
        entrant.ready()


STAND_IN = """
import sys, time
sys.path.insert(0, {peers!r})
import entrant
turns = entrant.Turns()
for epoch in range({epochs}):
    turns.wait()
    turns.answer(0.5, 0.9)
turns.wait()
{then}
"""


@pytest.mark.parametrize(("epochs", "then", "told"), [
    (0, "time.sleep(600)", "no answer within 2 s"),  # before the first round
    (3, "time.sleep(600)", "no answer within 2 s"),  # in the second
    (3, "import signal, os; os.kill(os.getpid(), signal.SIGSTOP)", "no answer within 2 s"),
    (3, "turns.channel.write('{\\n'); turns.channel.flush(); time.sleep(600)", "it answered '{'"),
    (3, "sys.exit('out of luck')", "out of luck"),
])  # fmt: skip
def test_a_worker_that_hangs_or_fails_is_left_out_and_the_others_go_on(
    epochs, then, told, tmp_path, monkeypatch, capsys
):
    peers = tmp_path / "peers"
    peers.mkdir(parents=True)
    here = str(processes.SCRIPTS)
    (peers / "sound.py").write_text(STAND_IN.format(peers=here, epochs=1000, then=""))
    (peers / "broken.py").write_text(STAND_IN.format(peers=here, epochs=epochs, then=then))
    monkeypatch.setattr(processes, "SCRIPTS", peers)
    monkeypatch.setattr("fmnist.bench.race.TURN", 1e-9)
    monkeypatch.setattr("fmnist.bench.race.PAUSE", 0.0)
    entrants = {name: Peer(name) for name in ("sound", "broken")}
    asked = parse([*SMALL, "--limit", "2"])
    figures = race(Cell("models", "mlp1", [200], None, entrants), asked, {})
    assert capsys.readouterr().out == f"broken failed: {told}\n"
    assert set(figures["peers"]) == {"sound"}
    assert len(figures["peers"]["sound"]["seconds"]) == asked.repeats


def test_only_a_deep_stack_may_differ_by_much():
    allowed = {cell.model: cell.loose for cell in cells(parse(["stacks"]))}
    assert allowed == {"mlp1": LOOSE, "deep 32 x 50": DEEP}


def test_every_batch_of_both_models_is_a_cell():
    asked = parse(["peers", "--peers", "ours"])
    assert {(cell.model, cell.batch) for cell in cells(asked)} == {
        (model, batch) for model in ("mlp1", "mlp2") for batch in (None, 6000, 128, 32)
    }
    asked.batches = ["6000", "full"]
    assert {cell.batch for cell in cells(asked)} == {6000, None}


def test_help_and_mistakes_need_no_torch():
    code = (
        "import sys; from fmnist.bench import main\ntry: main(['--help'])\nfinally: assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "tutorial" in done.stdout
    for mistake in (["speed"], ["--peers", "caffe"], ["--repeats", "0"], ["--batches", "64"], ["--plot", "x.doc"]):
        with pytest.raises(SystemExit, match="2"):
            main(mistake)


def test_only_records_are_shown(tmp_path, capsys):
    (tmp_path / "other.json").write_text("[1]")
    assert main(["--show", str(tmp_path / "other.json")]) == 2
    assert "must be a record of `python -m fmnist.bench`" in capsys.readouterr().err
    assert main(["--show", str(tmp_path / "nothing.json")]) == 2
    (tmp_path / "empty.json").write_text('{"cells": []}')
    assert main(["--show", str(tmp_path / "empty.json"), "--plot", str(tmp_path / "x.png")]) == 2


def test_a_sweep_is_timed_from_the_command_to_its_end(tmp_path, capsys, monkeypatch):
    entrants = {name: line for name, line in bench_sweep.ENTRANTS.items() if "joblib" not in name}
    monkeypatch.setattr(bench_sweep, "ENTRANTS", entrants | {"broken": ("train.py", "no_such_knob=1")})
    asked = ["sweep", "--models", "mlp1", "--batches", "128", "--rows", "2000", "--runs", "2", "--epochs", "1"]
    main([*asked, "--repeats", "1", "--output", str(tmp_path)])  # of so little training accuracies need not agree
    said = capsys.readouterr().out
    assert "broken failed: " in said
    assert "mlp1, batches of 128, 2 runs of 1 epochs, 2,000 rows: seconds, n = 1" in said
    (file,) = tmp_path.glob("*.json")
    (sweep,) = json.loads(file.read_text())["sweeps"]
    assert set(sweep["entrants"]) == set(entrants)
    for entrant in sweep["entrants"].values():
        assert 1 < entrant["median"] < 60
        assert 0.3 < entrant["objective"] < 0.8
