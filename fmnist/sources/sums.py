"""SHA-256 of the bytes of files, unpacked: computed once, and kept for the next start. No torch.

Those of large files are kept in the user's cache folder, where there is one. A file is known by its path, its size and
its times. So bytes that are changed are summed again.
"""

import functools
import hashlib
import json
import os
from contextlib import suppress
from pathlib import Path

from fmnist.program.files import cache, replacing

LEAST = 1_000_000  # bytes of a file whose sum is kept: less is summed in a millisecond
MOST = 1000  # files that are kept, the newest
Known = dict[str, list[int | str]]  # by path: the size, two times and the sum

_learned: Known = {}


def known(path: Path) -> str | None:
    """The sum of a file that is still as it was when it was learned; otherwise None."""
    with suppress(OSError):
        return _known(path, os.stat(path))
    return None


def of(path: Path, status: os.stat_result, content: bytes | bytearray) -> str:
    """A file's sum, computed if it is not known. status: of the file when its content was read."""
    if (found := _known(path, status)) is None:
        found = hashlib.sha256(content).hexdigest()
        _learned[os.path.realpath(path)] = [*_stamp(status), found]
    return found


def _known(path: Path, status: os.stat_result) -> str | None:
    key = os.path.realpath(path)
    entry = _learned.get(key) or (_kept(place()).get(key) if status.st_size >= LEAST else None)
    return str(entry[-1]) if entry and entry[:-1] == _stamp(status) else None


def keep() -> None:
    """Write down what was learned of large files. Errors: none; without a cache it is learned again."""
    file = place()
    new = {key: entry for key, entry in _learned.items() if int(entry[0]) >= LEAST}
    if file is None or all(_kept(file).get(key) == entry for key, entry in new.items()):
        return
    _kept.cache_clear()  # another process may have written it
    table = {key: entry for key, entry in _kept(file).items() if key not in new} | new
    with suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        with replacing(file, writer=str(os.getpid())) as stream:
            json.dump(dict(list(table.items())[-MOST:]), stream)
    _kept.cache_clear()


def short(*found: str) -> str:
    """One short sum of several."""
    return hashlib.sha256("\n".join(found).encode()).hexdigest()[:16]


def _stamp(status: os.stat_result) -> list[int]:
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns]


def place() -> Path | None:
    """Where sums are kept; None without a cache folder."""
    folder = cache()
    return folder and folder / "sums.json"


@functools.cache
def _kept(file: Path | None) -> Known:
    """What was written down; nothing where it cannot be read."""
    try:
        table = json.loads(file.read_text(encoding="utf-8")) if file else {}
    except (OSError, ValueError, RecursionError):
        return {}
    valid = isinstance(table, dict) and all(isinstance(entry, list) and len(entry) == 4 for entry in table.values())
    return table if valid else {}
