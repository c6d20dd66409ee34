"""Files that are written whole or not at all. No torch."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any


@contextmanager
def replacing(path: Path, mode: str = "w", writer: str = "") -> Iterator[IO[Any]]:
    """A file to write to that takes the place of `path` at the end: a crash leaves the old one or the new one.

    mode: "w" or "wb". writer: a name that tells apart those who may write the same file at the same time.
    """
    part = path.with_name(f"{path.name}{writer and '.' + writer}.part")
    try:
        with open(part, mode) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
