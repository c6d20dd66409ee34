"""What commands print to, and the status with which they end: a command ends by no fault of its output."""

import codecs
import io
import json
import logging
import math
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NoReturn

from fmnist import UserError


class _Output(io.FileIO):
    """A descriptor to print to. What it does not take for one of the `lost` reasons is lost."""

    lost: type[OSError] = BrokenPipeError

    def write(self, data: Any) -> int:
        with suppress(self.lost):
            if written := super().write(data):  # None where it would have to wait
                return written
        return len(data)


def _printable(error: UnicodeError) -> tuple[str | bytes, int]:
    """What stands for characters that an encoding lacks: the bytes of a file's name as they are, others as escapes."""
    try:
        return codecs.lookup_error("surrogateescape")(error)
    except UnicodeError:
        return codecs.lookup_error("backslashreplace")(error)


codecs.register_error("printable", _printable)


def lenient_output(lost: type[OSError] = BrokenPipeError) -> None:
    """Let a command end by no fault of what it prints to: a closed pipe such as `| head`, an encoding that lacks a
    character, a log file that cannot be written. lost: OSError loses what goes to a full disk as well."""
    logging.raiseExceptions = False
    _Output.lost = lost
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if type(stream) is io.TextIOWrapper:  # None where the descriptor is closed; something else in a notebook
            lines = stream.line_buffering or stream.write_through
            raw = io.BufferedWriter(_Output(stream.fileno(), "w", closefd=False))
            setattr(sys, name, io.TextIOWrapper(raw, stream.encoding, "printable", line_buffering=lines))


def encodable(text: str) -> str:
    """Text for a file: a path's bytes that are no UTF-8 become question marks."""
    return text.encode(errors="replace").decode()


def printable(text: str) -> str:
    """Text for a terminal: on one line, without codes that would move its cursor or change its colours."""
    return "".join(sign if sign.isprintable() else "?" for sign in " ".join(text.split()))


def as_json(value: Any) -> str:
    """Dicts, lists, texts and numbers as JSON; null for a number that is not defined."""
    return json.dumps(_defined(value), indent=1, ensure_ascii=False)


def _defined(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _defined(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_defined(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def run_command(main: Callable[[], int | None]) -> NoReturn:
    """Run the main function of a command, and end the process with its status. A mistake of the user is one line and
    status 2, a file that cannot be read or written one line and status 1."""
    lenient_output()
    try:
        status = main() or 0
        print(end="", flush=True)
    except UserError as error:
        print(printable(f"error: {error}"), file=sys.stderr)
        status = 2
    except OSError as error:
        _Output.lost = OSError  # it may be the output itself
        reason = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        print(f"error: {reason}", file=sys.stderr)
        status = 1
    except MemoryError:
        print("error: there is too little memory", file=sys.stderr)
        status = 1
    except KeyboardInterrupt:
        status = 130
    sys.exit(status)
