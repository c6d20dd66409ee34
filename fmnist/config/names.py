"""Names made of overrides, and overrides as one types them.

The names of sweeps and of their runs are made of the overrides alone: the same command finds the same directories. A
name is plain letters, digits and "._+-". It needs no quotes, neither in a shell nor in `hydra.run.dir=...`, where
Hydra's grammar gives "=", "," and brackets a meaning. So `lr=1e-3 +dropout=0.5` becomes lr-1e-3+dropout-0.5.
"""

import functools
import hashlib
import os
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fmnist import ROOT
from fmnist.config.schema import ASIDE, NOT_HASHED

LONGEST = 200  # a file system takes 255 bytes


def sweep_name(typed: Sequence[str]) -> str:
    """The overrides of a sweep as they were typed; of what is swept the key alone. A study is named by its name."""
    kept = []
    for key, (value, swept) in _typed(typed).items():
        if key in ASIDE or (key in NOT_HASHED and not swept):
            continue
        kept.append(key if swept or not value else _plain(value) if key == "study" else f"{key}-{_plain(value)}")
    return _short("+".join(_plain_key(part) for part in kept) or "defaults")


def job_name(typed: Sequence[str], overrides: Sequence[str]) -> str:
    """The overrides of one job, but for those that all jobs of the sweep share because they were typed so."""
    shared = {key for key, (_, swept) in _typed(typed).items() if not swept}
    own = [(key, value) for key, value in map(_split, overrides) if key not in shared]
    return _short("+".join(f"{_plain_key(key)}-{_plain(value)}" for key, value in own) or "run")


def _typed(overrides: Sequence[str]) -> dict[str, tuple[str, bool]]:
    """Key: value and whether it is swept over; of a key that was typed twice the last."""
    return {key: (value, _is_swept(text)) for text in overrides for key, value in [_split(text)]}


@functools.cache
def _is_swept(text: str) -> bool:
    return bool(_parser().parse_override(text).is_sweep_override())


@functools.cache
def _parser() -> Any:
    from hydra.core.override_parser.overrides_parser import OverridesParser

    return OverridesParser.create()


def _split(override: str) -> tuple[str, str]:
    """(key, value): the + of +dropout=0.5 is how it was set, not what."""
    key, _, value = override.partition("=")
    return key.lstrip("+").strip(), value.strip()


def _plain_key(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.+-]", "-", text.replace("~", "no-"))


def _plain(value: str) -> str:
    """A value in the characters of a name: a flat list's elements with "-" between them, 1e+30 as 1e30; a hash tells
    apart what else had to be rewritten."""
    plain = re.sub(r"(?<=\de)\+", "", value.strip("'\""))
    if re.fullmatch(r"\[[\w.-]+(, *[\w.-]+)*\]", plain, re.ASCII):
        return re.sub(r", *", "-", plain[1:-1])
    kept = re.sub(r"[^A-Za-z0-9_.-]+", "-", plain).strip("-")
    return kept if kept == plain else f"{kept}-{_hash(value)}".lstrip("-")


def _short(name: str) -> str:
    return name if len(name) <= LONGEST else f"{name[: LONGEST - 9]}-{_hash(name)}"


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]


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
            _parser().parse_override(text)
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
    """A path as one types it where the command was started: relative if it lies below that folder."""
    absolute, start = os.path.abspath(path), _started_in()
    return os.path.relpath(absolute, start) if Path(absolute).is_relative_to(start) else absolute


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


def command(*overrides: str) -> str:
    """`python train.py` with these overrides as a line that can be pasted into a shell."""
    return python(near(ROOT / "train.py"), *overrides)
