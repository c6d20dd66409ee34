"""Cases from public reports of people who do this job, tried on this project. `make test-habits` runs them.

docs/reliability.md has them in a table with their sources: a test compares the two.
"""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from habits.check_habits import need
from helpers import FILES, rows_of
from sweeping import until

from fmnist import ROOT

WORK = "model=mlp1 model.hidden=[8] data.limit=300 epochs=2 batch_size=50"
SWEEP = f"-m {WORK} seed=0,1 hydra.sweep.dir=s hydra.launcher.workers=1"
SEARCH = f"-m {WORK} hydra/sweeper=optuna hydra.sweep.dir=s hydra.launcher.workers=1 'lr=interval(1e-3,1e-2)'"


@dataclass(frozen=True)
class Case:
    """source: where it was reported, at GitHub. commands: of a shell, `train` and `fmnist.X` are this project's own.
    The last has this status and says what matches `says`. before: makes what they need. done: runs that are done in the
    end."""

    source: str
    commands: tuple[str, ...]
    status: int = 0
    says: str = ""
    before: Callable[[Path], object] = lambda folder: None
    done: int = 1
    env: dict[str, str] = field(default_factory=dict)


def files_of(content: bytes, suffix: str = "") -> Callable[[Path], None]:
    """A folder `d` with the four files of a data set, all with one content."""

    def make(folder: Path) -> None:
        (folder / "d").mkdir()
        for name in FILES:
            (folder / "d" / f"{name}{suffix}").write_bytes(content)

    return make


def of_another_editor(folder: Path) -> None:
    """A model's file as an editor of another system writes it."""
    (folder / "conf" / "model").mkdir(parents=True)
    text = b"\xef\xbb\xbfname: mlp\r\nhidden: [8]\r\nactivation: relu\r\n"
    (folder / "conf" / "model" / "mine.yaml").write_bytes(text)


def data_here(folder: Path) -> None:
    """Fashion-MNIST in a folder of one's own."""
    (folder / "d").mkdir()
    (folder / "d" / "fashion-mnist").symlink_to(ROOT / "data" / "fashion-mnist")


def script_of_ones_own(folder: Path) -> None:
    """A program that calls train.py's main."""
    text = f"import sys\nsys.path.insert(0, {str(ROOT)!r})\nfrom train import main\nmain()\n"
    (folder / "mine.py").write_text(text, encoding="utf-8")


CASES = {
    "a comma without -m": Case(
        "hydra-ecosystem/hydra/issues/126", (f"train {WORK} seed=0,1",), 2, "--multirun", done=0),
    "= in the name of a sweep": Case(
        "hydra-ecosystem/hydra/issues/1314", (f"train {SWEEP} 'hydra.sweep.dir=\"a=b\"'", "fmnist.report a=b"), done=2),
    "lists in the names of runs": Case(
        "hydra-ecosystem/hydra/issues/1832", (f"train {SWEEP} 'model.hidden=[8],[8,4]'", "ls s"), 0,
        r"model.hidden-8-4\+seed-0", done=4),
    "many knobs in one name": Case(
        "QUVA-Lab/artemis/issues/113",
        (f"train -m {WORK} {' '.join(f'{knob}=null' for knob in ('dropout', 'skip', 'norm', 'ema', 'mask', 'noise'))} "
         "optim.betas=[0.9,0.999] optim.eps=1e-8 schedule=constant init=glorot init_scale=1.0 dropout_rescale=true "
         "eval_every=1 select=last seed=0,1 hydra.launcher.workers=1",), done=2),
    "relative data under joblib": Case(
        "hydra-ecosystem/hydra/issues/533",
        (f"train -m {WORK} seed=0,1 data.dir=d hydra/launcher=joblib hydra.sweep.dir=s",), before=data_here, done=2),
    "relative data after chdir": Case(
        "hydra-ecosystem/hydra/issues/2414", (f"train {WORK} data.dir=d hydra.job.chdir=true hydra.run.dir=r",),
        before=data_here),
    "main called by another script": Case(
        "hydra-ecosystem/hydra/issues/1568", (f"python mine.py {WORK} hydra.run.dir=r",), before=script_of_ones_own),
    "a stale lock of a search": Case(
        "optuna/optuna/issues/5921",
        (f"train {SEARCH} hydra.sweeper.n_trials=2", "ln -s nowhere s/study.jsonl.lock",
         f"train {SEARCH} hydra.sweeper.n_trials=4"), done=4),
    "the file of a search removed": Case(
        "optuna/optuna/issues/2722",
        (f"train {SEARCH} hydra.sweeper.n_trials=2", "rm s/study.jsonl", f"train {SEARCH} hydra.sweeper.n_trials=2"),
        done=2),
    "empty files of data": Case(
        "pytorch/vision/issues/541", (f"train {WORK} data=idx data.dir=d hydra.run.dir=r",), 2,
        "d/train-images-idx3-ubyte: truncated: 0 bytes", files_of(b""), 0),
    "a page of HTML in place of data": Case(
        "pytorch/vision/issues/1938", (f"train {WORK} data=idx data.dir=d hydra.run.dir=r",), 2, "Not a gzipped file",
        files_of(b"<html>403", ".gz"), 0),
    "a user without an account": Case(
        "h2oai/h2o-llmstudio/pull/974", (f"unshare --user --map-user=1234 --map-group=1234 train {SWEEP}",), done=2,
        env={"HOME": "/nonexistent"}),
    "a run that diverges beside another": Case(
        "facebookresearch/pytext/pull/1206", (f"train {SWEEP} seed=0 lr=1e-3,1e30",), 1, "lr-1e30: train/loss is nan"),
    "two models with other metrics in one sweep": Case(
        "tensorflow/tensorboard/issues/5414",
        ("train -m model=linear,autoencoder data.limit=300 epochs=1 batch_size=50 hydra.launcher.workers=1 "
         "hydra.sweep.dir=s", "fmnist.report s"), done=2),
    "one curve after going on": Case(
        "Nerogar/OneTrainer/pull/1422",
        (f"train {WORK} until=0.5 hydra.run.dir=r", f"train {WORK} hydra.run.dir=r", "ls r/train"), 0,
        r"\A((?!events)\S+\n)*events\S+\n((?!events)\S+\n)*\Z"),
    "a list of numbers of threads": Case(
        "pydata/numexpr/issues/421", (f"train {SWEEP}",), env={"OMP_NUM_THREADS": "2,1"}, done=2),
    "a file of another editor": Case(
        "ScrollPrize/villa/issues/1524", (f"train --config-dir conf {WORK} model=mine hydra.run.dir=r",),
        before=of_another_editor),
    "a screen that is not there": Case(
        "swing-research/icecream/issues/6",
        ("train model=autoencoder data.limit=300 epochs=1 hydra.run.dir=r", "fmnist.report r"),
        env={"MPLBACKEND": "tkagg", "DISPLAY": "localhost:64.0"}),
    "no git": Case("faircloth-lab/phyluce/issues/37", (f"train {WORK} hydra.run.dir=r", "fmnist.report r"),
                   env={"PATH": "/nonexistent"}),
    "a reader who leaves": Case("pypa/pip/issues/4170", (f"train {WORK} epochs=40 hydra.run.dir=r | head -n 1",)),
    "a link to the best run": Case(
        "guildai/guildai/issues/32", (f"train {SWEEP}", "ln -s seed-0 s/best", "fmnist.report s"), 0, r"\(n = 2\)",
        done=3),
    "a record of a newer version": Case(
        "jiazhenz026/SciStudio/issues/2078",
        (f"train {WORK} hydra.run.dir=r", """sed -i 's/"dropout": null/"dropout": null, "later": 3/' r/result.json""",
         "fmnist.evaluate r"), 2, "later"),
}  # fmt: skip


def line_of(command: str) -> str:
    """A command for a shell."""
    python = f'"{sys.executable}"'
    command = re.sub(r"^(unshare (?:-\S+ )+)?train ", rf'\g<1>{python} "{ROOT}/train.py" ', command)
    return re.sub(r"^(fmnist\.\w+)", rf"{python} -m \1", re.sub(r"^python ", f"{python} ", command))


def in_shell(command: str, folder: Path, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a command in a folder; this project's programs see the variables."""
    return subprocess.run(["/bin/sh", "-c", line_of(command)], cwd=folder, env=os.environ | env, capture_output=True,
                          encoding="utf-8", timeout=300)  # fmt: skip


def status_of(folder: Path) -> list[str]:
    """How the runs below a folder ended."""
    return sorted(json.loads(path.read_text(encoding="utf-8"))["status"] for path in folder.rglob("result.json"))


@pytest.mark.parametrize("name", CASES)
def test_it_ends_as_it_should(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    need(case.commands[0].split())
    case.before(tmp_path)
    for command in case.commands:
        ended = in_shell(command, tmp_path, case.env)
        assert "Traceback" not in ended.stdout + ended.stderr, ended.stderr
    assert ended.returncode == case.status, ended.stdout + ended.stderr
    assert re.search(case.says, ended.stdout + ended.stderr)
    found = [path for path in tmp_path.glob("**/result.json") if '"done"' in path.read_text(encoding="utf-8")]
    assert len(found) + len(list(tmp_path.glob("s/best"))) == case.done


TERMINAL = "open-mmlab/mmsegmentation/issues/1998"


@pytest.mark.parametrize(("ignored", "status", "ends"), [(False, 129, "interrupted"), (True, 0, "done")])
def test_a_terminal_that_closes_ends_a_run_with_all_saved_but_not_under_nohup(
    ignored: bool, status: int, ends: str, tmp_path: Path
) -> None:
    epochs = 60 if ignored else 1_000_000
    line = [
        sys.executable,
        str(ROOT / "train.py"),
        *WORK.split(),
        f"epochs={epochs}",
        "hydra.run.dir=r",
        "save_every=0",
    ]
    with subprocess.Popen([*(["nohup"] if ignored else []), *line], cwd=tmp_path, stdout=subprocess.DEVNULL,
                          stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL) as process:  # fmt: skip
        until((tmp_path / "r" / "last.safetensors").exists, "training has begun")
        process.send_signal(signal.SIGHUP)
        assert process.wait() == status
    result = json.loads((tmp_path / "r" / "result.json").read_text(encoding="utf-8"))
    assert result["status"] == ends
    assert result["epoch"] == len(rows_of(tmp_path / "r"))


def test_the_page_has_each_case_with_its_source() -> None:
    page = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([^|]+?) \| \[[^]]+\]\(https://github\.com/([^)]+)\) \|", page, re.MULTILINE)
    listed = dict(rows)
    for name, case in CASES.items():
        assert listed.get(name) == case.source, name
    assert TERMINAL in listed.values()
