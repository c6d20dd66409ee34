"""Commands as one types them: lines that can be pasted into a shell, overrides that Hydra's grammar takes."""

import os
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from fmnist import ROOT
from fmnist.launch.names import parser


def quoted(key: str, value: str) -> str:
    """The override that sets a knob to exactly this text: quoted("data.dir", "/tmp/a (b)") is data.dir='/tmp/a (b)'.

    There are quotes where Hydra's grammar or OmegaConf's could read another value in the text. The text "???" cannot be
    set: OmegaConf takes it for a value that is missing.
    """
    if re.fullmatch(r"[\w.+-]*/[\w./+-]*", value, re.ASCII):  # a plain path: nothing else is written with a slash
        return f"{key}={value}"
    literal = re.sub(r"(\\*)\$\{", r"\1\1\\${", value)  # not the value of another knob
    inner = re.sub(r"(\\*)('|\Z)", lambda found: 2 * found[1] + (found[2] and "\\'"), literal)
    return f"{key}='{inner}'"


def quoted_anew(typed: Sequence[str]) -> str | None:
    """For a command line that Hydra's grammar refuses: the line to say how its values are to be quoted, or None."""
    from hydra.errors import HydraException

    mended = []
    for text in typed:
        key, equals, value = text.partition("=")
        if not equals or text.startswith("-") or re.match(r"[\[{'\"]|\w+\(", value):  # a broken list is no text
            continue
        try:
            parser().parse_override(text)
        except HydraException:
            mended.append(in_shell(quoted(key, value)))
    return f"a value with such characters needs quotes inside of the shell's: {' '.join(mended)}" if mended else None


def expanded(typed: Sequence[str]) -> list[str]:
    """A command line in which a home directory stands for "~" where Hydra would make a folder of that name."""
    pattern = r"(hydra\.(?:run|sweep)\.dir)=(['\"]?)(~[^'\"]*)\2"
    found = [(word, re.fullmatch(pattern, word)) for word in typed]
    return [quoted(match[1], os.path.expanduser(match[3])) if match else word for word, match in found]


def in_shell(*words: str) -> str:
    """Words as one types them in a shell: shlex.join, but for an override with quotes inside, which stays readable."""
    plain = [f'"{word}"' if "'" in word and not re.search(r'["$`\\!]', word) else shlex.quote(word) for word in words]
    return " ".join(plain)


def near(path: Path) -> str:
    """A path as one types it where the command was started: relative if it lies below that folder, and no flag."""
    absolute, start = os.path.abspath(path), _started_in()
    typed = os.path.relpath(absolute, start) if Path(absolute).is_relative_to(start) else absolute
    return os.path.join(os.curdir, typed) if typed.startswith("-") else typed


def _started_in() -> str:
    """The current folder, but for what hydra.job.chdir has done."""
    hydra = sys.modules.get("hydra.core.hydra_config")
    if hydra is not None and hydra.HydraConfig.initialized():
        return str(hydra.HydraConfig.get().runtime.cwd)
    return os.getcwd()


def python(*arguments: str) -> str:
    """A command for this interpreter that can be pasted into a shell, without an activated environment."""
    here = near(Path(sys.executable))
    return in_shell(here if os.sep in here else os.path.join(os.curdir, here), *arguments)


def curves(folder: Path) -> str:
    """The command that shows the curves of the runs in or below a folder. TensorBoard takes every path for UTF-8."""
    encoding = "" if sys.getfilesystemencoding() == "utf-8" else "PYTHONUTF8=1 "
    return encoding + python("-m", "fmnist.board", near(folder))


def command(*overrides: str) -> str:
    """`python train.py` with these overrides as a line that can be pasted into a shell."""
    return python(near(ROOT / "train.py"), *overrides)
