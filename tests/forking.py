"""Commands that are forked from a process which has imported what takes most of their time: see zygote.py."""

import atexit
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
AT_FIRST = dict(os.environ)
NOT_READ = ("PYTEST_CURRENT_TEST", "KMP_INIT_AT_FORK", "KMP_DUPLICATE_LIB_OK")  # the last two are scikit-learn's


class Zygote:
    """The process that forks. environment: the one that it has. root: of the project whose commands these are. modules:
    that it imports, if not all that a run needs."""

    def __init__(self, environment: Mapping[str, str], root: Path = ROOT, modules: Sequence[str] = ()) -> None:
        line = [sys.executable, str(Path(__file__).with_name("zygote.py")), str(root), *modules]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "encoding": "utf-8"}
        self.process = subprocess.Popen(line, env=environment, cwd=root, **pipes)  # type: ignore[call-overload]
        assert self.process.stdout.readline() == "ready\n"

    def ask(self, **request: Any) -> Any:
        """Its answer to a request."""
        print(json.dumps(request), file=self.process.stdin, flush=True)
        if not (answer := self.process.stdout.readline()):
            raise RuntimeError("the process that forks commands has ended")
        return json.loads(answer)

    def run(
        self, script: Path | str, *arguments: str, cwd: Path, timeout: float = 300
    ) -> "subprocess.CompletedProcess[str]":
        """`python SCRIPT ARGUMENTS`, with this process's environment. A script that is a text is lines of Python."""
        with tempfile.TemporaryDirectory() as folder:
            out, err = Path(folder) / "out", Path(folder) / "err"
            if isinstance(script, str):
                (lines := Path(folder) / "lines.py").write_text(script, encoding="utf-8")
                script = lines
            status = self.ask(script=str(script), arguments=arguments, folder=str(cwd), environment=dict(os.environ),
                              output=str(out), error=str(err), seconds=timeout)  # fmt: skip
            if status is None:
                raise subprocess.TimeoutExpired([str(script), *arguments], timeout)
            texts = (file.read_text(encoding="utf-8") for file in (out, err))
            return subprocess.CompletedProcess([str(script), *arguments], status, *texts)

    def close(self) -> None:
        """End it."""
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait()


def module(name: str) -> str:
    """Lines of Python that are `python -m NAME`."""
    return f"import runpy\nrunpy.run_module({name!r}, run_name='__main__', alter_sys=True)\n"


@cache
def zygote() -> Zygote:
    """That of this project, until this process ends."""
    found = Zygote(AT_FIRST)
    atexit.register(found.close)
    return found


def as_at_first() -> bool:
    """Whether what is imported now would find the environment that it found when this process began."""
    before, now = ({k: v for k, v in each.items() if k not in NOT_READ} for each in (AT_FIRST, os.environ))
    return before == now
