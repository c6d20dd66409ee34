"""Power fails: what is on the disk then, by the log of all calls up to that moment.

A file system promises what was synced, and little else. So each moment has several states, one a model:

strict  a file is as it was when it was last synced; a name is there if its folder was synced since
empty   all names are there; a file that was never synced, or was cut since, is empty
torn    all names are there; of what was written since the last sync half is there
zeros   all names and sizes are there; what was written since the last sync is zeros
"""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from calls import Call

MODELS = ("strict", "empty", "torn", "zeros")
State = dict[str, bytes | None]  # by path below the folder; None for a folder


class File:
    """content: as programs see it; kept: as of the last sync; cut: whether it was emptied since."""

    def __init__(self, content: bytes = b"") -> None:
        self.content, self.kept, self.cut = bytearray(content), content, False

    def after(self, model: str) -> bytes:
        """What is left of it."""
        if model == "strict":
            return self.kept
        kept = b"" if self.cut else self.kept
        lost = max(0, len(self.content) - len(kept))
        if model == "torn":
            return bytes(self.content[: len(self.content) - lost // 2]) if lost else kept
        return kept + (bytes(lost) if model == "zeros" else b"")


class Disk:
    """A folder, and what of it is on the disk. start: what it holds at first, all of it synced."""

    def __init__(self, folder: Path, start: Path | None = None) -> None:
        self.root = str(folder)
        self.names: dict[str, File | None] = {}
        for path in sorted(start.rglob("*")) if start else []:
            content = None if path.is_dir() else File(path.read_bytes())
            self.names[f"{self.root}/{path.relative_to(start)}"] = content  # type: ignore[arg-type]
        self.kept = dict(self.names)

    def do(self, call: Call) -> None:
        """Make a call that was made. Errors: NotImplementedError for one that the models do not know."""
        if call.result < 0:
            return
        file = self.names.get(call.path)
        if call.name == "open" and call.flags & os.O_TMPFILE != os.O_TMPFILE:
            if file is None and call.path not in self.names:
                file = self.names[call.path] = File()
            if file and call.flags & os.O_TRUNC and file.content:
                file.content.clear()
                file.cut = True
        elif call.name == "write" and file:
            file.content[call.offset : call.offset + call.result] = call.content
        elif call.name == "ftruncate" and file:
            del file.content[call.offset :]
            file.content += bytes(call.offset - len(file.content))
            file.cut = True
        elif call.name == "fsync" and file:
            file.kept, file.cut = bytes(file.content), False
        elif call.name == "fsync":
            own = [name for name in {**self.kept, **self.names} if os.path.dirname(name) == call.path]
            for name in own:
                self.kept.pop(name, None)
            self.kept |= {name: self.names[name] for name in own if name in self.names}
        elif call.name == "rename":
            if file is None:
                raise NotImplementedError(str(call))
            self.names[call.other] = self.names.pop(call.path)
        elif call.name in ("unlink", "rmdir"):
            del self.names[call.path]
        elif call.name == "mkdir":
            self.names[call.path] = None
        elif call.name == "link":
            self.names[call.path] = self.names[call.other]
        elif call.name == "symlink":
            raise NotImplementedError(str(call))

    def state(self, model: str = "") -> State:
        """What is there: after power has failed, by a model, or as programs see it."""
        names = self.kept if model == "strict" else self.names
        found: State = {}
        for name in sorted(names):
            parent = os.path.dirname(name)
            if parent == self.root or os.path.relpath(parent, self.root) in found:
                file = names[name]
                content = file and (file.after(model) if model else bytes(file.content))
                found[os.path.relpath(name, self.root)] = content
        return found


def state_of(folder: Path) -> State:
    """What a folder holds."""
    paths = sorted(folder.rglob("*"))
    return {str(path.relative_to(folder)): None if path.is_dir() else path.read_bytes() for path in paths}


def make(state: State, folder: Path) -> None:
    """Fill an empty folder."""
    for name, content in state.items():
        if content is None:
            (folder / name).mkdir()
        else:
            (folder / name).write_bytes(content)


def states(calls: Sequence[Call], disk: Disk) -> Iterator[tuple[str, str, State]]:
    """(the last call that was made, the model, what is there), without those that are equal to one before."""
    seen: set[int] = set()
    for call in calls:
        disk.do(call)
        for model in MODELS:
            state = disk.state(model)
            key = hash(tuple(state.items()))
            if key not in seen:
                seen.add(key)
                yield str(call), model, state
