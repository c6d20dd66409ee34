"""The library that counts the calls of a command and lets one fail (shim.c): built, armed, its log read."""

import errno
import os
import struct
import subprocess
from dataclasses import dataclass
from pathlib import Path

SOURCE = Path(__file__).with_name("shim.c")
FAULTS = {  # name: (the shim's kind of fault, the error)
    "ENOSPC": (1, errno.ENOSPC),
    "EIO": (1, errno.EIO),
    "EINTR": (1, errno.EINTR),
    "short": (2, 0),  # half of a write is made
    "full": (3, errno.ENOSPC),  # the disk is full from there on: half of a write is made, all that needs room fails
    "kill-before": (4, 0),
    "kill-after": (5, 0),
}
WRITES = ("short",)  # faults of writes alone
NEVER = 2**64 - 1  # the number of no call


@dataclass(frozen=True)
class Call:
    """One call. result: -1 for an error; offset: of a write, or the length that a file is cut to; content: what was
    written, where that is logged; other: what a rename is to."""

    number: int
    process: int
    name: str
    result: int
    error: int
    fault: int
    flags: int
    offset: int
    path: str
    other: str
    content: bytes

    def __str__(self) -> str:
        where = f"{self.path} -> {self.other}" if self.other else self.path
        return f"{self.number} {self.name} {where}"


def build(folder: Path, compiler: str = os.environ.get("CC", "cc")) -> Path:
    """Compile the library. Errors: FileNotFoundError without a compiler, CalledProcessError."""
    library = folder / "shim.so"
    subprocess.run([compiler, "-O2", "-Wall", "-shared", "-fPIC", "-o", library, SOURCE, "-ldl"], check=True)
    return library


class Watch:
    """What the calls of one command are counted by: files beside the folder that is watched."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.state, self.log = folder.with_name(f"{folder.name}.state"), folder.with_name(f"{folder.name}.log")

    def arm(self, number: int = NEVER, fault: str = "EIO", content: bool = False) -> dict[str, str]:
        """Begin to count; the environment of the command. The call of this number has the fault."""
        kind, error = FAULTS[fault]
        self.log.unlink(missing_ok=True)
        self.state.write_bytes(struct.pack("=QQQQQ", 0, number, kind, error, 0))
        told = {"FAULTS_DIR": self.folder, "FAULTS_STATE": self.state, "FAULTS_LOG": self.log}
        return {key: str(value) for key, value in told.items()} | ({"FAULTS_BYTES": "1"} if content else {})

    def calls(self) -> list[Call]:
        """All calls so far, in the order of their numbers."""
        text, at, found = self.log.read_bytes() if self.log.exists() else b"", 0, []
        while at < len(text):
            end = text.index(b"\n", at)
            number, process, name, result, error, fault, flags, offset, length, path, other = (
                text[at:end].decode(errors="surrogateescape").split("\t")
            )
            at = end + 1 + int(length)
            numbers = map(int, (result, error, fault, flags, offset))
            found.append(Call(int(number), int(process), name, *numbers, path, other, text[end + 1 : at]))
        return sorted(found, key=lambda call: call.number)

    def hit(self) -> Call | None:
        """The call that had the fault, if it was reached."""
        return next((call for call in self.calls() if call.fault), None)

    def close(self) -> None:
        """Remove its files."""
        self.state.unlink(missing_ok=True)
        self.log.unlink(missing_ok=True)
