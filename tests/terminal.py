"""A pseudo-terminal: what a command draws there, as a terminal shows it."""

import fcntl
import os
import pty
import re
import struct
import termios
from dataclasses import dataclass, field

import pyte

from fmnist import ROOT


@dataclass
class Shown:
    """What was seen of a command: its status, all lines at the end, the screen each time it was drawn, all bytes."""

    status: int = 0
    lines: list[str] = field(default_factory=list)
    screens: list[list[str]] = field(default_factory=list)
    raw: bytes = b""

    @property
    def text(self) -> str:
        """All lines at the end."""
        return "\n".join(self.lines)


def drive(*command: str, cwd: os.PathLike[str] | str = ROOT, rows: int = 40, columns: int = 100, **environment: str):
    """Run a command in a terminal of that size, which shows UTF-8, until it ends."""
    size = struct.pack("HHHH", rows, columns, 0, 0)
    own = {"TERM": "xterm-256color", "LC_ALL": "C.UTF-8", "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'sweep'}"}
    left_out = ("NO_COLOR", "LINES", "COLUMNS")  # the last two: pytest's workers inherit them from libreadline
    known = {name: value for name, value in os.environ.items() if name not in left_out} | own | environment
    pid, terminal = pty.fork()
    if pid == 0:
        try:
            os.chdir(cwd)
            fcntl.ioctl(0, termios.TIOCSWINSZ, size)
            os.execvpe(command[0], command, known)  # libreadline sets LINES and COLUMNS behind os.environ
        finally:
            os._exit(127)
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, size)
    screen = pyte.HistoryScreen(columns, rows, history=10_000)
    stream, shown = pyte.ByteStream(screen), Shown()
    while True:
        try:
            data = os.read(terminal, 65536)
        except OSError:  # the command has ended
            break
        shown.raw += data
        for piece in re.split(rb"(?=\r\x1b\[2K)", data):  # before something is drawn anew, it is there whole
            stream.feed(piece)
            shown.screens.append([line.rstrip() for line in screen.display])
    os.close(terminal)
    shown.status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    above = ["".join(line[column].data for column in range(columns)).rstrip() for line in screen.history.top]
    shown.lines = [line for line in above + shown.screens[-1] if line]
    return shown
