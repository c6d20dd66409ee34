"""The commands whose calls fail, and how they are run."""

import os
import random
import shutil
import signal
import struct
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from calls import Watch

sys.path.append(str(Path(__file__).resolve().parents[1]))  # this is part of a script too
from forking import Zygote

ROOT = Path(__file__).resolve().parents[2]
TRAIN, STACK = str(ROOT / "train.py"), str(Path(__file__).with_name("stack.py"))
PATIENCE = 120.0  # seconds after which a command hangs
KNOBS = ("data=idx", "model=mlp1", "model.hidden=[4]", "epochs=3", "batch_size=16", "save_every=0")


@dataclass(frozen=True)
class Work:
    """A command. before: the same command with other knobs, which has left something to go on from. solo: whether it is
    one process, which can be forked."""

    script: str
    arguments: tuple[str, ...]
    before: tuple[str, ...] | None = None
    solo: bool = True


WORKS = {
    "run": Work(TRAIN, (*KNOBS, "hydra.run.dir=run")),
    "stack": Work(STACK, ("runs", *KNOBS)),
    "resume": Work(TRAIN, (*KNOBS, "hydra.run.dir=run"), before=("until=0.5",)),
    "sweep": Work(TRAIN, ("-m", *KNOBS, "seed=0,1,2", "lr=1e-3,3e-3", "hydra.sweep.dir=sweep",
                          "hydra.launcher.workers=2", "hydra.launcher.stack=1"), solo=False),
    "search": Work(TRAIN, ("-m", *KNOBS, "epochs=4", "hydra/sweeper=optuna", "hydra.sweeper.n_trials=8",
                           "hydra.sweeper.n_jobs=4", "lr=tag(log,interval(1e-4,1e-1))", "hydra.sweep.dir=search",
                           "hydra.launcher.workers=2", "hydra.launcher.stack=1"), solo=False),
}  # fmt: skip


def make_data(folder: Path) -> None:
    """Four small IDX files of random images."""
    folder.mkdir(parents=True, exist_ok=True)
    noise = random.Random(0)
    for part, rows in (("train", 60), ("t10k", 20)):
        images = struct.pack(">4B3I", 0, 0, 8, 3, rows, 6, 6) + noise.randbytes(rows * 36)
        labels = struct.pack(">4BI", 0, 0, 8, 1, rows) + bytes(row % 4 for row in range(rows))
        (folder / f"{part}-images-idx3-ubyte").write_bytes(images)
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(labels)


class Runner:
    """Runs commands, one at a time. A command of one process is forked from one that has imported torch: see zygote."""

    def __init__(self, library: Path, data: Path) -> None:
        self.data = data
        self.environment = os.environ | {"LD_PRELOAD": str(library), "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
        self.zygote = Zygote(self.environment)

    def normal(self, folder: Path) -> dict[str, str]:
        """See normal.normal."""
        found: dict[str, str] = self.zygote.ask(normal=str(folder))
        return found

    def run(
        self, work: Work, folder: Path, armed: dict[str, str] | None = None, also: tuple[str, ...] = (),
        seconds: float = PATIENCE,
    ) -> tuple[int | None, str]:  # fmt: skip
        """Run a command in a folder: its status, None if it had to be killed after so many seconds, and its output."""
        arguments = [*work.arguments, f"data.dir={self.data}", *also]
        output = folder.with_name(f"{folder.name}.out")
        output.write_bytes(b"")  # a command may be killed before it has opened it
        if work.solo:
            status = self.zygote.ask(script=work.script, arguments=arguments, folder=str(folder),
                                     environment=armed or {}, output=str(output), seconds=seconds)  # fmt: skip
        else:
            status = self._command([sys.executable, work.script, *arguments], folder, armed or {}, output, seconds)
        text = output.read_text(encoding="utf-8", errors="replace")
        output.unlink()
        return status, text

    def _command(
        self, words: list[str], folder: Path, armed: dict[str, str], output: Path, seconds: float
    ) -> int | None:
        environment = (self.environment if armed else os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "200"}) | armed
        with open(output, "wb") as file, subprocess.Popen(
            words, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=file, stderr=file,
            start_new_session=True,
        ) as process:  # fmt: skip
            try:
                return process.wait(seconds)
            except subprocess.TimeoutExpired:
                process.kill()
                return None

    def prepare(self, work: Work, folder: Path, template: Path | None) -> Watch:
        """A folder as it is before the command."""
        shutil.rmtree(folder, ignore_errors=True)
        if template:
            shutil.copytree(template, folder)
        else:
            folder.mkdir(parents=True)
        return Watch(folder)

    def close(self) -> None:
        """End the process that forks commands."""
        self.zygote.close()


def told(status: int | None, output: str) -> list[str]:
    """What is wrong with how a command that met a fault has ended."""
    wrong = []
    if status is None:
        wrong.append("it hung")
    if "Traceback" in output:
        wrong.append("a traceback")
    if status not in (None, 0, -signal.SIGKILL) and "error: " not in output and " failed" not in output:
        wrong.append(f"status {status} without a line that says why")
    return wrong
