"""What the commands of the package print with --help, for the page of the commands."""

import importlib
import io
import os
import re
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from typing import Any

from fmnist import ROOT


def command_names() -> list[str]:
    """The commands `python -m fmnist.NAME`: the files at the root of the package, and the packages with a __main__."""
    package = ROOT / "fmnist"
    files = [path.stem for path in package.glob("*.py") if path.stem != "__init__"]
    return sorted(files + [path.parent.name for path in package.glob("*/__main__.py")])


def main_of(name: str) -> Callable[[], Any]:
    """The main function of a command."""
    is_package = (ROOT / "fmnist" / name).is_dir()
    main: Callable[[], Any] = importlib.import_module(f"fmnist.{name}{'.__main__' if is_package else ''}").main
    return main


def help_of(name: str, *words: str) -> str:
    """What a command prints with --help."""
    printed, before = io.StringIO(), (sys.argv, os.environ.get("COLUMNS"))
    sys.argv, os.environ["COLUMNS"] = [f"fmnist.{name}", *words, "--help"], "100"
    try:
        with redirect_stdout(printed):
            main_of(name)()
    except SystemExit:
        pass
    finally:
        sys.argv = before[0]
        os.environ.pop("COLUMNS") if before[1] is None else os.environ.update(COLUMNS=before[1])
    return printed.getvalue().strip()


def commands() -> str:
    """What every command prints with --help; those of a command's own commands too, where its help names them."""
    parts = []
    for name in command_names():
        text = help_of(name)
        parts.append(f"## `python -m fmnist.{name}`\n\n```text\n{text}\n```")
        for word in re.findall(rf"python -m fmnist\.{name} (\w+) --help", text):
            parts.append(f"### `python -m fmnist.{name} {word}`\n\n```text\n{help_of(name, word)}\n```")
    return "\n\n".join(parts)
