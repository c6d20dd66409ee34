"""The project in the habits of others: each is a real way to start the same commands. `make test-habits` runs it.

What needs a mount of its own (a file system that is read-only, the files of a control group) is made by `unshare`,
which asks for root.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_notebook

from fmnist import ROOT

WORK = ("model=mlp1", "model.hidden=[8]", "data.limit=300", "epochs=2", "batch_size=50")
SWEEP = ("-m", *WORK, "seed=0,1", "hydra.launcher.workers=1", "hydra.sweep.dir=sweep")
COMMANDS = (
    ("train.py", *WORK, "hydra.run.dir=run"),
    ("train.py", *SWEEP),
    ("-m", "fmnist.evaluate", "run"),
    ("-m", "fmnist.report", "sweep"),
    ("-m", "fmnist.data"),
)
USER = 12345  # of no account


@dataclass(frozen=True)
class Habit:
    """env: variables; flags: of Python; folder: where the commands are typed; before: a command that starts them."""

    env: dict[str, str] = field(default_factory=dict)
    flags: Sequence[str] = ()
    folder: str = "work"
    before: Sequence[str] = ()


MOUNTED = ("unshare", "--mount", "sh", "-c")
READ_ONLY = (*MOUNTED, f'mount --bind "{ROOT}" "{ROOT}" && mount -o remount,ro,bind "{ROOT}" && exec "$@"', "sh")
NOBODY = ("unshare", "--user", f"--map-user={USER}", f"--map-group={USER}")
HABITS = {
    "another folder": Habit(folder="some where/else é"),
    "the C locale": Habit({"LC_ALL": "C"}, folder="é"),
    "a locale of ASCII alone": Habit({"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}, folder="é"),
    "streams in Latin-1": Habit({"PYTHONIOENCODING": "latin-1"}, folder="é ω"),
    "a home with a space": Habit({"HOME": "{folder}/my home", "XDG_CACHE_HOME": "{folder}/my home/a cache"}),
    "no home": Habit({"HOME": "/nonexistent"}),
    "a read-only checkout": Habit(before=READ_ONLY),
    "another user without an account": Habit({"HOME": "/nonexistent"}, before=NOBODY),
    "no terminal": Habit({"TERM": "dumb"}, before=("setsid", "--wait")),
    "no assertions": Habit(flags=("-O",)),
    "another module of the name data": Habit({"PYTHONPATH": "{folder}/polluted"}),
    "few open files": Habit(before=("sh", "-c", 'ulimit -n 64 && exec "$@"', "sh")),
    "files for nobody else": Habit(before=("sh", "-c", 'umask 077 && exec "$@"', "sh")),
    "files for everybody": Habit(before=("sh", "-c", 'umask 000 && exec "$@"', "sh")),
}


def need(before: Sequence[str]) -> None:
    """Skip a test on a machine that forbids what it needs, as some containers forbid namespaces."""
    wanted = {"--mount", "--user"} & set(before)
    if wanted and subprocess.run(["unshare", *wanted, "true"], capture_output=True).returncode:
        pytest.skip(f"unshare {' '.join(wanted)} is forbidden on this machine")


def typed(habit: Habit, folder: Path, *words: str) -> subprocess.CompletedProcess[bytes]:
    """A command as the habit has it. Its text may be in any encoding."""
    env = os.environ | {name: value.format(folder=folder) for name, value in habit.env.items()}
    env.pop("OMP_NUM_THREADS", None)  # it is of these tests, see conftest.py
    script = [str(ROOT / words[0]) if words[0].endswith(".py") else words[0], *words[1:]]
    line = [*habit.before, sys.executable, *habit.flags, *script]
    return subprocess.run(line, cwd=folder, env=env, capture_output=True, stdin=subprocess.DEVNULL)


def texts(folder: Path) -> dict[str, str]:
    """All logs below a folder."""
    return {str(path): path.read_text(encoding="utf-8") for path in folder.rglob("*.log")}


@pytest.mark.parametrize("name", HABITS)
def test_the_commands_work(name: str, tmp_path: Path) -> None:
    habit = HABITS[name]
    need(habit.before)
    folder = tmp_path / habit.folder
    folder.mkdir(parents=True)
    for place in ("my home", "polluted"):
        (folder / place).mkdir()
    for module in ("data", "config", "record", "utils"):
        (folder / "polluted" / f"{module}.py").write_text("raise ImportError('not this one')\n", encoding="utf-8")
    unspeakable = habit is HABITS["a locale of ASCII alone"] and not sys.prefix.isascii()
    for words in COMMANDS:
        done = typed(habit, folder, *words)
        out, err = done.stdout.decode("utf-8", "replace"), done.stderr.decode("utf-8", "replace")
        if unspeakable:
            assert (out, err.count("\n")) == ("", 1)
            # outside of the checkout Python does not even find the package
            assert "PYTHONUTF8=1" in err or "No module named" in err, err
            assert done.returncode == (2 if "PYTHONUTF8=1" in err else 1)
            continue
        assert done.returncode == 0, f"{words}: {out}{err}"
        assert "Traceback" not in out + err
        assert "Warning" not in err, err
    assert not [path for path, text in texts(folder).items() if "Traceback" in text]
    if unspeakable:
        return
    results = [json.loads(path.read_text(encoding="utf-8")) for path in folder.glob("*/**/result.json")]
    assert [result["status"] for result in results] == ["done"] * 3
    assert (folder / "sweep" / "report" / "index.html").exists()


def test_a_container_of_half_a_core_gets_one_worker_and_one_thread(tmp_path: Path) -> None:
    """Files that say so lie where the kernel's are: those of version 1 or of version 2, whichever are here."""
    (tmp_path / "quota").write_text("50000\n", encoding="ascii")
    (tmp_path / "both").write_text("50000 100000\n", encoding="ascii")
    mounts = [f'mount --bind "{tmp_path / name}" {file}' for name, file in (
        ("quota", "/sys/fs/cgroup/cpu/cpu.cfs_quota_us"), ("quota", "/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us"),
        ("both", "/sys/fs/cgroup/cpu.max")) if Path(file).exists()]  # fmt: skip
    need(MOUNTED)
    if not mounts:
        pytest.skip("this machine has no control group that bounds cores")
    habit = Habit(before=(*MOUNTED, f'{" && ".join(mounts)} && exec "$@"', "sh"))
    done = typed(habit, tmp_path, "train.py", *(word for word in SWEEP if "workers" not in word), "dry_run=true")
    assert done.returncode == 0, done.stderr
    assert re.search(rb"1 worker, 1 thread each", done.stdout), done.stdout
    asked = "from fmnist.launch.machine import set_threads; set_threads(); import torch; print(torch.get_num_threads())"
    assert typed(habit, ROOT, "-c", asked).stdout.strip() == b"1"


def test_a_wheel_reads_runs_without_the_checkout(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, source)
    for name in ("fmnist", "sweep"):
        shutil.copytree(ROOT / name, source / name)
    run = typed(Habit(), tmp_path, *COMMANDS[0])
    assert run.returncode == 0, run.stderr
    pip = (sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation",
           "--disable-pip-version-check", "--root-user-action=ignore", "--target", str(tmp_path / "site"),
           str(source))  # fmt: skip
    subprocess.run(pip, check=True, capture_output=True)
    habit = Habit({"PYTHONPATH": str(tmp_path / "site")})
    where = typed(habit, tmp_path, "-c", "import fmnist; print(fmnist.__file__)").stdout.decode()
    assert where.startswith(str(tmp_path / "site"))
    for words in (("-m", "fmnist.evaluate", "run"), ("-m", "fmnist.report", "run"), ("-m", "fmnist.figures", "--help")):
        done = typed(habit, tmp_path, *words)
        assert done.returncode == 0, done.stderr


CELLS = """
from pathlib import Path
from fmnist.config.parse import parse
from fmnist.train.engine import fit
mlp = {"name": "mlp", "hidden": [8]}
config = parse({"model": mlp, "data": {"name": "fashion", "limit": 300}, "optim": {"name": "adam"}, "epochs": 8,
                "batch_size": 20})
fit([config], [Path("run")])
---
from fmnist.evaluate import evaluate
assert evaluate(Path("run"))["test/accuracy"] > 0.1
---
from fmnist.report.page import report
report([Path("run")], Path("report"))
"""


def test_a_notebook_trains_evaluates_and_reports(tmp_path: Path) -> None:
    book = new_notebook(cells=[new_code_cell(code) for code in CELLS.split("---\n")])
    NotebookClient(book, timeout=120, resources={"metadata": {"path": str(tmp_path)}}).execute()
    said = "".join(output.get("text", "") for cell in book.cells for output in cell.outputs)
    assert "epoch 8/8" not in said  # a library says nothing of itself
    assert "Warning" not in said
    assert (tmp_path / "report" / "index.html").exists()
