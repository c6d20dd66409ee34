"""Hostile files and directories, each made by a small function, and the readers that are tried on them."""

import gzip
import json
import os
import pickle
import resource
import signal
import struct
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOM = 1 << 30  # bytes that a reader may take beside what the process has
SECONDS = 30  # that it may take
HUGE = 10 << 30  # bytes of a sparse file
MATCH = r"[^\n]*"


@contextmanager
def bounded(room: int = ROOM) -> Iterator[None]:
    """Within it the process gets so much more memory and so much time."""
    pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)

    def late(*_: Any) -> None:
        raise AssertionError(f"not done after {SECONDS} seconds")

    old = signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + room, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
        signal.alarm(0)
        signal.signal(signal.SIGALRM, old)


class Canary:
    """Whoever unpickles it makes a file."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch '{self.file}'",)


def snapshot(folder: Path) -> dict[str, Any]:
    """All that is in a folder: by name the bytes of a file, where a link leads, None for a folder."""
    return {str(path.relative_to(folder)): os.readlink(path) if path.is_symlink() else path.read_bytes()
            if path.is_file() else None for path in folder.rglob("*")}  # fmt: skip


def weights(run: Path) -> Path:
    """The last checkpoint of a run."""
    (file,) = run.glob("last.*")
    return file


def instead(path: Path, content: bytes | str) -> Path:
    """Put another file in the place of one."""
    path.unlink(missing_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def sparse(path: Path, beginning: bytes = b"", size: int = HUGE) -> None:
    """A file of ten gigabytes that takes no room."""
    instead(path, beginning)
    os.truncate(path, size)


def pipe(path: Path) -> None:
    """A pipe that nobody writes to."""
    path.unlink()
    os.mkfifo(path)


def endless(path: Path) -> None:
    """A link to a device that never ends."""
    path.unlink()
    path.symlink_to("/dev/zero")


def result(**changes: Any) -> Callable[[Path], None]:
    """Other values in a run's record."""

    def make(run: Path) -> None:
        known = json.loads((run / "result.json").read_text(encoding="utf-8"))
        instead(run / "result.json", json.dumps(known | changes))

    return make


def config(**changes: Any) -> Callable[[Path], None]:
    """Other values in the config of a run's record; "model.depth" is in a group."""

    def make(run: Path) -> None:
        known = json.loads((run / "result.json").read_text(encoding="utf-8"))
        for name, value in changes.items():
            group, _, knob = name.rpartition(".")
            (known["config"][group] if group else known["config"])[knob] = value
        instead(run / "result.json", json.dumps(known | {"config_hash": "0"}))

    return make


def nested(depth: int) -> Any:
    """Lists within lists."""
    inner: Any = []
    for _ in range(depth):
        inner = [inner]
    return inner


def a_pickle(name: str) -> Callable[[Path], None]:
    """A pickle that runs a command, under the name of a checkpoint."""

    def make(run: Path) -> None:
        weights(run).unlink()
        (run / name).write_bytes(pickle.dumps({"weights": Canary(run.parent / "canary")}))

    return make


def zip_bomb(run: Path) -> None:
    """A checkpoint as torch writes them, which is 2,000 times as large when it is unpacked."""
    file = weights(run)
    file.unlink()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("archive/data.pkl", bytes(1 << 28))


def gzip_bomb(beginning: bytes, megabytes: int) -> bytes:
    """Packed bytes that begin in this way and go on with zeros: 16 MB of them take 16 kB."""
    return gzip.compress(beginning) + (megabytes // 16) * gzip.compress(bytes(1 << 24), 9, mtime=0)


def safetensors(header: Any, content: bytes = b"", length: int | None = None) -> Callable[[Path], None]:
    """A safetensors file with this header."""
    text = json.dumps(header).encode()

    def make(run: Path) -> None:
        instead(weights(run), struct.pack("<Q", len(text) if length is None else length) + text + content)

    return make


def tensor(shape: list[int], start: int, end: int) -> dict[str, Any]:
    """A tensor as a safetensors header tells it."""
    return {"dtype": "F32", "shape": shape, "data_offsets": [start, end]}


def rows(*lines: str) -> Callable[[Path], None]:
    """Other rows in a run's metrics."""
    return lambda run: void(instead(run / "metrics.jsonl", "".join(line + "\n" for line in lines)))


def void(_: Any) -> None:
    """Nothing."""


def hydra_tags(run: Path) -> None:
    """Files of Hydra with Python's tags in their YAML, and with a class to be made."""
    (run / ".hydra").mkdir(exist_ok=True)
    command = f"touch '{run.parent / 'canary'}'"
    text = f'model: !!python/object/apply:os.system ["{command}"]\n'
    text += f'data: {{_target_: os.system, _args_: ["{command}"]}}\n'
    for name in ("config.yaml", "hydra.yaml", "overrides.yaml"):
        instead(run / ".hydra" / name, text)
    instead(run / "multirun.yaml", f'!!python/object/apply:os.system ["{command}"]\n')
