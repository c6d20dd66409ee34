"""python -m fmnist.bench: its tables and its record, what is compared, what it does when entrants fail."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from fmnist import ROOT
from fmnist.bench import entrants as processes
from fmnist.bench import race, sweeps
from fmnist.bench.__main__ import cells, main, parse
from fmnist.bench.entrants import Entrant, EntrantError, Peer
from fmnist.bench.race import LOOSE, LOOSE_DEEP, Cell, Timed, summarise
from fmnist.bench.show import show

SMALL = ["--rows", "500", "--threads", "1", "--repeats", "2"]
RECORD = Path(__file__).with_name("record.json")  # made at commit 7557172, before there were packages


@pytest.mark.long
def test_one_cell_from_the_command_line_to_the_chart(checkout, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(processes, "ENVIRONMENTS", tmp_path / "nowhere")
    asked = ["peers", "--peers", "ours", "plain", "jax", "--models", "mlp1", "--batches", "full", *SMALL]
    chart = tmp_path / "chart.png"
    assert main([*asked, "--output", str(tmp_path), "--plot", str(chart)]) == 0
    said = capfd.readouterr().out
    assert "skipped jax: the environment jax is not there" in said
    assert "skipped libxsmm: the environment libxsmm is not there" in said
    assert "mlp1, full batch, 500 rows: ms per epoch, n = 2" in said
    assert "its matrix products alone" in said
    assert "LOSS DIFFERS" not in said
    assert "failed" not in said
    assert chart.read_bytes().startswith(b"\x89PNG")

    (file,) = tmp_path.glob("*.json")
    record = json.loads(file.read_text(encoding="utf-8"))
    later = {"isa", "peak", "beside", "steps", "device", "goals", "classics"}
    assert record.keys() == json.loads(RECORD.read_text(encoding="utf-8")).keys() | later
    assert json.dumps(str(tmp_path)).strip('"') not in file.read_text(encoding="utf-8")  # the checkout is below it
    (cell,) = record["cells"]
    assert set(cell["peers"]) == {"ours", "plain"}
    assert len(cell["handovers"]) in (0, 2)  # nothing on a single processor
    assert set(record["versions"]) == {"ours", "plain", "ceiling", "sgd"}
    for peer in cell["peers"].values():
        assert len(peer["seconds"]) == 2
        assert peer["quartiles"][0] <= peer["median"] <= peer["quartiles"][1]
        assert peer["deviation"] < 1e-4  # the same weights, rows and arithmetic
        assert 1e8 < peer["bytes"] < 4e9
        assert peer["gflops"] > 1
        assert peer["bound"]
    ratios = [b / a for a, b in zip(*(cell["peers"][name]["seconds"] for name in ("ours", "plain")), strict=True)]
    assert cell["faster"]["ours"]["plain"]["median"] == pytest.approx(sum(ratios) / 2)
    assert cell["ceiling"]["gflops"] * cell["ceiling"]["median"] == pytest.approx(500 * (4 * 784 + 6 * 10) * 200 / 1e9)


@pytest.mark.long
def test_starts_are_timed_to_the_first_step_and_to_the_exit(checkout, tmp_path, capfd):
    asked = ["startup", "--peers", "ours", "--rows", "500", "--threads", "1", "--repeats", "1"]
    assert main([*asked, "--output", str(tmp_path)]) == 0
    said = capfd.readouterr().out
    assert "failed" not in said
    assert "seconds from the command to" in said
    (file,) = tmp_path.glob("*.json")
    starts = json.loads(file.read_text(encoding="utf-8"))["startup"]
    assert set(starts) == {"import torch", "train.py", "ours"}
    for start in starts.values():
        assert start["step"]["median"] <= start["exit"]["median"]


def test_a_record_of_an_earlier_version_is_shown_and_drawn(tmp_path, capsys):
    chart = tmp_path / "chart.svg"
    assert main(["--show", str(RECORD), "--plot", str(chart)]) == 1  # accuracies of its sweep differ
    shown = capsys.readouterr().out
    for words in (
        "mlp1, full batch, 500 rows: ms per epoch, n = 2",
        "ours      2.9   2.6   3.2     1.10       1.00  1.7747    0.9340  630",
        "its matrix products alone: 2.4 ms at 135 GFLOP/s: ours reaches 81% of that speed",
        "losses after 3 epochs: at most 0.00% from their median (allowed: up to 0.20%)",
        "import torch                       1.24  1.68",
        "mlp1, batches of 128, 2 runs of 1 epoch, 500 rows: seconds, n = 2",
        "plain, joblib         9.1       2.41      0.5960  DIFFERS",
    ):
        assert words in shown.splitlines()
    drawn = chart.read_text(encoding="utf-8")
    for words in ("this project", "PyTorch, plain", "mlp1, full batch", "milliseconds per epoch of 500 rows"):
        assert words in drawn  # a comment of the SVG names each text


def test_only_records_are_shown(tmp_path, capsys):
    (tmp_path / "other.json").write_text("[1]", encoding="utf-8")
    assert main(["--show", str(tmp_path / "other.json")]) == 2
    assert "must be a record of `python -m fmnist.bench`" in capsys.readouterr().err
    assert main(["--show", str(tmp_path / "nothing.json")]) == 2
    (tmp_path / "empty.json").write_text('{"cells": []}', encoding="utf-8")
    assert main(["--show", str(tmp_path / "empty.json"), "--plot", str(tmp_path / "x.png")]) == 2


RECIPES = {"report": "report", "libxsmm": "sgd", "sgd": "sgd"}


def cell_of(beside=0, **losses):
    """What the referee makes of entrants with these losses, in a cell of `peers` at full batch."""
    peers = {name: Peer("plain", recipe=RECIPES.get(name, "")) for name in losses if RECIPES.get(name) != "sgd"}
    cell = Cell("peers", "mlp1", [200], None, peers)
    timed = {}
    for place, (name, loss) in enumerate(losses.items(), start=1):
        entrant = Entrant(Peer("plain"), [], losses=[loss] * 3, last={"accuracy": 0.5})
        seconds = [0.1 * place, 0.3 * place, 0.1 * place]
        busy = [2 * x for x in seconds] if beside else []
        timed[name] = Timed(entrant, 50.0 * place, seconds, busy, {"bytes": 1, "avx512": name == "jax"})
    return summarise(cell, parse(["--isa", "avx2", "--beside", str(beside)]), timed, 90.0, 100.0)


@pytest.fixture
def everywhere(monkeypatch, tmp_path):
    """The environment of LIBXSMM is there."""
    (tmp_path / "libxsmm" / "bin").mkdir(parents=True)
    (tmp_path / "libxsmm" / "bin" / "python").touch()
    monkeypatch.setattr(processes, "ENVIRONMENTS", tmp_path)


def test_a_peer_that_trains_to_another_loss_is_marked():
    peers = cell_of(ours=0.5, plain=0.5, jax=0.5005, keras=0.51, broken=None, report=7.0)["peers"]
    assert {name for name, peer in peers.items() if not peer["agrees"]} == {"keras", "broken"}
    assert peers["report"]["deviation"] is None


@pytest.mark.parametrize(("libxsmm", "status"), [(1.3, 0), (1.4, 1)])
def test_what_is_no_peer_stands_apart_and_must_train_to_the_same_loss(libxsmm, status, everywhere, tmp_path, capsys):
    cell = cell_of(ours=0.5, libxsmm=libxsmm, sgd=1.3)
    assert set(cell["peers"]) == {"ours"}
    assert cell["ceilings"]["libxsmm"]["agrees"] == cell["ceilings"]["sgd"]["agrees"] == (not status)
    (tmp_path / "record.json").write_text(json.dumps({"cells": [cell]}), encoding="utf-8")
    assert main(["--show", str(tmp_path / "record.json")]) == status
    mark = ", LOSS DIFFERS" if status else ""
    assert f"no peer, SGD without shuffle or figures: libxsmm 200.0 ms, 200% of ours{mark}\n" in capsys.readouterr().out


def test_plain_is_its_best_form_of_a_cell(capsys):
    cell = cell_of(jax=0.5, compile=0.5, fused=0.5, plain=0.5)
    assert cell["plain"] == "compile"
    show({"cells": [cell]})
    shown = capsys.readouterr().out
    assert "plain PyTorch's best form: compile\n" in shown
    speeds = {line.split()[0]: line.split()[4] for line in shown.splitlines()[2:6]}
    assert speeds == {"jax": "2.00", "compile": "1.00", "fused": "0.67", "plain": "0.50"}
    assert cell_of(jax=0.5)["plain"] is None


def test_those_that_do_not_keep_to_the_instruction_set_are_named(capsys):
    show({"cells": [cell_of(ours=0.5, plain=0.5, jax=0.5, keras=0.5)]})  # one at twice the peak, one by its registers
    shown = capsys.readouterr().out
    assert shown.startswith("mlp1, full batch, 48,000 rows, avx2: ms per epoch, n = 7\n")
    assert "not bound by --isa avx2: jax, keras\n" in shown


def test_times_beside_busy_loops_stand_next_to_the_idle_ones(capsys):
    cell = cell_of(beside=2, ours=0.5, plain=0.5)
    assert cell["beside"] == 2
    assert cell["peers"]["ours"]["beside"]["slower"]["median"] == pytest.approx(2)
    show({"cells": [cell]})
    shown = capsys.readouterr().out.splitlines()
    assert "beside 2  x idle" in shown[1]
    assert "beside" not in cell_of(ours=0.5)["peers"]["ours"]


def test_ratios_are_medians_within_rounds():
    faster = cell_of(ours=0.5, plain=0.5)["faster"]
    assert faster["ours"]["plain"]["median"] == pytest.approx(2)
    assert faster["plain"]["ours"]["median"] == pytest.approx(0.5)


def test_only_a_deep_stack_may_differ_by_much():
    allowed = {cell.model: cell.loose for cell in cells(parse(["stacks"]))}
    assert allowed == {"mlp1": LOOSE, "deep 32 x 50": LOOSE_DEEP}


def test_every_batch_of_both_models_is_a_cell():
    asked = parse(["peers", "--peers", "ours"])
    assert {(cell.model, cell.batch) for cell in cells(asked)} == {
        (model, batch) for model in ("mlp1", "mlp2") for batch in (None, 6000, 128, 32)
    }
    asked.batches = ["6000", "full"]
    assert {cell.batch for cell in cells(asked)} == {6000, None}


def test_help_and_mistakes_need_no_torch():
    code = "import sys; from fmnist.bench.__main__ import main\ntry: main(['--help'])\nfinally: print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, encoding="utf-8", check=True)
    *shown, modules = done.stdout.splitlines()
    assert "tutorial" in "\n".join(shown)
    assert not {"torch", "numpy", "matplotlib"} & set(modules.split())
    for mistake in (["speed"], ["--peers", "caffe"], ["--repeats", "0"], ["--batches", "64"], ["--plot", "x.doc"],
                    ["--isa", "sse"], ["--beside", "-1"]):  # fmt: skip
        with pytest.raises(SystemExit, match="2"):
            main(mistake)


SWEEP = ["sweep", "--models", "mlp1", "--batches", "128", "--rows", "2000", "--runs", "2", "--epochs", "1"]


@pytest.mark.long
def test_a_sweep_is_timed_from_the_command_to_its_end(checkout, tmp_path, capsys, monkeypatch):
    sound = {name: line for name, line in sweeps.COMMANDS.items() if "joblib" not in name}
    monkeypatch.setattr(sweeps, "COMMANDS", sound | {"broken": ("train.py", "no_such_knob=1")})
    main([*SWEEP, "--repeats", "1", "--output", str(tmp_path)])  # of so little training accuracies need not agree
    said = capsys.readouterr().out
    assert [line.split(": ")[0] for line in said.splitlines() if "failed" in line] == ["broken failed"]
    assert "mlp1, batches of 128, 2 runs of 1 epoch, 2,000 rows: seconds, n = 1" in said
    (file,) = tmp_path.glob("*.json")
    (sweep,) = json.loads(file.read_text(encoding="utf-8"))["sweeps"]
    assert set(sweep["entrants"]) == set(sound)
    for entrant in sweep["entrants"].values():
        assert [entrant["median"]] == entrant["seconds"]
        assert 0.3 < entrant["objective"] < 0.8


@pytest.mark.parametrize("name", sweeps.COMMANDS)
def test_overrides_of_a_sweep_are_in_hydras_grammar_wherever_the_checkout_is(name, monkeypatch):
    monkeypatch.setattr(sweeps, "ROOT", Path("/Drivé (ma thèse)/it's"))
    for sweep in sweeps.SWEEPS:
        _, _, flag, *overrides = sweeps.sweep_command(name, sweep, runs=2, epochs=1, rows=2000)
        assert flag == "-m"
        assert len(OverridesParser.create().parse_overrides(overrides)) == len(overrides)


def test_a_bench_of_which_nothing_is_left_has_status_1(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(processes, "SCRIPTS", tmp_path / "nowhere")
    monkeypatch.setattr(processes, "ENVIRONMENTS", tmp_path / "nowhere")
    monkeypatch.setattr(sweeps, "COMMANDS", {"broken": ("nowhere.py",), "too": ("nowhere.py",)})
    asked = ["peers", *SWEEP, "--peers", "ours", "--repeats", "1", "--output", str(tmp_path)]
    assert main(asked) == 1
    said = capsys.readouterr().out.splitlines()
    failed = [line.split(" failed: ")[0] for line in said if "failed" in line and "can't open file" in line]
    assert sorted(failed) == ["broken", "ceiling", "ours", "sgd", "too"]
    (file,) = tmp_path.glob("*.json")
    record = json.loads(file.read_text(encoding="utf-8"))
    assert [cell["peers"] for cell in record["cells"]] == [sweep["entrants"] for sweep in record["sweeps"]] == [{}]
    assert main(["--show", str(file)]) == 1


def test_starts_of_which_none_is_left_have_status_1(tmp_path, capsys, monkeypatch):
    def failing(*_):
        raise EntrantError("out of luck")

    monkeypatch.setattr(race, "_first_step", failing)
    asked = ["startup", "--peers", "ours", "--repeats", "1", "--output", str(tmp_path)]
    assert main(asked) == 1
    assert capsys.readouterr().out.count(" failed: out of luck") == 3
    monkeypatch.setattr(race, "_first_step", lambda name, *_: 1e9 if name == "ours" else failing())
    assert main(asked) == 0


@pytest.mark.parametrize("failed", ['{"status": "failed"}', '{"objective": null}'])
def test_a_sweep_in_which_a_run_failed_is_reported_and_left_out(failed, tmp_path):
    for name, content in (("0", '{"objective": 0.5}'), ("1", failed)):
        (tmp_path / "sweep" / name).mkdir(parents=True)
        (tmp_path / "sweep" / name / "result.json").write_text(content, encoding="utf-8")
    with pytest.raises(EntrantError, match="1 of 2 runs are done: one has failed"):
        sweeps.timed([sys.executable, "-c", "print('one has failed')"], tmp_path, 2, 60.0)


def test_where_there_is_no_gpu_a_line_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert main(["--device", "cuda", "--output", str(tmp_path / "record")]) == 2
    out, err = capsys.readouterr()
    assert (out, err) == ("", "error: --device cuda: there is no GPU here\n")
    assert not (tmp_path / "record").exists()


def test_on_a_gpu_those_are_timed_that_can_use_one():
    found = cells(parse(["models", "stacks", "--device", "cuda", "--batches", "full", "128"]))
    assert {cell.device for cell in found} == {"cuda"}
    peers = [peer for cell in found for peer in cell.peers.values()]
    assert {peer.script for peer in peers} == {"ours", "plain"}
    assert all("--device" in peer.arguments for peer in peers)
